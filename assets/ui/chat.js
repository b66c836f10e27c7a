// The entry as a chat: what was said before the message that is being written. props.value holds it as messages; null
// or false where the entry is a text to continue, false by choice.
{
  const NAMES = { user: "chat.user", assistant: "chat.assistant", system: "form.system" };

  const turn = ({ role, content }) =>
    bon.el(
      "li",
      { class: "turn", "data-role": role },
      bon.el("b", {}, role in NAMES ? bon.say(NAMES[role]) : role),
      bon.el("p", {}, content.trim()),
    );

  const choice = (words, choose) => {
    const button = bon.el("button", { type: "button" }, words);
    button.addEventListener("click", choose);
    return button;
  };

  bon.chat = (element, props, watch, server, trigger) => {
    const asChat = choice(bon.say("chat.as_chat"), () => set(aside ?? [])),
      asText = choice(bon.say("chat.as_text"), () => set(false));
    const kind = bon.el("div", { class: "kind", role: "group", "aria-label": bon.say("chat.kind") }, asChat, asText);
    const area = bon.el("textarea", { rows: 2, "aria-label": bon.say("form.system"), placeholder: bon.say("form.system.empty") }),
      gist = bon.el("span", { class: "gist" });
    const system = bon.el("details", {}, bon.el("summary", {}, bon.el("b", {}, bon.say("form.system")), " ", gist), area);
    const turns = bon.el("ol", { class: "turns", tabindex: 0, "aria-label": bon.say("chat.turns") }),
      anew = choice(bon.say("chat.new"), () => bon.goOn("", spoken().filter(isSystem)));
    const fault = bon.el("p", { class: "fault" }),
      waits = bon.el("p", { class: "waits" });
    anew.className = "new";
    const bar = bon.el("div", { class: "bar" }, kind, anew);
    element.append(bon.el("div", { class: "chat" }, bar, waits, system, turns, fault));
    const toLast = () => (turns.scrollTop = turns.scrollHeight);
    new ResizeObserver(toLast).observe(turns); // present mode leaves room for the last turns alone

    let model = "", // the chosen one
      chats = null, // whether it has a chat template; null until it is known
      aside = null, // the chat that waits while the entry is a text
      drawn = "";
    const value = () => (props.value === "" ? null : (props.value ?? null)); // Gradio has no null
    const spoken = () => value() || [];
    const isSystem = ({ role }, place) => place === 0 && role === "system";

    const set = (chat) => {
      if (value() && !chat) aside = value();
      props.value = chat;
      draw();
    };

    area.addEventListener("input", () => {
      const rest = spoken().filter((message, place) => !isSystem(message, place));
      set(area.value.trim() ? [{ role: "system", content: area.value }, ...rest] : rest);
    });

    const draw = () => {
      const on = Boolean(value()),
        said = on && spoken().some(isSystem) ? spoken()[0].content : "",
        rest = spoken().filter((message, place) => !isSystem(message, place));
      bon.set(document.body, "data-chat", on && (rest.length ? "going" : "new"));
      kind.hidden = !chats;
      asChat.setAttribute("aria-pressed", on);
      asText.setAttribute("aria-pressed", !on);
      system.hidden = !on;
      if (area.value.trim() !== said.trim()) area.value = said;
      bon.text(gist, said.trim());
      turns.hidden = anew.hidden = !rest.length;
      const key = JSON.stringify(rest);
      if (key !== turns.dataset.key) {
        turns.dataset.key = key;
        turns.replaceChildren(...rest.map(turn));
        toLast();
      }
      waits.hidden = on || !aside?.length || chats !== false;
      bon.text(waits, waits.hidden ? "" : bon.say("chat.waits", { model }));
      refused("");
      const now = `${on} ${chats} ${model}`;
      if (now !== drawn && (on || chats !== null)) trigger("input"); // what the entry is called has changed
      drawn = now;
    };

    // What the model's template has against the chat, beside what it is likely to be about.
    const refused = (words) => {
      bon.text(fault, words);
      fault.hidden = !words;
      if (words && area.value) system.open = true;
    };

    // A new chat; the example that the page begins with makes way for a message.
    const greeting = () => {
      const [text, message] = ["beginning", "question"].map((kind) => document.querySelector(`#examples .${kind}`));
      const given = new URLSearchParams(location.search).has("prompt");
      if (!given && document.querySelector("#prompt textarea").value === text.textContent.trim()) message.click();
      return [];
    };

    bon.chatting = {
      get: value,
      set,
      refused,
      know: (told) => {
        ({ model, chats } = told);
        if (chats && value() === null) set(aside ?? greeting());
        else if (chats === false) set(null);
        else draw();
      },
      chats: (other) => (other === model ? chats : null),
    };

    // What Gradio's event gives to the entry: its name, and the words beside it and in it.
    bon.asked = () => {
      const on = Boolean(value());
      return {
        __type__: "update",
        label: bon.say(on ? "form.message" : "form.prompt"),
        info: on ? bon.say("hint.chat") : bon.known(`hint.${model}`, bon.say("hint")),
        placeholder: bon.say(on ? "form.message.empty" : "form.prompt.empty"),
      };
    };

    watch("value", draw);
    draw();
  };

  // What is known of the chosen model, from the server.
  bon.chats = (element, props, watch) => {
    const tell = () => (bon.chatting ? bon.chatting.know(props.value) : setTimeout(tell, 20));
    watch("value", tell);
    tell();
  };
}
