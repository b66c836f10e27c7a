// The comparison: draws props.value, a view made by bon/ui/compared.py.
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
      bon.text(title, data.title);
      bon.text(under, data.under);
      bon.text(score, data.score || "–");
      bon.text(unit, data.score ? data.unit : "");
      bon.text(prompt, data.prompt);
      bon.text(text, data.text);
      bon.text(facts, data.facts);
    };
    return { node, draw };
  };

  const table = (heads, rows) =>
    bon.el(
      "table",
      {},
      bon.el("thead", {}, bon.el("tr", {}, ...heads.map((head) => bon.el("th", { scope: "col" }, head)))),
      bon.el(
        "tbody",
        {},
        ...rows.map(([system, ...cells]) =>
          bon.el("tr", {}, bon.el("th", { scope: "row" }, system), ...cells.map((cell) => bon.el("td", {}, ...spread(cell)))),
        ),
      ),
    );

  // "0.71 [0.62, 0.80]": the interval is set apart.
  const spread = (cell) => {
    const [, value, interval] = /^(.*?)( [[(±].*)?$/.exec(cell);
    return interval ? [value, bon.el("small", {}, interval)] : [value];
  };

  bon.compare = (element, props, watch) => {
    const title = bon.el("b"),
      line = bon.el("span"),
      fill = bon.el("i"),
      said = bon.el("p", { class: "unseen", role: "status", "aria-live": "polite" });
    const status = bon.el(
      "div",
      { class: "status" },
      bon.el("p", {}, title, " ", line),
      bon.el("div", { class: "meter", "aria-hidden": "true" }, fill),
    );
    const alert = bon.el("div", { class: "alert", role: "alert", hidden: true });
    const cardsNode = bon.el("div", { class: "cards" }),
      tableNode = bon.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the comparison" }),
      figureNode = bon.el("div", { class: "drawing", tabindex: "0", role: "region", "aria-label": "Figure of the comparison" }),
      sentence = bon.el("p", { class: "sentence" }),
      notes = bon.el("ul", { class: "notes" }),
      about = bon.el("p", { class: "under" }),
      files = bon.el("div", { class: "files" });
    const found = bon.el(
      "div",
      { class: "found" },
      bon.el("section", { class: "panel" }, bon.el("h2", {}, "Over the prompts"), about, tableNode, files),
      bon.el(
        "section",
        { class: "panel" },
        bon.el("h2", {}, "Score against distance from the base model"),
        figureNode,
        sentence,
      ),
    );
    const root = bon.el(
      "section",
      { class: "comparison", "aria-label": "Comparison" },
      status,
      alert,
      cardsNode,
      found,
      notes,
      said,
    );
    element.append(root);
    const cards = [];
    const UNDER_WAY = ["loading", "writing"];
    let frame = 0,
      spoken = "",
      shown = "",
      lost = false;

    const overlaid = (view) =>
      lost && UNDER_WAY.includes(view.phase)
        ? { ...view, phase: "failed", title: "The connection was lost.", line: "What was done stays." }
        : view;

    const draw = () => {
      frame = 0;
      const view = overlaid(props.value);
      root.dataset.phase = view.phase;
      root.setAttribute("aria-busy", UNDER_WAY.includes(view.phase));
      bon.text(title, view.title);
      bon.text(line, view.line || "");
      fill.style.transform = `scaleX(${view.progress ?? 0})`;
      bon.text(alert, view.error || "");
      alert.hidden = !view.error;
      const news = view.phase === "writing" ? "Comparing." : `${view.title} ${view.line || ""}`;
      if (news !== spoken) bon.text(said, (spoken = news));
      if (view.phase === "loading") return;
      cardsNode.hidden = !view.cards;
      found.hidden = !view.rows;
      (view.cards || []).forEach((data, i) => {
        if (!cards[i]) cardsNode.append((cards[i] = card()).node);
        cards[i].draw(data);
      });
      for (const extra of cards.splice(view.cards?.length ?? 0)) extra.node.remove();
      notes.replaceChildren(...(view.notes || []).map((text) => bon.el("li", {}, text)));
      files.replaceChildren(
        ...Object.entries(view.files || {}).map(([name, text]) => {
          const button = bon.el("button", { type: "button", class: "copy" }, `Download ${name.split(".").pop().toUpperCase()}`);
          button.addEventListener("click", () => bon.download(name, text));
          return button;
        }),
      );
      const key = JSON.stringify([view.rows, view.figure]);
      if (!view.rows || key === shown) return;
      shown = key;
      bon.text(about, view.about);
      tableNode.replaceChildren(table(view.heads, view.rows));
      figureNode.innerHTML = view.figure; // the server's own drawing: numbers and escaped names
      bon.text(sentence, view.sentence);
    };

    bon.whenLost(element, (now) => {
      lost = now;
      draw();
    });
    watch("value", () => (frame ||= requestAnimationFrame(draw)));
    draw();
  };
}
