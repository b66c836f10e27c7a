// The chat above the prompt field: its earlier messages, the system message and the choice between chat and plain text.
// props.value is the list of messages; false: plain text by choice; null: plain text, the model cannot chat.
{
  const NAMES = { user: "chat.user", assistant: "chat.assistant", system: "form.system" };

  const turn = ({ role, content }) =>
    bon.el(
      "li",
      { class: "turn", "data-role": role },
      bon.el("b", {}, role in NAMES ? bon.say(NAMES[role]) : role),
      bon.el("p", {}, content.trim()),
    );

  const makeButton = (label, act) => {
    const button = bon.el("button", { type: "button" }, label);
    button.addEventListener("click", act);
    return button;
  };

  bon.chat = (element, props, watch, server, trigger) => {
    const asChat = makeButton(bon.say("chat.as_chat"), () => set(suspendedChat ?? [])),
      asText = makeButton(bon.say("chat.as_text"), () => set(false));
    const mode = bon.el("div", { class: "mode", role: "group", "aria-label": bon.say("chat.kind") }, asChat, asText);
    const area = bon.el("textarea", { rows: 2, "aria-label": bon.say("form.system"), placeholder: bon.say("form.system.empty") }),
      preview = bon.el("span", { class: "preview-line" });
    const system = bon.el("details", {}, bon.el("summary", {}, bon.el("b", {}, bon.say("form.system")), " ", preview), area);
    const turns = bon.el("ol", { class: "turns", tabindex: 0, "aria-label": bon.say("chat.turns") }),
      newChat = makeButton(bon.say("chat.new"), () => bon.continueFrom("", messages().filter(isSystem)));
    const error = bon.el("p", { class: "fault" }),
      suspended = bon.el("p", { class: "waits" });
    newChat.className = "new";
    const bar = bon.el("div", { class: "bar" }, mode, newChat);
    element.append(bon.el("div", { class: "chat" }, bar, suspended, system, turns, error));
    const toLast = () => (turns.scrollTop = turns.scrollHeight);
    new ResizeObserver(toLast).observe(turns); // present mode shows only the last turns

    let model = "", // the name of the selected model
      chats = null, // whether it has a chat template; null until the server says
      suspendedChat = null, // the chat that is kept while the entry is a plain text
      drawnState = "";
    const value = () => (props.value === "" ? null : (props.value ?? null)); // Gradio has no null
    const messages = () => value() || [];
    const isSystem = ({ role }, place) => place === 0 && role === "system";

    const set = (chat) => {
      if (value() && !chat) suspendedChat = value();
      props.value = chat;
      draw();
    };

    area.addEventListener("input", () => {
      const rest = messages().filter((message, place) => !isSystem(message, place));
      set(area.value.trim() ? [{ role: "system", content: area.value }, ...rest] : rest);
    });

    const draw = () => {
      const on = Boolean(value()),
        systemText = on && messages().some(isSystem) ? messages()[0].content : "",
        rest = messages().filter((message, place) => !isSystem(message, place));
      bon.set(document.body, "data-chat", on && (rest.length ? "going" : "new"));
      mode.hidden = !chats;
      asChat.setAttribute("aria-pressed", on);
      asText.setAttribute("aria-pressed", !on);
      system.hidden = !on;
      if (area.value.trim() !== systemText.trim()) area.value = systemText;
      bon.text(preview, systemText.trim());
      turns.hidden = newChat.hidden = !rest.length;
      const key = JSON.stringify(rest);
      if (key !== turns.dataset.key) {
        turns.dataset.key = key;
        turns.replaceChildren(...rest.map(turn));
        toLast();
      }
      suspended.hidden = on || !suspendedChat?.length || chats !== false;
      bon.text(suspended, suspended.hidden ? "" : bon.say("chat.waits", { model }));
      showError("");
      const state = `${on} ${chats} ${model}`;
      if (state !== drawnState && (on || chats !== null)) trigger("input"); // the label of the prompt field depends on it
      drawnState = state;
    };

    // Shows why the model's template refuses the chat, and opens the system message, the likely cause.
    const showError = (message) => {
      bon.text(error, message);
      error.hidden = !message;
      if (message && area.value) system.open = true;
    };

    // An empty chat; replaces the example text that the page starts with by an example message.
    const startChat = () => {
      const [text, message] = ["beginning", "question"].map((name) => document.querySelector(`#examples .${name}`));
      const linked = new URLSearchParams(location.search).has("prompt");
      if (!linked && document.querySelector("#prompt textarea").value === text.textContent.trim()) message.click();
      return [];
    };

    bon.chatEntry = {
      get: value,
      set,
      showError,
      setModel: (facts) => {
        ({ model, chats } = facts);
        if (chats && value() === null) set(suspendedChat ?? startChat());
        else if (chats === false) set(null);
        else draw();
      },
      isChatModel: (name) => (name === model ? chats : null),
    };

    // The update of the prompt field: label, hint and placeholder for a chat or a plain text.
    bon.promptField = () => {
      const on = Boolean(value());
      return {
        __type__: "update",
        label: bon.say(on ? "form.message" : "form.prompt"),
        info: on ? bon.say("hint.chat") : bon.sayOr(`hint.${model}`, bon.say("hint")),
        placeholder: bon.say(on ? "form.message.empty" : "form.prompt.empty"),
      };
    };

    watch("value", draw);
    draw();
  };

  // Receives the name of the selected model from the server, and whether it can chat.
  bon.chats = (element, props, watch) => {
    const update = () => (bon.chatEntry ? bon.chatEntry.setModel(props.value) : setTimeout(update, 20));
    watch("value", update);
    update();
  };
}
