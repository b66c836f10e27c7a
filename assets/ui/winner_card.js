// The card of the winner: its text, score and place among all scores.
{
  // How large a quotation is set, by its length in characters.
  const SIZES = [
    [120, "large"],
    [280, "medium"],
    [640, "small"],
    [Infinity, "tiny"],
  ];
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
      curveSoFar = bon.expectedBestChart(curveFigure, tooltip, 84);

    let greatestHeight = 0,
      wasLive = false;
    // During a run and at its end the card keeps the greatest height it had, so that what is below does not move.
    const holdHeight = (live, isEmpty) => {
      if (live && !wasLive) greatestHeight = 0;
      if (live) greatestHeight = Math.max(greatestHeight, top.offsetHeight);
      else if (!wasLive || isEmpty) greatestHeight = 0;
      wasLive = live;
      bon.setAttribute(top, "style", greatestHeight ? `min-height: ${greatestHeight}px` : null);
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
      bon.setText(lift, winner?.lift && view.n > 1 ? bon.say("lift", { lift: winner.lift }) : "");
      bon.setText(figure.querySelector(".of"), bon.translate(view.unit));
      drawFacts(winner?.facts ?? []);
      charts.hidden = foot.hidden = !winner && !live;
      winnerIndex = winner?.index ?? 0;
      curveFigure.hidden = !live || view.n < 2;
      holdHeight(live, !winner);
      scoreChart.draw(view);
      curveSoFar.draw(view.curve);
    };
    return { draw, highlight: scoreChart.highlight, close: details.close };
  };
}
