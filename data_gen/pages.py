"""Text with roles -> HTML in which every role has its colour and its name."""

from __future__ import annotations

from functools import lru_cache
from html import escape

from data_gen.text import Text

FAMILIES = {
    "table": ("table", "#7a3e9d", "#f1e4f8"),
    "column": ("selected column", "#0b5d8a", "#dceef8"),
    "aggregate": ("aggregate", "#17408b", "#d5defa"),
    "window": ("window function", "#553a9a", "#e3dcfa"),
    "join": ("join and its keys", "#8a2b6d", "#fbdcf0"),
    "condition": ("condition", "#00615c", "#d3f1ee"),
    "value": ("value", "#4f5b00", "#edf3bd"),
    "group": ("group", "#7d4a2c", "#f6e2d5"),
    "key": ("sort key", "#8a4b00", "#ffe9c4"),
    "direction": ("sort direction", "#a11d33", "#fadfe3"),
    "limit": ("limit, distinct", "#9a3412", "#ffd9c7"),
    "subquery": ("subquery, WITH, set operation", "#46505c", "#cfdbe8"),
    "phrase": ("phrase around a slot", "#6b5a2e", "#f4efdf"),
    "schema column": ("column in the schema", "#1e6b3a", "#dff3e5"),
    "type": ("type, key in the schema", "#3f6b62", "#e6efed"),
    "keyword": ("keyword", "#333a44", "#e6e9ee"),
    "template": ("template", "#333333", "transparent"),
    "separator": ("separator", "#666666", "transparent"),
    "markup": ("prompt frame", "#767676", "transparent"),
}
"""Family -> (what it is called, ink, background). The same thing has one colour in English, schema and SQL."""

_LAST = {
    "alias": "column",
    "references": "table",
    "function": "window",
    "operator": "condition",
    "low": "value",
    "high": "value",
    "kind": "join",
    "distinct": "limit",
    "bracket": "separator",
    "qualifier": "separator",
}
"""Last part of a role -> its family, where that part is no family's name and stands for one thing only."""
_CLAUSE = {
    "having": "condition",
    "where": "condition",
    "join": "join",
    "group_by": "group",
    "partition_by": "group",
    "order_by": "key",
    "select": "column",
}
"""Clause that a column stands in -> family."""


@lru_cache(maxsize=65536)
def family(role: str) -> str:
    """The family of a role, by its slot and not by where it stands.

    Example: `english.order_by.0.column` and `sql.order_by.2.column` are both `key`.
    """
    parts = role.split(".")
    last = parts[-1]
    # The innermost clause says what a column is for: the key of a window stands inside SELECT.
    clause = next((part for part in reversed(parts) if part in _CLAUSE), "")
    if last == "column" and clause:
        return _CLAUSE[clause]
    if last in ("name", "alias") and ("columns" in parts or clause == "join" or "cte" in parts):
        return "schema column" if "columns" in parts else "table"
    if last == "key" and "columns" in parts:
        return "type"
    if "limit" in parts and last == "value":
        return "limit"
    if last in ("phrase", "operator") and parts[-2] in ("cte", "compound", "subquery"):
        return "subquery"
    if last == "operator" and clause == "join":
        return "join"
    last = _LAST.get(last, last)
    return last if last in FAMILIES else "template"


def _style(name: str) -> str:
    _, ink, background = FAMILIES[name]
    return f"color:{ink};background:{background};border-radius:3px"


def text_html(text: Text) -> str:
    """The text as one `<code>` element: a coloured span per role, named by its `title` on hover."""
    spans = []
    for piece, role in text.pieces():
        # The space before a word stays uncoloured, so that words stand apart.
        word = piece.lstrip(" ")
        spaces = " " * (len(piece) - len(word))
        style = _style(family(role))
        spans.append(f'{spaces}<span title="{escape(role)}" style="{style}">{escape(word)}</span>')
    return f'<code class="roles" style="white-space:pre-wrap;line-height:1.7">{"".join(spans)}</code>'


def legend_html() -> str:
    """Each family with its colour, side by side."""
    room = "display:inline-block;line-height:1.6;padding:0 .4em;margin:0 .6em .35em 0"
    items = "".join(
        f'<span style="{_style(name)};{room}">{escape(title)}</span>'
        for name, (title, _, _) in FAMILIES.items()
    )
    return f'<div class="legend" style="line-height:2">{items}</div>'
