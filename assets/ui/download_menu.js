// The menu that saves a run as a file.
{
  const FORMATS = ["html", "csv", "json"];

  // record: returns the run as JSON; exportRun: turns it into the file's text, or undefined where that fails.
  bon.downloadMenu = (record, exportRun) => {
    const menu = bon.el("details", { class: "menu" }, bon.el("summary", { class: "copy" }, bon.say("download")));
    const close = () => {
      menu.open = false;
      menu.querySelector("summary").focus();
    };
    const save = async (format) => {
      close();
      const { settings } = JSON.parse(record());
      const name = `best-of-${settings.n}-seed-${settings.seed}.${format}`;
      const text = await exportRun({ record: record(), format });
      if (text !== undefined) bon.saveFile(name, text);
    };
    const choices = FORMATS.map((format) =>
      bon.button(bon.say(`download.${format}`), () => save(format), { class: "copy" }),
    );
    menu.append(bon.el("div", { class: "choices" }, ...choices));
    menu.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) close();
    });
    menu.addEventListener("focusout", (event) => menu.contains(event.relatedTarget) || (menu.open = false));
    return menu;
  };
}
