// The chart of two runs' expected best of k.
{
  const SIZE = { right: 46, top: 14, foot: 40, height: 210 };
  bon.PAIR_NAMES = ["A", "B"];

  // The two ends of an axis that holds all values.
  const axisEnds = (values, unit) => {
    if (unit === "probability") return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return high > low ? [low, high] : [low - 1, high + 1];
  };

  // The chart as an SVG node, and the runs that have a curve in it.
  const drawCurves = (pair, width) => {
    const runs = pair
      .map(({ run }, i) => ({ name: bon.PAIR_NAMES[i], values: run.stats?.expected_best }))
      .filter((c) => c.values?.length);
    const [low, high] = axisEnds(
      runs.flatMap(({ values }) => values),
      pair[0].run.unit,
    );
    const n = Math.max(2, ...runs.map(({ values }) => values.length));
    const bottom = SIZE.height - SIZE.foot;
    const ticks = [low, (low + high) / 2, high].map((tick) => [tick, bon.minusSign(String(Number(tick.toPrecision(3))))]),
      left = 12 + bon.widestLabel(ticks.map(([, label]) => label));
    const x = (k) => left + (Math.log2(k) / Math.log2(n)) * (width - left - SIZE.right);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - SIZE.top);
    const powers = [...Array(Math.floor(Math.log2(n)) + 1).keys()].map((i) => 2 ** i);
    const ends = moveApart(runs.map(({ values }) => y(values.at(-1))));
    const svg = bon.svg(
      "svg",
      {
        role: "img",
        viewBox: `0 0 ${width} ${SIZE.height}`,
        width,
        height: SIZE.height,
        "aria-label": description(runs),
      },
      bon.svg(
        "g",
        { class: "axis" },
        ...ticks.flatMap(([tick, label]) => [
          bon.svg("line", { x1: left, x2: width - SIZE.right, y1: y(tick), y2: y(tick) }),
          bon.svg(
            "text",
            { x: left - 8, y: y(tick) + 4, "text-anchor": "end" },
            label,
          ),
        ]),
        ...powers.map((k) => bon.svg("text", { x: x(k), y: bottom + 18, "text-anchor": "middle" }, String(k))),
        bon.svg(
          "text",
          { x: (left + width - SIZE.right) / 2, y: bottom + 36, "text-anchor": "middle" },
          bon.say("pair.samples"),
        ),
      ),
      ...runs.flatMap(({ name, values }, i) => {
        const d = values.map((value, k) => `${x(k + 1).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
        const [endX, endY] = [x(values.length), y(values.at(-1))];
        return [
          bon.svg("path", { class: "line", "data-run": name, d: `M${d}` }),
          bon.svg("circle", { "data-run": name, cx: endX, cy: endY, r: 4.5 }),
          bon.svg("text", { class: "name", "data-run": name, x: endX + 9, y: ends[i] + 4 }, name),
        ];
      }),
    );
    return { svg, runs };
  };

  // Moves two labels at nearly the same height apart, so that they do not overlap.
  const moveApart = ([a, b]) => {
    if (b === undefined || Math.abs(a - b) >= 14) return [a, b];
    const half = (14 - Math.abs(a - b)) / 2;
    return a <= b ? [a - half, b + half] : [a + half, b - half];
  };

  // A description of the chart for screen readers.
  const description = (runs) =>
    runs
      .map(({ name, values }) =>
        bon.say("pair.spoken", {
          name,
          one: bon.formatScore(values[0]),
          of: values.length,
          best: bon.formatScore(values.at(-1)),
        }),
      )
      .join(". ");

  bon.pairChart = (pair) => {
    const svgPlace = bon.el("div"),
      caption = bon.el("p", { class: "caption" });
    const node = bon.el("figure", {}, bon.el("figcaption", {}, bon.say("curve.title")), svgPlace, caption);
    if (pair[0].run.unit !== pair[1].run.unit) {
      bon.setText(caption, bon.say("pair.units"));
      return node;
    }
    const draw = () => {
      if (!svgPlace.clientWidth) return;
      const { svg, runs } = drawCurves(pair, svgPlace.clientWidth);
      svgPlace.replaceChildren(...(runs.length ? [svg] : []));
      const missing = pair
        .map((_, i) => bon.PAIR_NAMES[i])
        .filter((name) => !runs.some((curve) => curve.name === name));
      bon.setText(caption, missing.length ? bon.say("pair.missing", { names: missing.join(", ") }) : "");
    };
    new ResizeObserver(draw).observe(svgPlace);
    return node;
  };
}
