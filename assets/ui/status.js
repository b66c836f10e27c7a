// How something goes on: the line over it with its bar, a voice that says so to those who see neither, and what went
// wrong. All of them stand within a root whose data-phase the styles go by.
{
  bon.status = () => {
    const title = bon.el("b"),
      line = bon.el("span"),
      fill = bon.el("i");
    const node = bon.el(
      "div",
      { class: "status" },
      bon.el("p", {}, title, " ", line),
      bon.el("div", { class: "meter", "aria-hidden": "true" }, fill),
    );
    const said = bon.el("p", { class: "unseen", role: "status", "aria-live": "polite" });
    let spoken = "";

    // news: said in place of title and line where those change all the time; nothing elsewhere.
    const draw = (root, view, busy, progress, news) => {
      root.dataset.phase = view.phase;
      root.setAttribute("aria-busy", busy);
      const [head, more] = [view.title, view.line].map(bon.words);
      bon.text(title, head);
      bon.text(line, more);
      fill.style.transform = `scaleX(${progress})`;
      const told = news || `${head} ${more}`;
      if (told !== spoken) bon.text(said, (spoken = told));
    };
    return { node, said, draw };
  };

  bon.alert = () => {
    const node = bon.el("div", { class: "alert", role: "alert", hidden: true });
    const draw = (words) => {
      bon.text(node, bon.words(words));
      node.hidden = !words;
    };
    return { node, draw };
  };
}
