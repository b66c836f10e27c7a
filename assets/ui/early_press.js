// A press of a button that starts work may come before the form is filled in, or before the server has said whether the
// form's model answers chats and which labels its scorer has. It is held until both are known; then the button is
// pressed anew, with what the form holds then.
{
  const BUTTONS = ["#generate", "#compare-start", "#batch-start"];
  const STOPS = { "#stop": "#generate", "#compare-stop": "#compare-start" };
  const find = (selector) => document.querySelector(selector);

  const held = new Set(); // selectors of the pressed buttons
  let isFilled = false,
    known = null, // model and scorer of which the server has told
    loading = null, // those that the server loads for a held press
    failed = null, // those that it could not load
    isReleasing = false;

  const key = (model, scorer) => JSON.stringify([model || bon.defaults.model, scorer || ""]);

  const proceed = () => {
    showHeld();
    // Calls bon.proceedWith with the form's model and scorer.
    if (held.size && isFilled && loading === null) find("#choice").click();
  };
  bon.proceedWith = (model, scorer) => {
    if (!held.size || loading !== null) return;
    const chosen = key(model, scorer);
    // In a task of its own: while a click is handled, the browser ignores another one of the same button.
    if (known === chosen || failed === chosen) return setTimeout(release);
    loading = chosen;
    showHeld();
    find("#prepare").click(); // loads them, and calls bon.modelPrepared
  };
  bon.formOpened = () => {
    isFilled = true;
    proceed();
  };
  bon.modelKnown = (model, scorer) => (known = key(model, scorer));
  // support: what the server has told last, as for bon.chatSupport, which gets it at about the same time.
  bon.modelPrepared = async (support) => {
    await bon.showDefaults(); // so that the press runs with the model's values
    const isLoaded = support && support.chats !== null && key(support.model, support.scorer) === loading;
    failed = isLoaded ? null : loading;
    loading = null;
    proceed();
  };

  // After a failure too: the work that the button starts shows the error.
  const release = () => {
    const buttons = [...held];
    held.clear();
    failed = null;
    showHeld();
    isReleasing = true;
    for (const button of buttons) find(button).click();
    isReleasing = false;
  };

  const showHeld = () => {
    const waits = !isFilled || loading !== null;
    for (const button of BUTTONS) bon.showBusy(button, "form.waiting", waits && held.has(button));
    const model = loading !== null && held.has("#generate") ? JSON.parse(loading)[0] : null;
    document.dispatchEvent(new CustomEvent("bon:held", { detail: { model } }));
  };

  const onClick = (event) => {
    const isOn = (selector) => event.target.closest?.(selector);
    const stop = Object.keys(STOPS).find(isOn);
    if (stop && held.delete(STOPS[stop])) showHeld();
    const button = BUTTONS.find(isOn);
    if (!button || isReleasing) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    held.add(button);
    proceed();
  };
  document.addEventListener("click", onClick, true);
}
