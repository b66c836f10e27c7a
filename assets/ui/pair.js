// Two runs side by side: their winners, what they took, which settings differ, and what more samples bought in each.
{
  const CHART = { left: 44, right: 46, top: 14, foot: 40, height: 210 };
  const NAMES = ["A", "B"];

  const sign = (text) => text.replace("-", "−");
  // As bon/wording.py has them.
  bon.scoreWords = (score) => {
    if (score >= 0.9995 && score < 1) return "> 0.999";
    return score > 0 && score < 0.0005 ? "< 0.001" : sign(score.toFixed(3));
  };
  bon.unitWords = ({ unit, target }) => {
    const named = bon.known(`unit.${unit}`, unit),
      word = target === target?.toUpperCase() ? target?.toLowerCase() : target;
    return target ? bon.say("unit.of", { unit: named, label: bon.known(`label.${word}`, word) }) : named;
  };

  // The prompt before its continuation; of a chat the last message, on a line of its own before its answer.
  bon.promptOf = ({ prompt, messages }) =>
    bon.el("span", { class: messages ? "prompt message" : "prompt" }, prompt);

  const { whole } = bon;
  // What stands in the table in any case, and what does where it differs. A third word: a setting, so marked.
  const ALWAYS = [
    ["score", ({ best }) => best && bon.scoreWords(best.score)],
    ["mean", ({ run }) => run.stats && bon.scoreWords(run.stats.mean)],
    ["n", ({ run }) => whole(run.candidates.length), "N"],
    ["tokens", ({ run }) => whole(run.timing.tokens || run.candidates.reduce((sum, c) => sum + c.tokens, 0))],
    ["seconds", ({ run }) => run.timing.total.toFixed(2)],
    ["seed", ({ run }) => String(run.settings.seed), "seed"],
  ];
  const MAYBE = [
    ["unit", ({ run }) => bon.unitWords(run)],
    ["model", ({ run }) => run.model],
    ["scorer", ({ run }) => run.scorer],
    ["length", ({ run }) => bon.say("pair.range", { low: run.settings.min_tokens, high: run.settings.max_tokens })],
    ["temperature", ({ run }) => String(run.settings.temperature)],
    ["top_p", ({ run }) => (run.settings.top_p < 1 ? String(run.settings.top_p) : bon.say("off"))],
    ["top_k", ({ run }) => (run.settings.top_k ? String(run.settings.top_k) : bon.say("off"))],
    ["reject", ({ run }) => bon.say(run.settings.reject ? "on" : "off")],
    ["select", ({ run }) => bon.say(`select.${run.settings.select ?? "best"}`)],
    ["softness", ({ run }) => (run.settings.select === "soft" ? String(run.settings.softness) : bon.say("off"))],
  ];

  const both = (pair, words) => pair.map((entry) => words(entry) || "–");
  const differ = (pair, words) => new Set(both(pair, words)).size > 1;

  const line = (pair, [name, words], setting) => {
    const marked = setting && differ(pair, words);
    return bon.el(
      "tr",
      { class: marked ? "differs" : null },
      bon.el("th", { scope: "row" }, bon.say(`pair.${name}`), ...(marked ? [" ", bon.el("small", {}, bon.say("pair.differs"))] : [])),
      ...both(pair, words).map((value) => bon.el("td", {}, value)),
    );
  };

  const table = (pair) => {
    const head = (name) => bon.el("th", { scope: "col" }, bon.el("span", { class: "unseen" }, `${bon.say("pair.run")} `), name);
    return bon.el(
      "table",
      {},
      bon.el("thead", {}, bon.el("tr", {}, bon.el("td", {}), ...NAMES.map(head))),
      bon.el(
        "tbody",
        {},
        ...ALWAYS.map((one) => line(pair, one, one[2])),
        ...MAYBE.filter(([, words]) => differ(pair, words)).map((one) => line(pair, one, true)),
      ),
    );
  };

  const shared = (pair) => {
    const same = MAYBE.filter(([, words]) => !differ(pair, words)).map(([name, words]) => bon.say("pair.same.one", { name: bon.say(`pair.${name}`).toLowerCase(), value: words(pair[0]) }));
    return bon.el("p", { class: "caption" }, bon.el("b", {}, `${bon.say("pair.same")} `), `${same.join(", ")}.`);
  };

  const card = (entry, i, when) =>
    bon.el(
      "article",
      { class: "card", "data-run": NAMES[i] },
      bon.el("p", { class: "tag" }, bon.el("b", {}, NAMES[i]), ` ${when(entry.at)}`),
      bon.el(
        "p",
        { class: "points" },
        bon.el("b", {}, entry.best ? bon.scoreWords(entry.best.score) : "–"),
        bon.el("span", {}, entry.best ? bon.unitWords(entry.run) : bon.say("history.none")),
      ),
      bon.el(
        "blockquote",
        { "data-cut": entry.words.cut },
        bon.promptOf(entry.run),
        entry.best?.text ?? "",
      ),
    );

  // The ends of an axis that holds all of the values, and three ticks.
  const scale = (values, unit) => {
    if (unit === "probability") return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return high > low ? [low, high] : [low - 1, high + 1];
  };

  const curves = (pair, width) => {
    const known = pair.map(({ run }, i) => ({ name: NAMES[i], values: run.stats?.expected_best })).filter((c) => c.values?.length);
    const [low, high] = scale(known.flatMap(({ values }) => values), pair[0].run.unit);
    const n = Math.max(2, ...known.map(({ values }) => values.length));
    const bottom = CHART.height - CHART.foot;
    const x = (k) => CHART.left + (Math.log2(k) / Math.log2(n)) * (width - CHART.left - CHART.right);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - CHART.top);
    const ticks = [low, (low + high) / 2, high];
    const powers = [...Array(Math.floor(Math.log2(n)) + 1).keys()].map((i) => 2 ** i);
    const ends = apart(known.map(({ values }) => y(values.at(-1))));
    const svg = bon.svg(
      "svg",
      { role: "img", viewBox: `0 0 ${width} ${CHART.height}`, width, height: CHART.height, "aria-label": spoken(known) },
      bon.svg(
        "g",
        { class: "axis" },
        ...ticks.flatMap((tick) => [
          bon.svg("line", { x1: CHART.left, x2: width - CHART.right, y1: y(tick), y2: y(tick) }),
          bon.svg("text", { x: CHART.left - 8, y: y(tick) + 4, "text-anchor": "end" }, sign(String(Number(tick.toPrecision(3))))),
        ]),
        ...powers.map((k) => bon.svg("text", { x: x(k), y: bottom + 18, "text-anchor": "middle" }, String(k))),
        bon.svg("text", { x: (CHART.left + width - CHART.right) / 2, y: bottom + 36, "text-anchor": "middle" }, bon.say("pair.samples")),
      ),
      ...known.flatMap(({ name, values }, i) => {
        const d = values.map((value, k) => `${x(k + 1).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
        const [endX, endY] = [x(values.length), y(values.at(-1))];
        return [
          bon.svg("path", { class: "line", "data-run": name, d: `M${d}` }),
          bon.svg("circle", { "data-run": name, cx: endX, cy: endY, r: 4.5 }),
          bon.svg("text", { class: "name", "data-run": name, x: endX + 9, y: ends[i] + 4 }, name),
        ];
      }),
    );
    return { svg, known };
  };

  // Two names at nearly the same height would cover each other.
  const apart = ([a, b]) => {
    if (b === undefined || Math.abs(a - b) >= 14) return [a, b];
    const half = (14 - Math.abs(a - b)) / 2;
    return a <= b ? [a - half, b + half] : [a + half, b - half];
  };

  const spoken = (known) =>
    known
      .map(({ name, values }) => bon.say("pair.spoken", { name, one: bon.scoreWords(values[0]), of: values.length, best: bon.scoreWords(values.at(-1)) }))
      .join(". ");

  const figure = (pair) => {
    const place = bon.el("div"),
      said = bon.el("p", { class: "caption" });
    const node = bon.el("figure", {}, bon.el("figcaption", {}, bon.say("curve.title")), place, said);
    if (pair[0].run.unit !== pair[1].run.unit) {
      bon.text(said, bon.say("pair.units"));
      return node;
    }
    const draw = () => {
      if (!place.clientWidth) return;
      const { svg, known } = curves(pair, place.clientWidth);
      place.replaceChildren(...(known.length ? [svg] : []));
      const missing = pair.map((_, i) => NAMES[i]).filter((name) => !known.some((curve) => curve.name === name));
      bon.text(said, missing.length ? bon.say("pair.missing", { names: missing.join(", ") }) : "");
    };
    new ResizeObserver(draw).observe(place);
    return node;
  };

  // The whole comparison; `when` puts a time into words.
  bon.pair = (pair, when) => [
    bon.el("div", { class: "cards" }, ...pair.map((entry, i) => card(entry, i, when))),
    bon.el("div", { class: "found" }, bon.el("div", { class: "panel" }, table(pair)), bon.el("div", { class: "panel" }, figure(pair), shared(pair))),
  ];
}
