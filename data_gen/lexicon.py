"""A lexicon's name -> its words and phrases, with the names that training never sees.

A name is one piece (`price`) or two (`unit_price`). Of each grid of two-piece names a third is held out for
the split `names`: each of their pieces occurs in training at the same place, in another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from data_gen import phrases, words
from data_gen.errors import InputError, nearest
from data_gen.phrases import SortPhrase, Template
from data_gen.schema import SQL_TYPES, Column, SqlType


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words a dataset is made of."""

    tables: tuple[str, ...]
    """Table names of train and test."""
    columns: Mapping[str, SqlType]
    """Column names of train and test with their types."""
    held_out_tables: tuple[str, ...]
    """Table names of the split `names`."""
    held_out_columns: Mapping[str, SqlType]
    """Column names of the split `names` with their types."""
    compound_share: float
    """Share of two-piece names in the schemas of train and test."""
    templates: tuple[Template, ...]
    openers: tuple[str, ...]
    """What introduces the first sort key: `sorted by`."""
    sort_phrases: tuple[SortPhrase, ...]

    @cached_property
    def single_tables(self) -> tuple[str, ...]:
        return tuple(name for name in self.tables if "_" not in name)

    @cached_property
    def compound_tables(self) -> tuple[str, ...]:
        return tuple(name for name in self.tables if "_" in name)

    @cached_property
    def single_columns(self) -> tuple[Column, ...]:
        return tuple(Column(name, kind) for name, kind in self.columns.items() if "_" not in name)

    @cached_property
    def compound_columns(self) -> tuple[Column, ...]:
        return tuple(Column(name, kind) for name, kind in self.columns.items() if "_" in name)

    @cached_property
    def unseen_columns(self) -> tuple[Column, ...]:
        return tuple(Column(name, kind) for name, kind in self.held_out_columns.items())

    @cached_property
    def unseen_names(self) -> frozenset[str]:
        """Every held-out name, of a table or of a column."""
        return frozenset(self.held_out_tables) | frozenset(self.held_out_columns)

    @cached_property
    def first_pieces(self) -> tuple[str, ...]:
        """What a random compound may begin with: every one-piece name and every first piece."""
        names = [*self.tables, *self.columns]
        return tuple(dict.fromkeys(name.split("_")[0] for name in names))

    @cached_property
    def last_table_pieces(self) -> tuple[str, ...]:
        """What a random table name may end with."""
        return tuple(dict.fromkeys(name.split("_")[-1] for name in self.tables))

    @cached_property
    def last_column_pieces(self) -> tuple[Column, ...]:
        """What a random column name may end with; the type of the name is the type of this piece."""
        last = {name.split("_")[-1]: kind for name, kind in reversed(list(self.columns.items()))}
        return tuple(Column(name, kind) for name, kind in reversed(last.items()))

    @cached_property
    def templates_without_table(self) -> tuple[Template, ...]:
        return tuple(template for template in self.templates if not template.mentions_table)

    @cached_property
    def phrases_of(self) -> dict[SqlType, tuple[SortPhrase, ...]]:
        """The sort phrases that suit each column type."""
        return {kind: tuple(p for p in self.sort_phrases if kind in p.types) for kind in SQL_TYPES}

    @cached_property
    def one_word_phrases_of(self) -> dict[SqlType, tuple[SortPhrase, ...]]:
        """Those of them whose two forms differ in exactly one word."""
        return {kind: tuple(p for p in ps if p.flips_one_word) for kind, ps in self.phrases_of.items()}


def _grid(grid: words.Grid) -> tuple[list[str], list[str]]:
    """All names of a grid: those of training, and the held-out third.

    The held-out cells lie on diagonals, so every first and every later piece stays in some trained name.
    """
    firsts, lasts = grid[0].split(), grid[1].split()
    trained: list[str] = []
    held: list[str] = []
    for i, first in enumerate(firsts):
        for j, last in enumerate(lasts):
            (trained if (i + j) % 3 else held).append(f"{first}_{last}")
    return trained, held


def _lexicon(
    *,
    tables: str,
    columns: Mapping[SqlType, str],
    table_grids: tuple[words.Grid, ...],
    column_grids: Mapping[SqlType, tuple[words.Grid, ...]],
    compound_share: float,
    templates: tuple[Template, ...],
    openers: tuple[str, ...],
    sort_phrases: tuple[SortPhrase, ...],
) -> Lexicon:
    names = tables.split()
    held_tables: list[str] = []
    for grid in table_grids:
        trained, held = _grid(grid)
        names += trained
        held_tables += held
    kinds: dict[str, SqlType] = {name: kind for kind in SQL_TYPES for name in columns[kind].split()}
    held_kinds: dict[str, SqlType] = {}
    for kind in SQL_TYPES:
        for grid in column_grids[kind]:
            trained, held = _grid(grid)
            kinds.update(dict.fromkeys(trained, kind))
            held_kinds.update(dict.fromkeys(held, kind))
    return Lexicon(
        tables=tuple(names),
        columns=kinds,
        held_out_tables=tuple(held_tables),
        held_out_columns=held_kinds,
        compound_share=compound_share,
        templates=templates,
        openers=openers,
        sort_phrases=sort_phrases,
    )


LEXICONS = {
    "full": _lexicon(
        tables=words.FULL_TABLES,
        columns=words.FULL_COLUMNS,
        table_grids=words.FULL_TABLE_GRIDS,
        column_grids=words.FULL_COLUMN_GRIDS,
        compound_share=0.2,
        templates=phrases.FULL_TEMPLATES,
        openers=phrases.FULL_OPENERS,
        sort_phrases=phrases.FULL_SORT_PHRASES,
    ),
    "demo": _lexicon(
        tables=words.DEMO_TABLES,
        columns=words.DEMO_COLUMNS,
        table_grids=words.DEMO_TABLE_GRIDS,
        column_grids=words.DEMO_COLUMN_GRIDS,
        compound_share=0.15,
        templates=phrases.DEMO_TEMPLATES,
        openers=phrases.DEMO_OPENERS,
        sort_phrases=phrases.DEMO_SORT_PHRASES,
    ),
}


def lexicon(name: str) -> Lexicon:
    """The lexicon called `name`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in LEXICONS:
        raise InputError(
            f"no lexicon `{name}`{nearest(name, LEXICONS)}", hint=f"lexicons: {', '.join(LEXICONS)}"
        )
    return LEXICONS[name]
