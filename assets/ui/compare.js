// The Compare tab's view: draws props.value, made in bon/ui/compare/.
{
  const card = () => {
    const title = bon.el("h2"),
      under = bon.el("p", { class: "under" }),
      score = bon.el("b", { class: "score" }),
      unit = bon.el("span", { class: "unit" }),
      prompt = bon.el("span", { class: "prompt" }),
      text = bon.el("span"),
      facts = bon.el("p", { class: "facts" });
    const node = bon.el(
      "article",
      { class: "card" },
      title,
      under,
      bon.el("p", { class: "points" }, score, " ", unit),
      bon.el("blockquote", {}, prompt, text),
      facts,
    );
    const draw = (data) => {
      bon.set(node, "data-part", data.part);
      bon.text(title, bon.translate(data.title));
      bon.text(under, bon.translate(data.under));
      bon.text(score, data.score || "–");
      bon.text(unit, data.score ? bon.translate(data.unit) : "");
      bon.text(prompt, data.prompt);
      bon.text(text, data.text);
      bon.text(facts, bon.translate(data.facts));
    };
    return { node, draw };
  };

  const table = (heads, rows) =>
    bon.el(
      "table",
      {},
      bon.el("thead", {}, bon.el("tr", {}, ...heads.map((head) => bon.el("th", { scope: "col" }, bon.translate(head))))),
      bon.el(
        "tbody",
        {},
        ...rows.map(([[system], ...cells]) =>
          bon.el("tr", {}, bon.el("th", { scope: "row" }, bon.translate(system)), ...cells.map((cell) => bon.el("td", {}, ...parts(cell)))),
        ),
      ),
    );

  // A number and, in small print, its interval, error or estimate.
  const parts = ([figure, range]) => (range ? [`${figure} `, bon.el("small", {}, bon.translate(range))] : [figure]);

  // Translates the texts of a drawing, which the server sends as message keys.
  const translateDrawing = (node) => {
    const svg = node.querySelector("svg");
    bon.set(svg, "aria-label", bon.translate(svg.getAttribute("aria-label")));
    const texts = document.createTreeWalker(svg, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = bon.translate(texts.currentNode.data);
  };

  bon.compare = (element, props, watch) => {
    const status = bon.status(),
      alert = bon.alert();
    const cardsNode = bon.el("div", { class: "cards" }),
      tableNode = bon.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": bon.say("compare.table") }),
      figureNode = bon.el("div", { class: "drawing", tabindex: "0", role: "region", "aria-label": bon.say("compare.figure") }),
      sentence = bon.el("p", { class: "sentence" }),
      notes = bon.el("ul", { class: "notes" }),
      about = bon.el("p", { class: "under" }),
      files = bon.el("div", { class: "files" });
    const results = bon.el(
      "div",
      { class: "results" },
      bon.el("section", { class: "panel" }, bon.el("h2", {}, bon.say("compare.over")), about, tableNode, files),
      bon.el(
        "section",
        { class: "panel" },
        bon.el("h2", {}, bon.say("compare.against")),
        figureNode,
        sentence,
      ),
    );
    const root = bon.el(
      "section",
      { class: "comparison", "aria-label": bon.say("compare.region") },
      status.node,
      alert.node,
      cardsNode,
      results,
      notes,
      status.live,
    );
    element.append(root);
    const cards = [];
    const IN_PROGRESS = ["loading", "writing"];
    let frame = 0,
      drawnKey = "",
      lost = false;

    const withConnectionState = (view) =>
      lost && IN_PROGRESS.includes(view.phase)
        ? { ...view, phase: "failed", title: bon.say("lost.title"), line: bon.say("lost.line") }
        : view;

    const draw = () => {
      frame = 0;
      const view = withConnectionState(props.value);
      const news = view.phase === "writing" && bon.say("compare.news");
      status.draw(root, view, IN_PROGRESS.includes(view.phase), view.progress ?? 0, news);
      alert.draw(view.error);
      if (view.phase === "loading") return;
      cardsNode.hidden = !view.cards;
      results.hidden = !view.rows;
      (view.cards || []).forEach((data, i) => {
        if (!cards[i]) cardsNode.append((cards[i] = card()).node);
        cards[i].draw(data);
      });
      for (const extra of cards.splice(view.cards?.length ?? 0)) extra.node.remove();
      notes.replaceChildren(...(view.notes || []).map((text) => bon.el("li", {}, bon.translate(text))));
      files.replaceChildren(
        ...Object.entries(view.files || {}).map(([name, text]) => {
          const button = bon.el("button", { type: "button", class: "copy" }, bon.say("compare.download", { kind: name.split(".").pop().toUpperCase() }));
          button.addEventListener("click", () => bon.download(name, text));
          return button;
        }),
      );
      const key = JSON.stringify([view.rows, view.figure]);
      if (!view.rows || key === drawnKey) return;
      drawnKey = key;
      bon.text(about, bon.translate(view.about));
      tableNode.replaceChildren(table(view.heads, view.rows));
      figureNode.innerHTML = view.figure; // drawn by the server: numbers and escaped names only
      translateDrawing(figureNode);
      bon.text(sentence, bon.translate(view.sentence));
    };

    bon.watchConnection(element, (isLost) => {
      lost = isLost;
      draw();
    });
    watch("value", () => (frame ||= requestAnimationFrame(draw)));
    draw();
  };
}
