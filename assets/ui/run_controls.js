// Generate and Stop: how they look during a run, and their keys Ctrl + Enter and Escape.
{
  const find = (selector) => document.querySelector(selector);
  const isRunning = () => find("#generate")?.hasAttribute("data-running");

  // Shows on Generate and Stop whether a run is in progress.
  bon.setRunning = (running) => {
    const generate = find("#generate"),
      stop = find("#stop");
    if (!generate || !stop) return;
    generate.toggleAttribute("data-running", running);
    generate.dataset.doing = bon.say("form.generating");
    generate.setAttribute("aria-disabled", running);
    stop.setAttribute("aria-disabled", !running);
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!isRunning()) find("#generate")?.click();
    } else if (event.key === "Escape" && isRunning()) {
      find("#stop")?.click();
    }
  });

  const begin = () => {
    if (!find("#generate") || !find("#stop")) return setTimeout(begin, 50);
    bon.setRunning(Boolean(bon.busy));
  };
  begin();
}
