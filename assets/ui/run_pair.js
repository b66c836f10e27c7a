// Two runs side by side: their winners, a table of costs and settings, and the expected best of k of both.
{
  // Rows shown always, and rows shown only where the two runs differ: key, text of a run, and for a setting its name,
  // so that a difference is marked.
  const ALWAYS = [
    ["score", ({ best }) => best && bon.formatScore(best.score)],
    ["mean", ({ run }) => run.stats && bon.formatScore(run.stats.mean)],
    ["n", ({ run }) => bon.formatInteger(run.candidates.length), "N"],
    [
      "tokens",
      ({ run }) => bon.formatInteger(run.timing.tokens || run.candidates.reduce((sum, c) => sum + c.tokens, 0)),
    ],
    ["seconds", ({ run }) => run.timing.total.toFixed(2)],
    ["seed", ({ run }) => String(run.settings.seed), "seed"],
  ];
  const IF_DIFFERENT = [
    ["unit", ({ run }) => bon.formatUnit(run)],
    ["model", ({ run }) => run.model],
    ["scorer", ({ run }) => run.scorer],
    ["length", ({ run }) => bon.say("pair.range", { low: run.settings.min_tokens, high: run.settings.max_tokens })],
    ["temperature", ({ run }) => String(run.settings.temperature)],
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
      .map((name) => [name, ({ run }) => shownValue(name, run.settings[name])]);
  // The numbers with which a setting does nothing.
  const OFF = { top_p: 1, top_k: 0, min_p: 0, typical_p: 1, repetition_penalty: 1 };
  const shownValue = (name, recorded) => {
    const { off } = bon.switches[name] ?? {},
      value = recorded ?? off ?? OFF[name] ?? bon.defaults[name];
    if (value === OFF[name]) return bon.say("off");
    if (off !== undefined) return bon.say(value === off ? "off" : "on");
    return String(bon.fieldValue(value)).replaceAll("\n", " | ") || bon.sayOr(`form.${name}.empty`, "");
  };
  const settingRows = () => [...IF_DIFFERENT, ...otherSettings()];
  const settingName = (name) => bon.sayOr(`pair.${name}`, "") || bon.say(`form.${name}`);

  const cells = (pair, format) => pair.map((entry) => format(entry) || "–");
  const differ = (pair, format) => new Set(cells(pair, format)).size > 1;

  const tableRow = (pair, [name, format], setting) => {
    const differs = setting && differ(pair, format);
    return bon.el(
      "tr",
      { class: differs ? "differs" : null },
      bon.el(
        "th",
        { scope: "row" },
        settingName(name),
        ...(differs ? [" ", bon.el("small", {}, bon.say("pair.differs"))] : []),
      ),
      ...cells(pair, format).map((value) => bon.el("td", {}, value)),
    );
  };

  const table = (pair) => {
    const head = (name) =>
      bon.el("th", { scope: "col" }, bon.el("span", { class: "unseen" }, `${bon.say("pair.run")} `), name);
    return bon.el(
      "table",
      {},
      bon.el("thead", {}, bon.el("tr", {}, bon.el("td", {}), ...bon.PAIR_NAMES.map(head))),
      bon.el(
        "tbody",
        {},
        ...ALWAYS.map((row) => tableRow(pair, row, row[2])),
        ...settingRows()
          .filter(([, format]) => differ(pair, format))
          .map((row) => tableRow(pair, row, true)),
      ),
    );
  };

  const equalSettings = (pair) => {
    const same = settingRows()
      .filter(([, format]) => !differ(pair, format))
      .map(([name, format]) =>
        bon.say("pair.same.one", { name: settingName(name).toLowerCase(), value: format(pair[0]) }),
      );
    return bon.el("p", { class: "caption" }, bon.el("b", {}, `${bon.say("pair.same")} `), `${same.join(", ")}.`);
  };

  const answerOf = ({ run, best }) => (run.messages ? bon.withoutMarks(best?.text ?? "") : (best?.text ?? ""));
  const card = (entry, i) =>
    bon.el(
      "article",
      { class: "card", "data-run": bon.PAIR_NAMES[i] },
      bon.el("p", { class: "tag" }, bon.el("b", {}, bon.PAIR_NAMES[i]), ` ${bon.formatAge(entry.at)}`),
      bon.el(
        "p",
        { class: "points" },
        bon.el("b", {}, entry.best ? bon.formatScore(entry.best.score) : "–"),
        bon.el("span", {}, entry.best ? bon.formatUnit(entry.run) : bon.say("history.none")),
      ),
      bon.el("blockquote", { "data-cut": entry.texts.cut }, bon.promptNode(entry.run), answerOf(entry)),
    );

  // pair: two of the history's entries, parsed. Returns the nodes of the view.
  bon.runPair = (pair) => [
    bon.el("div", { class: "cards" }, ...pair.map((entry, i) => card(entry, i))),
    bon.el(
      "div",
      { class: "results" },
      bon.el("div", { class: "panel" }, table(pair)),
      bon.el("div", { class: "panel" }, bon.pairChart(pair), equalSettings(pair)),
    ),
  ];
}
