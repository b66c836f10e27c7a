// The list of candidates. During a run each is one line of fixed height, so that only rows that change places move.
// After the run the best few are shown in full and the others are folded away.
{
  const SHOWN = 7;
  const LIVE_HEIGHT = 38; // as in candidate_rows.css
  const LIVE_TEXT = 180; // characters that fit on a line at most
  const MOVE = { duration: 420, easing: "cubic-bezier(0.2, 0.8, 0.2, 1)" };

  const makeRow = (index, detail) => {
    const part = (name, ...children) => bon.el("span", { class: name }, ...children);
    const fill = bon.el("i"),
      content = bon.el("span", { class: "words" });
    const parts = {
      rank: part("rank"),
      score: part("score"),
      track: part("track", fill),
      text: part("text", content),
      tokens: part("tokens"),
    };
    const node = bon.el("li", { class: "row", "data-index": index }, ...Object.values(parts));
    const more = bon.detailButton(
      node,
      bon.el("span", { class: "unseen" }, bon.say("board.details", { number: index })),
      () => detail(index),
    );
    node.append(more.button);
    return { node, ...parts, fill, content, more, drawn: {} };
  };

  const updateRow = (row, data, live, chat) => {
    const old = row.drawn;
    if (old.text !== data.text || old.live !== live || old.state !== data.state)
      bon.setMarkdown(row.content, textOfRow(data, live, chat), live ? null : data.markdown);
    if (old.score !== data.score) {
      bon.setText(row.score, data.score ?? "");
      row.fill.style.width = `${100 * Math.max(0, Math.min(1, data.share ?? 0))}%`;
      if (live && old.tokens !== undefined && data.score !== null) flash(row.node);
    }
    const dropped = data.state === "rejected";
    if (old.rank !== data.rank || old.state !== data.state)
      bon.setText(row.rank, data.rank === null || dropped ? "" : String(data.rank));
    if (old.tokens !== data.tokens || old.state !== data.state)
      bon.setText(row.tokens, bon.say(dropped ? "board.dropped" : "tokens", { n: data.tokens }));
    bon.setAttribute(row.node, "data-state", data.state);
    bon.setAttribute(row.score, "data-instead", data.state === "stopped" ? bon.say("board.stopped") : null);
    bon.setAttribute(row.content, "data-cut", data.cut && bon.say("text.cut", { n: data.tokens }));
    row.drawn = { ...data, live };
  };

  // A live row shows the end of a text that is being written, and the beginning of a finished one.
  const textOfRow = ({ text, state }, live, chat) => {
    if (!text.trim() && !["writing", "scoring"].includes(state)) return bon.say("board.empty");
    if (!live) return text.trim();
    const seen = state === "writing" ? text.slice(-LIVE_TEXT).trimStart() : text.trimStart().slice(0, LIVE_TEXT);
    return chat ? bon.withoutMarks(seen) : seen;
  };

  const flash = (node) =>
    bon.reducedMotion() ||
    node.classList.contains("lit") ||
    node.animate([{ backgroundColor: "var(--bon-accent-bg)" }, {}], { duration: 900, easing: "ease-out" });

  // The indices of the rows to show: best first, then those without a score by index, then the dropped ones.
  const displayOrder = (rows) => {
    const dropped = (index) => (rows[index].state === "rejected" ? 1 : 0);
    const rank = (index) => rows[index].rank ?? Number.MAX_SAFE_INTEGER;
    return rows.map((row, index) => index).sort((a, b) => dropped(a) - dropped(b) || rank(a) - rank(b) || a - b);
  };

  // Puts the nodes in order and moves only those that are out of place.
  const arrange = (list, nodes) => {
    nodes.forEach((node, i) => list.children[i] !== node && list.insertBefore(node, list.children[i] || null));
    while (list.children.length > nodes.length) list.lastChild.remove();
  };

  // FLIP animation (first, last, invert, play): the row is laid out at its new place and animated from the old one.
  const glide = (row, moved) => {
    const { node, at } = row;
    // An interrupted animation continues from where the row is on the screen.
    const gliding = row.gliding?.playState === "running";
    const distance = gliding ? new DOMMatrix(getComputedStyle(node).transform).m42 - at : moved;
    row.gliding?.cancel();
    const far = Math.abs(distance) > innerHeight / 2;
    // A row from far away fades in at its place: otherwise the list would look empty while all rows travel.
    const from = far
      ? { transform: `translateY(${at + Math.sign(distance) * 40}px)`, opacity: 0 }
      : { transform: `translateY(${at + distance}px)` };
    row.gliding = node.animate([from, { transform: `translateY(${at}px)`, opacity: 1 }], MOVE);
  };

  // A live row is placed by a transform only, so that sorting causes no layout.
  const put = (row, i) => {
    row.at = i === null ? 0 : i * LIVE_HEIGHT;
    row.node.style.transform = i === null ? "" : `translateY(${row.at}px)`;
    if (i === null) row.gliding?.cancel();
  };

  // The vertical position of each row in the window; computed for live rows, measured for others.
  const places = (list, rows, order, live) => {
    const top = list.getBoundingClientRect().top;
    if (live) return new Map(order.map((index, i) => [index, top + i * LIVE_HEIGHT]));
    return new Map(
      order
        .filter((index) => rows.get(index)?.node.isConnected)
        .map((index) => [index, rows.get(index).node.getBoundingClientRect().top]),
    );
  };

  // highlight: highlights a candidate's dot in the chart; detail: makes the details of the candidate with an index.
  bon.candidateRows = (section, highlight, detail) => {
    const title = bon.el("h2"),
      list = bon.el("ol", { class: "rows" }),
      foldedList = bon.el("ol", { class: "rows" });
    const summary = bon.el("summary"),
      fold = bon.el("details", { class: "fold" }, summary, foldedList);
    section.append(title, list, fold);
    const rows = new Map();
    let order = [],
      wasLive = false;

    const draw = (view) => {
      const live = view.phase === "writing";
      // Rows of a new run are not animated from the places of the last run's rows.
      if (live && !wasLive) {
        rows.clear();
        order = [];
      }
      const winner = live ? -1 : (view.winner?.index ?? -1);
      const shownOrder = displayOrder(view.rows).filter((index) => index !== winner);
      const shownCount = live || shownOrder.length <= SHOWN + 2 ? shownOrder.length : SHOWN;
      for (const index of [...rows.keys()]) if (index >= view.rows.length) rows.delete(index);
      for (const index of shownOrder) if (!rows.has(index)) rows.set(index, makeRow(index, detail));
      const nodesOf = (indices) => indices.map((index) => rows.get(index).node);
      const change = () => {
        section.classList.toggle("live", live);
        arrange(list, nodesOf(shownOrder.slice(0, shownCount)));
        arrange(foldedList, nodesOf(shownOrder.slice(shownCount)));
        list.style.height = live ? `${shownOrder.length * LIVE_HEIGHT}px` : "";
        shownOrder.forEach((index, i) => {
          put(rows.get(index), live ? i : null);
          updateRow(rows.get(index), view.rows[index], live, Boolean(view.messages));
        });
      };
      bon.setText(title, bon.say(view.winner && !live ? "board.done" : "board.live"));
      bon.setText(summary, bon.say("board.rest", { n: shownOrder.length - shownCount }));
      fold.hidden = shownCount === shownOrder.length;
      section.hidden = !shownOrder.length;
      const finished = wasLive && !live;
      const unmoved =
        bon.reducedMotion() ||
        finished ||
        (live === wasLive && shownOrder.length === order.length && shownOrder.every((index, i) => index === order[i]));
      const before = unmoved || places(list, rows, order, wasLive);
      change();
      if (!unmoved) move(before, places(list, rows, shownOrder, live));
      if (finished) reappear();
      [order, wasLive] = [shownOrder, live];
    };

    // After a run the figures appear above the rows and the rows grow to full texts, so all rows would jump. They are
    // hidden for a frame and fade in at their new places.
    const reappear = () => {
      section.style.display = "none";
      requestAnimationFrame(() => {
        section.style.display = "";
        if (!bon.reducedMotion()) section.animate([{ opacity: 0 }, {}], { duration: 350, easing: "ease-out" });
      });
    };

    const move = (before, after) => {
      const visible = (top) => top > -200 && top < innerHeight + 200;
      for (const [index, to] of after) {
        const from = before.get(index);
        if (from === undefined || Math.abs(from - to) < 1) continue;
        if (visible(from) || visible(to)) glide(rows.get(index), from - to);
        else rows.get(index).gliding?.cancel();
      }
    };

    const hover = (on) => (event) => {
      const row = event.target.closest?.(".row");
      if (row) highlight(Number(row.dataset.index), on);
    };
    section.addEventListener("pointerover", hover(true));
    section.addEventListener("pointerout", hover(false));
    return {
      draw,
      highlight: (index, on) => rows.get(index)?.node.classList.toggle("lit", on),
      close: () => rows.forEach((row) => row.more.close()),
    };
  };
}
