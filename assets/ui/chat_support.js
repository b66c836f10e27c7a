// Passes what the server says of the selected model, its name and whether it can chat, to the chat field.
{
  bon.chatSupport = (element, props, watch) => {
    const update = () => (bon.chatEntry ? bon.chatEntry.setModel(props.value) : setTimeout(update, 20));
    watch("value", update);
    update();
  };
}
