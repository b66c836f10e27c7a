// Generate and Stop: how they look while a press is held and during a run, and their keys Ctrl + Enter and Escape.
{
  const find = (selector) => document.querySelector(selector);
  const isRunning = () => find("#generate")?.hasAttribute("data-running");
  const reasons = {}; // of each button that is busy: the keys of the texts that say why

  // Shows on a button whether it is busy for a reason. text: the key of what it says then.
  bon.showBusy = (selector, text, busy) => {
    const button = find(selector),
      texts = (reasons[selector] ??= new Set());
    if (!button) return;
    if (busy) texts.add(text);
    else texts.delete(text);
    button.toggleAttribute("data-running", texts.size > 0);
    button.setAttribute("aria-disabled", texts.size > 0);
    if (texts.size) button.dataset.doing = bon.say([...texts].at(-1));
    if (selector === "#generate") find("#stop")?.setAttribute("aria-disabled", !texts.size);
  };
  // Shows on Generate and Stop whether a run is in progress.
  bon.setRunning = (running) => bon.showBusy("#generate", "form.generating", running);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      // A menu takes over what is typed into it when it loses the focus.
      if (document.activeElement.matches('[role="combobox"]')) document.activeElement.blur();
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
