// Arrow keys for radio buttons: Gradio gives each of a group another name, so the browser would not move between them.
{
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

  document.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.target.type !== "radio") return;
    const radios = [...event.target.closest("fieldset").querySelectorAll("input")];
    const next = radios.at((radios.indexOf(event.target) + step) % radios.length);
    event.preventDefault();
    next.focus();
    next.click();
  });
}
