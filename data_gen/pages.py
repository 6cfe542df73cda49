"""Text with roles -> HTML in which every role has its colour and its name."""

from __future__ import annotations

from html import escape

from data_gen.text import Text

FAMILIES = {
    "table": ("table name", "#7a3e9d", "#f1e4f8"),
    "column": ("selected column", "#0b5d8a", "#dceef8"),
    "key": ("sort key", "#8a4b00", "#fbe9d0"),
    "direction": ("sort direction", "#a11d33", "#fadfe3"),
    "schema column": ("column in the schema", "#1e6b3a", "#dff3e5"),
    "type": ("column type", "#3f6b62", "#e6efed"),
    "phrase": ("sort phrase", "#6b5a2e", "#f4efdf"),
    "keyword": ("SQL keyword", "#333a44", "#e6e9ee"),
    "template": ("template", "#333333", "transparent"),
    "separator": ("separator", "#666666", "transparent"),
    "markup": ("prompt frame", "#767676", "transparent"),
}
"""Family -> (what it is called, ink, background). The same thing has one colour in English, schema and SQL."""


def family(role: str) -> str:
    """The family of a role, by its slot and not by where it stands.

    Example: `english.order_by.0.column` and `sql.order_by.2.column` are both `key`.
    """
    parts = role.split(".")
    last = parts[-1]
    if last == "column":
        return "key" if "order_by" in parts else "column"
    if last == "name" and "columns" in parts:
        return "schema column"
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
    """Each family with its colour, in one line."""
    items = "".join(
        f'<span style="{_style(name)};padding:0 .4em;margin-right:.6em">{escape(title)}</span>'
        for name, (title, _, _) in FAMILIES.items()
    )
    return f'<div class="legend" style="line-height:2">{items}</div>'
