"""SQL text -> reading: what one statement says, clause by clause, before any name is looked up."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from data_gen.errors import InputError
from data_gen.query import (
    ColumnRef,
    Comparison,
    Direction,
    JoinKind,
    Operator,
    SelectItem,
    SetOperator,
    Value,
)

NEGATED: dict[Comparison, Comparison] = {
    "=": "<>",
    "<>": "=",
    ">": "<=",
    "<=": ">",
    "<": ">=",
    ">=": "<",
}
"""`NOT a > b` is `a <= b`, with NULL too."""
FLIPPED: dict[Operator, Comparison] = {"=": "=", "<>": "<>", ">": "<", "<": ">", ">=": "<=", "<=": ">="}
"""`a > b` is `b < a`."""


class SqlError(InputError):
    """SQL that cannot be read as a query of a command set, and why."""


class Source(Struct, frozen=True, gc=False):
    """A table of FROM or JOIN, perhaps under another name."""

    table: str
    alias: str | None = None


class Key(Struct, frozen=True, gc=False):
    """One sort key: a column, the alias of a selected item, or the item itself once more."""

    item: SelectItem
    direction: Direction


class Atom(Struct, frozen=True, gc=False):
    """One comparison, with values, a column or a subquery on its right; a literal on the left was turned."""

    left: SelectItem | None
    """A column or an aggregate; None for EXISTS."""
    operator: Operator
    negated: bool = False
    """NOT LIKE, NOT IN, NOT BETWEEN, IS NOT NULL, NOT EXISTS; of a comparison NOT has become part."""
    values: tuple[Value, ...] = ()
    other: ColumnRef | None = None
    subquery: Reading | None = None


class Group(Struct, frozen=True, gc=False):
    """Conditions joined by one word; NOT has been carried into them, and no part is a group of the same word."""

    word: Literal["AND", "OR"]
    parts: tuple[Atom | Group, ...] = ()


NO_CONDITION = Group("AND")
"""What a statement without WHERE has there."""


class Joined(Struct, frozen=True, gc=False):
    """`JOIN source ON ...`; no condition for a CROSS JOIN."""

    kind: JoinKind
    source: Source
    on: Group = NO_CONDITION


class Reading(Struct, frozen=True, kw_only=True, gc=False):
    """A SELECT statement as it is written: a clause that is not there is empty, one outside the grammar None.

    Names of tables and columns are in lower case and without quotes; the names that the statement itself gives
    (aliases, that of WITH) are as written. `outside` says why the first clause that is None is so.
    """

    select: tuple[SelectItem, ...] | None
    source: Source | None
    """FROM."""
    joins: tuple[Joined, ...] | None = ()
    where: Group | None = NO_CONDITION
    """Always an AND, perhaps of one part."""
    group_by: tuple[ColumnRef, ...] | None = ()
    having: Group | None = NO_CONDITION
    order_by: tuple[Key, ...] | None = ()
    limit: tuple[int, ...] | None = ()
    distinct: bool | None = False
    cte: tuple[Named, ...] | None = ()
    """One at most."""
    compound: tuple[Combined, ...] | None = ()
    """One at most."""
    outside: str | None = None


class Named(Struct, frozen=True, gc=False):
    """`WITH name AS (reading)`."""

    name: str
    reading: Reading


class Combined(Struct, frozen=True, gc=False):
    """`... UNION reading`."""

    operator: SetOperator
    reading: Reading


def join_group(word: Literal["AND", "OR"], parts: list[Atom | Group]) -> Group:
    """The parts joined by `word`, with groups of the same word among them dissolved."""
    flat: list[Atom | Group] = []
    for part in parts:
        if type(part) is Group and part.word == word:
            flat += part.parts
        else:
            flat.append(part)
    return Group(word, tuple(flat))


def compare(left: object, operator: Comparison, right: object) -> Atom | None:
    """`left operator right` with the column first; None unless a column is compared with what it may be."""
    if type(left) is not SelectItem or (type(right) is SelectItem and right.aggregate and not left.aggregate):
        left, operator, right = right, FLIPPED[operator], left
    if type(left) is not SelectItem or left.window is not None:
        return None
    if type(right) is tuple:
        return Atom(left, operator, False, right)
    if type(right) is Reading:
        return Atom(left, operator, False, (), None, right)
    if type(right) is SelectItem and right.aggregate is None and right.window is None:
        return Atom(left, operator, False, (), ColumnRef(right.column, right.table))
    return None
