"""Batch -> the pieces of its CREATE TABLE statements and of its SQL: what `write_schema` and `write_sql` write."""

from __future__ import annotations

import numpy as np

from data_gen.bulk.bodies import OPERATORS
from data_gen.bulk.drawing import Batch
from data_gen.bulk.loom import Ints, Loom
from data_gen.bulk.sentences import bare_items, key_columns
from data_gen.bulk.speech import Book
from data_gen.query import AGGREGATES
from data_gen.schema import SQL_TYPES


def schema_columns(batch: Batch, side: int) -> tuple[Ints, Ints, Ints]:
    """Names and types of all columns of a table in their order, with its key or id, and how many they are."""
    deck, hands, sizes = batch.deck, batch.hands[:, side], batch.hand_sizes[:, side]
    rows, integer = len(batch.rows), SQL_TYPES.index("INTEGER")
    extra = np.where(batch.joined, batch.key_places if side == 0 else 0, -1)
    names = np.empty((rows, hands.shape[1] + 1), np.int64)
    types = np.empty_like(names)
    for place in range(names.shape[1]):
        from_hand = np.clip(place - ((extra >= 0) & (extra < place)), 0, hands.shape[1] - 1)
        columns = hands[np.arange(rows), from_hand]
        is_extra = extra == place
        key = deck.keys[batch.tables[:, 1]] if side == 0 else deck.id_name
        names[:, place] = np.where(is_extra, key, deck.column_names[columns])
        types[:, place] = np.where(is_extra, integer, deck.column_types[columns])
    return names, types, sizes + batch.joined


class Statements:
    """Writes a batch, clause by clause, to a loom."""

    def __init__(self, batch: Batch, book: Book, loom: Loom) -> None:
        self.batch, self.book, self.loom = batch, book, loom
        self.rows = np.arange(len(batch.rows))
        self.at_names = book.deck.column_names[batch.at]
        strings = book.strings
        self.types = strings.block([f" {kind}" for kind in SQL_TYPES])
        self.operators = strings.block([f" {operator}" for operator in OPERATORS])
        self.functions = strings.block([f" {function}" for function in AGGREGATES])
        self.prefixes = strings.block([f" {function}_" for function in AGGREGATES])

    def _spaced(self, places: Ints) -> Ints:
        found: Ints = self.book.names.spaced[self.at_names[self.rows, places]]
        return found

    def add_schema(self) -> None:
        """The CREATE TABLE statements, behind a space."""
        batch, add, spaced = self.batch, self.loom.add, self.book.names.spaced
        for side, at in enumerate(("schema", "schema.tables.1")):
            there = batch.joined if side else np.ones(len(self.rows), bool)
            add("; CREATE TABLE" if side else " CREATE TABLE", f"{at}.keyword", there)
            add(spaced[batch.tables[:, side]], f"{at}.table", there)
            names, types, counts = schema_columns(batch, side)
            counts = np.where(there, counts, 0)
            for place in range(int(counts.max())):
                more = counts > place
                add("," if place else " (", f"{at}.separator" if place else f"{at}.keyword", more)
                add(spaced[names[:, place]], f"{at}.columns.{place}.name", more)
                add(self.types[types[:, place]], f"{at}.columns.{place}.type", more)
            add(" )", f"{at}.keyword", there)

    def add_sql(self) -> None:
        """The SQL, behind a space."""
        batch, add = self.batch, self.loom.add
        add(" SELECT", "sql.select.keyword")
        self._add_items()
        add(" FROM", "sql.from.keyword")
        main = np.where(batch.upwards, batch.tables[:, 0], batch.tables[:, 1])
        add(self.book.names.spaced[main], "sql.table")
        self._add_join()
        self._add_conditions()
        columns, counts = bare_items(batch)
        add(" GROUP BY", "sql.group_by.keyword", counts > 0)
        for index in range(int(counts.max())):
            if index:
                add(",", "sql.group_by.separator", counts > index)
            add(self._spaced(columns[:, index]), f"sql.group_by.{index}.column", counts > index)
        self._add_keys()

    def _add_items(self) -> None:
        batch, add = self.batch, self.loom.add
        for index in range(int(batch.item_counts.max())):
            there, at = batch.item_counts > index, f"sql.select.{index}"
            if index:
                add(",", "sql.select.separator", there)
            functions, names = batch.functions[:, index], self.at_names[self.rows, batch.items[:, index]]
            bare, written = there & (functions < 0), there & (functions >= 0)
            add(self.book.names.spaced[names], f"{at}.column", bare)
            if not written.any():
                continue
            add(self.functions[functions], f"{at}.aggregate", written)
            add("(", f"{at}.bracket", written)
            add(self.book.names.bare[names], f"{at}.column", written)
            add(")", f"{at}.bracket", written)
            add(" AS", f"{at}.keyword", written)
            add(self.prefixes[functions], f"{at}.alias", written)
            add(self.book.names.bare[names], f"{at}.alias", written)

    def _add_join(self) -> None:
        batch, names, deck = self.batch, self.book.names, self.book.deck
        there, at = batch.joined, "sql.join.0"
        child, parent = batch.tables[:, 0], batch.tables[:, 1]
        key, up = deck.keys[parent], batch.upwards
        other = np.where(up, parent, child)
        sides = {
            "left": (np.where(up, child, parent), np.where(up, key, deck.id_name)),
            "right": (other, np.where(up, deck.id_name, key)),
        }
        self.loom.add(" JOIN", f"{at}.kind", there)
        self.loom.add(names.spaced[other], f"{at}.table", there)
        self.loom.add(" ON", f"{at}.keyword", there)
        for side, (table, column) in sides.items():
            if side == "right":
                self.loom.add(" =", f"{at}.operator", there)
            self.loom.add(names.spaced[table], f"{at}.{side}.table", there)
            self.loom.add(".", f"{at}.{side}.qualifier", there)
            self.loom.add(names.bare[column], f"{at}.{side}.column", there)

    def _add_conditions(self) -> None:
        batch, add = self.batch, self.loom.add
        for index in range(int(batch.condition_counts.max())):
            there, at = batch.condition_counts > index, f"sql.where.{index}"
            add(" AND" if index else " WHERE", "sql.where.keyword", there)
            add(self._spaced(batch.conditions[:, index]), f"{at}.column", there)
            add(self.operators[batch.operators[:, index]], f"{at}.operator", there)
            add(self.book.written[batch.literals[:, index]], f"{at}.value", there)

    def _add_keys(self) -> None:
        batch, add, strings = self.batch, self.loom.add, self.book.strings
        add(" ORDER BY", "sql.order_by.keyword", batch.key_counts > 0)
        for index in range(int(batch.key_counts.max())):
            there, at = batch.key_counts > index, f"sql.order_by.{index}"
            if index:
                add(",", "sql.order_by.separator", there)
            _, functions, places = key_columns(batch, index)
            names = self.at_names[self.rows, places]
            add(self.book.names.spaced[names], f"{at}.column", there & (functions < 0))
            add(self.prefixes[functions], f"{at}.column", there & (functions >= 0))
            add(self.book.names.bare[names], f"{at}.column", there & (functions >= 0))
            ways = np.where(batch.descending[:, index], strings.number(" DESC"), strings.number(" ASC"))
            add(ways, f"{at}.direction", there)
