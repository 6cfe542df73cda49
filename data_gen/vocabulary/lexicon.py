"""A lexicon's name -> its words and phrases, with the names that training never sees.

A name is one piece (`price`) or two (`unit_price`). Of each grid of two-piece names a third is held out for
the split `names`: each of their pieces occurs in training at the same place, in another name. Every eighth
instruction is held out for the split `templates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from data_gen.errors import InputError, nearest
from data_gen.schema import Column, SqlType
from data_gen.seeding import name_hash
from data_gen.vocabulary import words
from data_gen.vocabulary.phrases import Wording, demo_wording, full_wording
from data_gen.vocabulary.words import ColumnType

HELD_OUT_TEMPLATE = 8
"""One instruction in this many is held out."""


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words a dataset is made of."""

    singulars: Mapping[str, str]
    """Table name of train and test -> what a foreign key to it is named after."""
    columns: Mapping[str, ColumnType]
    """Column names of train and test."""
    held_out_tables: tuple[str, ...]
    """Table names of the split `names`."""
    held_out_columns: Mapping[str, ColumnType]
    """Column names of the split `names`."""
    types: Mapping[ColumnType, tuple[SqlType, ...]]
    """How CREATE TABLE may spell each type; one that is named twice is drawn twice as often."""
    synonyms: Mapping[str, tuple[str, ...]]
    """Name -> phrases that mean it and nothing else."""
    compound_share: float
    """Share of two-piece names in the schemas of train and test."""
    relations: Mapping[str, tuple[str, ...]]
    """Table -> tables to which its rows belong."""
    partners: Mapping[str, str]
    """Table -> what another row of the same table is to one of its rows."""
    held_out_relations: Mapping[str, tuple[str, ...]]
    held_out_partners: Mapping[str, str]
    """The same of the held-out tables."""
    values: tuple[str, ...]
    """Texts that WHERE compares with."""
    wording: Wording

    @property
    def tables(self) -> tuple[str, ...]:
        """Table names of train and test."""
        return tuple(self.singulars)

    @cached_property
    def single_tables(self) -> tuple[str, ...]:
        return tuple(name for name in self.tables if "_" not in name)

    @cached_property
    def compound_tables(self) -> tuple[str, ...]:
        return tuple(name for name in self.tables if "_" in name)

    @cached_property
    def single_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if "_" not in name)

    @cached_property
    def compound_columns(self) -> tuple[str, ...]:
        return tuple(name for name in self.columns if "_" in name)

    @cached_property
    def column_variants(self) -> dict[str, tuple[Column, ...]]:
        """Column name, held out or not -> the column in each spelling of its type."""
        return {
            name: tuple(Column(name, spelling) for spelling in self.types[kind])
            for name, kind in (*self.columns.items(), *self.held_out_columns.items())
        }

    @cached_property
    def unseen_names(self) -> frozenset[str]:
        """Every held-out name, of a table or of a column."""
        return frozenset(self.held_out_tables) | frozenset(self.held_out_columns)

    @cached_property
    def known_names(self) -> frozenset[str]:
        """Every name of a table or a column that training has from the lexicon."""
        return frozenset(self.tables) | frozenset(self.columns)

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
    def last_column_pieces(self) -> tuple[tuple[str, ColumnType], ...]:
        """What a random column name may end with; the type of the name is the type of this piece."""
        last = {name.split("_")[-1]: kind for name, kind in reversed(list(self.columns.items()))}
        return tuple(reversed(list(last.items())))

    @cached_property
    def linked_tables(self) -> dict[bool, tuple[str, ...]]:
        """Tables whose rows belong to another table's: of training, and (True) held-out ones."""
        return {False: tuple(self.relations), True: tuple(self.held_out_relations)}

    @cached_property
    def self_linked_tables(self) -> dict[bool, tuple[str, ...]]:
        """Tables whose rows belong to rows of their own."""
        return {False: tuple(self.partners), True: tuple(self.held_out_partners)}

    @cached_property
    def chains(self) -> dict[bool, tuple[tuple[str, str, str], ...]]:
        """(table, its first other, a second other): two links that start at one table."""
        return {False: _chains(self.relations), True: _chains(self.held_out_relations)}

    def singular(self, table: str) -> str:
        """What a foreign key to `table` is named after: `city` for `cities`, `summer_trip` for `summer_trips`."""
        known = self.singulars.get(table)
        if known is not None:
            return known
        first, _, last = table.rpartition("_")
        return f"{first}_{self._last_singulars.get(last, last)}" if first else last

    @cached_property
    def _last_singulars(self) -> dict[str, str]:
        return {
            table.split("_")[-1]: singular.split("_")[-1]
            for table, singular in reversed(list(self.singulars.items()))
        }

    def hash_of(self, name: str) -> int:
        """A stable number for a name, as fast as a look-up."""
        return name_hash(name)

    def template_indexes(self, variant: str, *, held_out: bool) -> tuple[int, ...]:
        """Which instructions of a variant the split `templates` has to itself, or the others have."""
        return self._template_indexes[variant, held_out]

    @cached_property
    def _template_indexes(self) -> dict[tuple[str, bool], tuple[int, ...]]:
        return {
            (variant, held): tuple(
                i for i in range(len(all_)) if (i % HELD_OUT_TEMPLATE == HELD_OUT_TEMPLATE - 1) == held
            )
            for variant, all_ in self.wording.templates_of.items()
            for held in (False, True)
        }


def _chains(relations: Mapping[str, tuple[str, ...]]) -> tuple[tuple[str, str, str], ...]:
    return tuple(
        (child, first, second)
        for child, parents in relations.items()
        for first in parents
        for second in parents
        if first != second
    )


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


def _lines(text: str) -> list[tuple[str, ...]]:
    """Lines of `name | more | synonym, synonym` as tuples."""
    return [tuple(part.strip() for part in line.split("|")) for line in text.strip().splitlines()]


def _lexicon(
    *,
    tables: list[tuple[str, ...]],
    columns: Mapping[ColumnType, list[tuple[str, ...]]],
    table_grids: tuple[words.Grid, ...],
    column_grids: Mapping[ColumnType, tuple[words.Grid, ...]],
    types: Mapping[ColumnType, tuple[SqlType, ...]],
    compound_share: float,
    relations: str,
    partners: str,
    held_out_relations: str,
    held_out_partners: str,
    said: Wording,
) -> Lexicon:
    singulars = {line[0]: line[1] for line in tables}
    synonyms = {line[0]: _phrases(line[2]) for line in tables if len(line) > 2}
    held_tables: list[str] = []
    last_singular = dict(singulars)
    for grid in table_grids:
        trained, held = _grid(grid)
        for name in trained:
            first, last = name.split("_")
            singulars[name] = f"{first}_{last_singular.get(last, last.removesuffix('s'))}"
        held_tables += held
    kinds: dict[str, ColumnType] = {}
    held_kinds: dict[str, ColumnType] = {}
    for kind, lines in columns.items():
        kinds.update({line[0]: kind for line in lines})
        synonyms.update({line[0]: _phrases(line[1]) for line in lines if len(line) > 1})
    for kind, grids in column_grids.items():
        for grid in grids:
            trained, held = _grid(grid)
            kinds.update(dict.fromkeys(trained, kind))
            held_kinds.update(dict.fromkeys(held, kind))
    compounds = [name for name in (*singulars, *kinds, *held_tables, *held_kinds) if "_" in name]
    synonyms.update({name: (name.replace("_", " "),) for name in compounds})
    return Lexicon(
        singulars=singulars,
        columns=kinds,
        held_out_tables=tuple(held_tables),
        held_out_columns=held_kinds,
        types=types,
        synonyms=synonyms,
        compound_share=compound_share,
        relations=_relations(relations),
        partners=dict(line.split() for line in partners.strip().splitlines()),
        held_out_relations=_relations(held_out_relations),
        held_out_partners=dict(line.split() for line in held_out_partners.strip().splitlines()),
        values=tuple(words.VALUES.split()),
        wording=said,
    )


def _relations(lines: str) -> dict[str, tuple[str, ...]]:
    links: dict[str, list[str]] = {}
    for line in lines.strip().splitlines():
        child, parent = line.split()
        links.setdefault(child, []).append(parent)
    return {child: tuple(parents) for child, parents in links.items()}


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


LEXICONS = {
    "full": _lexicon(
        tables=_lines(words.FULL_TABLES),
        columns={kind: _lines(lines) for kind, lines in words.FULL_COLUMNS.items()},
        table_grids=words.FULL_TABLE_GRIDS,
        column_grids=words.FULL_COLUMN_GRIDS,
        types={
            "INTEGER": ("INTEGER", "INTEGER", "BIGINT"),
            "REAL": ("REAL", "REAL", "DOUBLE", "DECIMAL"),
            "TEXT": ("TEXT", "TEXT", "VARCHAR"),
            "DATE": ("DATE",),
            "BOOLEAN": ("BOOLEAN",),
        },
        compound_share=0.2,
        relations=words.RELATIONS,
        partners=words.SELF_RELATIONS,
        held_out_relations=words.FULL_HELD_OUT_RELATIONS,
        held_out_partners=words.FULL_HELD_OUT_SELF_RELATIONS,
        said=full_wording(),
    ),
    "demo": _lexicon(
        tables=[(name, name.removesuffix("s")) for name in words.DEMO_TABLES.split()],
        columns={kind: [(name,) for name in names.split()] for kind, names in words.DEMO_COLUMNS.items()},
        table_grids=words.DEMO_TABLE_GRIDS,
        column_grids=words.DEMO_COLUMN_GRIDS,
        types={"INTEGER": ("INTEGER",), "REAL": ("REAL",), "TEXT": ("TEXT",), "DATE": ("DATE",)},
        compound_share=0.15,
        relations=words.DEMO_RELATIONS,
        partners=words.DEMO_SELF_RELATIONS,
        held_out_relations=words.DEMO_HELD_OUT_RELATIONS,
        held_out_partners=words.DEMO_HELD_OUT_SELF_RELATIONS,
        said=demo_wording(),
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
