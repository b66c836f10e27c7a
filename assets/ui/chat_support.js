// Passes what the server says of the selected model to the chat field (its name and whether it can chat) and to the
// fields (its values), and lets held presses go on.
{
  bon.chatSupport = (element, props, watch) => {
    const update = async () => {
      if (!bon.chatEntry) return setTimeout(update, 20);
      const { model, scorer, chats, defaults } = props.value;
      bon.chatEntry.setModel(props.value);
      if (chats === null) return;
      await bon.showDefaults(defaults);
      bon.modelKnown(model, scorer);
    };
    watch("value", update);
    update();
  };
}
