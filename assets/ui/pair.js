// Two runs side by side: their winners, a table of costs and settings, and the expected best of k of both.
{
  const CHART = { left: 44, right: 46, top: 14, foot: 40, height: 210 };
  const NAMES = ["A", "B"];

  const minusSign = (text) => text.replace("-", "−");
  // Formats scores and units like bon/report/numbers.py.
  bon.formatScore = (score) => {
    if (score >= 0.9995 && score < 1) return "> 0.999";
    return score > 0 && score < 0.0005 ? "< 0.001" : minusSign(score.toFixed(3));
  };
  bon.formatUnit = ({ unit, target }) => {
    const unitName = bon.sayOr(`unit.${unit}`, unit),
      label = target === target?.toUpperCase() ? target?.toLowerCase() : target;
    return target ? bon.say("unit.of", { unit: unitName, label: bon.sayOr(`label.${label}`, label) }) : unitName;
  };

  // A run's prompt; in a chat the last message, on a separate line before its answer.
  bon.promptNode = ({ prompt, messages }) =>
    bon.el("span", { class: messages ? "prompt message" : "prompt" }, prompt);

  // Rows shown always, and rows shown only where the two runs differ: key, text of a run, and for a setting its name,
  // so that a difference is marked.
  const ALWAYS = [
    ["score", ({ best }) => best && bon.formatScore(best.score)],
    ["mean", ({ run }) => run.stats && bon.formatScore(run.stats.mean)],
    ["n", ({ run }) => bon.formatInteger(run.candidates.length), "N"],
    ["tokens", ({ run }) => bon.formatInteger(run.timing.tokens || run.candidates.reduce((sum, c) => sum + c.tokens, 0))],
    ["seconds", ({ run }) => run.timing.total.toFixed(2)],
    ["seed", ({ run }) => String(run.settings.seed), "seed"],
  ];
  const IF_DIFFERENT = [
    ["unit", ({ run }) => bon.formatUnit(run)],
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
  const LISTED = new Set(
    [...ALWAYS, ...IF_DIFFERENT].map(([name]) => name).concat("target", "min_tokens", "max_tokens", "prompt", "chat"),
  );
  // Any other setting of the page is shown as its value: the record's, or the default where the run is older than it.
  const otherSettings = () =>
    Object.keys(bon.defaults)
      .filter((name) => !LISTED.has(name))
      .map((name) => [name, ({ run }) => String(run.settings[name] ?? bon.defaults[name])]);
  const settingRows = () => [...IF_DIFFERENT, ...otherSettings()];
  const settingName = (name) => bon.sayOr(`pair.${name}`, "") || bon.say(`form.${name}`);

  const cells = (pair, format) => pair.map((entry) => format(entry) || "–");
  const differ = (pair, format) => new Set(cells(pair, format)).size > 1;

  const tableRow = (pair, [name, format], setting) => {
    const differs = setting && differ(pair, format);
    return bon.el(
      "tr",
      { class: differs ? "differs" : null },
      bon.el("th", { scope: "row" }, settingName(name), ...(differs ? [" ", bon.el("small", {}, bon.say("pair.differs"))] : [])),
      ...cells(pair, format).map((value) => bon.el("td", {}, value)),
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
        ...ALWAYS.map((row) => tableRow(pair, row, row[2])),
        ...settingRows().filter(([, format]) => differ(pair, format)).map((row) => tableRow(pair, row, true)),
      ),
    );
  };

  const equalSettings = (pair) => {
    const same = settingRows()
      .filter(([, format]) => !differ(pair, format))
      .map(([name, format]) => bon.say("pair.same.one", { name: settingName(name).toLowerCase(), value: format(pair[0]) }));
    return bon.el("p", { class: "caption" }, bon.el("b", {}, `${bon.say("pair.same")} `), `${same.join(", ")}.`);
  };

  const card = (entry, i, formatTime) =>
    bon.el(
      "article",
      { class: "card", "data-run": NAMES[i] },
      bon.el("p", { class: "tag" }, bon.el("b", {}, NAMES[i]), ` ${formatTime(entry.at)}`),
      bon.el(
        "p",
        { class: "points" },
        bon.el("b", {}, entry.best ? bon.formatScore(entry.best.score) : "–"),
        bon.el("span", {}, entry.best ? bon.formatUnit(entry.run) : bon.say("history.none")),
      ),
      bon.el(
        "blockquote",
        { "data-cut": entry.texts.cut },
        bon.promptNode(entry.run),
        entry.best?.text ?? "",
      ),
    );

  // The two ends of an axis that holds all values.
  const scale = (values, unit) => {
    if (unit === "probability") return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return high > low ? [low, high] : [low - 1, high + 1];
  };

  const curves = (pair, width) => {
    const runs = pair.map(({ run }, i) => ({ name: NAMES[i], values: run.stats?.expected_best })).filter((c) => c.values?.length);
    const [low, high] = scale(runs.flatMap(({ values }) => values), pair[0].run.unit);
    const n = Math.max(2, ...runs.map(({ values }) => values.length));
    const bottom = CHART.height - CHART.foot;
    const x = (k) => CHART.left + (Math.log2(k) / Math.log2(n)) * (width - CHART.left - CHART.right);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - CHART.top);
    const ticks = [low, (low + high) / 2, high];
    const powers = [...Array(Math.floor(Math.log2(n)) + 1).keys()].map((i) => 2 ** i);
    const ends = spread(runs.map(({ values }) => y(values.at(-1))));
    const svg = bon.svg(
      "svg",
      { role: "img", viewBox: `0 0 ${width} ${CHART.height}`, width, height: CHART.height, "aria-label": description(runs) },
      bon.svg(
        "g",
        { class: "axis" },
        ...ticks.flatMap((tick) => [
          bon.svg("line", { x1: CHART.left, x2: width - CHART.right, y1: y(tick), y2: y(tick) }),
          bon.svg("text", { x: CHART.left - 8, y: y(tick) + 4, "text-anchor": "end" }, minusSign(String(Number(tick.toPrecision(3))))),
        ]),
        ...powers.map((k) => bon.svg("text", { x: x(k), y: bottom + 18, "text-anchor": "middle" }, String(k))),
        bon.svg("text", { x: (CHART.left + width - CHART.right) / 2, y: bottom + 36, "text-anchor": "middle" }, bon.say("pair.samples")),
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
  const spread = ([a, b]) => {
    if (b === undefined || Math.abs(a - b) >= 14) return [a, b];
    const half = (14 - Math.abs(a - b)) / 2;
    return a <= b ? [a - half, b + half] : [a + half, b - half];
  };

  // The chart in words, for screen readers.
  const description = (runs) =>
    runs
      .map(({ name, values }) => bon.say("pair.spoken", { name, one: bon.formatScore(values[0]), of: values.length, best: bon.formatScore(values.at(-1)) }))
      .join(". ");

  const figure = (pair) => {
    const place = bon.el("div"),
      caption = bon.el("p", { class: "caption" });
    const node = bon.el("figure", {}, bon.el("figcaption", {}, bon.say("curve.title")), place, caption);
    if (pair[0].run.unit !== pair[1].run.unit) {
      bon.text(caption, bon.say("pair.units"));
      return node;
    }
    const draw = () => {
      if (!place.clientWidth) return;
      const { svg, runs } = curves(pair, place.clientWidth);
      place.replaceChildren(...(runs.length ? [svg] : []));
      const missing = pair.map((_, i) => NAMES[i]).filter((name) => !runs.some((curve) => curve.name === name));
      bon.text(caption, missing.length ? bon.say("pair.missing", { names: missing.join(", ") }) : "");
    };
    new ResizeObserver(draw).observe(place);
    return node;
  };

  // Parts of the view of two runs; `formatTime` formats the time of a run.
  bon.pair = (pair, formatTime) => [
    bon.el("div", { class: "cards" }, ...pair.map((entry, i) => card(entry, i, formatTime))),
    bon.el("div", { class: "results" }, bon.el("div", { class: "panel" }, table(pair)), bon.el("div", { class: "panel" }, figure(pair), equalSettings(pair))),
  ];
}
