// Present mode, for a projector: settings are hidden, type is larger, number keys run the examples.
{
  const body = document.body;
  const find = (selector) => document.querySelector(selector);
  const isOn = () => body.hasAttribute("data-present");

  const setOn = (present) => {
    body.toggleAttribute("data-present", present);
    const button = find(".presents");
    button.setAttribute("aria-pressed", present);
    button.textContent = bon.say(present ? "present.leave" : "present.enter");
    const address = new URL(location.href);
    if (present) address.searchParams.set("view", "present");
    else address.searchParams.delete("view");
    history.replaceState(history.state, "", address);
    if (!present) return;
    find("#tabs [role='tab']")?.click();
    scrollTo(0, 0);
  };

  // Presses Generate once Gradio has written the text into the prompt field.
  const generateOnce = (text) =>
    find("#prompt textarea").value === text ? find("#generate").click() : setTimeout(generateOnce, 10, text);

  const takesText = (node) => node?.closest?.("input, textarea, select, [contenteditable='true'], [role='combobox']");
  document.addEventListener("keydown", (event) => {
    if (!isOn() || event.ctrlKey || event.metaKey || event.altKey || takesText(event.target)) return;
    if (event.key === "Escape" && !find("#generate").hasAttribute("data-running")) return setOn(false);
    const shownExamples = [...document.querySelectorAll("#examples .example")].filter((node) => node.offsetParent);
    const example = shownExamples[Number(event.key) - 1];
    if (!example || find("#generate").hasAttribute("data-running")) return;
    example.click();
    generateOnce(example.textContent.trim());
  });
  document.addEventListener("click", (event) => event.target.closest?.(".presents") && setOn(!isOn()));

  const begin = () => {
    if (!find(".presents") || !find("#generate")) return setTimeout(begin, 50);
    if (new URLSearchParams(location.search).get("view") === "present") setOn(true);
  };
  begin();
}
