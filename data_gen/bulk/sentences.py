"""Batch -> the pieces of its questions: what `write_english` writes, for many rows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from data_gen.bulk.drawing import Batch
from data_gen.bulk.loom import NONE, Ints, Loom
from data_gen.bulk.speech import SLOTS, Book, Chooser, Patterns
from data_gen.query import AGGREGATES
from data_gen.say.style import PLACES
from data_gen.text import MARKS
from data_gen.vocabulary.phrases import ALL_KINDS

_NUMBER = ALL_KINDS.index("number")
_OF_VALUES = [AGGREGATES.index("MIN"), AGGREGATES.index("MAX")]
"""Aggregates whose results are values of the column's own kind."""


@lru_cache(maxsize=4096)
def mark(role: str) -> int:
    """The mark of a role, as `Pieces.roles` has it."""
    return ord(MARKS[role])


class Sentences:
    """Says a batch, clause by clause, to a loom."""

    def __init__(self, batch: Batch, book: Book, loom: Loom) -> None:
        self.batch, self.book, self.loom = batch, book, loom
        self.deck = book.deck
        self.chooser = Chooser(batch.numbers)
        self.rows = np.arange(len(batch.rows))
        self.at_names = self.deck.column_names[batch.at]
        """Names of the columns at hand."""
        self.kinds = self.deck.column_kinds[batch.at]
        self.at_said = book.names.said(batch.numbers[:, None], self.at_names)
        main = np.where(batch.upwards, batch.tables[:, 0], batch.tables[:, 1])
        self.main_said = book.names.said(batch.numbers, main, table=True)

    def add(self) -> None:
        """All pieces of the questions, the first of them behind a space."""
        batch = self.batch
        before, behind = self.book.templates.around()
        self._add_frame(before, batch.templates, "english", "template")
        self._add_items()
        self._add_frame(behind, batch.templates, "english", "template")
        self._add_join()
        self._add_conditions()
        self._add_groups()
        self._add_keys()

    def _pick(self, patterns: Patterns, place: Ints | int, case: Ints | int = 0) -> Ints:
        """The row of the option that each row of the batch takes."""
        return patterns.starts[case] + self.chooser.choose(place, patterns.sizes[case])

    def _add_frame(
        self, parts: Ints, options: Ints, at: str, words: str, where: np.ndarray | None = None
    ) -> None:
        """Words, among which the table may stand."""
        for place in range(parts.shape[1]):
            part = parts[options, place]
            is_table = part == SLOTS["table"]
            there = part != NONE if where is None else (part != NONE) & where
            roles = np.where(is_table, mark(f"{at}.table"), mark(f"{at}.{words}"))
            self.loom.add(np.where(is_table, self.main_said, part), roles, there)

    def _said(self, places: Ints) -> Ints:
        """The columns at these places, as they are said."""
        found: Ints = self.at_said[self.rows, places]
        return found

    def _add_items(self) -> None:
        batch = self.batch
        and_last = self.chooser.choose(PLACES.separator, 4) > 0
        strings = self.loom.strings
        for index in range(int(batch.item_counts.max())):
            there = batch.item_counts > index
            if index:
                is_last = and_last & (batch.item_counts == index + 1)
                # "the sum of price and fee" would be a sum of both.
                behind = np.where(
                    batch.functions[:, index - 1] >= 0, strings.number(", and"), strings.number(" and")
                )
                between = np.where(is_last, behind, strings.number(","))
                self.loom.add(between, "english.select.separator", there)
            functions, places = batch.functions[:, index], batch.items[:, index]
            at = f"english.select.{index}"
            self.loom.add(self._said(places), f"{at}.column", there & (functions < 0))
            self._add_aggregate(
                there & (functions >= 0), functions, places, np.full(len(self.rows), index), at
            )

    def _add_aggregate(self, where: np.ndarray, functions: Ints, places: Ints, items: Ints, at: str) -> None:
        """An aggregate; `items`: its place in SELECT, which chooses the phrase."""
        if not where.any():
            return
        patterns = self.book.aggregates
        case = np.maximum(functions, 0) * len(ALL_KINDS) + self.kinds[self.rows, places]
        # Where a column's kind does not suit a function there is no option; those rows are not `where`.
        sizes = np.maximum(patterns.sizes[case], 1)
        options = np.minimum(
            patterns.starts[case] + self.chooser.choose(PLACES.aggregate + items, sizes),
            len(patterns.parts) - 1,
        )
        said = self._said(places)
        for place in range(patterns.parts.shape[1]):
            part = patterns.parts[options, place]
            is_column = part == SLOTS["column"]
            roles = np.where(is_column, mark(f"{at}.column"), mark(f"{at}.aggregate"))
            self.loom.add(np.where(is_column, said, part), roles, where & (part != NONE))

    def _add_join(self) -> None:
        batch, names, at = self.batch, self.book.names, "english.join.0"
        if not batch.joined.any():
            return
        other = np.where(batch.upwards, batch.tables[:, 1], batch.tables[:, 0])
        key = names.said(batch.numbers, self.deck.keys[batch.tables[:, 1]])
        own = names.said(batch.numbers, np.full(len(self.rows), self.deck.id_name))
        fillings = {
            "table": (names.said(batch.numbers, other, table=True), "table"),
            "left": (np.where(batch.upwards, key, own), "left.column"),
            "right": (np.where(batch.upwards, own, key), "right.column"),
        }
        options = self._pick(self.book.joins, PLACES.join)
        for place in range(self.book.joins.parts.shape[1]):
            part = self.book.joins.parts[options, place]
            piece, roles = part, np.full(len(self.rows), mark(f"{at}.kind"))
            for slot, (filling, role) in fillings.items():
                is_slot = part == SLOTS[slot]
                piece, roles = (
                    np.where(is_slot, filling, piece),
                    np.where(is_slot, mark(f"{at}.{role}"), roles),
                )
            self.loom.add(piece, roles, batch.joined & (part != NONE))

    def _add_conditions(self) -> None:
        batch, patterns = self.batch, self.book.operators
        for index in range(int(batch.condition_counts.max())):
            there = batch.condition_counts > index
            opener = self._pick(self.book.openers, PLACES.where + bool(index), int(bool(index)))
            self.loom.add(self.book.openers.parts[opener, 0], "english.where.keyword", there)
            at, places = f"english.where.{index}", batch.conditions[:, index]
            self.loom.add(self._said(places), f"{at}.column", there)
            case = batch.operators[:, index] * len(ALL_KINDS) + self.kinds[self.rows, places]
            sizes = np.maximum(patterns.sizes[case], 1)
            options = np.minimum(
                patterns.starts[case] + self.chooser.choose(PLACES.operator + index, sizes),
                len(patterns.parts) - 1,
            )
            stated = self.book.stated[batch.literals[:, index]]
            for place in range(patterns.parts.shape[1]):
                part = patterns.parts[options, place]
                is_value = part == SLOTS["value"]
                roles = np.where(is_value, mark(f"{at}.value"), mark(f"{at}.operator"))
                self.loom.add(np.where(is_value, stated, part), roles, there & (part != NONE))

    def _add_groups(self) -> None:
        batch, at = self.batch, "english.group_by"
        if not batch.grouped.any():
            return
        before, behind = self.book.groups.around()
        options = self._pick(self.book.groups, PLACES.group_by)
        self._add_frame(before, options, at, "phrase", batch.grouped)
        columns, counts = bare_items(batch)
        for index in range(int(counts.max())):
            there = counts > index
            if index:
                last, other = self.loom.strings.number(" and"), self.loom.strings.number(",")
                self.loom.add(np.where(counts == index + 1, last, other), f"{at}.separator", there)
            self.loom.add(self._said(columns[:, index]), f"{at}.{index}.column", there)
        self._add_frame(behind, options, at, "phrase", batch.grouped)

    def _add_keys(self) -> None:
        batch, at = self.batch, "english.order_by"
        if not batch.key_counts.any():
            return
        opener = self._pick(self.book.sort_openers, PLACES.opener)
        self.loom.add(self.book.sort_openers.parts[opener, 0], f"{at}.phrase", batch.key_counts > 0)
        for index in range(int(batch.key_counts.max())):
            there = batch.key_counts > index
            if index:
                self.loom.add(", then by", f"{at}.separator", there)
            items, functions, places = key_columns(batch, index)
            self.loom.add(self._said(places), f"{at}.{index}.column", there & (functions < 0))
            # An alias is no name of the schema: the aggregate is said again.
            self._add_aggregate(there & (functions >= 0), functions, places, items, f"{at}.{index}")
            kinds = self.kinds[self.rows, places]
            kinds = np.where((functions < 0) | np.isin(functions, _OF_VALUES), kinds, _NUMBER)
            phrases = self.book.directions
            phrase = phrases.starts[kinds] + self.chooser.choose(PLACES.phrase + index, phrases.sizes[kinds])
            parts = phrases.parts[phrase, batch.descending[:, index].astype(np.int64)]
            for place, role in enumerate(("phrase", f"{index}.direction", "phrase")):
                self.loom.add(parts[:, place], f"{at}.{role}", there & (parts[:, place] != NONE))


def bare_items(batch: Batch) -> tuple[Ints, Ints]:
    """Places of the columns of GROUP BY, which are the bare items in their order, and how many they are."""
    there = np.arange(batch.items.shape[1]) < batch.item_counts[:, None]
    bare = (batch.functions < 0) & there & batch.grouped[:, None]
    order = np.argsort(~bare, axis=1, kind="stable")
    return np.take_along_axis(batch.items, order, axis=1), bare.sum(axis=1)


def key_columns(batch: Batch, index: int) -> tuple[Ints, Ints, Ints]:
    """For sort key `index` the item it is, its aggregate (-1 for a bare column) and the place of its column."""
    rows, keys = np.arange(len(batch.rows)), batch.keys[:, index]
    items = np.where(batch.grouped, keys, 0)
    functions = np.where(batch.grouped, batch.functions[rows, items], -1)
    return items, functions, np.where(batch.grouped, batch.items[rows, items], keys)
