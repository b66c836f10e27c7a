// The candidates as rows. While they are written, each is one line and all lines are equally high, so nothing on the
// page moves but the rows that change places. When the run is over, the best few can be read in full and the others
// are folded away.
{
  const SHOWN = 7;
  const LIVE_HEIGHT = 38; // as in view.css
  const LIVE_TEXT = 180; // characters that a line can hold at most
  const MOVE = { duration: 420, easing: "cubic-bezier(0.2, 0.8, 0.2, 1)" };

  const makeRow = (index, detail) => {
    const part = (name, ...children) => bon.el("span", { class: name }, ...children);
    const fill = bon.el("i"),
      words = bon.el("span", { class: "words" });
    const parts = {
      rank: part("rank"),
      score: part("score"),
      track: part("track", fill),
      text: part("text", words),
      tokens: part("tokens"),
    };
    const node = bon.el("li", { class: "row", "data-index": index }, ...Object.values(parts));
    const more = bon.discloser(node, bon.el("span", { class: "unseen" }, bon.say("board.details", { number: index + 1 })), () =>
      detail(index),
    );
    node.append(more.button);
    return { node, ...parts, fill, words, more, shown: {} };
  };

  const updateRow = (row, data, live) => {
    const was = row.shown;
    if (was.text !== data.text || was.live !== live || was.state !== data.state)
      bon.text(row.words, shownText(data, live));
    if (was.score !== data.score) {
      bon.text(row.score, data.score ?? "");
      row.fill.style.width = `${100 * Math.max(0, Math.min(1, data.share ?? 0))}%`;
      if (live && was.tokens !== undefined && data.score !== null) flash(row.node);
    }
    const dropped = data.state === "rejected";
    if (was.rank !== data.rank || was.state !== data.state)
      bon.text(row.rank, data.rank === null || dropped ? "" : String(data.rank));
    if (was.tokens !== data.tokens || was.state !== data.state)
      bon.text(row.tokens, bon.say(dropped ? "board.dropped" : "tokens", { n: data.tokens }));
    bon.set(row.node, "data-state", data.state);
    bon.set(row.score, "data-instead", data.state === "stopped" ? bon.say("board.stopped") : null);
    bon.set(row.node, "data-cut", data.cut);
    row.shown = { ...data, live };
  };

  // Of a text that is being written the end is of interest, of one that is written the beginning.
  const shownText = ({ text, state }, live) => {
    if (!text.trim() && !["writing", "scoring"].includes(state)) return bon.say("board.empty");
    if (!live) return text.trim();
    return state === "writing" ? text.slice(-LIVE_TEXT).trimStart() : text.trimStart().slice(0, LIVE_TEXT);
  };

  const flash = (node) =>
    bon.calm() ||
    node.classList.contains("lit") ||
    node.animate([{ backgroundColor: "var(--bon-accent-bg)" }, {}], { duration: 900, easing: "ease-out" });

  // Best first; those without a score follow in the order of their numbers, then the dropped ones, best first.
  const sorted = (rows) => {
    const dropped = (index) => (rows[index].state === "rejected" ? 1 : 0);
    const rank = (index) => rows[index].rank ?? Number.MAX_SAFE_INTEGER;
    return rows.map((row, index) => index).sort((a, b) => dropped(a) - dropped(b) || rank(a) - rank(b) || a - b);
  };

  // Puts the nodes in order, touching only those that stand wrong.
  const arrange = (list, nodes) => {
    nodes.forEach((node, i) => list.children[i] !== node && list.insertBefore(node, list.children[i] || null));
    while (list.children.length > nodes.length) list.lastChild.remove();
  };

  // First, last, invert, play: a row is where it belongs at once, and glides there from where it was.
  const glide = (row, moved) => {
    const { node, at } = row;
    // What it still had to go belongs to the way.
    const gliding = row.gliding?.playState === "running";
    const way = gliding ? new DOMMatrix(getComputedStyle(node).transform).m42 - at : moved;
    row.gliding?.cancel();
    const far = Math.abs(way) > innerHeight / 2;
    // From far away a row fades in where it lands: else the list would stand empty while all of them travel.
    const from = far
      ? { transform: `translateY(${at + Math.sign(way) * 40}px)`, opacity: 0 }
      : { transform: `translateY(${at + way}px)` };
    row.gliding = node.animate([from, { transform: `translateY(${at}px)`, opacity: 1 }], MOVE);
  };

  // A live row is put in its place by a transform alone: so nothing is laid out anew when rows are sorted.
  const put = (row, i) => {
    row.at = i === null ? 0 : i * LIVE_HEIGHT;
    row.node.style.transform = i === null ? "" : `translateY(${row.at}px)`;
    if (i === null) row.gliding?.cancel();
  };

  // Where each row stands in the page; those of live rows are counted, not measured.
  const places = (list, rows, order, live) => {
    const top = list.getBoundingClientRect().top;
    if (live) return new Map(order.map((index, i) => [index, top + i * LIVE_HEIGHT]));
    return new Map(
      order
        .filter((index) => rows.get(index)?.node.isConnected)
        .map((index) => [index, rows.get(index).node.getBoundingClientRect().top]),
    );
  };

  // detail: makes the detail of the candidate with a number.
  bon.board = (section, light, detail) => {
    const title = bon.el("h2"),
      list = bon.el("ol", { class: "rows" }),
      rest = bon.el("ol", { class: "rows" });
    const summary = bon.el("summary"),
      fold = bon.el("details", { class: "fold" }, summary, rest);
    section.append(title, list, fold);
    const rows = new Map();
    let order = [],
      wasLive = false;

    const draw = (view) => {
      const live = view.phase === "writing";
      // A new run's rows are new: none glides from where another run's stood.
      if (live && !wasLive) (rows.clear(), (order = []));
      const winner = live ? -1 : (view.winner?.index ?? -1);
      const all = sorted(view.rows).filter((index) => index !== winner);
      const cut = live || all.length <= SHOWN + 2 ? all.length : SHOWN;
      for (const index of [...rows.keys()]) if (index >= view.rows.length) rows.delete(index);
      for (const index of all) if (!rows.has(index)) rows.set(index, makeRow(index, detail));
      const nodes = (part) => part.map((index) => rows.get(index).node);
      const change = () => {
        section.classList.toggle("live", live);
        arrange(list, nodes(all.slice(0, cut)));
        arrange(rest, nodes(all.slice(cut)));
        list.style.height = live ? `${all.length * LIVE_HEIGHT}px` : "";
        all.forEach((index, i) => {
          put(rows.get(index), live ? i : null);
          updateRow(rows.get(index), view.rows[index], live);
        });
      };
      bon.text(title, bon.say(view.winner && !live ? "board.done" : "board.live"));
      bon.text(summary, bon.say("board.rest", { n: all.length - cut }));
      fold.hidden = cut === all.length;
      section.hidden = !all.length;
      const over = wasLive && !live;
      const still =
        bon.calm() || over || (live === wasLive && all.length === order.length && all.every((index, i) => index === order[i]));
      const before = still || places(list, rows, order, wasLive);
      change();
      if (!still) move(before, places(list, rows, all, live));
      if (over) reappear();
      [order, wasLive] = [all, live];
    };

    // When a run is over, the figures take their place above the rows, which are written out in full: all of them would
    // jump. So they go for a frame and fade in where they belong.
    const reappear = () => {
      section.style.display = "none";
      requestAnimationFrame(() => {
        section.style.display = "";
        if (!bon.calm()) section.animate([{ opacity: 0 }, {}], { duration: 350, easing: "ease-out" });
      });
    };

    const move = (before, after) => {
      const seen = (top) => top > -200 && top < innerHeight + 200;
      for (const [index, now] of after) {
        const was = before.get(index);
        if (was === undefined || Math.abs(was - now) < 1) continue;
        if (seen(was) || seen(now)) glide(rows.get(index), was - now);
        else rows.get(index).gliding?.cancel();
      }
    };

    const hover = (on) => (event) => {
      const row = event.target.closest?.(".row");
      if (row) light(Number(row.dataset.index), on);
    };
    section.addEventListener("pointerover", hover(true));
    section.addEventListener("pointerout", hover(false));
    return {
      draw,
      light: (index, on) => rows.get(index)?.node.classList.toggle("lit", on),
      close: () => rows.forEach((row) => row.more.close()),
    };
  };
}
