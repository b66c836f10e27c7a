// The result of the Generate tab: draws props.value, a view made by bon/ui/generate/run_view.py, and the state of the
// queue and the connection, which only the browser knows.

// Reads from Gradio's status tracker whether a run is in progress, its place in the queue, and failures.
{
  bon.trackQueue = (element, onChange) => {
    const node = element.closest(".block")?.querySelector('[data-testid="status-tracker"]');
    if (!node) return;
    let since = 0,
      last = "";
    const read = () => {
      const busy = !node.classList.contains("hide") && !node.querySelector(".error");
      const pending = busy && Boolean(node.querySelector(".progress-text"));
      if (!pending) since = 0;
      else if (!since) since = performance.now();
      const place = /queue: (\d+)\/(\d+)/.exec(node.textContent);
      // A place in the queue is shown only after it has lasted for a while.
      const waiting = pending && place && performance.now() - since > 800 ? Number(place[1]) : null;
      const state = JSON.stringify({ busy, pending, waiting });
      if (state !== last) onChange(JSON.parse((last = state)));
    };
    new MutationObserver(read).observe(node, { attributes: true, childList: true, subtree: true, characterData: true });
    read();
  };

  // Calls onChange(true) when a run ended but no final view has arrived after 4 seconds: the connection is lost.
  bon.watchConnection = (element, onChange) => {
    let timer = 0;
    bon.trackQueue(element, ({ busy }) => {
      clearTimeout(timer);
      if (busy) onChange(false);
      else timer = setTimeout(onChange, 4000, true);
    });
  };

  const WAITING = ["queued", "loading"],
    IN_PROGRESS = [...WAITING, "writing"];
  // Milliseconds before a wait is shown: most runs of a small model begin sooner.
  const SHORT_WAIT = 400;

  // The view with the state of the queue and the connection.
  const withConnectionState = (view, queue, lost) => {
    if (queue.waiting)
      return {
        phase: "queued",
        title:
          queue.waiting === 1
            ? bon.say("queue.next")
            : bon.say("queue.waiting", { place: bon.say("ordinal", { n: queue.waiting }, "ordinal") }),
        line: bon.say("queue.line"),
      };
    if (queue.pending) return { phase: "queued", title: bon.say("queue.starting"), line: "" };
    if (lost && IN_PROGRESS.includes(view.phase))
      return {
        phase: "failed",
        title: bon.say("lost.title"),
        line: bon.say("lost.line"),
      };
    return view;
  };

  // The card of the winner: its text, score and place among all scores. record: returns the run that is shown, as JSON;
  // light: highlights a candidate's row.
  bon.winnerCard = (node, tooltip, light, record, server) => {
    const tag = bon.el("p", { class: "tag" }),
      prompt = bon.el("span", { class: "prompt" }),
      text = bon.el("span", { class: "text" });
    const quote = bon.el("blockquote", {}, prompt, text);
    const score = bon.el("b"),
      unit = bon.el("span", { class: "unit" }),
      lift = bon.el("span", { class: "gain" });
    const facts = bon.el("div", { class: "meta" });
    const candidate = () => JSON.parse(record()).candidates.find((c) => c.index === winnerIndex);
    let winnerIndex = 0,
      answer = "",
      chat = null; // the messages that the candidates answer, or null
    const continueText = () => {
      if (!chat) return bon.continueFrom(quote.textContent, bon.chatEntry.get() && false);
      bon.continueFrom("", [...chat, { role: "assistant", content: answer }]);
    };
    const more = bon.detailButton(node, bon.say("details"), () => bon.detail(candidate()));
    const acts = bon.el(
      "div",
      { class: "acts" },
      more.button,
      bon.actionButton(bon.say("continue"), bon.say("continued"), continueText),
      bon.actionButton(bon.say("copy"), bon.say("copied"), () => bon.copy(quote.textContent)),
      bon.linkButton(record),
      bon.downloadMenu(record, server.export),
    );
    const figure = bon.el(
      "figure",
      { class: "strip" },
      bon.el("figcaption", {}, bon.el("span", {}, bon.say("chart.title")), bon.el("span", { class: "of" })),
    );
    const mini = bon.el("figure", { class: "curve mini", hidden: true }, bon.el("figcaption", {}, bon.say("curve.so_far")));
    const foot = bon.el("div", { class: "foot" }, facts, acts);
    const top = bon.el(
      "div",
      { class: "top" },
      bon.el("div", { class: "quotation" }, tag, quote),
      bon.el("div", { class: "points" }, score, unit, lift),
    );
    const charts = bon.el("div", { class: "charts" }, figure, mini);
    node.append(top, charts, foot);
    const strip = bon.strip(figure, tooltip, light),
      small = bon.curve(mini, tooltip, 84);

    let high = 0,
      wasLive = false;
    // During a run and at its end the card keeps the greatest height it had, so that what is below does not move.
    const holdHeight = (live, isEmpty) => {
      if (live !== wasLive && live) high = 0;
      if (live) high = Math.max(high, top.offsetHeight);
      else if (!wasLive || isEmpty) high = 0;
      wasLive = live;
      bon.set(top, "style", high ? `min-height: ${high}px` : null);
    };

    const draw = (view) => {
      const winner = view.winner,
        row = winner && view.rows[winner.index],
        live = view.phase === "writing";
      bon.text(tag, winner ? bon.translate(winner.tag) : bon.say(live ? "tag.coming" : "tag.none"));
      chat = view.messages;
      answer = row ? row.text : live ? " …" : "";
      bon.text(prompt, chat ? "" : view.prompt);
      bon.text(text, chat ? answer.trimStart() : answer);
      bon.set(quote, "data-cut", Boolean(row?.cut));
      const length = quote.textContent.length;
      bon.set(quote, "data-size", length < 120 ? "large" : length < 280 ? "medium" : length < 640 ? "small" : "tiny");
      bon.text(score, winner ? winner.score : "");
      bon.text(unit, winner ? bon.translate(view.unit) : "");
      bon.text(lift, winner?.lift && view.n > 1 ? bon.say("lift", { lift: winner.lift }) : "");
      bon.text(figure.querySelector(".of"), bon.translate(view.unit));
      const key = JSON.stringify(winner?.facts || []);
      if (facts.dataset.key !== key) {
        facts.dataset.key = key;
        facts.replaceChildren(...(winner?.facts || []).map(([text, tip]) => bon.term(bon.translate(text), bon.translate(tip))));
      }
      charts.hidden = foot.hidden = !winner && !live;
      winnerIndex = winner?.index ?? 0;
      mini.hidden = !live || view.n < 2;
      holdHeight(live, !winner);
      strip.draw(view);
      small.draw(view.curve);
    };
    return { draw, light: strip.light, close: more.close };
  };

  // The facts of a finished run and the curve of its expected best of k.
  bon.figures = (node, tooltip) => {
    const facts = bon.el("dl", { class: "facts" });
    const caption = bon.el("p", { class: "caption" });
    const figure = bon.el(
      "figure",
      { class: "curve" },
      bon.el("figcaption", {}, bon.el("span", {}, bon.say("curve.title"))),
    );
    const curve = bon.curve(figure, tooltip);
    figure.append(caption);
    node.append(facts, figure);
    const draw = (view) => {
      node.hidden = !view.facts;
      if (!view.facts) return;
      facts.replaceChildren(
        ...view.facts.map(({ value, label, tip }) =>
          bon.el("div", {}, bon.el("dt", {}, bon.term(bon.translate(label), bon.translate(tip))), bon.el("dd", {}, bon.translate(value))),
        ),
      );
      figure.hidden = !view.curve;
      if (!view.curve) return;
      bon.text(caption, bon.translate(view.curve.caption));
      curve.draw(view.curve);
    };
    return { draw };
  };

  bon.blank = () =>
    bon.el(
      "div",
      { class: "blank" },
      bon.svg(
        "svg",
        { viewBox: "0 0 200 90", width: 200, height: 90, "aria-hidden": "true" },
        bon.svg("line", { x1: 8, x2: 192, y1: 70, y2: 70 }),
        ...[
          [20, 52],
          [33, 60],
          [46, 50],
          [60, 60],
          [75, 56],
          [92, 60],
          [104, 48],
          [121, 58],
          [138, 60],
          [152, 54],
        ].map(([cx, cy]) => bon.svg("circle", { cx, cy, r: 4.5 })),
        bon.svg("circle", { class: "best", cx: 178, cy: 50, r: 9 }),
      ),
      bon.el(
        "p",
        {},
        bon.say("empty.how"),
      ),
    );

  bon.view = (element, props, watch, server) => {
    const status = bon.status(),
      alert = bon.alert();
    const card = bon.el("article", { class: "hero", "aria-label": bon.say("hero") });
    const insightNode = bon.el("div", { class: "insight" }),
      boardNode = bon.el("section", { class: "board" });
    const notes = bon.el("ul", { class: "notes" }),
      blank = bon.blank();
    const root = bon.el(
      "section",
      { class: "bon", "aria-label": bon.say("result") },
      status.node,
      alert.node,
      blank,
      card,
      insightNode,
      boardNode,
      notes,
      status.live,
    );
    element.append(root);
    const offer = bon.el("div", { class: "offer", role: "status", hidden: true });
    status.node.before(offer);

    const light = (index, on) => (hero.light(index, on), board.light(index, on));
    const tooltip = bon.tooltip(root),
      hero = bon.winnerCard(card, tooltip, light, () => record, server);
    const insight = bon.figures(insightNode, tooltip),
      board = bon.board(boardNode, light, (index) =>
        bon.detail(JSON.parse(record).candidates.find((c) => c.index === index)),
      );
    let view = { phase: "empty" },
      queue = { busy: false },
      frame = 0,
      wait = 0,
      scrollPending = false, // whether the result comes into view when the first text arrives
      lost = false,
      draft = "", // the run in progress as JSON, like a record
      record = ""; // the run that is shown as JSON; empty during a run and if none is shown

    const drawStatus = () => {
      const current = withConnectionState(view, queue, lost);
      const progress = current.progress ?? (current.phase === "done" ? 1 : 0);
      status.draw(root, current, IN_PROGRESS.includes(current.phase), progress, current.phase === "writing" && bon.say("writing.news"));
      if (WAITING.includes(current.phase)) wait ||= setTimeout(() => root.toggleAttribute("data-waits", true), SHORT_WAIT);
      else (clearTimeout(wait), (wait = 0), root.removeAttribute("data-waits"));
    };

    const draw = () => {
      frame = 0;
      drawStatus();
      alert.draw(view.error);
      bon.chatEntry?.showError(view.field === "messages" ? alert.node.textContent : "");
      // While a model loads, the last result stays.
      if (view.phase === "loading") return;
      const hasRows = Boolean(view.rows);
      blank.hidden = hasRows || view.phase === "failed";
      card.hidden = boardNode.hidden = !hasRows;
      notes.replaceChildren(...(view.notes || []).map((text) => bon.el("li", {}, bon.translate(text))));
      insight.draw(view);
      if (!hasRows) return;
      hero.draw(view);
      board.draw(view);
      if (scrollPending && view.phase === "writing")
        root.scrollIntoView({ behavior: bon.reducedMotion() ? "auto" : "smooth", block: "start" });
      scrollPending &&= view.phase !== "writing";
    };

    const readValue = () => {
      const { view: packed, texts, record: newRecord = "", draft: newDraft = "" } = props.value;
      view = JSON.parse(packed);
      const oldDraft = draft;
      draft = view.phase === "writing" ? newDraft : "";
      if (draft !== oldDraft) bon.saveDraft(draft);
      view.rows?.forEach((row, index) => (row.text = texts[index]));
      if (newRecord !== record) (hero.close(), board.close());
      if (newRecord && newRecord !== record && view.phase !== "sample") announceEnd(newRecord, view.phase);
      record = newRecord;
      frame ||= requestAnimationFrame(draw);
    };

    const announceEnd = (record, phase) =>
      document.dispatchEvent(new CustomEvent("bon:ended", { detail: { record, phase } }));

    // Shows a packed view that the server made of a record; if the server failed, shows only its error.
    bon.showRun = (packedView) => {
      const { phase, error } = JSON.parse(packedView.view);
      if (phase === "failed" && error) return alert.draw(error);
      record = packedView.record; // so that it does not count as a run that has just ended
      props.value = packedView;
      readValue();
    };
    // Opens a saved run and fills in the form with its settings; returns the reason if it cannot be opened.
    bon.openRun = async (record, before = () => {}) => {
      const packedView = await server.open_record(record),
        { rows, error } = JSON.parse(packedView.view);
      if (!rows) return bon.translate(error);
      before();
      await bon.fillForm(bon.formValues(JSON.parse(record)));
      bon.showRun(packedView);
      bon.set(card, "tabindex", "-1");
      // After it has been drawn.
      setTimeout(() => (card.focus({ preventScroll: true }), card.scrollIntoView({ block: "nearest" })), 100);
    };
    bon.server = server;

    // Ranks the run that is shown by another label or rule. A newer request, or a run that begins meanwhile, has priority.
    let requests = 0;
    bon.rerank = async (target, select, softness) => {
      if (!record || queue.busy || view.phase === "sample") return;
      const number = ++requests,
        oldRecord = record;
      try {
        const packedView = await server.rerank({ record: oldRecord, target, select, softness: Number(softness) });
        if (number === requests && record === oldRecord) bon.showRun(packedView);
      } catch {
        alert.draw(bon.say("rank.lost"));
      }
    };

    // Saves the run that was in progress when the page was left, and offers to open it.
    const offerDraft = (leftDraft) => {
      announceEnd(leftDraft, "failed");
      const open = bon.el("button", { type: "button", class: "copy" }, bon.say("left.open"));
      open.addEventListener("click", async () => {
        offer.hidden = true;
        const error = await bon.openRun(leftDraft).catch(() => bon.say("left.lost"));
        if (error) alert.draw(error);
      });
      offer.append(bon.el("p", {}, bon.say("left")), open);
      offer.hidden = false;
    };
    bon.trackQueue(element, (state) => {
      // On a narrow screen the result is below the form: it is scrolled into view when the first text arrives.
      if (state.busy && !queue.busy) scrollPending = element.getBoundingClientRect().top > innerHeight * 0.35;
      queue = state;
      if (state.busy) offer.hidden = true;
      bon.busy = state.busy;
      bon.setRunning?.(state.busy);
      drawStatus();
    });
    bon.watchConnection(element, (isLost) => {
      lost = isLost;
      if (lost && draft) announceEnd(draft, "failed");
      drawStatus();
    });
    watch("value", readValue);
    readValue();
    const leftDraft = bon.takeDraft();
    if (leftDraft) offerDraft(leftDraft);
  };
}
