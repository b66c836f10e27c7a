// Helpers that make and update DOM nodes. Text becomes text nodes only, never markup.
{
  // bon.el("p", {class: "tag", hidden: true}, "text", node, ...). An attribute that is true is set empty; one that is
  // false or null is left out. A child that is null is left out.
  bon.el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  bon.svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  // A drawing that bon/report/svg.py made: tag, attributes, then children. Its texts may be messages.
  bon.drawing = ([tag, attributes, ...children]) =>
    bon.svg(
      tag,
      Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name, bon.translate(value)])),
      ...children.map((child) => (Array.isArray(child) ? bon.drawing(child) : bon.translate(child))),
    );

  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) bon.setAttribute(node, name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  // About the width of a label in a chart, in pixels; rather more than less.
  bon.labelWidth = (text) => 7 * text.length;
  bon.widestLabel = (texts) => Math.max(0, ...texts.map(bon.labelWidth));
  // The labels of an axis that have room in a row, with their places: all, or every second, third ... of them. labels:
  // [position, text], equally distant; x: from a position to pixels. The outer ones stand inside the axis.
  bon.labelsWithRoom = (labels, x) => {
    const last = labels.length - 1,
      places = labels.map(([position, label], i) => {
        const width = bon.labelWidth(label),
          anchor = i === 0 ? "start" : i === last ? "end" : "middle",
          left = x(position) - { start: 0, middle: width / 2, end: width }[anchor];
        return { x: x(position), label, anchor, left, right: left + width };
      });
    const fits = (step) =>
      places.filter((_, i) => i % step === 0).every((place, i, kept) => !i || place.left > kept[i - 1].right);
    const step = labels.findIndex((_, i) => i > 0 && fits(i));
    return places.filter((_, i) => step < 1 || i % step === 0);
  };

  bon.setAttribute = (node, name, value) => {
    const text = value === true ? "" : value === false || value === null || value === undefined ? null : String(value);
    if (node.getAttribute(name) === text) return;
    if (text === null) node.removeAttribute(name);
    else node.setAttribute(name, text);
  };

  bon.setText = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
  };

  // Replaces every text within a node that `change` makes another one.
  bon.changeTexts = (root, change) => {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode,
        text = change(node.data.trim());
      if (text !== node.data.trim()) node.data = text;
    }
  };

  // Replaces a list's items by texts or messages.
  bon.setItems = (list, texts) =>
    list.replaceChildren(...(texts ?? []).map((text) => bon.el("li", {}, bon.translate(text))));

  // A group of a description list.
  bon.fact = (name, value) => bon.el("div", {}, bon.el("dt", {}, name), bon.el("dd", {}, value));

  bon.reducedMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  // block: where in the window the node is put, as in Element.scrollIntoView.
  bon.scrollIntoView = (node, block) =>
    node.scrollIntoView({ behavior: bon.reducedMotion() ? "auto" : "smooth", block });
}
