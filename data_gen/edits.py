"""Query -> the query that one changed word asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from data_gen.config import DataConfig
from data_gen.errors import InputError, nearest
from data_gen.lexicon import LEXICONS
from data_gen.query import OrderBy, Query, SelectItem
from data_gen.sampling import is_test_schema
from data_gen.schema import Schema, Table


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One change of a query, and what the English must be like for the change to be one span of the prompt.

    Calling it gives the changed query, or None where this query cannot be changed so. The style of the
    example stays the same on both sides.
    """

    name: str
    change: Callable[[Random, DataConfig, Query], Query | None]
    needs_order_by: bool = False
    """Whether only queries with ORDER BY can be changed."""
    hide_table: bool = False
    """Whether the English must not name the table."""
    flip_one_word: bool = False
    """Whether the first sort phrase must say its direction in one word."""

    def __call__(self, rng: Random, config: DataConfig, query: Query) -> Query | None:
        return self.change(rng, config, query)


def _pieces(name: str) -> int:
    return name.count("_")


def _other_table(rng: Random, config: DataConfig, query: Query) -> Query | None:
    words = LEXICONS[config.lexicon]
    names = words.held_out_tables if config.split == "names" else words.tables
    columns = query.schema.table(query.table).columns
    taken = {table.name for table in query.schema.tables} | {column.name for column in columns}
    others = [name for name in names if _pieces(name) == _pieces(query.table) and name not in taken]
    rng.shuffle(others)
    for name in others:
        tables = tuple(Table(name, t.columns) if t.name == query.table else t for t in query.schema.tables)
        schema = Schema(tables)
        # The corrupt side has to stay in the split of the clean side, or test schemas would leak.
        same_split = is_test_schema(schema, config.test_fraction) == (config.split == "test")
        if config.split == "names" or same_split:
            return replace(query, schema=schema, table=name)
    return None


def _other_column(rng: Random, config: DataConfig, query: Query) -> Query | None:
    first = query.select[0].column
    used = {item.column for item in query.select} | {key.column for key in query.order_by}
    others = [
        column.name
        for column in query.schema.table(query.table).columns
        if column.name not in used and _pieces(column.name) == _pieces(first)
    ]
    if not others:
        return None
    return replace(query, select=(SelectItem(rng.choice(others)), *query.select[1:]))


def _other_direction(rng: Random, config: DataConfig, query: Query) -> Query | None:
    if not query.order_by:
        return None
    first, *rest = query.order_by
    flipped = OrderBy(first.column, "DESC" if first.direction == "ASC" else "ASC")
    return replace(query, order_by=(flipped, *rest))


EDITS = {
    edit.name: edit
    for edit in (
        Edit(name="schema.table", change=_other_table, hide_table=True),
        Edit(name="select.0.column", change=_other_column),
        Edit(name="order_by.0.direction", change=_other_direction, needs_order_by=True, flip_one_word=True),
    )
}


def edit_named(name: str) -> Edit:
    """The edit called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in EDITS:
        raise InputError(f"no edit `{name}`{nearest(name, EDITS)}", hint=f"edits: {', '.join(EDITS)}")
    return EDITS[name]
