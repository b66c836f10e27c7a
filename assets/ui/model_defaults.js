// The values of settings that hold with the selected model. They stand in the fields that the visitor has not set.
{
  const KEYS = {
    preset: "form.values_of_preset",
    model: "form.values_of_model",
    chats: "form.values_of_chats",
  };
  const UNCHANGED = { __type__: "update" };

  let sources = {}, // for `chat` and `text`: the model's values by name, by where they come from
    shown = null, // the values that hold with the model and kind of prompt so far: a field with another one was set
    isFilled = false, // whether a link, a record or a stored form filled in the fields, which then stay as they are
    lastShow = Promise.resolve(), // the last call of bon.showDefaults, since Gradio handles one click at a time
    resolveShown = () => {};

  const current = () => sources[bon.chatEntry.get() ? "chat" : "text"] ?? {};
  bon.modelValues = () => Object.assign({}, ...Object.values(current()));
  const isSame = (value, other) => value !== null && value !== "" && Number(value) === Number(other);

  // Resolves when the fields have the values of the model of which the server has told, or, after a change between chat
  // and plain text, those of the model so far.
  bon.showDefaults = (told) => (lastShow = lastShow.then(() => show(told)));
  const show = (told = sources) =>
    new Promise((resolve) => {
      sources = told;
      resolveShown = resolve;
      document.querySelector("#defaults").click(); // calls bon.defaultValues, then bon.defaultsShown
    });
  bon.defaultsShown = () => resolveShown();
  // Whether the fields stay as they were filled in; until the visitor chooses another model or kind of prompt.
  bon.keepValues = (keep) => {
    isFilled = keep;
  };

  // What the fields of these settings get, and the line on where their values come from. values: the fields'.
  bon.defaultValues = (names, ...values) => {
    const declared = Object.fromEntries(names.map((name) => [name, bon.defaults[name]])),
      defaults = { ...declared, ...bon.modelValues() },
      before = shown ?? bon.defaults;
    const updated = names.map((name, i) => (!isFilled && isSame(values[i], before[name]) ? defaults[name] : values[i]));
    shown = defaults;
    const updates = updated.map((value, i) => (value === values[i] ? UNCHANGED : value));
    return [...updates, bon.originLine(names, ...updated)];
  };

  // Where the fields' values come from, as far as they are a model's.
  bon.originLine = (names, ...values) => {
    const isOf = (defaults) => (name, i) => name in defaults && isSame(values[i], defaults[name]);
    return Object.entries(current())
      .map(([source, defaults]) => [KEYS[source], names.filter(isOf(defaults)).map((name) => bon.say(`form.${name}`))])
      .filter(([, labels]) => labels.length)
      .map(([key, labels]) => bon.say(key, { names: labels.join(", ") }))
      .join(" ");
  };
}
