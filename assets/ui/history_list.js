// The History tab: the runs that bon.historyStore keeps, newest first. The server gets only a record that is opened,
// and sends back its view.
{
  const openGenerateTab = () => document.querySelector('#tabs [role="tab"]')?.click();

  const emptyHistory = () =>
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
      bon.button(bon.say("history.first"), openGenerateTab, { class: "plain" }),
    );

  bon.historyList = (element) => {
    const feedback = bon.el("p", { class: "feedback", role: "status" }),
      problems = bon.el("p", { class: "trouble", role: "status" });
    const intro = bon.el("p", { class: "under" }),
      list = bon.el("ul", { class: "runs", "aria-label": bon.say("history.list") }),
      empty = emptyHistory(),
      pairNode = bon.el("section", { class: "pair", "aria-label": bon.say("pair.title"), hidden: true });
    const compare = bon.button(bon.say("history.compare"), () => showPair(), { class: "plain", id: "history-compare" });
    const clear = bon.button(bon.say("history.clear"), () => clearAll(), { class: "plain quiet", id: "history-clear" });
    const tools = bon.el("div", { class: "tools" }, compare, clear);
    const root = bon.el(
      "section",
      { class: "history", "aria-label": bon.say("tab.history") },
      bon.el("header", {}, bon.el("div", {}, bon.el("h2", {}, bon.say("history.title")), intro), tools),
      problems,
      feedback,
      pairNode,
      empty,
      list,
    );
    element.append(root);
    let stored = [], // the raw entries, including those that cannot be read
      items = [], // the entries that can be read, parsed
      selected = []; // the ids of at most two runs to compare

    const showFeedback = (text) => bon.setText(feedback, text);

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

    // Removes entries at once and puts a row in their place whose button restores them. entries: the raw ones; message:
    // what the row says; place: puts the row into the list.
    const removeWithUndo = async (entries, message, place) => {
      await bon.historyStore.remove(entries);
      const undo = bon.button(bon.say("undo"), async () => {
        node.remove();
        await bon.historyStore.restore(entries);
        await refresh();
        list.querySelector(`[data-at="${entries[0].at}"] .open`)?.focus();
      });
      const node = bon.el(
        "li",
        { class: "gone", "data-at": entries[0].at },
        bon.el("span", { role: "status" }, message),
        undo,
      );
      selected = selected.filter((id) => !entries.some((entry) => entry.id === id));
      stored = stored.filter((entry) => !entries.includes(entry));
      items = items.filter(({ entry }) => !entries.includes(entry));
      place(node);
      updateSummary();
      undo.focus();
    };
    const remove = (item, node) =>
      removeWithUndo(
        [item.entry],
        bon.say("history.removed", { text: bon.truncate(item.texts.prompt, 40) }),
        (undoRow) => node.replaceWith(undoRow),
      );
    const clearAll = () =>
      removeWithUndo([...stored], bon.say("history.cleared", { n: stored.length }), (undoRow) =>
        list.replaceChildren(undoRow),
      );

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
      const close = bon.button(bon.say("close"), () => ((pairNode.hidden = true), compare.focus()), { class: "plain" });
      // The older run is A.
      pair.sort((a, b) => a.at - b.at);
      pairNode.replaceChildren(bon.el("header", {}, head, close), ...bon.runPair(pair));
      pairNode.hidden = false;
      head.focus({ preventScroll: true });
      bon.scrollIntoView(pairNode, "start");
    };

    const row = (item) => {
      const { texts, at, id } = item,
        name = bon.truncate(texts.prompt, 60);
      const box = bon.el("input", { type: "checkbox", "aria-label": bon.say("history.choose", { name }), value: id });
      box.checked = selected.includes(id);
      box.addEventListener("change", () => select(id, box.checked));
      const time = bon.el(
        "time",
        { datetime: texts.date, title: new Date(at).toLocaleString(bon.language) },
        bon.formatAge(at),
      );
      const facts = texts.facts.map((fact) => bon.el("span", {}, fact));
      const node = bon.el(
        "li",
        { class: "run", "data-at": at },
        bon.el("label", { class: "choose" }, box),
        bon.el(
          "div",
          { class: "summary" },
          bon.el(
            "p",
            { class: "text", "data-cut": texts.cut },
            bon.promptNode(item.run),
            item.run.messages ? bon.withoutMarks(texts.text) : texts.text,
          ),
          bon.el(
            "p",
            { class: "facts" },
            time,
            ...facts,
            texts.ended && bon.el("span", { class: "ended" }, texts.ended),
          ),
        ),
        bon.el("p", { class: "points" }, bon.el("b", {}, texts.score), bon.el("span", {}, texts.unit)),
        bon.el(
          "div",
          { class: "acts" },
          bon.button(bon.say("history.open"), () => open(item), {
            class: "open",
            "aria-label": bon.say("history.open.one", { name }),
          }),
          bon.button(bon.say("history.again"), () => repeat(item), {
            "aria-label": bon.say("history.again.one", { name }),
          }),
          bon.button(bon.say("history.remove"), () => remove(item, node), {
            class: "quiet",
            "aria-label": bon.say("history.remove.one", { name }),
          }),
        ),
      );
      return node;
    };

    // Updates what depends on the list: messages, buttons and checkboxes.
    const updateSummary = () => {
      const unreadable = stored.length - items.length,
        hasRows = Boolean(list.children.length);
      bon.setText(intro, bon.say("history.under", { n: bon.historyStore.NEWEST }));
      const problem = bon.historyStore.problem(),
        parts = [problem && bon.say(`history.${problem}`)];
      if (unreadable) parts.push(bon.say("history.unreadable", { n: unreadable }));
      bon.setText(problems, parts.filter(Boolean).join(" "));
      problems.hidden = !problems.textContent;
      empty.hidden = hasRows;
      tools.hidden = !stored.length;
      bon.setText(
        compare,
        bon.say(selected.length === 2 ? "history.compare.two" : "history.compare.some", { n: selected.length }),
      );
      compare.setAttribute("aria-disabled", selected.length < 2);
      for (const box of list.querySelectorAll("input")) box.checked = selected.includes(box.value);
      if (selected.length < 2) pairNode.hidden = true;
    };

    const refresh = async () => {
      stored = await bon.historyStore.all();
      items = stored.map(bon.parseEntry).filter(Boolean);
      selected = selected.filter((id) => items.some((item) => item.id === id));
      const undoRows = list.querySelectorAll(".gone");
      list.replaceChildren(...items.map(row));
      for (const node of undoRows)
        list.insertBefore(node, [...list.children].find((other) => older(other, node)) ?? null);
      updateSummary();
    };
    const older = (node, other) => Number(node.dataset.at) < Number(other.dataset.at);

    // The list is drawn when the tab becomes visible, and when a run is saved while it is.
    let visible = false;
    new IntersectionObserver(([{ isIntersecting }]) => {
      if (isIntersecting && !visible) (list.replaceChildren(), showFeedback(""), refresh());
      visible = isIntersecting;
    }).observe(root);
    document.addEventListener("bon:saved", () => visible && refresh());
    document.addEventListener("visibilitychange", () => visible && !document.hidden && refresh());
    setInterval(() => {
      for (const time of visible ? list.querySelectorAll("time") : [])
        bon.setText(time, bon.formatAge(Date.parse(time.dateTime)));
    }, 30_000);
    refresh();
  };
}
