// What can be done with the winner and with the run: copy, continue, download.
{
  const KINDS = ["html", "csv", "json"];

  bon.copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https there is no clipboard but this one.
      const area = bon.el("textarea", { readonly: true, class: "unseen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  // A button that says for a moment what it has done.
  bon.doer = (words, done, act) => {
    const button = bon.el("button", { type: "button", class: "copy" }, words);
    button.addEventListener("click", async () => {
      await act();
      bon.text(button, done);
      setTimeout(() => bon.text(button, words), 1500);
    });
    return button;
  };

  // The run as a file, in a menu of three. `record` gives the run, `make` turns it into the file's text.
  bon.downloads = (record, make) => {
    const menu = bon.el("details", { class: "menu" }, bon.el("summary", { class: "copy" }, bon.say("download")));
    const close = () => {
      menu.open = false;
      menu.querySelector("summary").focus();
    };
    const choices = KINDS.map((kind) => {
      const button = bon.el("button", { type: "button", class: "copy" }, bon.say(`download.${kind}`));
      button.addEventListener("click", async () => {
        close();
        const { settings } = JSON.parse(record());
        bon.download(`best-of-${settings.n}-seed-${settings.seed}.${kind}`, await make({ record: record(), kind }));
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
