// A run's status line with its progress bar and live region for screen readers, and the alert for errors. Styles depend
// on the root's data-phase.
{
  bon.statusLine = () => {
    const title = bon.el("b"),
      line = bon.el("span"),
      fill = bon.el("i");
    const node = bon.el(
      "div",
      { class: "status" },
      bon.el("p", {}, title, " ", line),
      bon.el("div", { class: "meter", "aria-hidden": "true" }, fill),
    );
    const live = bon.el("p", { class: "unseen", role: "status", "aria-live": "polite" });
    let announced = "";

    // progress: from 0 to 1. news: announced instead of title and line if those change all the time, else falsy.
    const draw = (root, view, busy, progress, news) => {
      root.dataset.phase = view.phase;
      root.setAttribute("aria-busy", busy);
      const [titleText, lineText] = [view.title, view.line].map(bon.translate);
      bon.setText(title, titleText);
      bon.setText(line, lineText);
      fill.style.transform = `scaleX(${progress})`;
      const announcement = news || `${titleText} ${lineText}`;
      if (announcement !== announced) bon.setText(live, (announced = announcement));
    };
    return { node, live, draw };
  };

  bon.alert = () => {
    const node = bon.el("div", { class: "alert", role: "alert", hidden: true });
    const draw = (message) => {
      bon.setText(node, bon.translate(message));
      node.hidden = !message;
    };
    return { node, draw };
  };
}
