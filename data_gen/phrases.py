"""Templates and ORDER BY phrases -> pieces with their slots, ready to be filled.

A sort phrase is written as its ascending and its descending form; brackets mark the words that carry the
direction. Each phrase says which column types it suits: nobody sorts prices alphabetically.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from data_gen.schema import SQL_TYPES, SqlType


class Template(NamedTuple):
    """An instruction split at `{columns}` and `{table}`, which stay as pieces of their own."""

    text: str
    parts: tuple[str, ...]

    @property
    def mentions_table(self) -> bool:
        """Whether the English names the table; if not, it has to be read from the schema."""
        return "{table}" in self.parts

    @classmethod
    def parse(cls, text: str) -> Template:
        """Split `text`; the space before a slot belongs to the slot."""
        return cls(text, tuple(part for part in re.split(r" (\{\w+\})", text) if part))


class DirectionPhrase(NamedTuple):
    """Words around the direction, and the word (or words) that say it: `in` + `ascending` + `order`."""

    before: str
    direction: str
    after: str

    @classmethod
    def parse(cls, text: str) -> DirectionPhrase:
        """Split `in [ascending] order` at its brackets; each piece takes the space before it."""
        before, direction, after = re.split(r"[\[\]]", text)
        return cls(f" {before.strip()}" if before else "", f" {direction}", after)


class SortPhrase(NamedTuple):
    """One way to say a direction, in both directions."""

    ascending: DirectionPhrase
    descending: DirectionPhrase
    types: tuple[SqlType, ...]

    @property
    def flips_one_word(self) -> bool:
        """Whether the two forms have the same number of words and differ in exactly one."""
        up, down = self.ascending, self.descending
        around = (up.before, up.after) == (down.before, down.after)
        return around and up.direction.count(" ") == down.direction.count(" ") == 1

    @classmethod
    def parse(cls, ascending: str, descending: str, types: tuple[SqlType, ...]) -> SortPhrase:
        return cls(DirectionPhrase.parse(ascending), DirectionPhrase.parse(descending), types)


_ANY = SQL_TYPES
_NUMBER: tuple[SqlType, ...] = ("INTEGER", "REAL")
_TEXT: tuple[SqlType, ...] = ("TEXT",)
_DATE: tuple[SqlType, ...] = ("DATE",)

FULL_TEMPLATES = tuple(
    map(
        Template.parse,
        """
show the {columns} of {table}
list {columns} from {table}
show me the {columns} from the {table} table
get the {columns} of all {table}
what are the {columns} of the {table}
from {table} give me {columns}
give me {columns} for every one of the {table}
find {columns} in {table}
for all {table}, list the {columns}
display {columns} for each of the {table}
look up the {columns} in the {table} table
i want to see {columns} from {table}
please return the {columns} of {table}
using the {table} table, show {columns}
retrieve the {columns} stored in {table}
pull {columns} out of {table}
show the {columns}
list every {columns}
give me just the {columns}
what are the {columns}
i need the {columns}
please fetch {columns}
display only {columns}
return {columns} for all entries
can you show me {columns}
read out the {columns}
tell me the {columns} in this table
""".strip().splitlines(),
    )
)

FULL_OPENERS = (
    "sorted by",
    "ordered by",
    "arranged by",
    "sequenced by",
    "and sort them by",
    "and order the result by",
    "with the rows sorted by",
    "put in order by",
)

FULL_SORT_PHRASES = (
    SortPhrase.parse("in [ascending] order", "in [descending] order", _ANY),
    SortPhrase.parse("[ascending]", "[descending]", _ANY),
    SortPhrase.parse("in an [ascending] way", "in a [descending] way", _ANY),
    SortPhrase.parse("in [increasing] order", "in [decreasing] order", _NUMBER),
    SortPhrase.parse("[lowest] first", "[highest] first", _NUMBER),
    SortPhrase.parse("[smallest] first", "[largest] first", _NUMBER),
    SortPhrase.parse("starting with the [lowest]", "starting with the [highest]", _NUMBER),
    SortPhrase.parse("with the [smallest] on top", "with the [largest] on top", _NUMBER),
    SortPhrase.parse("[from lowest to highest]", "[from highest to lowest]", _NUMBER),
    SortPhrase.parse("[from small to large]", "[from large to small]", _NUMBER),
    SortPhrase.parse("[alphabetically]", "[reverse alphabetically]", _TEXT),
    SortPhrase.parse("in [alphabetical] order", "in [reverse alphabetical] order", _TEXT),
    SortPhrase.parse("in [forward] alphabetical order", "in [reverse] alphabetical order", _TEXT),
    SortPhrase.parse("[from A to Z]", "[from Z to A]", _TEXT),
    SortPhrase.parse("starting at [A]", "starting at [Z]", _TEXT),
    SortPhrase.parse("[oldest] first", "[newest] first", _DATE),
    SortPhrase.parse("[earliest] first", "[latest] first", _DATE),
    SortPhrase.parse("[least] recent first", "[most] recent first", _DATE),
    SortPhrase.parse("starting with the [oldest]", "starting with the [newest]", _DATE),
    SortPhrase.parse("[from oldest to newest]", "[from newest to oldest]", _DATE),
    SortPhrase.parse("in [chronological] order", "in [reverse chronological] order", _DATE),
)

DEMO_TEMPLATES = tuple(
    map(
        Template.parse,
        """
show the {columns} of {table}
list {columns} from {table}
get the {columns} of all {table}
from {table} give me {columns}
find {columns} in {table}
for all {table}, list the {columns}
show the {columns}
list every {columns}
give me the {columns}
i need {columns}
""".strip().splitlines(),
    )
)

DEMO_OPENERS = ("sorted by", "ordered by")

DEMO_SORT_PHRASES = (
    SortPhrase.parse("in [ascending] order", "in [descending] order", _ANY),
    SortPhrase.parse("[lowest] first", "[highest] first", _NUMBER),
    SortPhrase.parse("[alphabetically]", "[reverse alphabetically]", _TEXT),
    SortPhrase.parse("[oldest] first", "[newest] first", _DATE),
)
