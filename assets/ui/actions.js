// Buttons for the winner and the run: copy, continue, download.
{
  const FORMATS = ["html", "csv", "json"];

  bon.copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https only this way to the clipboard is left.
      const area = bon.el("textarea", { readonly: true, class: "unseen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  // A button that runs `act` and then shows the text `done` for a moment.
  bon.actionButton = (label, done, act) => {
    const button = bon.el("button", { type: "button", class: "copy" }, label);
    button.addEventListener("click", async () => {
      await act();
      bon.text(button, done);
      setTimeout(() => bon.text(button, label), 1500);
    });
    return button;
  };

  // The menu that saves the run as a file. record: returns the run as JSON; make: turns it into the file's text.
  bon.downloadMenu = (record, make) => {
    const menu = bon.el("details", { class: "menu" }, bon.el("summary", { class: "copy" }, bon.say("download")));
    const close = () => {
      menu.open = false;
      menu.querySelector("summary").focus();
    };
    const choices = FORMATS.map((format) => {
      const button = bon.el("button", { type: "button", class: "copy" }, bon.say(`download.${format}`));
      button.addEventListener("click", async () => {
        close();
        const { settings } = JSON.parse(record());
        bon.download(`best-of-${settings.n}-seed-${settings.seed}.${format}`, await make({ record: record(), format }));
      });
      return button;
    });
    menu.append(bon.el("div", { class: "choices" }, ...choices));
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) close();
    });
    menu.addEventListener("focusout", (event) => menu.contains(event.relatedTarget) || (menu.open = false));
    return menu;
  };
}
