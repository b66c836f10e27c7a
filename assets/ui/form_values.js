// The form's values for the run of a record, and filling in the form with them.
{
  // The slider's position for N, which may be greater.
  bon.sliderValue = (n) => Math.min(bon.sliderMax, Math.max(1, n ?? 1));

  // An older record has fewer settings.
  bon.formValues = ({ prompt, messages, target, settings }) => {
    const recorded = Object.keys(bon.defaults).filter((name) => settings[name] !== undefined);
    return {
      ...bon.defaults,
      ...Object.fromEntries(recorded.map((name) => [name, bon.fieldValue(settings[name])])),
      prompt,
      target: settings.target ?? target ?? null,
      seed: String(settings.seed),
      scorer: settings.scorer ?? "",
      ...Object.fromEntries(
        Object.entries(bon.switches).map(([name, { off }]) => [name, (settings[name] ?? off) !== off]),
      ),
      // false: a plain text by choice; null: the model cannot chat.
      chat: messages ? messages.slice(0, -1) : entryWithoutChat(settings.model),
    };
  };
  // Several texts stand one on each line, as bon.settings.write_escapes writes it.
  const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };
  bon.fieldValue = (value) =>
    Array.isArray(value)
      ? value.map((text) => text.replace(/[\n\r\t\\]/g, (character) => ESCAPES[character])).join("\n")
      : value;
  bon.readLines = (text) => {
    const characters = Object.fromEntries(Object.entries(ESCAPES).map(([character, written]) => [written, character]));
    const lines = text.split("\n").filter(Boolean);
    return lines.map((line) => line.replace(/\\[nrt\\]/g, (written) => characters[written]));
  };
  const entryWithoutChat = (model) => (bon.chatEntry.isChatModel(model) === false ? null : false);

  // Resolves when the form is filled in: a hidden button's event passes the values to Gradio's components.
  bon.fillForm = (values) =>
    new Promise((resolve) => {
      bon.formValuesToFill = () => [
        ...Object.keys(bon.defaults).map((name) => values[name]),
        bon.sliderValue(values.n),
      ];
      bon.formFilled = resolve;
      bon.keepValues(true);
      document.querySelector("#enter").click();
    });

  // What the fields and the slider get when the page opens: the values from before a change of the language, or else
  // those of the link. Fields that the visitor has changed meanwhile stay as they are. current: the fields' values.
  bon.valuesOnOpening = ({ values, first_values }, ...current) => {
    const names = Object.keys(first_values),
      opening = bon.takeStoredForm(names) ?? values;
    bon.keepValues(Object.keys(opening).length > 0);
    const isUntouched = (name) => plain(current[names.indexOf(name)]) === plain(first_values[name]);
    const isFilled = (name) => name in opening && isUntouched(name);
    const filled = names.map((name) => (isFilled(name) ? opening[name] : UNCHANGED));
    return [...filled, isFilled("n") ? bon.sliderValue(opening.n) : UNCHANGED];
  };
  const UNCHANGED = { __type__: "update" };
  const plain = (value) => JSON.stringify(value ?? ""); // Gradio has no null
}
