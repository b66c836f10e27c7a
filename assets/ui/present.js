// Present mode, for a room: the settings are gone, the type is larger, the examples are one key away.
(() => {
  const body = document.body;
  const one = (selector) => document.querySelector(selector);
  const on = () => body.hasAttribute("data-present");

  const set = (present) => {
    body.toggleAttribute("data-present", present);
    const button = one(".presents");
    button.setAttribute("aria-pressed", present);
    button.textContent = bon.say(present ? "present.leave" : "present.enter");
    const address = new URL(location.href);
    if (present) address.searchParams.set("view", "present");
    else address.searchParams.delete("view");
    history.replaceState(history.state, "", address);
    if (!present) return;
    one("#tabs [role='tab']")?.click();
    scrollTo(0, 0);
  };

  const typing = (node) => node?.closest?.("input, textarea, select, [contenteditable='true'], [role='combobox']");
  document.addEventListener("keydown", (event) => {
    if (!on() || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.key === "Escape" && !one("#generate").hasAttribute("data-running")) return set(false);
    const shown = [...document.querySelectorAll("#examples .example")].filter((node) => node.offsetParent);
    const example = shown[Number(event.key) - 1];
    if (!example || one("#generate").hasAttribute("data-running")) return;
    example.click();
    // Gradio writes the example into the field first.
    setTimeout(() => one("#generate").click(), 120);
  });
  document.addEventListener("click", (event) => event.target.closest?.(".presents") && set(!on()));

  const begin = () => {
    if (!one(".presents") || !one("#generate")) return setTimeout(begin, 50);
    if (new URLSearchParams(location.search).get("view") === "present") set(true);
  };
  begin();
})();
