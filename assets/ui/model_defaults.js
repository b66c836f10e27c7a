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

  const sourcesFor = (isChat) => sources[isChat ? "chat" : "text"] ?? {};
  const current = () => sourcesFor(bon.chatEntry.get());
  const joined = (values) => Object.assign({}, ...Object.values(values));
  bon.modelValues = () => joined(current());
  const isSame = (value, other) => value !== null && value !== "" && Number(value) === Number(other);

  // Resolves when the fields have the values of the model of which the server has told, or, after a change between chat
  // and plain text, those of the model so far.
  bon.showDefaults = (newSources) => (lastShow = lastShow.then(() => show(newSources)));
  const show = (newSources = sources) =>
    new Promise((resolve) => {
      sources = newSources;
      resolveShown = resolve;
      document.querySelector("#batch-defaults")?.click(); // calls bon.batchLengths
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

  // The lengths that the Batch tab's fields get: those that hold for the prompts of its file, unless the visitor set
  // others. preview: of the file. lengths: the fields' values, least first.
  let shownLengths = null;
  bon.batchLengths = (preview, ...lengths) => {
    const names = ["min_tokens", "max_tokens"],
      before = shownLengths ?? bon.defaults;
    shownLengths = { ...bon.defaults, ...joined(sourcesFor(preview?.chats)) };
    return lengths.map((length, i) => (isSame(length, before[names[i]]) ? shownLengths[names[i]] : UNCHANGED));
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
