// The History tab: the runs that bon.store keeps, newest first. Nothing of it goes to the server but a record that is
// opened, which comes back as its view.
{
  const AGES = [
    [60, "second", 1],
    [3600, "minute", 60],
    [86400, "hour", 3600],
  ];

  // "5 minutes ago" within a day, else date and time as the visitor writes them.
  const when = (at) => {
    const seconds = (Date.now() - at) / 1000;
    if (seconds < 45) return bon.say("history.now");
    const age = AGES.find(([most]) => seconds < most);
    if (!age) return new Date(at).toLocaleString(bon.language, { dateStyle: "medium", timeStyle: "short" });
    return new Intl.RelativeTimeFormat(bon.language).format(-Math.round(seconds / age[2]), age[1]);
  };

  const short = (text, most = 60) => (text.length > most ? `${text.slice(0, most).trimEnd()}…` : text);

  // An entry with its run read, or null where it is corrupt or of another version.
  const read = (entry) => {
    try {
      if (entry.v !== bon.store.version || !Number.isFinite(entry.at)) return null;
      const run = JSON.parse(entry.record);
      const first = run.candidates[0],
        scored = run.candidates.filter((c) => c.score !== null).length;
      const best = first && first.score !== null && first.ended !== "rejected" ? first : null;
      const words = { ...described(run, best, scored, entry.phase), date: new Date(entry.at).toISOString() };
      return { entry, run, best, at: entry.at, id: entry.id, words };
    } catch {
      return null;
    }
  };

  // All that a row shows of a run, made here so that what cannot be shown is found out in time.
  const described = (run, best, scored, phase) => {
    const n = run.candidates.length,
      { prompt, settings } = run;
    const ended = ["stopped", "failed"].includes(phase) ? bon.say(`history.${phase}`, { done: scored, of: n }) : "";
    if (typeof prompt !== "string" || typeof run.timing.total !== "number") throw new TypeError("no run");
    const rule = settings.select === "worst" ? "worst" : "best";
    return {
      prompt,
      text: best ? best.text.slice(0, 400) : "",
      cut: best?.ended === "length",
      score: best ? bon.scoreWords(best.score) : "–",
      unit: best ? bon.unitWords(run) : bon.say("history.none"),
      ended,
      facts: [bon.say(`fact.${rule}`, { of: n }), bon.say("fact.seed", { seed: String(settings.seed) }), String(run.model)],
    };
  };

  const button = (words, does, { label, ...more } = {}) => {
    const node = bon.el("button", { type: "button", "aria-label": label, ...more }, words);
    node.addEventListener("click", does);
    return node;
  };

  const toGenerate = () => document.querySelector('#tabs [role="tab"]')?.click();

  const blank = () =>
    bon.el(
      "div",
      { class: "blank" },
      bon.svg(
        "svg",
        { viewBox: "0 0 200 90", width: 200, height: 90, "aria-hidden": "true" },
        ...[12, 38, 64].flatMap((y, i) => [
          bon.svg("circle", { class: i ? null : "best", cx: 20, cy: y + 7, r: i ? 5 : 8 }),
          bon.svg("line", { x1: 42, x2: 188 - 34 * i, y1: y + 7, y2: y + 7 }),
        ]),
      ),
      bon.el("p", {}, bon.say("history.empty")),
      button(bon.say("history.first"), toGenerate, { class: "plain" }),
    );

  bon.history = (element) => {
    const said = bon.el("p", { class: "said", role: "status" }),
      trouble = bon.el("p", { class: "trouble", role: "status" });
    const under = bon.el("p", { class: "under" }),
      list = bon.el("ul", { class: "runs", "aria-label": bon.say("history.list") }),
      empty = blank(),
      pairNode = bon.el("section", { class: "pair", "aria-label": bon.say("pair.title"), hidden: true });
    const compare = button(bon.say("history.compare"), () => showPair(), { class: "plain", id: "history-compare" });
    const clear = button(bon.say("history.clear"), () => clearAll(), { class: "plain quiet", id: "history-clear" });
    const tools = bon.el("div", { class: "tools" }, compare, clear);
    const root = bon.el(
      "section",
      { class: "history", "aria-label": bon.say("tab.history") },
      bon.el("header", {}, bon.el("div", {}, bon.el("h2", {}, bon.say("history.title")), under), tools),
      trouble,
      said,
      pairNode,
      empty,
      list,
    );
    element.append(root);
    let kept = [], // the raw entries, those that cannot be read among them
      entries = [],
      chosen = [];

    const tell = (words) => bon.text(said, words);

    const open = async (one) => {
      if (bon.busy) return tell(bon.say("history.busy"));
      tell("");
      try {
        const wrong = await bon.open(one.entry.record, toGenerate);
        if (wrong) tell(wrong);
      } catch {
        tell(bon.say("history.lost"));
      }
    };

    const again = async (one) => {
      if (bon.busy) return tell(bon.say("history.busy"));
      tell("");
      toGenerate();
      await bon.enter(bon.valuesOf(one.run));
      document.querySelector("#generate").click();
    };

    // What is removed is gone at once; where it stood, it can be had back.
    const undoable = async (raw, words, place) => {
      await bon.store.remove(raw);
      const undo = button(bon.say("undo"), async () => {
        node.remove();
        await bon.store.restore(raw);
        await refresh();
        list.querySelector(`[data-at="${raw[0].at}"] .open`)?.focus();
      });
      const node = bon.el("li", { class: "gone", "data-at": raw[0].at }, bon.el("span", { role: "status" }, words), undo);
      chosen = chosen.filter((id) => !raw.some((entry) => entry.id === id));
      kept = kept.filter((entry) => !raw.includes(entry));
      entries = entries.filter(({ entry }) => !raw.includes(entry));
      place(node);
      summary();
      undo.focus();
    };
    const remove = (one, node) =>
      undoable([one.entry], bon.say("history.removed", { text: short(one.words.prompt, 40) }), (gone) => node.replaceWith(gone));
    const clearAll = () => undoable([...kept], bon.say("history.cleared", { n: kept.length }), (gone) => list.replaceChildren(gone));

    const choose = (id, on) => {
      chosen = on ? [...chosen, id].slice(-2) : chosen.filter((other) => other !== id);
      summary();
    };

    const showPair = () => {
      const pair = chosen.map((id) => entries.find((one) => one.id === id)).filter(Boolean);
      if (pair.length < 2) return tell(bon.say("history.choose_two"));
      tell("");
      try {
        drawPair(pair);
      } catch {
        tell(bon.say("pair.lacks"));
      }
    };

    const drawPair = (pair) => {
      const head = bon.el("h2", { tabindex: "-1" }, bon.say("pair.title"));
      const close = button(bon.say("close"), () => ((pairNode.hidden = true), compare.focus()), { class: "plain" });
      // The older one is A.
      pair.sort((a, b) => a.at - b.at);
      pairNode.replaceChildren(bon.el("header", {}, head, close), ...bon.pair(pair, when));
      pairNode.hidden = false;
      head.focus({ preventScroll: true });
      pairNode.scrollIntoView({ behavior: bon.calm() ? "auto" : "smooth", block: "start" });
    };

    const row = (one) => {
      const { words, at, id } = one,
        name = short(words.prompt);
      const box = bon.el("input", { type: "checkbox", "aria-label": bon.say("history.choose", { name }), value: id });
      box.checked = chosen.includes(id);
      box.addEventListener("change", () => choose(id, box.checked));
      const time = bon.el("time", { datetime: words.date, title: new Date(at).toLocaleString(bon.language) }, when(at));
      const facts = words.facts.map((fact) => bon.el("span", {}, fact));
      const node = bon.el(
        "li",
        { class: "run", "data-at": at },
        bon.el("label", { class: "choose" }, box),
        bon.el(
          "div",
          { class: "what" },
          bon.el("p", { class: "text", "data-cut": words.cut }, bon.promptOf(one.run), one.run.messages ? words.text.trimStart() : words.text),
          bon.el("p", { class: "facts" }, time, ...facts, words.ended && bon.el("span", { class: "ended" }, words.ended)),
        ),
        bon.el("p", { class: "points" }, bon.el("b", {}, words.score), bon.el("span", {}, words.unit)),
        bon.el(
          "div",
          { class: "acts" },
          button(bon.say("history.open"), () => open(one), { class: "open", label: bon.say("history.open.one", { name }) }),
          button(bon.say("history.again"), () => again(one), { label: bon.say("history.again.one", { name }) }),
          button(bon.say("history.remove"), () => remove(one, node), { class: "quiet", label: bon.say("history.remove.one", { name }) }),
        ),
      );
      return node;
    };

    // What is said around the list, and what is ticked in it.
    const summary = () => {
      const unreadable = kept.length - entries.length,
        any = Boolean(list.children.length);
      bon.text(under, bon.say("history.under", { n: bon.store.NEWEST }));
      const problem = bon.store.problem(),
        parts = [problem && bon.say(`history.${problem}`)];
      if (unreadable) parts.push(bon.say("history.unreadable", { n: unreadable }));
      bon.text(trouble, parts.filter(Boolean).join(" "));
      trouble.hidden = !trouble.textContent;
      empty.hidden = any;
      tools.hidden = !kept.length;
      bon.text(compare, bon.say(chosen.length === 2 ? "history.compare.two" : "history.compare.some", { n: chosen.length }));
      compare.setAttribute("aria-disabled", chosen.length < 2);
      for (const box of list.querySelectorAll("input")) box.checked = chosen.includes(box.value);
      if (chosen.length < 2) pairNode.hidden = true;
    };

    const refresh = async () => {
      kept = await bon.store.all();
      entries = kept.map(read).filter(Boolean);
      chosen = chosen.filter((id) => entries.some((one) => one.id === id));
      const gone = list.querySelectorAll(".gone");
      list.replaceChildren(...entries.map(row));
      for (const node of gone) list.insertBefore(node, [...list.children].find((other) => older(other, node)) ?? null);
      summary();
    };
    const older = (node, other) => Number(node.dataset.at) < Number(other.dataset.at);

    // The tab is drawn when it comes up, and when a run ends meanwhile.
    let seen = false;
    new IntersectionObserver(([{ isIntersecting }]) => {
      if (isIntersecting && !seen) (list.replaceChildren(), tell(""), refresh());
      seen = isIntersecting;
    }).observe(root);
    document.addEventListener("bon:kept", () => seen && refresh());
    document.addEventListener("visibilitychange", () => seen && !document.hidden && refresh());
    setInterval(() => {
      for (const time of seen ? list.querySelectorAll("time") : []) bon.text(time, when(Date.parse(time.dateTime)));
    }, 30_000);
    refresh();
  };
}
