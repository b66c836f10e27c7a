// The Compare tab's view: draws props.value, made in bon/ui/compare/.
{
  const card = () => {
    const title = bon.el("h2"),
      under = bon.el("p", { class: "under" }),
      score = bon.el("b", { class: "score" }),
      unit = bon.el("span", { class: "unit" }),
      prompt = bon.el("span", { class: "prompt" }),
      text = bon.el("span"),
      quote = bon.el("blockquote", {}, prompt, text),
      facts = bon.el("p", { class: "facts" });
    const node = bon.el(
      "article",
      { class: "card" },
      title,
      under,
      bon.el("p", { class: "points" }, score, " ", unit),
      quote,
      facts,
    );
    const draw = (data) => {
      bon.setAttribute(node, "data-part", data.part);
      bon.setText(title, bon.translate(data.title));
      bon.setText(under, bon.translate(data.under));
      bon.setText(score, data.score || "–");
      bon.setText(unit, data.score ? bon.translate(data.unit) : "");
      bon.setText(prompt, data.prompt);
      bon.setText(text, data.text);
      bon.setAttribute(quote, "data-cut", data.cut && bon.say("text.cut", { n: data.cut }));
      bon.setText(facts, bon.translate(data.facts));
    };
    return { node, draw };
  };

  // The roles are those of the elements, which lose them where the cells are stacked.
  const table = (heads, rows) => {
    const titles = heads.map(bon.translate);
    const columnHead = (title) => bon.el("th", { scope: "col", role: "columnheader" }, title);
    const cell = (value, i) => bon.el("td", { role: "cell", "data-head": titles[i + 1] }, ...numberParts(value));
    const row = ([[system], ...values]) =>
      bon.el(
        "tr",
        { role: "row" },
        bon.el("th", { scope: "row", role: "rowheader" }, bon.translate(system)),
        ...values.map(cell),
      );
    return bon.el(
      "table",
      { role: "table" },
      bon.el("thead", { role: "rowgroup" }, bon.el("tr", { role: "row" }, ...titles.map(columnHead))),
      bon.el("tbody", { role: "rowgroup" }, ...rows.map(row)),
    );
  };
  // Stacks a table's cells where its columns have no room beside each other.
  const stackIfTooWide = (node) => {
    node.removeAttribute("data-stacked");
    node.toggleAttribute("data-stacked", node.scrollWidth > node.clientWidth);
  };

  // A number and, in small print, its interval, error or estimate.
  const numberParts = ([figure, range]) =>
    range ? [`${figure} `, bon.el("small", {}, bon.translate(range))] : [figure];

  bon.comparisonView = (element, props, watch) => {
    const status = bon.statusLine(),
      alert = bon.alert();
    const cardsNode = bon.el("div", { class: "cards" }),
      tableNode = bon.el("div", {
        class: "scroll",
        tabindex: "0",
        role: "region",
        "aria-label": bon.say("compare.table"),
      }),
      figureNode = bon.el("div", {
        class: "drawing",
        tabindex: "0",
        role: "region",
        "aria-label": bon.say("compare.figure"),
      }),
      sentence = bon.el("p", { class: "sentence" }),
      notes = bon.el("ul", { class: "notes" }),
      about = bon.el("p", { class: "under" }),
      files = bon.el("div", { class: "files" });
    const results = bon.el(
      "div",
      { class: "results" },
      bon.el("section", { class: "panel" }, bon.el("h2", {}, bon.say("compare.over")), about, tableNode, files),
      bon.el("section", { class: "panel" }, bon.el("h2", {}, bon.say("compare.against")), figureNode, sentence),
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
    new ResizeObserver(() => stackIfTooWide(tableNode)).observe(tableNode);
    const cards = [];
    const IN_PROGRESS = ["loading", "writing"];
    let frame = 0,
      drawnKey = "",
      lost = false;

    const withConnectionState = (view) =>
      lost && IN_PROGRESS.includes(view.phase) ? { ...view, ...bon.connectionLost() } : view;

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
      bon.setItems(notes, view.notes);
      files.replaceChildren(
        ...Object.entries(view.files || {}).map(([name, text]) => {
          const label = bon.say("compare.download", { kind: name.split(".").pop().toUpperCase() });
          return bon.button(label, () => bon.saveFile(name, text), { class: "copy" });
        }),
      );
      const key = JSON.stringify([view.rows, view.figure]);
      if (!view.rows || key === drawnKey) return;
      drawnKey = key;
      bon.setText(about, bon.translate(view.about));
      tableNode.replaceChildren(table(view.heads, view.rows));
      stackIfTooWide(tableNode);
      figureNode.replaceChildren(...(view.figure ? [bon.drawing(JSON.parse(view.figure))] : []));
      bon.setText(sentence, bon.translate(view.sentence));
    };

    bon.watchConnection(element, (isLost) => {
      lost = isLost;
      draw();
    });
    watch("value", () => (frame ||= requestAnimationFrame(draw)));
    draw();
  };
}
