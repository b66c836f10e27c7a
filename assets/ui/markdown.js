// Answers of chats with their Markdown, which bon/ui/generate/markdown.py has read: a node is a text, or a tag with its
// attributes and what is in it.
{
  const makeNode = (node) =>
    typeof node === "string" ? node : bon.el(node[0], node[1], ...node.slice(2).map(makeNode));

  const shown = new WeakMap(); // what each element shows, as JSON

  // Shows a text, with its Markdown where it has any. What has not changed is not redrawn, so that a selection stays.
  bon.setMarkdown = (element, text, nodes) => {
    const key = nodes ? JSON.stringify(nodes) : "";
    if (!key && !shown.get(element)) return bon.setText(element, text);
    if (key && key === shown.get(element)) return;
    shown.set(element, key);
    element.replaceChildren(...(nodes ? nodes.map(makeNode) : [text]));
    element.classList.toggle("markdown", Boolean(nodes));
  };

  // A text without the marks of its Markdown, for where it is shown in part or small.
  bon.withoutMarks = (text) => text.replace(/^ *(```.*|#{1,6} |[-*+] |> ?)|\*\*|__|`/gm, "").trim();
}
