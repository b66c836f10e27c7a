// The form's settings in a link, and the form filled in from outside: by a link or by the history.
{
  const FIRST = "__"; // what the host puts into the address for itself begins so, a token among it
  const BEARS = 8000; // characters of an address that every server and proxy on the way takes

  // What the form was given for the run of a record; an older record has fewer settings.
  bon.valuesOf = ({ prompt, messages, target, settings }) => {
    const known = Object.keys(bon.defaults).filter((name) => settings[name] !== undefined);
    return {
      ...bon.defaults,
      ...Object.fromEntries(known.map((name) => [name, settings[name]])),
      prompt,
      target: settings.target ?? target ?? null,
      seed: String(settings.seed),
      scorer: settings.scorer ?? "",
      reject: settings.reject > 0,
      // A text by choice, but for a model that leaves none.
      chat: messages ? messages.slice(0, -1) : bon.chatting.chats(settings.model) === false ? null : false,
    };
  };

  // The address that fills the form in so; what others have in the query string stays.
  bon.linkOf = (run) => {
    const url = new URL(location.href),
      values = { ...bon.valuesOf(run), reject: run.settings.reject ?? 0, chat: chatOf(run) };
    for (const name of [...url.searchParams.keys()])
      if (name in bon.defaults || name.startsWith(FIRST)) url.searchParams.delete(name);
    for (const [name, value] of Object.entries(values))
      if (name === "prompt" || !(value === null || String(value) === String(plain(bon.defaults[name]))))
        url.searchParams.set(name, value);
    url.searchParams.delete("lang"); // whoever opens it has a language too
    url.hash = "";
    return url.href;
  };
  const plain = (value) => (value === false ? 0 : value);
  // What was said before the prompt, in short; 0 for a text where the model would take a chat.
  const chatOf = ({ messages, settings }) =>
    messages
      ? JSON.stringify(messages.slice(0, -1).map(({ role, content }) => [role, content]))
      : bon.chatting.chats(settings.model) ? 0 : null;

  // record: gives the run that is shown, as a JSON text.
  bon.linkButton = (record) => {
    const button = bon.el("button", { type: "button", class: "copy link" }, bon.say("copy.link"));
    button.addEventListener("click", async () => {
      const link = bon.linkOf(JSON.parse(record())),
        fits = link.length <= BEARS;
      if (fits) await bon.copy(link);
      bon.text(button, bon.say(fits ? "copied" : "link.long"));
      setTimeout(() => bon.text(button, bon.say("copy.link")), fits ? 1500 : 4000);
    });
    return button;
  };

  // Puts values into the form: the event of a hidden button carries them to Gradio's components.
  bon.enter = (values) =>
    new Promise((entered) => {
      const n = Math.min(64, Math.max(1, values.n));
      bon.entering = () => [...Object.keys(bon.defaults).map((name) => values[name]), n];
      bon.entered = entered;
      document.querySelector("#enter").click();
    });

  // The notice above a form that a link has filled in. Pressing Generate is left to the visitor.
  bon.linked = (element, props, watch) => {
    const close = bon.el("button", { type: "button", class: "copy" }, bon.say("dismiss"));
    const list = bon.el("ul");
    const title = bon.el("b"),
      but = bon.el("p", {}, bon.say("link.ignored"));
    const node = bon.el("div", { class: "linked", role: "status" }, bon.el("p", {}, title), but, list, close);
    element.append(node);
    const hide = () => (node.hidden = true);
    close.addEventListener("click", hide);
    document.addEventListener("click", (event) => event.target.closest?.("#generate") && hide());
    const draw = () => {
      const { defaults, linked, ignored } = props.value;
      bon.defaults = defaults;
      node.hidden = !linked;
      bon.text(title, bon.say("link.filled"));
      but.hidden = list.hidden = !ignored.length;
      list.replaceChildren(...ignored.map((said) => bon.el("li", {}, bon.words(said))));
    };
    watch("value", draw);
    draw();
  };
}
