// The facts of a finished run and the chart of its expected best of k.
{
  bon.runFacts = (node, tooltip) => {
    const facts = bon.el("dl", { class: "facts" });
    const caption = bon.el("p", { class: "caption" });
    const title = bon.el("span");
    const figure = bon.el(
      "figure",
      { class: "curve" },
      bon.el("figcaption", {}, title),
    );
    const curve = bon.expectedBestChart(figure, tooltip);
    figure.append(caption);
    node.append(facts, figure);
    const draw = (view) => {
      node.hidden = !view.facts;
      if (!view.facts) return;
      facts.replaceChildren(
        ...view.facts.map(({ value, label, tip }) =>
          bon.fact(bon.term(bon.translate(label), bon.translate(tip)), bon.translate(value)),
        ),
      );
      figure.hidden = !view.curve;
      if (!view.curve) return;
      bon.setText(title, bon.say(view.curve.word === "worst" ? "curve.title.worst" : "curve.title"));
      bon.setText(caption, bon.translate(view.curve.caption));
      curve.draw(view.curve);
    };
    return { draw };
  };
}
