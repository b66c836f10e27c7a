// The page's texts in the visitor's language. bon.tables holds them: tag -> key -> text, or one text per plural form.
{
  const ENGLISH = "en";
  const STORAGE_KEY = "bon-language";

  const supported = (tag) => [tag, tag?.split("-")[0]].find((name) => name in bon.tables);
  bon.storeLanguage = (tag) => bon.store("localStorage", STORAGE_KEY, tag);
  const linkedLanguage = supported(new URLSearchParams(location.search).get("lang"));
  const preferredLanguages = () => [bon.readStored("localStorage", STORAGE_KEY), ...navigator.languages];
  bon.language = linkedLanguage ?? preferredLanguages().map(supported).find(Boolean) ?? ENGLISH;
  if (linkedLanguage) bon.storeLanguage(linkedLanguage);
  const table = bon.tables[bon.language];

  // Numbers keep the decimal point in every language, as in files and code. A thin space groups thousands in languages
  // that use a point for it.
  const format = new Intl.NumberFormat(bon.language);
  const decimalPoint = format.format(0.5).includes(".");
  bon.formatInteger = (number) =>
    format
      .formatToParts(number)
      .map(({ type, value }) => (type === "group" && !decimalPoint ? "\u202f" : value))
      .join("");
  // Date and time in the visitor's format; at: in milliseconds.
  bon.formatTime = (at) => new Date(at).toLocaleString(bon.language, { dateStyle: "medium", timeStyle: "short" });
  const valueText = (value) => {
    if (typeof value === "number") return bon.formatInteger(value);
    return value?.key || value?.parts ? messageText(value) : String(value ?? "");
  };

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
  const messageText = ({ key, values, parts, separator }) =>
    parts ? parts.map(valueText).join(separator) : bon.say(key, values);
  // The text of a message whose key and values stand in JSON beside it.
  bon.translateDescribed = messageText;

  // Fills the texts into the HTML fragments: data-say names the key. Backticks enclose code or, with data-mark, keys to
  // press.
  bon.fillTexts = (root) => {
    for (const node of root.querySelectorAll("[data-say]")) {
      const parts = bon.say(node.dataset.say).split("`");
      node.replaceChildren(...parts.map((text, i) => (i % 2 ? textElement(node.dataset.mark ?? "code", text) : text)));
    }
  };
  const textElement = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

  // At most so many characters of a text.
  bon.truncate = (text, most) => (text.length > most ? `${text.slice(0, most).trimEnd()}…` : text);

  // A line of text that may change: draws props.value.
  bon.textLine = (element, props, watch) => {
    const node = document.createElement("p");
    element.append(node);
    const draw = () => (node.textContent = bon.translate(props.value));
    watch("value", draw);
    draw();
  };
}
