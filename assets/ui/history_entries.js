// The history's entries, parsed, with the texts of their rows.
{
  const AGES = [
    // below so many seconds: unit, seconds of it
    [60, "second", 1],
    [3600, "minute", 60],
    [86400, "hour", 3600],
  ];

  // "5 minutes ago" within a day, else date and time in the visitor's format.
  bon.formatAge = (at) => {
    const seconds = (Date.now() - at) / 1000;
    if (seconds < 45) return bon.say("history.now");
    const age = AGES.find(([most]) => seconds < most);
    if (!age) return bon.formatTime(at);
    return new Intl.RelativeTimeFormat(bon.language).format(-Math.round(seconds / age[2]), age[1]);
  };

  // An entry with its parsed run and the texts of its row; null if it is corrupt or of another version.
  bon.parseEntry = (entry) => {
    try {
      if (entry.v !== bon.historyStore.version || !Number.isFinite(entry.at)) return null;
      const run = JSON.parse(entry.record);
      const first = run.candidates[0],
        scored = run.candidates.filter((c) => c.score !== null).length;
      const best = first && first.score !== null && first.ended !== "rejected" ? first : null;
      const texts = { ...rowTexts(run, best, scored, entry.phase), date: new Date(entry.at).toISOString() };
      return { entry, run, best, at: entry.at, id: entry.id, texts };
    } catch {
      return null;
    }
  };

  // All texts of a run's row, made early so that an unreadable run is noticed before it is drawn.
  const rowTexts = (run, best, scored, phase) => {
    const n = run.candidates.length,
      { prompt, settings } = run;
    const ended = ["stopped", "failed"].includes(phase) ? bon.say(`history.${phase}`, { done: scored, of: n }) : "";
    if (typeof prompt !== "string" || typeof run.timing.total !== "number") throw new TypeError("not a run");
    const rule = settings.select === "worst" ? "worst" : "best";
    return {
      prompt,
      text: best ? best.text.slice(0, 400) : "",
      cut: best?.ended === "length" && !best.full_text && bon.say("text.cut", { n: best.tokens }),
      score: best ? bon.formatScore(best.score) : "–",
      unit: best ? bon.formatUnit(run) : bon.say("history.none"),
      ended,
      facts: [
        bon.say(`fact.${rule}`, { of: n }),
        bon.say("fact.seed", { seed: String(settings.seed) }),
        String(run.model),
      ],
    };
  };
}
