// Share links: the address that holds a run's settings, the button that copies it, and filling in the form from a link
// or from the history.
{
  const HOST_PREFIX = "__"; // of parameters that the host adds to the address, such as a token
  const MOST_CHARACTERS = 8000; // of an address that every server and proxy accepts

  // The form's values for the run of a record; an older record has fewer settings.
  bon.formValues = ({ prompt, messages, target, settings }) => {
    const recorded = Object.keys(bon.defaults).filter((name) => settings[name] !== undefined);
    return {
      ...bon.defaults,
      ...Object.fromEntries(recorded.map((name) => [name, settings[name]])),
      prompt,
      target: settings.target ?? target ?? null,
      seed: String(settings.seed),
      scorer: settings.scorer ?? "",
      ...Object.fromEntries(Object.keys(bon.switches).map((name) => [name, settings[name] > 0])),
      // false: a plain text by choice; null: the model cannot chat.
      chat: messages ? messages.slice(0, -1) : bon.chatEntry.isChatModel(settings.model) === false ? null : false,
    };
  };

  // The address that fills in the form for a run; other parameters of the query string are kept.
  bon.shareLink = (run) => {
    const url = new URL(location.href),
      switches = Object.keys(bon.switches).map((name) => [name, run.settings[name] ?? 0]),
      values = { ...bon.formValues(run), ...Object.fromEntries(switches), chat: chatParameter(run) };
    for (const name of [...url.searchParams.keys()])
      if (name in bon.defaults || name.startsWith(HOST_PREFIX)) url.searchParams.delete(name);
    for (const [name, value] of Object.entries(values))
      if (name === "prompt" || !(value === null || String(value) === String(plain(bon.defaults[name]))))
        url.searchParams.set(name, value);
    url.searchParams.delete("lang"); // whoever opens the link has chosen a language
    url.hash = "";
    return url.href;
  };
  const plain = (value) => (value === false ? 0 : value);
  // The messages before the prompt as short JSON; 0 for a plain text to a chat model.
  const chatParameter = ({ messages, settings }) =>
    messages
      ? JSON.stringify(messages.slice(0, -1).map(({ role, content }) => [role, content]))
      : bon.chatEntry.isChatModel(settings.model) ? 0 : null;

  // record: returns the run that is shown, as JSON.
  bon.linkButton = (record) => {
    const button = bon.el("button", { type: "button", class: "copy link" }, bon.say("copy.link"));
    button.addEventListener("click", async () => {
      const link = bon.shareLink(JSON.parse(record())),
        fits = link.length <= MOST_CHARACTERS;
      if (fits) await bon.copy(link);
      bon.text(button, bon.say(fits ? "copied" : "link.long"));
      setTimeout(() => bon.text(button, bon.say("copy.link")), fits ? 1500 : 4000);
    });
    return button;
  };

  // Fills in the form: a hidden button's event passes the values to Gradio's components.
  bon.fillForm = (values) =>
    new Promise((resolve) => {
      const n = Math.min(64, Math.max(1, values.n));
      bon.formValuesToFill = () => [...Object.keys(bon.defaults).map((name) => values[name]), n];
      bon.formFilled = resolve;
      document.querySelector("#enter").click();
    });

  // The notice above a form that a link has filled in. The run starts only when the visitor presses Generate.
  bon.linkNotice = (element, props, watch) => {
    const close = bon.el("button", { type: "button", class: "copy" }, bon.say("dismiss"));
    const list = bon.el("ul");
    const title = bon.el("b"),
      warning = bon.el("p", {}, bon.say("link.ignored"));
    const node = bon.el("div", { class: "linked", role: "status" }, bon.el("p", {}, title), warning, list, close);
    element.append(node);
    const hide = () => (node.hidden = true);
    close.addEventListener("click", hide);
    document.addEventListener("click", (event) => event.target.closest?.("#generate") && hide());
    const draw = () => {
      const { defaults, switches, linked, ignored } = props.value;
      bon.defaults = defaults;
      bon.switches = switches;
      node.hidden = !linked;
      bon.text(title, bon.say("link.filled"));
      warning.hidden = list.hidden = !ignored.length;
      list.replaceChildren(...ignored.map((message) => bon.el("li", {}, bon.translate(message))));
    };
    watch("value", draw);
    draw();
  };
}
