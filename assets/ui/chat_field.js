// The chat above the prompt field: its earlier messages, the system message and the choice between chat and plain text.
// props.value is the list of messages; false: plain text by choice; null: plain text, the model cannot chat.
{
  const NAMES = { user: "chat.user", assistant: "chat.assistant", system: "form.system" };

  const turnItem = ({ role, content }) =>
    bon.el(
      "li",
      { class: "turn", "data-role": role },
      bon.el("b", {}, role in NAMES ? bon.say(NAMES[role]) : role),
      bon.el("p", {}, content.trim()),
    );

  bon.chatField = (element, props, watch, server, trigger) => {
    const choose = (chat) => {
      set(chat);
      bon.keepValues(false);
      bon.showDefaults();
    };
    const asChat = bon.button(bon.say("chat.as_chat"), () => choose(suspendedChat ?? [])),
      asText = bon.button(bon.say("chat.as_text"), () => choose(false));
    const mode = bon.el("div", { class: "mode", role: "group", "aria-label": bon.say("chat.kind") }, asChat, asText);
    const area = bon.el("textarea", {
        rows: 2,
        "aria-label": bon.say("form.system"),
        placeholder: bon.say("form.system.empty"),
      }),
      preview = bon.el("span", { class: "preview-line" });
    const system = bon.el(
      "details",
      {},
      bon.el("summary", {}, bon.el("b", {}, bon.say("form.system")), " ", preview),
      area,
    );
    const turns = bon.el("ol", { class: "turns", tabindex: 0, "aria-label": bon.say("chat.turns") }),
      startNewChat = () => bon.continueFrom("", messages().filter(isSystem)),
      newChat = bon.button(bon.say("chat.new"), startNewChat, { class: "new" });
    const error = bon.el("p", { class: "fault" }),
      suspension = bon.el("p", { class: "waits" });
    const bar = bon.el("div", { class: "bar" }, mode, newChat);
    element.append(bon.el("div", { class: "chat" }, bar, suspension, system, turns, error));
    const scrollToLast = () => (turns.scrollTop = turns.scrollHeight);
    new ResizeObserver(scrollToLast).observe(turns); // present mode shows only the last turns

    let model = "", // the name of the selected model
      chats = null, // whether it has a chat template; null until the server says
      suspendedChat = null, // the chat that is kept while the entry is a plain text
      refusedChat = null, // the chat, as JSON, of which an error is shown
      drawnState = "";
    const value = () => (props.value === "" ? null : (props.value ?? null)); // Gradio has no null
    const messages = () => value() || [];
    const isSystem = ({ role }, index) => index === 0 && role === "system";

    const set = (chat) => {
      if (value() && !chat) suspendedChat = value();
      props.value = chat;
      draw();
    };

    area.addEventListener("input", () => {
      const rest = messages().filter((message, index) => !isSystem(message, index));
      set(area.value.trim() ? [{ role: "system", content: area.value }, ...rest] : rest);
    });

    const draw = () => {
      const isChat = Boolean(value()),
        systemText = isChat && messages().some(isSystem) ? messages()[0].content : "",
        rest = messages().filter((message, index) => !isSystem(message, index));
      bon.setAttribute(document.body, "data-chat", isChat && (rest.length ? "going" : "new"));
      mode.hidden = !chats;
      asChat.setAttribute("aria-pressed", isChat);
      asText.setAttribute("aria-pressed", !isChat);
      system.hidden = !isChat;
      if (area.value.trim() !== systemText.trim()) area.value = systemText;
      bon.setText(preview, systemText.trim());
      turns.hidden = newChat.hidden = !rest.length;
      const key = JSON.stringify(rest);
      if (key !== turns.dataset.key) {
        turns.dataset.key = key;
        turns.replaceChildren(...rest.map(turnItem));
        scrollToLast();
      }
      suspension.hidden = isChat || !suspendedChat?.length || chats !== false;
      bon.setText(suspension, suspension.hidden ? "" : bon.say("chat.waits", { model }));
      if (JSON.stringify(value()) !== refusedChat) showError("");
      const state = `${isChat} ${chats} ${model}`;
      // The label of the prompt field depends on it.
      if (state !== drawnState && (isChat || chats !== null)) trigger("input");
      drawnState = state;
    };

    // Shows why the model's template refuses the chat, and opens the system message, the likely cause.
    const showError = (message) => {
      refusedChat = message ? JSON.stringify(value()) : null;
      bon.setText(error, message);
      error.hidden = !message;
      if (message && area.value) system.open = true;
    };

    // An empty chat; replaces the example text that the page starts with by an example message.
    const startChat = () => {
      const [text, message] = ["beginning", "question"].map((name) => document.querySelector(`#examples .${name}`));
      const linked = new URLSearchParams(location.search).has("prompt");
      if (!linked && document.querySelector("#prompt textarea").value === text.textContent.trim())
        bon.writePrompt(message.textContent.trim());
      return [];
    };

    bon.chatEntry = {
      get: value,
      set,
      showError,
      setModel: (support) => {
        ({ model, chats } = support);
        if (chats && value() === null) set(suspendedChat ?? startChat());
        else if (chats === false) set(null);
        else draw();
      },
      isChatModel: (name) => (name === model ? chats : null),
    };

    // The update of the prompt field: label, hint and placeholder for a chat or a plain text.
    bon.promptField = () => {
      const isChat = Boolean(value());
      return {
        __type__: "update",
        label: bon.say(isChat ? "form.message" : "form.prompt"),
        info: isChat ? bon.say("hint.chat") : bon.sayOr(`hint.${model}`, bon.say("hint")),
        placeholder: bon.say(isChat ? "form.message.empty" : "form.prompt.empty"),
      };
    };

    watch("value", draw);
    draw();
  };
}
