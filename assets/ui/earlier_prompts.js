// Continuing a text: it becomes the next prompt, or the last answer of a chat. Earlier prompts are kept, and a button
// leads back to them.
{
  const field = () => document.querySelector("#prompt textarea");
  const MOST_CHARACTERS = 40; // of an earlier prompt on the button
  const earlierPrompts = [];

  // Writes a text into the prompt field, as the visitor would.
  bon.writePrompt = (text) => {
    field().value = text;
    field().dispatchEvent(new Event("input", { bubbles: true }));
  };
  const setPrompt = (text, chat) => {
    bon.writePrompt(text);
    bon.chatEntry.set(chat);
    const back = document.querySelector(".back"),
      last = earlierPrompts.at(-1);
    back.hidden = last === undefined;
    if (last) back.textContent = bon.say("form.back", { text: bon.truncate(promptText(last), MOST_CHARACTERS) });
  };
  const promptText = ({ text, chat }) => text || chat?.at?.(-1)?.content || "";

  bon.continueFrom = (text, chat) => {
    earlierPrompts.push({ text: field().value, chat: bon.chatEntry.get() });
    setPrompt(text, chat);
    field().scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("click", (event) => {
    if (!event.target.closest?.(".back")) return;
    const { text, chat } = earlierPrompts.pop();
    setPrompt(text, chat);
  });
}
