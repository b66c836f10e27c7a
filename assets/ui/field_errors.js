// Errors at fields of the form: Gradio writes there the message that the server sent as a key with values.
{
  // Translates the errors; Gradio sometimes writes them repeatedly.
  const translateErrors = () => {
    for (const error of document.querySelectorAll("#form .validation-error")) bon.changeTexts(error, bon.translate);
  };

  // Brings an error at a hidden field into view.
  const showErrors = () => {
    if (document.querySelector("#settings .validation-error")) bon.openSettings(true);
    document.querySelector("#form .validation-error")?.scrollIntoView({ block: "nearest" });
  };

  const isError = (node) => node.classList?.contains("validation-error");
  const begin = () => {
    const form = document.querySelector("#form");
    if (!form) return setTimeout(begin, 50);
    new MutationObserver((changes) => {
      translateErrors();
      if (changes.some((change) => [...change.addedNodes].some(isError))) showErrors();
    }).observe(form, { childList: true, characterData: true, subtree: true });
  };
  begin();
}
