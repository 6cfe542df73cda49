"""Query + style -> English text."""

from __future__ import annotations

from dataclasses import dataclass

from data_gen.phrases import SortPhrase, Template
from data_gen.query import Query
from data_gen.text import Text


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a query is said; the meaning stays the query's, so an edited query keeps its style."""

    template: Template
    last_separator: str = " and"
    """What stands before the last of several columns: ` and` or `,`."""
    opener: str = "sorted by"
    """What introduces the first sort key."""
    phrases: tuple[SortPhrase, ...] = ()
    """One per sort key; the query's direction picks its ascending or descending form."""

    @property
    def mentions_table(self) -> bool:
        """Whether the English names the table; if not, it has to be read from the schema."""
        return self.template.mentions_table


def write_english(query: Query, style: Style) -> Text:
    """One line with single spaces: the template with columns and table, then each sort key with its direction.

    Columns are listed in the order of SELECT. Every sort key carries its own direction phrase, of which
    `english.order_by.0.direction` is the word that says it and `english.order_by.phrase` the rest.

    Example: `show the price and name of orders sorted by price in ascending order`.
    """
    pieces: list[tuple[str, str]] = []
    for part in style.template.parts:
        if part == "{columns}":
            pieces += _columns(query, style)
        elif part == "{table}":
            pieces.append((f" {query.table}", "english.table"))
        else:
            pieces.append((part, "english.template"))
    opener = (f" {style.opener}", "english.order_by.phrase")
    for index, (key, phrase) in enumerate(zip(query.order_by, style.phrases, strict=True)):
        before, direction, after = phrase.ascending if key.direction == "ASC" else phrase.descending
        pieces.append(opener)
        pieces.append((f" {key.column}", f"english.order_by.{index}.column"))
        pieces.append((before, "english.order_by.phrase"))
        pieces.append((direction, f"english.order_by.{index}.direction"))
        pieces.append((after, "english.order_by.phrase"))
        opener = (", then by", "english.order_by.separator")
    return Text.of(pieces)


def _columns(query: Query, style: Style) -> list[tuple[str, str]]:
    last = len(query.select) - 1
    pieces: list[tuple[str, str]] = []
    for index, item in enumerate(query.select):
        if index:
            separator = style.last_separator if index == last else ","
            pieces.append((separator, "english.select.separator"))
        pieces.append((f" {item.column}", f"english.select.{index}.column"))
    return pieces
