// An interactive figure of best-of-N on the About tab: draws N uniform scores between 0 and 1, whose maximum is N/(N+1)
// on average.
{
  bon.samplingDemo = (element) => {
    const slider = bon.el("input", { type: "range", min: 0, max: 6, step: 1, "aria-label": bon.say("form.n") });
    const output = bon.el("output"),
      outcome = bon.el("p", { class: "outcome", role: "status" });
    const again = bon.button(bon.say("play.again"), () => draw(), { class: "copy" });
    const figure = bon.el("figure", { class: "strip" });
    const tooltip = bon.tooltip(element);
    element.append(
      bon.el("div", { class: "bon play" }, bon.el("div", { class: "knobs" }, output, slider, again), figure, outcome),
    );
    const chart = bon.scoreChart(figure, tooltip, () => {});
    let bests = []; // the best scores of all draws with this N

    const draw = () => {
      const n = 2 ** Number(slider.value);
      const scores = Array.from({ length: n }, () => Math.random());
      const best = scores.indexOf(Math.max(...scores));
      bests.push(scores[best]);
      const expected = n / (n + 1),
        mean = bests.reduce((sum, score) => sum + score, 0) / bests.length;
      bon.setText(output, `N = ${n}`);
      slider.setAttribute("aria-valuetext", bon.say("candidates", { n }));
      chart.draw({
        n,
        unit: bon.say("play.unit"),
        axis: { ticks: [0, 0.25, 0.5, 0.75, 1].map((tick) => [tick, String(tick)]) },
        mean: { share: 0.5, score: "0.500" },
        winner: { index: best, score: scores[best].toFixed(3), lift: `+${(scores[best] - 0.5).toFixed(3)}` },
        rows: scores.map((score) => ({ score: score.toFixed(3), share: score, state: "scored", text: "" })),
      });
      bon.setText(
        outcome,
        bon.say("play.said", {
          of: n,
          best: scores[best].toFixed(3),
          n: bests.length,
          mean: mean.toFixed(3),
          expected: `${n}/${n + 1} = ${expected.toFixed(3)}`,
        }),
      );
    };
    slider.value = 3;
    slider.addEventListener("input", () => ((bests = []), draw()));
    draw();
  };
}
