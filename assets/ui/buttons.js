// Buttons that call a function.
{
  // bon.button("Open", () => open(), {class: "plain"})
  bon.button = (label, act, attributes = {}) => {
    const button = bon.el("button", { type: "button", ...attributes }, label);
    button.addEventListener("click", act);
    return button;
  };

  // Shows another text on a button for some milliseconds.
  bon.showOnButton = (button, text, label, duration = 1500) => {
    bon.setText(button, text);
    setTimeout(() => bon.setText(button, label), duration);
  };

  // A button that runs `act` and then shows the text `done` for a moment.
  bon.actionButton = (label, done, act) => {
    const button = bon.button(
      label,
      async () => {
        await act();
        bon.showOnButton(button, done, label);
      },
      { class: "copy" },
    );
    return button;
  };
}
