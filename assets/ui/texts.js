// The page's texts in the visitor's language, and the choice of the language. bon.tables holds them:
// tag -> key -> text, or one text per plural form.
{
  const ENGLISH = "en";
  const STORAGE_KEY = "bon-language";

  const supported = (tag) => [tag, tag?.split("-")[0]].find((name) => name in bon.tables);
  const storedLanguage = () => {
    try {
      return localStorage.getItem(STORAGE_KEY);
    } catch {
      return null; // this browser forbids storage
    }
  };
  const linkedLanguage = supported(new URLSearchParams(location.search).get("lang"));
  bon.language = linkedLanguage ?? [storedLanguage(), ...navigator.languages].map(supported).find(Boolean) ?? ENGLISH;
  const table = bon.tables[bon.language];

  // Numbers keep the decimal point in every language, as in files and code. A thin space groups thousands in languages
  // that use a point for it.
  const format = new Intl.NumberFormat(bon.language);
  const decimalPoint = format.format(0.5).includes(".");
  bon.formatInteger = (number) =>
    format.formatToParts(number).map(({ type, value }) => (type === "group" && !decimalPoint ? "\u202f" : value)).join("");
  const valueText = (value) =>
    typeof value === "number" ? bon.formatInteger(value) : value?.key || value?.parts ? messageText(value) : String(value ?? "");

  // The text of a key. Numbers among the values are integers; the one named n selects the plural form.
  const rules = {};
  bon.say = (key, values = {}, type = "cardinal") => {
    let text = table[key];
    if (typeof text === "object") {
      rules[type] ||= new Intl.PluralRules(bon.language, { type });
      text = text[rules[type].select(Number(values.n))] ?? text.other;
    }
    return text.replace(/\{(\w+)\}/g, (_, name) => valueText(values[name]));
  };
  bon.sayOr = (key, fallback) => (key in table ? bon.say(key) : fallback);

  // Translates a message that bon/messages.py encoded: after a mark, JSON with a key and values or with texts to join.
  // Values may be messages themselves, as objects. A plain text is returned unchanged.
  const MARK = "\u0002";
  bon.translate = (text) => {
    if (!text?.startsWith?.(MARK)) return String(text ?? "");
    try {
      return messageText(JSON.parse(text.slice(1)));
    } catch {
      return text; // a plain text that begins with the mark
    }
  };
  const messageText = ({ key, values, parts, separator }) => (parts ? parts.map(valueText).join(separator) : bon.say(key, values));

  // Puts texts into the HTML fragments: data-say names the key. Backticks enclose code or, with data-mark, keys to press.
  bon.dress = (root) => {
    for (const node of root.querySelectorAll("[data-say]")) {
      const parts = bon.say(node.dataset.say).split("`");
      node.replaceChildren(...parts.map((text, i) => (i % 2 ? textElement(node.dataset.mark ?? "code", text) : text)));
    }
  };
  const textElement = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  bon.line = (element, props, watch) => {
    const node = document.createElement("p");
    element.append(node);
    const draw = () => (node.textContent = bon.translate(props.value));
    watch("value", draw);
    draw();
  };

  // The choice of the language. It is stored in this browser and reloads the page; the form keeps its values.
  bon.languageSelect = (element) => {
    const choice = (tag) => {
      const option = Object.assign(textElement("option", bon.tables[tag]["language.name"]), { value: tag, lang: tag });
      option.selected = tag === bon.language;
      return option;
    };
    const select = document.createElement("select");
    select.setAttribute("aria-label", bon.say("language.choose"));
    select.append(...Object.keys(bon.tables).map(choice));
    select.addEventListener("change", () => ((newLanguage = select.value), document.querySelector("#speak").click()));
    element.append(select);
  };
  let newLanguage = bon.language;

  const keep = (storage, name, text) => {
    try {
      storage().setItem(name, text);
    } catch {
      // This browser forbids storage: the address holds the language; the form's values are lost.
    }
  };
  bon.switchLanguage = (...values) => {
    keep(() => sessionStorage, "bon-form", JSON.stringify(values));
    keep(() => localStorage, STORAGE_KEY, newLanguage);
    const address = new URL(location.href);
    address.searchParams.set("lang", newLanguage);
    location.assign(address);
  };
  // The form's values before the reload, for the fields and the slider; no change if there are none.
  bon.restoreForm = () => {
    let values = null;
    try {
      values = JSON.parse(sessionStorage.getItem("bon-form"));
      sessionStorage.removeItem("bon-form");
    } catch {
      // This browser forbids storage.
    }
    const names = Object.keys(bon.defaults);
    if (values?.length !== names.length) return [...names, "slider"].map(() => ({ __type__: "update" }));
    return [...values, Math.min(64, Math.max(1, values[names.indexOf("n")] ?? 1))];
  };

  // Gradio uses the browser's language; only a function of its core module can set another one.
  const setGradioLanguage = async () => {
    if (document.documentElement.lang === bon.language) return;
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    const { changeLocale } = await import(loaded.find((name) => /\/core-[^/]+\.js$/.test(name)));
    changeLocale(bon.language);
  };
  // Updates of the tabs' names, which Gradio does not redraw when the language changes.
  bon.tabs = (...keys) => keys.map((key) => ({ __type__: "update", label: bon.say(key) }));
  if (linkedLanguage) keep(() => localStorage, STORAGE_KEY, linkedLanguage);
  setGradioLanguage();
}
