"""Lexicon -> its names, columns, tables and literals by number, for arrays to look up."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_gen.draw.clauses import ANYWHERE, LITERALS
from data_gen.draw.schemas import column_pool
from data_gen.query import Value
from data_gen.schema import KINDS, SQL_TYPES, Kind
from data_gen.seeding import name_hash
from data_gen.vocabulary.lexicon import LEXICONS
from data_gen.vocabulary.phrases import ALL_KINDS

TYPE_KINDS = np.array([ALL_KINDS.index(KINDS[kind]) for kind in SQL_TYPES])
"""Number of a type -> number of its kind."""


def kind_number(kind: Kind) -> int:
    return ALL_KINDS.index(kind)


class Deck:
    """What rows of one lexicon are drawn from. A name has one number, whether of a table, a column or a key.

    `unseen_columns`, `unseen_tables`: the held-out ones.
    """

    def __init__(self, lexicon: str, unseen_columns: bool, unseen_tables: bool) -> None:
        words = LEXICONS[lexicon]
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}
        pool = column_pool(lexicon, unseen_columns)
        variants = list(dict.fromkeys(one.column for one in pool))
        number = {column: i for i, column in enumerate(variants)}
        self.pool = np.array([number[one.column] for one in pool])
        """Places that are drawn -> a column: a name with a type."""
        self.column_names = np.array([self._name(column.name) for column in variants])
        self.column_types = np.array([SQL_TYPES.index(column.type) for column in variants])
        self.column_kinds = TYPE_KINDS[self.column_types]
        self.held_tables = self._names(words.held_out_tables) if unseen_tables else None
        self.compound_share = words.compound_share
        self.compound_tables = self._names(words.compound_tables)
        self.single_tables = self._names(words.single_tables)
        relations = words.held_out_relations if unseen_tables else words.relations
        self.children = self._names(tuple(relations))
        parents = list(relations.values())
        self.parent_counts = np.array([len(some) for some in parents])
        self.parents = np.zeros((len(parents), int(self.parent_counts.max())), np.int64)
        for row, some in enumerate(parents):
            self.parents[row, : len(some)] = self._names(some)
        referred = sorted({name for some in parents for name in some})
        keys = {self._name(table): self._name(f"{words.singular(table)}_id") for table in referred}
        self.id_name = self._name("id")
        self.keys = np.zeros(len(self.names), np.int64)
        """Number of a table -> number of the key that refers to it."""
        self.keys[list(keys)] = list(keys.values())
        self.hashes = np.array([name_hash(name) for name in self.names], np.uint64)
        self._add_literals(words.values)

    def _name(self, name: str) -> int:
        number = self.numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

    def _names(self, names: tuple[str, ...]) -> np.ndarray:
        return np.array([self._name(name) for name in names])

    def _add_literals(self, texts: tuple[str, ...]) -> None:
        self.literals: list[Value] = [*ANYWHERE]
        """Every literal; patterns of LIKE come first."""
        starts, sizes = [], []
        for kind in SQL_TYPES:
            some = LITERALS[kind] or texts
            starts.append(len(self.literals))
            sizes.append(len(some))
            self.literals += some
        self.literal_starts, self.literal_sizes = np.array(starts), np.array(sizes)


deck_of = lru_cache(maxsize=16)(Deck)
