// The tooltip for terms (on hover, focus and touch) and for dots in charts. Screen readers get a term's explanation
// through aria-describedby; the tooltip itself is hidden from them.
{
  bon.tooltip = (root) => {
    const box = bon.el("div", { class: "bubble", "aria-hidden": "true", hidden: true });
    root.append(box);

    const hide = () => (box.hidden = true);
    const show = (target, text) => {
      bon.setText(box, text);
      box.hidden = false;
      const anchor = target.getBoundingClientRect(),
        size = box.getBoundingClientRect();
      const left = Math.min(Math.max(8, anchor.left + anchor.width / 2 - size.width / 2), innerWidth - size.width - 8);
      // Beside the number that a term names, too: not over it.
      const { top, bottom } = (target.closest(".facts > div") ?? target).getBoundingClientRect();
      const above = top - size.height - 8;
      box.style.left = `${Math.max(8, left)}px`;
      box.style.top = `${above > 8 ? above : bottom + 8}px`;
    };

    const over = (event) => {
      const term = event.target.closest?.("[data-tip]");
      if (term) show(term, term.dataset.tip);
    };
    const out = (event) => event.target.closest?.("[data-tip]") && hide();
    root.addEventListener("pointerover", over);
    root.addEventListener("focusin", over);
    root.addEventListener("pointerout", out);
    root.addEventListener("focusout", out);
    root.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    addEventListener("scroll", hide, { passive: true });
    return { show, hide };
  };

  let terms = 0;
  // A text with a tooltip; a plain text if there is no explanation.
  bon.term = (text, tip) => {
    if (!tip) return bon.el("span", {}, text);
    const id = `term-${++terms}`;
    const button = bon.el("button", { type: "button", class: "term", "data-tip": tip, "aria-describedby": id }, text);
    return bon.el("span", {}, button, bon.el("span", { id, class: "unseen" }, tip));
  };
}
