// The page's texts in the visitor's language. bon.tables has them: tag -> key -> text, or one text for each plural form.
{
  const ENGLISH = "en";
  const PLACE = "bon-language";

  const known = (tag) => [tag, tag?.split("-")[0]].find((one) => one in bon.tables);
  const stored = () => {
    try {
      return localStorage.getItem(PLACE);
    } catch {
      return null; // a page that may not store anything
    }
  };
  const asked = known(new URLSearchParams(location.search).get("lang"));
  bon.language = asked ?? [stored(), ...navigator.languages].map(known).find(Boolean) ?? ENGLISH;
  const table = bon.tables[bon.language];

  // Numbers keep the decimal point in every language, as in files and code. Where thousands have a point, a thin space
  // stands for it.
  const format = new Intl.NumberFormat(bon.language);
  const points = format.format(0.5).includes(".");
  bon.whole = (number) =>
    format.formatToParts(number).map(({ type, value }) => (type === "group" && !points ? "\u202f" : value)).join("");
  const shown = (value) =>
    typeof value === "number" ? bon.whole(value) : value?.key || value?.parts ? said(value) : String(value ?? "");

  // The text of a key. A number among the values is a whole one; the one named n chooses the plural form.
  const rules = {};
  bon.say = (key, values = {}, type = "cardinal") => {
    let text = table[key];
    if (typeof text === "object") {
      rules[type] ||= new Intl.PluralRules(bon.language, { type });
      text = text[rules[type].select(Number(values.n))] ?? text.other;
    }
    return text.replace(/\{(\w+)\}/g, (_, name) => shown(values[name]));
  };
  bon.known = (key, word) => (key in table ? bon.say(key) : word);

  // A message that bon/messages.py carried: key and values, or texts to join, as JSON after a mark; the values of one may
  // be messages themselves, as objects. A plain text stays as it is.
  const MARK = "\u0002";
  bon.words = (text) => {
    if (!text?.startsWith?.(MARK)) return String(text ?? "");
    try {
      return said(JSON.parse(text.slice(1)));
    } catch {
      return text; // somebody's text that begins so by itself
    }
  };
  const said = ({ key, values, parts, separator }) => (parts ? parts.map(shown).join(separator) : bon.say(key, values));

  // Puts texts into fixed pieces of the page: data-say names the key. What stands in backticks is code, or keys to press.
  bon.dress = (root) => {
    for (const node of root.querySelectorAll("[data-say]")) {
      const parts = bon.say(node.dataset.say).split("`");
      node.replaceChildren(...parts.map((text, i) => (i % 2 ? marked(node.dataset.mark ?? "code", text) : text)));
    }
  };
  const marked = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  bon.line = (element, props, watch) => {
    const node = document.createElement("p");
    element.append(node);
    const draw = () => (node.textContent = bon.words(props.value));
    watch("value", draw);
    draw();
  };

  // The choice of a language: kept in this browser, and made by loading the page anew, with the form as it is.
  bon.speaks = (element) => {
    const choice = (tag) => {
      const option = Object.assign(marked("option", bon.tables[tag]["language.name"]), { value: tag, lang: tag });
      option.selected = tag === bon.language;
      return option;
    };
    const select = document.createElement("select");
    select.setAttribute("aria-label", bon.say("language.choose"));
    select.append(...Object.keys(bon.tables).map(choice));
    select.addEventListener("change", () => ((wanted = select.value), document.querySelector("#speak").click()));
    element.append(select);
  };
  let wanted = bon.language;

  const keep = (storage, name, text) => {
    try {
      storage().setItem(name, text);
    } catch {
      // The address carries the choice; what the form held is lost.
    }
  };
  bon.leave = (...values) => {
    keep(() => sessionStorage, "bon-form", JSON.stringify(values));
    keep(() => localStorage, PLACE, wanted);
    const address = new URL(location.href);
    address.searchParams.set("lang", wanted);
    location.assign(address);
  };
  // What the form held before, for the fields and the slider; without it they stay as they are.
  bon.returned = () => {
    let values = null;
    try {
      values = JSON.parse(sessionStorage.getItem("bon-form"));
      sessionStorage.removeItem("bon-form");
    } catch {
      // As if there were none.
    }
    const names = Object.keys(bon.defaults);
    if (values?.length !== names.length) return [...names, "slider"].map(() => ({ __type__: "update" }));
    return [...values, Math.min(64, Math.max(1, values[names.indexOf("n")] ?? 1))];
  };

  // Gradio follows the browser's language by itself; only its own module can tell it of another one.
  const follow = async () => {
    if (document.documentElement.lang === bon.language) return;
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    const { changeLocale } = await import(loaded.find((name) => /\/core-[^/]+\.js$/.test(name)));
    changeLocale(bon.language);
  };
  // But for the tabs, whose names it does not draw again by itself.
  bon.tabs = (...keys) => keys.map((key) => ({ __type__: "update", label: bon.say(key) }));
  if (asked) keep(() => localStorage, PLACE, asked);
  follow();
}
