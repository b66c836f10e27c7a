"""The Markdown of a chat's answer as plain values, of which `assets/ui/markdown.js` makes nodes.

markdown-it-py reads it. What comes out has no markup of the model's own: HTML stays text, addresses other than those of
websites are left out, and no picture is loaded.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

#: A text, or a tag, its attributes and what is in it.
Node = str | list[Any]
#: The most signs, of those that may belong to Markdown, that the texts of a page are read with: each costs time, some
#: more the more of them there are.
SIGNS_MAX = 2000
#: The beginnings of addresses that become links.
WEBSITES = ("https://", "http://")
#: The tags of what is nested in others, or stands beside them.
TAGS = {
    "paragraph": "p", "bullet_list": "ul", "ordered_list": "ol", "list_item": "li", "strong": "strong", "em": "em",
    "s": "s", "table": "table", "thead": "thead", "tbody": "tbody", "tr": "tr", "th": "th", "td": "td",
}
#: The same of those that look like their tag and are none for readers of the page's outline.
CLASSES = {"heading": "heading", "blockquote": "quoted"}
_SIGNS = re.compile(r"[*_`~\[\]\\|&!<>#\n]")
#: Without any of these a text has no Markdown.
_BEGINNINGS = re.compile(r"[*_`~\[\\|&]|^ {0,3}(?:#|>|[-+] |\d+[.)] |---|===)|^ {4}|\n *\n| {2}\n", re.MULTILINE)
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def markdown_of(texts: Iterable[str]) -> list[list[Node] | None]:
    """The nodes of each text; None for one without Markdown, and from the one on that exceeds `SIGNS_MAX`."""
    signs, nodes = 0, []
    for text in texts:
        signs += len(_SIGNS.findall(text))
        nodes.append(markdown_nodes(text) if signs <= SIGNS_MAX else None)
    return nodes


@lru_cache(maxsize=512)
def markdown_nodes(text: str) -> list[Node] | None:
    """The nodes of a text; None where it has no Markdown."""
    return _children(SyntaxTreeNode(_PARSER.parse(text))) if _BEGINNINGS.search(text) else None


def _children(parent: SyntaxTreeNode) -> list[Node]:
    return [node for child in parent.children for node in _nodes(child)]


def _nodes(node: SyntaxTreeNode) -> list[Node]:
    """The nodes that a part of the text becomes."""
    match node.type:
        case "softbreak":
            return ["\n"]  # as it was written: models end lines where they want them to end
        case "hardbreak":
            return [["br", {}]]
        case "hr":
            return [["hr", {}]]
        case "code_inline":
            return [["code", {}, node.content]]
        case "fence" | "code_block":
            return [["pre", {"tabindex": 0}, ["code", {}, node.content.rstrip("\n")]]]
        case "link" | "image":
            return _link(str(node.attrs.get("href") or node.attrs.get("src") or ""), _children(node))
        case name if name in CLASSES:
            return [["div", {"class": CLASSES[name]}, *_children(node)]]
        case name if name in TAGS and not node.hidden:
            start = {"start": node.attrs["start"]} if "start" in node.attrs else {}
            return [[TAGS[name], start, *_children(node)]]
    return _children(node) if node.children else [node.content] if node.content else []


def _link(address: str, label: list[Node]) -> list[Node]:
    """A link that opens beside the page, without telling where it was; of other addresses the label alone."""
    if not address.startswith(WEBSITES):
        return label
    attributes = {"href": address, "target": "_blank", "rel": "noopener noreferrer nofollow"}
    return [["a", attributes, *(label or [address])]]
