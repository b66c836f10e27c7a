// The card of the winner: its text, score and place among all scores.
{
  // How large a quotation is set, by its length in characters.
  const SIZES = [
    [120, "large"],
    [280, "medium"],
    [640, "small"],
    [Infinity, "tiny"],
  ];
  // What a score's difference from the mean says. lift: with its sign.
  const liftText = (lift) =>
    lift.startsWith("−") ? bon.say("lift.below", { lift: lift.slice(1) }) : bon.say("lift", { lift });
  const typeSize = (length) => SIZES.find(([limit]) => length < limit)[1];

  // record: returns the run that is shown, as JSON; highlight: highlights a candidate's row; exportRun: see bon.downloadMenu.
  bon.winnerCard = (node, tooltip, highlight, record, exportRun) => {
    const tag = bon.el("p", { class: "tag" }),
      prompt = bon.el("span", { class: "prompt" }),
      text = bon.el("span", { class: "text" });
    const quote = bon.el("blockquote", {}, prompt, text);
    const score = bon.el("b"),
      unit = bon.el("span", { class: "unit" }),
      lift = bon.el("span", { class: "gain" });
    const facts = bon.el("div", { class: "meta" });
    const winningCandidate = () => JSON.parse(record()).candidates.find(({ index }) => index === winnerIndex);
    let winnerIndex = 0,
      answer = "",
      chat = null; // the messages that the candidates answer, or null
    // The text as the model wrote it, after the prompt where it continues one.
    const written = () => (chat ? answer.trim() : prompt.textContent + answer);
    const continueText = () => {
      if (!chat) return bon.continueFrom(written(), bon.chatEntry.get() && false);
      bon.continueFrom("", [...chat, { role: "assistant", content: answer }]);
    };
    const details = bon.detailButton(node, bon.say("details"), () => bon.candidateDetail(winningCandidate()));
    const acts = bon.el(
      "div",
      { class: "acts" },
      details.button,
      bon.actionButton(bon.say("continue"), bon.say("continued"), continueText),
      bon.actionButton(bon.say("copy"), bon.say("copied"), () => bon.copy(written())),
      bon.linkButton(record),
      bon.downloadMenu(record, exportRun),
    );
    const figure = bon.el(
      "figure",
      { class: "strip" },
      bon.el("figcaption", {}, bon.el("span", {}, bon.say("chart.title")), bon.el("span", { class: "of" })),
    );
    const curveFigure = bon.el(
      "figure",
      { class: "curve mini", hidden: true },
      bon.el("figcaption", {}, bon.say("curve.so_far")),
    );
    const foot = bon.el("div", { class: "foot" }, facts, acts);
    const top = bon.el(
      "div",
      { class: "top" },
      bon.el("div", { class: "quotation" }, tag, quote),
      bon.el("div", { class: "points" }, score, unit, lift),
    );
    const charts = bon.el("div", { class: "charts" }, figure, curveFigure);
    node.append(top, charts, foot);
    const scoreChart = bon.scoreChart(figure, tooltip, highlight),
      curveSoFar = bon.expectedBestChart(curveFigure, tooltip, 84, true);

    // During a run the card keeps the greatest height it had, so that what is below does not move with each leader. At
    // the end it shrinks to what the winner needs.
    let heldHeight = 0;
    const holdHeight = (live) => {
      const height = heldHeight;
      if (live) heldHeight = Math.max(heldHeight, top.offsetHeight);
      else heldHeight = 0;
      bon.setAttribute(top, "style", live ? `min-height: ${heldHeight}px` : null);
      if (height > top.offsetHeight && !live && !bon.reducedMotion())
        top.animate({ minHeight: [`${height}px`, `${top.offsetHeight}px`] }, { duration: 300, easing: "ease-in-out" });
    };

    // Facts that have not changed are not redrawn, so that the focus is kept.
    const drawFacts = (texts) => {
      const key = JSON.stringify(texts);
      if (facts.dataset.key === key) return;
      facts.dataset.key = key;
      facts.replaceChildren(...texts.map((pair) => bon.term(...pair.map(bon.translate))));
    };

    const draw = (view) => {
      const winner = view.winner,
        row = winner && view.rows[winner.index],
        live = view.phase === "writing";
      bon.setText(tag, winner ? bon.translate(winner.tag) : bon.say(live ? "tag.coming" : "tag.none"));
      chat = view.messages;
      answer = row ? row.text : live ? " …" : "";
      bon.setText(prompt, chat ? "" : view.prompt);
      bon.setMarkdown(text, chat ? answer.trim() : answer, row?.markdown);
      bon.setAttribute(quote, "data-cut", row?.cut && bon.say("text.cut", { n: row.tokens }));
      bon.setAttribute(quote, "data-size", typeSize(written().length));
      bon.setText(score, winner ? winner.score : "");
      bon.setText(unit, winner ? bon.translate(view.unit) : "");
      bon.setText(lift, winner?.lift && view.n > 1 ? liftText(winner.lift) : "");
      bon.setText(figure.querySelector(".of"), bon.translate(view.unit));
      drawFacts(winner?.facts ?? []);
      charts.hidden = foot.hidden = !winner && !live;
      winnerIndex = winner?.index ?? 0;
      curveFigure.hidden = !live || view.n < 2;
      bon.setText(
        curveFigure.querySelector("figcaption"),
        bon.say(view.curve?.word === "worst" ? "curve.so_far.worst" : "curve.so_far"),
      );
      holdHeight(live);
      scoreChart.draw(view);
      curveSoFar.draw(view.curve);
    };
    return { draw, highlight: scoreChart.highlight, close: details.close };
  };
}
