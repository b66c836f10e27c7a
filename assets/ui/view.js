// The result: draws props.value, a view made by bon/ui/render.py, and what only the browser knows (the queue).

// Gradio says in its status tracker whether a run is pending, where it stands in the queue, and that it failed.
{
  bon.tracker = (element, changed) => {
    const node = element.closest(".block")?.querySelector('[data-testid="status-tracker"]');
    if (!node) return;
    let since = 0,
      last = "";
    const look = () => {
      const busy = !node.classList.contains("hide") && !node.querySelector(".error");
      const pending = busy && Boolean(node.querySelector(".progress-text"));
      if (!pending) since = 0;
      else if (!since) since = performance.now();
      const place = /queue: (\d+)\/(\d+)/.exec(node.textContent);
      // A place that lasts a moment only is no news.
      const waiting = pending && place && performance.now() - since > 800 ? Number(place[1]) : null;
      const now = JSON.stringify({ busy, pending, waiting });
      if (now !== last) changed(JSON.parse((last = now)));
    };
    new MutationObserver(look).observe(node, { attributes: true, childList: true, subtree: true, characterData: true });
    look();
  };

  // Tells when a run ended without a last view: one comes within a moment, or nobody is there to send it.
  bon.whenLost = (element, changed) => {
    let patience = 0;
    bon.tracker(element, ({ busy }) => {
      clearTimeout(patience);
      if (busy) changed(false);
      else patience = setTimeout(changed, 4000, true);
    });
  };

  const WAITING = ["queued", "loading"],
    UNDER_WAY = [...WAITING, "writing"];
  // Milliseconds of a wait that nobody needs to be told of: most runs of a small model begin within them.
  const SHORT = 400;

  // What the browser alone knows, laid over the view.
  const overlaid = (view, queue, lost) => {
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
    if (lost && UNDER_WAY.includes(view.phase))
      return {
        phase: "failed",
        title: bon.say("lost.title"),
        line: bon.say("lost.line"),
      };
    return view;
  };

  // record: gives the run that is shown, as a JSON text.
  bon.hero = (node, bubble, light, record, server) => {
    const tag = bon.el("p", { class: "tag" }),
      prompt = bon.el("span", { class: "prompt" }),
      text = bon.el("span", { class: "text" });
    const quote = bon.el("blockquote", {}, prompt, text);
    const score = bon.el("b"),
      unit = bon.el("span", { class: "unit" }),
      lift = bon.el("span", { class: "gain" });
    const facts = bon.el("div", { class: "meta" });
    const here = () => JSON.parse(record()).candidates.find((c) => c.index === shown);
    let shown = 0,
      answer = "",
      chat = null; // the messages that the candidates answer, or null
    const goOn = () => {
      if (!chat) return bon.goOn(quote.textContent, bon.chatting.get() && false);
      bon.goOn("", [...chat, { role: "assistant", content: answer }]);
    };
    const more = bon.discloser(node, bon.say("details"), () => bon.detail(here()));
    const acts = bon.el(
      "div",
      { class: "acts" },
      more.button,
      bon.doer(bon.say("continue"), bon.say("continued"), goOn),
      bon.doer(bon.say("copy"), bon.say("copied"), () => bon.copy(quote.textContent)),
      bon.linkButton(record),
      bon.downloads(record, server.exported),
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
      bon.el("div", { class: "said" }, tag, quote),
      bon.el("div", { class: "points" }, score, unit, lift),
    );
    const charts = bon.el("div", { class: "charts" }, figure, mini);
    node.append(top, charts, foot);
    const strip = bon.strip(figure, bubble, light),
      small = bon.curve(mini, bubble, 84);

    let high = 0,
      wasLive = false;
    // While leaders change, and when the run is over, what the winner says keeps the greatest height it had: what is
    // below stays where it is.
    const hold = (live, nothing) => {
      if (live !== wasLive && live) high = 0;
      if (live) high = Math.max(high, top.offsetHeight);
      else if (!wasLive || nothing) high = 0;
      wasLive = live;
      bon.set(top, "style", high ? `min-height: ${high}px` : null);
    };

    const draw = (view) => {
      const winner = view.winner,
        row = winner && view.rows[winner.index],
        live = view.phase === "writing";
      bon.text(tag, winner ? bon.words(winner.tag) : bon.say(live ? "tag.coming" : "tag.none"));
      chat = view.messages;
      answer = row ? row.text : live ? " …" : "";
      bon.text(prompt, chat ? "" : view.prompt);
      bon.text(text, chat ? answer.trimStart() : answer);
      bon.set(quote, "data-cut", Boolean(row?.cut));
      const length = quote.textContent.length;
      bon.set(quote, "data-size", length < 120 ? "large" : length < 280 ? "medium" : length < 640 ? "small" : "tiny");
      bon.text(score, winner ? winner.score : "");
      bon.text(unit, winner ? bon.words(view.unit) : "");
      bon.text(lift, winner?.lift && view.n > 1 ? bon.say("lift", { lift: winner.lift }) : "");
      bon.text(figure.querySelector(".of"), bon.words(view.unit));
      const key = JSON.stringify(winner?.facts || []);
      if (facts.dataset.key !== key) {
        facts.dataset.key = key;
        facts.replaceChildren(...(winner?.facts || []).map(([words, tip]) => bon.term(bon.words(words), bon.words(tip))));
      }
      charts.hidden = foot.hidden = !winner && !live;
      shown = winner?.index ?? 0;
      mini.hidden = !live || view.n < 2;
      hold(live, !winner);
      strip.draw(view);
      small.draw(view.curve);
    };
    return { draw, light: strip.light, close: more.close };
  };

  bon.insight = (node, bubble) => {
    const facts = bon.el("dl", { class: "facts" });
    const caption = bon.el("p", { class: "caption" });
    const figure = bon.el(
      "figure",
      { class: "curve" },
      bon.el("figcaption", {}, bon.el("span", {}, bon.say("curve.title"))),
    );
    const curve = bon.curve(figure, bubble);
    figure.append(caption);
    node.append(facts, figure);
    const draw = (view) => {
      node.hidden = !view.facts;
      if (!view.facts) return;
      facts.replaceChildren(
        ...view.facts.map(({ value, label, tip }) =>
          bon.el("div", {}, bon.el("dt", {}, bon.term(bon.words(label), bon.words(tip))), bon.el("dd", {}, bon.words(value))),
        ),
      );
      figure.hidden = !view.curve;
      if (!view.curve) return;
      bon.text(caption, bon.words(view.curve.caption));
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
      status.said,
    );
    element.append(root);
    const offer = bon.el("div", { class: "offer", role: "status", hidden: true });
    status.node.before(offer);

    const light = (index, on) => (hero.light(index, on), board.light(index, on));
    const bubble = bon.bubble(root),
      hero = bon.hero(card, bubble, light, () => record, server);
    const insight = bon.insight(insightNode, bubble),
      board = bon.board(boardNode, light, (index) =>
        bon.detail(JSON.parse(record).candidates.find((c) => c.index === index)),
      );
    let view = { phase: "empty" },
      queue = { busy: false },
      frame = 0,
      wait = 0,
      bring = false,
      lost = false,
      draft = "", // of the run that is under way, a JSON text like its record
      record = ""; // of the run that is shown, a JSON text; empty while it is written, and for what is no run

    const drawStatus = () => {
      const shown = overlaid(view, queue, lost);
      const at = shown.progress ?? (shown.phase === "done" ? 1 : 0);
      status.draw(root, shown, UNDER_WAY.includes(shown.phase), at, shown.phase === "writing" && bon.say("writing.news"));
      if (WAITING.includes(shown.phase)) wait ||= setTimeout(() => root.toggleAttribute("data-waits", true), SHORT);
      else (clearTimeout(wait), (wait = 0), root.removeAttribute("data-waits"));
    };

    const draw = () => {
      frame = 0;
      drawStatus();
      alert.draw(view.error);
      bon.chatting?.refused(view.field === "messages" ? alert.node.textContent : "");
      // While a model loads, what was there stays.
      if (view.phase === "loading") return;
      const has = Boolean(view.rows);
      blank.hidden = has || view.phase === "failed";
      card.hidden = boardNode.hidden = !has;
      notes.replaceChildren(...(view.notes || []).map((text) => bon.el("li", {}, bon.words(text))));
      insight.draw(view);
      if (!has) return;
      hero.draw(view);
      board.draw(view);
      if (bring && view.phase === "writing")
        root.scrollIntoView({ behavior: bon.calm() ? "auto" : "smooth", block: "start" });
      bring &&= view.phase !== "writing";
    };

    const take = () => {
      const { view: packed, texts, record: kept = "", draft: drawn = "" } = props.value;
      view = JSON.parse(packed);
      const was = draft;
      draft = view.phase === "writing" ? drawn : "";
      if (draft !== was) bon.leaveRun(draft);
      view.rows?.forEach((row, index) => (row.text = texts[index]));
      if (kept !== record) (hero.close(), board.close());
      if (kept && kept !== record && view.phase !== "sample") ended(kept, view.phase);
      record = kept;
      frame ||= requestAnimationFrame(draw);
    };

    const ended = (record, phase) =>
      document.dispatchEvent(new CustomEvent("bon:ended", { detail: { record, phase } }));

    // Shows a packed view that the server made of a record; one that could not be made leaves what is there.
    bon.show = (made) => {
      const { phase, error } = JSON.parse(made.view);
      if (phase === "failed" && error) return alert.draw(error);
      record = made.record; // nothing new has ended
      props.value = made;
      take();
    };
    // Opens a kept run as it was, the form with it; gives the reason where that cannot be.
    bon.open = async (record, before = () => {}) => {
      const made = await server.opened(record),
        { rows, error } = JSON.parse(made.view);
      if (!rows) return bon.words(error);
      before();
      await bon.enter(bon.valuesOf(JSON.parse(record)));
      bon.show(made);
      bon.set(card, "tabindex", "-1");
      // Not before it is drawn.
      setTimeout(() => (card.focus({ preventScroll: true }), card.scrollIntoView({ block: "nearest" })), 100);
    };
    bon.server = server;

    // Ranks the run that is shown by another label or rule; a run that begins meanwhile goes before.
    let asked = 0;
    bon.rerank = async (target, select, softness) => {
      if (!record || queue.busy || view.phase === "sample") return;
      const mine = ++asked,
        before = record;
      try {
        const made = await server.ranked({ record: before, target, select, softness: Number(softness) });
        if (mine === asked && record === before) bon.show(made);
      } catch {
        alert.draw(bon.say("rank.lost"));
      }
    };

    // What was under way when the page was left is kept, and offered.
    const offerLeft = (left) => {
      ended(left, "failed");
      const open = bon.el("button", { type: "button", class: "copy" }, bon.say("left.open"));
      open.addEventListener("click", async () => {
        offer.hidden = true;
        const wrong = await bon.open(left).catch(() => bon.say("left.lost"));
        if (wrong) alert.draw(wrong);
      });
      offer.append(bon.el("p", {}, bon.say("left")), open);
      offer.hidden = false;
    };
    bon.tracker(element, (now) => {
      // On a narrow screen the result is below the form: the first words bring it up.
      if (now.busy && !queue.busy) bring = element.getBoundingClientRect().top > innerHeight * 0.35;
      queue = now;
      if (now.busy) offer.hidden = true;
      bon.busy = now.busy;
      bon.running?.(now.busy);
      drawStatus();
    });
    bon.whenLost(element, (now) => {
      lost = now;
      if (lost && draft) ended(draft, "failed");
      drawStatus();
    });
    watch("value", take);
    take();
    const left = bon.leftRun();
    if (left) offerLeft(left);
  };
}
