"""Config + row numbers -> many drawn rows: what `sample_query` and `sample_style` draw, as arrays.

Each row takes its random numbers in the order in which `draw` takes them, so the rows are the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

import numpy as np

from data_gen.bulk.deck import Deck, deck_of
from data_gen.bulk.numbers import Ints, Numbers, Rows
from data_gen.config import DataConfig
from data_gen.draw.sampling import FORM_SHARE, template_indexes
from data_gen.draw.schemas import OTHER_COLUMNS, TABLE_ATTEMPTS
from data_gen.draw.splits import MADE_ANEW, UNSEEN
from data_gen.query import command_set

SKILLS = frozenset({"order_by", "aggregate", "where", "join"})
"""The skills of the published command sets, and the only ones that are drawn here."""
HANDS = 200
"""Sets of columns that are tried for a schema of the split."""


class TooRare(Exception):
    """Hardly any row is of this kind, so drawing many at once does not pay."""


def suits(config: DataConfig, name: str) -> bool:
    """Whether rows of this command set can be drawn here; others are drawn one by one."""
    return (
        command_set(name).skills <= SKILLS
        and config.variant in ("base", "syn")
        and config.split not in MADE_ANEW
        and not config.random_names
        and not config.invented_names
        and not config.invented_openings
    )


@dataclass
class Batch:
    """Drawn rows, row by row; a place of a column is its place among the columns at hand, the main table's first."""

    config: DataConfig
    command_set: str
    rows: range
    deck: Deck = field(init=False)

    def __post_init__(self) -> None:
        count, widest = len(self.rows), self.config.max_columns + OTHER_COLUMNS
        unseen = UNSEEN[self.config.split]
        self.deck = deck_of(self.config.lexicon, "columns" in unseen, "tables" in unseen)
        self.joined = np.zeros(count, bool)
        # The two tables: the child, or the only one, comes first.
        self.tables = np.zeros((count, 2), np.int64)
        self.hands = np.full((count, 2, self.config.max_columns), -1, np.int64)
        self.hand_sizes = np.zeros((count, 2), np.int64)
        self.key_places = np.zeros(count, np.int64)
        self.upwards = np.ones(count, bool)
        """Whether the child is the main table of a join."""
        self.at = np.full((count, widest), -1, np.int64)
        """Columns at hand."""
        self.at_sizes = np.zeros(count, np.int64)
        self.items = np.zeros((count, widest), np.int64)
        """Places of the selected columns."""
        self.functions = np.full((count, widest), -1, np.int64)
        """Numbers of their aggregates; -1 for a bare column."""
        self.item_counts = np.zeros(count, np.int64)
        self.grouped = np.zeros(count, bool)
        self.keys = np.zeros((count, widest), np.int64)
        """Places of the sort keys among the columns at hand; in grouped rows among the items."""
        self.descending = np.zeros((count, widest), bool)
        self.key_counts = np.zeros(count, np.int64)
        self.conditions = np.zeros((count, 3), np.int64)
        """Places of the columns of WHERE."""
        self.operators = np.zeros((count, 3), np.int64)
        self.literals = np.zeros((count, 3), np.int64)
        self.condition_counts = np.zeros(count, np.int64)
        self.templates = np.zeros(count, np.int64)
        self.numbers = np.zeros(count, np.uint64)
        """64 bits that choose the phrases."""

    def kinds(self, rows: Rows) -> Ints:
        """The kinds of the columns at hand; of what is none, anything."""
        found: Ints = self.deck.column_kinds[self.at[rows]]
        return found


def draw_forms(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """Plain or joined."""
    if "join" in command_set(batch.command_set).skills:
        batch.joined[rows] = numbers.take(rows) / FORM_SHARE < 1


def draw_schemas(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """Tables and columns of the config's split.

    Raises:
        TooRare: hardly any schema is of the split.
    """
    _draw_single(batch, numbers, rows[~batch.joined[rows]])
    waiting = rows[batch.joined[rows]]
    for _ in range(HANDS):
        if not len(waiting):
            return
        for side in range(2):
            _draw_hand(batch, numbers, waiting, side)
        _draw_linked(batch, numbers, waiting)
        waiting = waiting[~_fits(batch, waiting)]
    if len(waiting):
        raise TooRare


def _draw_single(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    batch.hand_sizes[rows, 1] = 0
    for _ in range(HANDS):
        if not len(rows):
            return
        _draw_hand(batch, numbers, rows, 0)
        waiting = rows
        for _ in range(TABLE_ATTEMPTS):
            batch.tables[waiting, 0] = _draw_table(batch.deck, numbers, waiting)
            waiting = waiting[~_fits(batch, waiting)]
            if not len(waiting):
                break
        rows = waiting
    if len(rows):
        raise TooRare


def _draw_table(deck: Deck, numbers: Numbers, rows: Rows) -> Ints:
    if deck.held_tables is not None:
        found: Ints = deck.held_tables[numbers.below(rows, len(deck.held_tables))]
        return found
    compound = numbers.take(rows) < deck.compound_share
    sizes = np.where(compound, len(deck.compound_tables), len(deck.single_tables))
    places = numbers.below(rows, sizes)
    compounds = deck.compound_tables[np.where(compound, places, 0)]
    return np.where(compound, compounds, deck.single_tables[np.where(compound, 0, places)])


def _draw_hand(batch: Batch, numbers: Numbers, rows: Rows, side: int) -> None:
    config, deck = batch.config, batch.deck
    most = config.max_columns if side == 0 else min(OTHER_COLUMNS, config.max_columns)
    low = min(config.min_columns, most)
    counts = low + numbers.below(rows, most - low + 1)
    hand = np.full((len(rows), config.max_columns), -1)
    names = np.full_like(hand, -1)
    filled = np.zeros(len(rows), np.int64)
    while True:
        active = np.flatnonzero(filled < counts)
        if not len(active):
            break
        columns = deck.pool[numbers.below(rows[active], len(deck.pool))]
        drawn = deck.column_names[columns]
        same = names[active] == drawn[:, None]
        # A name that is drawn again keeps its place and takes the new type.
        known = same.any(axis=1)
        places = np.where(known, same.argmax(axis=1), filled[active])
        hand[active, places], names[active, places] = columns, drawn
        filled[active] += ~known
    batch.hands[rows, side] = hand
    batch.hand_sizes[rows, side] = counts


def _draw_linked(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    deck = batch.deck
    child = numbers.below(rows, len(deck.children))
    parent = numbers.below(rows, deck.parent_counts[child])
    batch.tables[rows] = np.stack([deck.children[child], deck.parents[child, parent]], axis=1)
    batch.key_places[rows] = numbers.below(rows, batch.hand_sizes[rows, 0] + 1)
    # Names differ across tables, so that an unqualified name means one column.
    names = [deck.column_names[batch.hands[rows, side]] for side in range(2)]
    places = np.arange(names[0].shape[1])
    own = np.where(places < batch.hand_sizes[rows, 0, None], names[0], -1)
    taken = np.concatenate([batch.tables[rows], own], axis=1)
    kept = ~(names[1][:, :, None] == taken[:, None, :]).any(axis=2) & (
        places < batch.hand_sizes[rows, 1, None]
    )
    order = np.argsort(~kept, axis=1, kind="stable")
    batch.hands[rows, 1] = np.take_along_axis(batch.hands[rows, 1], order, axis=1)
    batch.hand_sizes[rows, 1] = kept.sum(axis=1)


def _fits(batch: Batch, rows: Rows) -> np.ndarray:
    """Whether the schemas belong to the config's split, as `is_test_sum` has it."""
    unseen, deck = UNSEEN[batch.config.split], batch.deck
    if "tables" in unseen or "columns" in unseen:
        return np.ones(len(rows), bool)
    total = np.uint64(3) * deck.hashes[batch.tables[rows, 0]]
    places = np.arange(batch.hands.shape[2])
    for side in range(2):
        hashes = deck.hashes[deck.column_names[batch.hands[rows, side]]]
        total += np.where(places < batch.hand_sizes[rows, side, None], hashes, 0).sum(axis=1, dtype=np.uint64)
    parents = batch.tables[rows, 1]
    further = (
        np.uint64(3) * deck.hashes[parents] + deck.hashes[deck.keys[parents]] + deck.hashes[deck.id_name]
    )
    total += np.where(batch.joined[rows], further, np.uint64(0))
    # A whole number is below a float when it is below the next whole number.
    is_test = total < np.uint64(ceil(batch.config.test_fraction * 2**64))
    return is_test == ("schemas" in unseen)


def draw_styles(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """An instruction and the number that chooses every phrase."""
    config = batch.config
    held_out = "templates" in UNSEEN[config.split]
    for joined in (False, True):
        some = rows[batch.joined[rows] == joined]
        if len(some):
            indexes = np.array(
                template_indexes(config.lexicon, config.variant, held_out, True if joined else None)
            )
            batch.templates[some] = indexes[numbers.below(some, len(indexes))]
    high = (numbers.take(rows) * 2**53).astype(np.uint64) << np.uint64(11)
    batch.numbers[rows] = high | (numbers.take(rows) * 2**11).astype(np.uint64)
