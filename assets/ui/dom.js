// Helpers that make and update DOM nodes. Text becomes text nodes only, never markup.
{
  window.bon = window.bon || {};

  // bon.el("p", {class: "tag", hidden: true}, "text", node, ...). An attribute that is true is set empty; one that is
  // false or null is left out.
  bon.el = (tag, attributes = {}, ...children) => bon.fill(document.createElement(tag), attributes, children);
  bon.svg = (tag, attributes = {}, ...children) =>
    bon.fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

  bon.fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) bon.set(node, name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };

  bon.set = (node, name, value) => {
    const attribute = value === true ? "" : value === false || value === null || value === undefined ? null : String(value);
    if (node.getAttribute(name) === attribute) return;
    if (attribute === null) node.removeAttribute(name);
    else node.setAttribute(name, attribute);
  };

  bon.text = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
  };

  bon.reducedMotion = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}
