// The History tab: the runs that bon.store keeps, newest first. The server gets only a record that is opened, and sends
// back its view.
{
  const AGES = [
    [60, "second", 1],
    [3600, "minute", 60],
    [86400, "hour", 3600],
  ];

  // "5 minutes ago" within a day, else date and time in the visitor's format.
  const formatTime = (at) => {
    const seconds = (Date.now() - at) / 1000;
    if (seconds < 45) return bon.say("history.now");
    const age = AGES.find(([most]) => seconds < most);
    if (!age) return new Date(at).toLocaleString(bon.language, { dateStyle: "medium", timeStyle: "short" });
    return new Intl.RelativeTimeFormat(bon.language).format(-Math.round(seconds / age[2]), age[1]);
  };

  const truncate = (text, most = 60) => (text.length > most ? `${text.slice(0, most).trimEnd()}…` : text);

  // An entry with its parsed run and the texts of its row; null if it is corrupt or of another version.
  const parseEntry = (entry) => {
    try {
      if (entry.v !== bon.store.version || !Number.isFinite(entry.at)) return null;
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
    if (typeof prompt !== "string" || typeof run.timing.total !== "number") throw new TypeError("no run");
    const rule = settings.select === "worst" ? "worst" : "best";
    return {
      prompt,
      text: best ? best.text.slice(0, 400) : "",
      cut: best?.ended === "length",
      score: best ? bon.formatScore(best.score) : "–",
      unit: best ? bon.formatUnit(run) : bon.say("history.none"),
      ended,
      facts: [bon.say(`fact.${rule}`, { of: n }), bon.say("fact.seed", { seed: String(settings.seed) }), String(run.model)],
    };
  };

  const button = (text, act, { label, ...more } = {}) => {
    const node = bon.el("button", { type: "button", "aria-label": label, ...more }, text);
    node.addEventListener("click", act);
    return node;
  };

  const openGenerateTab = () => document.querySelector('#tabs [role="tab"]')?.click();

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
      button(bon.say("history.first"), openGenerateTab, { class: "plain" }),
    );

  bon.history = (element) => {
    const feedback = bon.el("p", { class: "feedback", role: "status" }),
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
      feedback,
      pairNode,
      empty,
      list,
    );
    element.append(root);
    let stored = [], // the raw entries, including those that cannot be read
      items = [], // the entries that can be read, parsed
      selected = []; // the ids of at most two runs to compare

    const showFeedback = (text) => bon.text(feedback, text);

    const open = async (item) => {
      if (bon.busy) return showFeedback(bon.say("history.busy"));
      showFeedback("");
      try {
        const error = await bon.openRun(item.entry.record, openGenerateTab);
        if (error) showFeedback(error);
      } catch {
        showFeedback(bon.say("history.lost"));
      }
    };

    const repeat = async (item) => {
      if (bon.busy) return showFeedback(bon.say("history.busy"));
      showFeedback("");
      openGenerateTab();
      await bon.fillForm(bon.formValues(item.run));
      document.querySelector("#generate").click();
    };

    // Removes entries at once and puts a button in their place that restores them.
    const removeWithUndo = async (raw, message, place) => {
      await bon.store.remove(raw);
      const undo = button(bon.say("undo"), async () => {
        node.remove();
        await bon.store.restore(raw);
        await refresh();
        list.querySelector(`[data-at="${raw[0].at}"] .open`)?.focus();
      });
      const node = bon.el("li", { class: "gone", "data-at": raw[0].at }, bon.el("span", { role: "status" }, message), undo);
      selected = selected.filter((id) => !raw.some((entry) => entry.id === id));
      stored = stored.filter((entry) => !raw.includes(entry));
      items = items.filter(({ entry }) => !raw.includes(entry));
      place(node);
      updateSummary();
      undo.focus();
    };
    const remove = (item, node) =>
      removeWithUndo([item.entry], bon.say("history.removed", { text: truncate(item.texts.prompt, 40) }), (gone) => node.replaceWith(gone));
    const clearAll = () => removeWithUndo([...stored], bon.say("history.cleared", { n: stored.length }), (gone) => list.replaceChildren(gone));

    const select = (id, on) => {
      selected = on ? [...selected, id].slice(-2) : selected.filter((other) => other !== id);
      updateSummary();
    };

    const showPair = () => {
      const pair = selected.map((id) => items.find((item) => item.id === id)).filter(Boolean);
      if (pair.length < 2) return showFeedback(bon.say("history.choose_two"));
      showFeedback("");
      try {
        drawPair(pair);
      } catch {
        showFeedback(bon.say("pair.lacks"));
      }
    };

    const drawPair = (pair) => {
      const head = bon.el("h2", { tabindex: "-1" }, bon.say("pair.title"));
      const close = button(bon.say("close"), () => ((pairNode.hidden = true), compare.focus()), { class: "plain" });
      // The older run is A.
      pair.sort((a, b) => a.at - b.at);
      pairNode.replaceChildren(bon.el("header", {}, head, close), ...bon.pair(pair, formatTime));
      pairNode.hidden = false;
      head.focus({ preventScroll: true });
      pairNode.scrollIntoView({ behavior: bon.reducedMotion() ? "auto" : "smooth", block: "start" });
    };

    const row = (item) => {
      const { texts, at, id } = item,
        name = truncate(texts.prompt);
      const box = bon.el("input", { type: "checkbox", "aria-label": bon.say("history.choose", { name }), value: id });
      box.checked = selected.includes(id);
      box.addEventListener("change", () => select(id, box.checked));
      const time = bon.el("time", { datetime: texts.date, title: new Date(at).toLocaleString(bon.language) }, formatTime(at));
      const facts = texts.facts.map((fact) => bon.el("span", {}, fact));
      const node = bon.el(
        "li",
        { class: "run", "data-at": at },
        bon.el("label", { class: "choose" }, box),
        bon.el(
          "div",
          { class: "summary" },
          bon.el("p", { class: "text", "data-cut": texts.cut }, bon.promptNode(item.run), item.run.messages ? texts.text.trimStart() : texts.text),
          bon.el("p", { class: "facts" }, time, ...facts, texts.ended && bon.el("span", { class: "ended" }, texts.ended)),
        ),
        bon.el("p", { class: "points" }, bon.el("b", {}, texts.score), bon.el("span", {}, texts.unit)),
        bon.el(
          "div",
          { class: "acts" },
          button(bon.say("history.open"), () => open(item), { class: "open", label: bon.say("history.open.one", { name }) }),
          button(bon.say("history.again"), () => repeat(item), { label: bon.say("history.again.one", { name }) }),
          button(bon.say("history.remove"), () => remove(item, node), { class: "quiet", label: bon.say("history.remove.one", { name }) }),
        ),
      );
      return node;
    };

    // Updates what depends on the list: messages, buttons and checkboxes.
    const updateSummary = () => {
      const unreadable = stored.length - items.length,
        any = Boolean(list.children.length);
      bon.text(under, bon.say("history.under", { n: bon.store.NEWEST }));
      const problem = bon.store.problem(),
        parts = [problem && bon.say(`history.${problem}`)];
      if (unreadable) parts.push(bon.say("history.unreadable", { n: unreadable }));
      bon.text(trouble, parts.filter(Boolean).join(" "));
      trouble.hidden = !trouble.textContent;
      empty.hidden = any;
      tools.hidden = !stored.length;
      bon.text(compare, bon.say(selected.length === 2 ? "history.compare.two" : "history.compare.some", { n: selected.length }));
      compare.setAttribute("aria-disabled", selected.length < 2);
      for (const box of list.querySelectorAll("input")) box.checked = selected.includes(box.value);
      if (selected.length < 2) pairNode.hidden = true;
    };

    const refresh = async () => {
      stored = await bon.store.all();
      items = stored.map(parseEntry).filter(Boolean);
      selected = selected.filter((id) => items.some((item) => item.id === id));
      const gone = list.querySelectorAll(".gone");
      list.replaceChildren(...items.map(row));
      for (const node of gone) list.insertBefore(node, [...list.children].find((other) => older(other, node)) ?? null);
      updateSummary();
    };
    const older = (node, other) => Number(node.dataset.at) < Number(other.dataset.at);

    // The list is drawn when the tab becomes visible, and when a run is saved while it is.
    let visible = false;
    new IntersectionObserver(([{ isIntersecting }]) => {
      if (isIntersecting && !visible) (list.replaceChildren(), showFeedback(""), refresh());
      visible = isIntersecting;
    }).observe(root);
    document.addEventListener("bon:kept", () => visible && refresh());
    document.addEventListener("visibilitychange", () => visible && !document.hidden && refresh());
    setInterval(() => {
      for (const time of visible ? list.querySelectorAll("time") : []) bon.text(time, formatTime(Date.parse(time.dateTime)));
    }, 30_000);
    refresh();
  };
}
