// The result of the Generate tab: draws props.value, a view made by bon/ui/generate/run_view.py, and the state of the
// queue and the connection, which only the browser knows.
{
  const WAITING = ["queued", "loading"],
    IN_PROGRESS = [...WAITING, "writing"];
  // Milliseconds before a wait is shown: most runs of a small model begin sooner.
  const SHORT_WAIT = 400;

  const ordinal = (n) => bon.say("ordinal", { n }, "ordinal");
  // The view with the state of the queue and the connection. heldModel: the model that a held press waits for, or null.
  const withConnectionState = (view, queue, lost, heldModel) => {
    if (heldModel !== null)
      return {
        phase: "loading",
        title: bon.say("loading.title"),
        line: bon.say("loading.line", { model: heldModel }),
      };
    if (queue.waiting)
      return {
        phase: "queued",
        title:
          queue.waiting === 1 ? bon.say("queue.next") : bon.say("queue.waiting", { place: ordinal(queue.waiting) }),
        line: bon.say("queue.line"),
      };
    if (queue.pending) return { phase: "queued", title: bon.say("queue.starting"), line: "" };
    return lost && IN_PROGRESS.includes(view.phase) ? bon.connectionLost() : view;
  };

  // Whether the page was opened by a link with another prompt than the sample's.
  const isForAnotherPrompt = ({ prompt }) => {
    const link = new URLSearchParams(location.search);
    return link.has("chat") || (link.has("prompt") && link.get("prompt") !== prompt);
  };

  const emptyView = () =>
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
      bon.el("p", {}, bon.say("empty.how")),
    );

  bon.runView = (element, props, watch, server) => {
    const status = bon.statusLine(),
      alert = bon.alert();
    const cardNode = bon.el("article", { class: "hero", "aria-label": bon.say("hero") });
    const factsNode = bon.el("div", { class: "insight" }),
      rowsNode = bon.el("section", { class: "board" });
    const notes = bon.el("ul", { class: "notes" }),
      blank = emptyView();
    const root = bon.el(
      "section",
      { class: "bon", "aria-label": bon.say("result") },
      status.node,
      alert.node,
      blank,
      cardNode,
      factsNode,
      rowsNode,
      notes,
      status.live,
    );
    element.append(root);
    const offer = bon.el("div", { class: "offer", role: "status", hidden: true });
    status.node.before(offer);

    // Highlights a candidate in the chart and in the list.
    const highlight = (index, on) => {
      card.highlight(index, on);
      rows.highlight(index, on);
    };
    const detail = (index) => bon.candidateDetail(JSON.parse(record).candidates.find((c) => c.index === index));
    // The text of a run's file; undefined where the server refuses it or does not answer.
    const exportRun = async (choice) => {
      const text = await server.export(choice);
      alert.draw(text === undefined ? bon.say("download.lost") : "");
      return text;
    };
    const tooltip = bon.tooltip(root),
      card = bon.winnerCard(cardNode, tooltip, highlight, () => record, exportRun),
      facts = bon.runFacts(factsNode, tooltip),
      rows = bon.candidateRows(rowsNode, highlight, detail);
    let view = { phase: "empty" },
      queue = { busy: false },
      frame = 0,
      waitTimer = 0,
      scrollPending = false, // whether the result comes into view when the first text arrives
      lost = false,
      heldModel = null, // the model that a press of Generate waits for
      draft = "", // the run in progress as JSON, like a record
      record = ""; // the run that is shown as JSON; empty during a run and if none is shown

    const drawStatus = () => {
      const current = withConnectionState(view, queue, lost, heldModel);
      const progress = current.progress ?? (current.phase === "done" ? 1 : 0);
      const news = current.phase === "writing" && bon.say("writing.news");
      status.draw(root, current, IN_PROGRESS.includes(current.phase), progress, news);
      showWait(WAITING.includes(current.phase));
    };
    const showWait = (waiting) => {
      if (waiting) {
        waitTimer ||= setTimeout(() => root.toggleAttribute("data-waits", true), SHORT_WAIT);
        return;
      }
      clearTimeout(waitTimer);
      waitTimer = 0;
      root.removeAttribute("data-waits");
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
      cardNode.hidden = rowsNode.hidden = !hasRows;
      bon.setItems(notes, view.notes);
      facts.draw(view);
      if (!hasRows) return;
      card.draw(view);
      rows.draw(view);
      if (scrollPending && view.phase === "writing") bon.scrollIntoView(root, "start");
      scrollPending &&= view.phase !== "writing";
    };

    const readValue = () => {
      const { view: packed, texts, record: packedRecord = "", draft: newDraft = "" } = props.value;
      view = JSON.parse(packed);
      const isHidden = view.phase === "sample" && isForAnotherPrompt(view),
        newRecord = isHidden ? "" : packedRecord;
      if (isHidden) view = { phase: "empty", title: bon.say("empty.title"), line: bon.say("empty.line") };
      const oldDraft = draft;
      draft = view.phase === "writing" ? newDraft : "";
      if (draft !== oldDraft) bon.saveDraft(draft);
      view.rows?.forEach((row, index) => (row.text = texts[index]));
      if (newRecord !== record) (card.close(), rows.close());
      if (newRecord && newRecord !== record && view.phase !== "sample") announceEnd(newRecord, view.phase);
      record = newRecord;
      frame ||= requestAnimationFrame(draw);
    };

    const announceEnd = (endedRecord, phase) =>
      document.dispatchEvent(new CustomEvent("bon:ended", { detail: { record: endedRecord, phase } }));

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
      bon.setAttribute(cardNode, "tabindex", "-1");
      // After it has been drawn.
      setTimeout(() => (cardNode.focus({ preventScroll: true }), cardNode.scrollIntoView({ block: "nearest" })), 100);
    };

    // Ranks the run that is shown by another label or rule. A newer request, or a run that begins meanwhile, has
    // priority.
    let requests = 0;
    bon.rerank = async (target, select, softness) => {
      if (!record || queue.busy || view.phase === "sample") return;
      const request = ++requests,
        oldRecord = record;
      try {
        const packedView = await server.rerank({ record: oldRecord, target, select, softness: Number(softness) });
        if (request === requests && record === oldRecord) bon.showRun(packedView);
      } catch {
        alert.draw(bon.say("rank.lost"));
      }
    };

    // Saves the run that was in progress when the page was left, and offers to open it.
    const offerDraft = (leftDraft) => {
      announceEnd(leftDraft, "failed");
      const open = async () => {
        offer.hidden = true;
        const error = await bon.openRun(leftDraft).catch(() => bon.say("left.lost"));
        if (error) alert.draw(error);
      };
      offer.append(bon.el("p", {}, bon.say("left")), bon.button(bon.say("left.open"), open, { class: "copy" }));
      offer.hidden = false;
    };
    bon.trackQueue(element, (state) => {
      // On a narrow screen the result is below the form: it is scrolled into view when the first text arrives.
      if (state.busy && !queue.busy) scrollPending = element.getBoundingClientRect().top > innerHeight * 0.35;
      queue = state;
      if (state.busy) offer.hidden = true;
      bon.busy = state.busy;
      bon.setRunning(state.busy);
      drawStatus();
    });
    document.addEventListener("bon:held", ({ detail }) => {
      heldModel = detail.model;
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
