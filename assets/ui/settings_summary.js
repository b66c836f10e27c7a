// The line that sums up the settings, and opens and closes them.
{
  const line = () => document.querySelector("#settings-line");
  bon.openSettings = (open) => line()?.setAttribute("aria-expanded", open);
  document.addEventListener("click", (event) => {
    const clicked = event.target.closest?.("#settings-line");
    if (clicked) bon.openSettings(clicked.getAttribute("aria-expanded") !== "true");
  });

  const plain = (value) => (value === null || value === undefined ? "–" : String(value));
  // How a setting reads in the line, as a key with its values; null if it is left out. Any other setting reads as its
  // label and value if it is not at its default.
  const SUMMARY = {
    min_tokens: ({ min_tokens, max_tokens }) => ["summed.tokens", { low: plain(min_tokens), high: plain(max_tokens) }],
    max_tokens: () => null,
    temperature: ({ temperature }) => ["summed.temperature", { value: plain(temperature) }],
    top_p: ({ top_p }) => (top_p === 1 ? null : ["summed.top_p", { value: plain(top_p) }]),
    top_k: ({ top_k }) => (top_k ? ["summed.top_k", { value: plain(top_k) }] : null),
    seed: ({ seed }) => (seed?.trim() ? ["fact.seed", { seed: seed.trim() }] : ["summed.fresh"]),
    finish: ({ finish }) => (finish ? ["summed.finish"] : null),
    reject: ({ reject }) => (reject ? ["summed.reject"] : null),
    select: ({ select, softness }) =>
      ({ worst: ["summed.worst"], soft: ["summed.soft", { value: plain(softness) }] })[select] ?? null,
    softness: () => null,
  };
  const summarizeOther = (name, value, leftOut) => {
    if (value === null || value === "" || String(value) === String(leftOut)) return null;
    const lines = plain(value).split("\n").filter(Boolean).join(" | "),
      shown = value === true ? "" : bon.sayOr(`${name}.${value}`, lines);
    return ["summed.setting", { name: bon.say(`form.${name}`), value: shown }];
  };
  // The settings in one line. defaults: by the settings' names, those that the line leaves out. values: of the settings,
  // in the same order. describers: by name, in place of those of SUMMARY.
  bon.summarize = (defaults, values, describers = {}) => {
    const names = Object.keys(defaults),
      settings = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    return names
      .map((name) => {
        const describe = describers[name] ?? SUMMARY[name];
        return describe ? describe(settings) : summarizeOther(name, settings[name], defaults[name]);
      })
      .filter(Boolean)
      .map((part) => bon.say(...part).trim())
      .join(", ");
  };

  const begin = () => {
    if (!line()) return setTimeout(begin, 50);
    bon.openSettings(false);
    line().setAttribute("aria-controls", "settings");
  };
  begin();
}
