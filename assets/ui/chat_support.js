// Passes what the server says of the selected model, its name and whether it can chat, to the chat field, and lets held
// presses go on.
{
  bon.chatSupport = (element, props, watch) => {
    const update = () => {
      if (!bon.chatEntry) return setTimeout(update, 20);
      const { model, scorer, chats } = props.value;
      bon.chatEntry.setModel(props.value);
      if (chats !== null) bon.modelKnown(model, scorer);
    };
    watch("value", update);
    update();
  };
}
