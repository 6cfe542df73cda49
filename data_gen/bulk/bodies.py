"""Drawn schemas -> what is selected, grouped, filtered and sorted: as `draw_body` draws it, for many rows."""

from __future__ import annotations

import numpy as np

from data_gen.bulk.deck import kind_number
from data_gen.bulk.drawing import Batch
from data_gen.bulk.numbers import Ints, Numbers, Rows, compress, first
from data_gen.draw.at_hand import SUITING
from data_gen.draw.clauses import (
    AGGREGATED_SHARE,
    ANYWHERE,
    FILTERED_SHARE,
    LIKE_SHARE,
    MOST_AGGREGATES,
    MOST_CONDITIONS,
    MOST_GROUPS,
    MOST_KEYS,
    ORDERED_COMPARISONS,
    ORDERED_SHARE,
)
from data_gen.draw.joining import UPWARDS_SHARE
from data_gen.draw.splits import HELD_OUT_PAIRS, bits_of_name
from data_gen.query import AGGREGATES, command_set
from data_gen.vocabulary.phrases import ALL_KINDS

OPERATORS = (*ORDERED_COMPARISONS, "LIKE")
LIKE = len(ORDERED_COMPARISONS)
COUNT = AGGREGATES.index("COUNT")
TEXT, BOOLEAN = kind_number("text"), kind_number("boolean")
_FUNCTION_COUNTS = np.array([len(SUITING[kind]) for kind in ALL_KINDS])
_FUNCTIONS = np.zeros((len(ALL_KINDS), len(AGGREGATES)), np.int64)
for _kind, _some in SUITING.items():
    _FUNCTIONS[kind_number(_kind), : len(_some)] = [AGGREGATES.index(function) for function in _some]


def draw_bodies(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """The clauses of these rows, whose schemas are drawn."""
    skills = command_set(batch.command_set).skills
    batch.key_counts[rows] = batch.condition_counts[rows] = 0
    batch.grouped[rows] = False
    batch.functions[rows] = -1
    _lay_out(batch, numbers, rows)
    aggregated = np.zeros(len(rows), bool)
    if "aggregate" in skills:
        several = np.flatnonzero(batch.at_sizes[rows] > 1)
        aggregated[several] = numbers.chance(rows[several], AGGREGATED_SHARE)
    _draw_grouped(batch, numbers, rows[aggregated], "order_by" in skills)
    _draw_ungrouped(batch, numbers, rows[~aggregated], "order_by" in skills)
    if "where" in skills:
        _draw_where(batch, numbers, rows[numbers.chance(rows, FILTERED_SHARE)])


def _lay_out(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """Which table is the main one, and the columns at hand."""
    joined = rows[batch.joined[rows]]
    batch.upwards[rows] = True
    batch.upwards[joined] = numbers.chance(joined, UPWARDS_SHARE)
    sizes = batch.hand_sizes[rows]
    batch.at_sizes[rows] = sizes.sum(axis=1)
    down = ~batch.upwards[rows]
    first_sizes = np.where(down, sizes[:, 1], sizes[:, 0])[:, None]
    places = np.arange(batch.at.shape[1])
    wide = batch.hands.shape[2]
    in_first = places < first_sizes
    offsets = np.where(in_first, places, places - first_sizes)
    offsets = np.clip(offsets, 0, wide - 1) + np.where(in_first == down[:, None], wide, 0)
    both = batch.hands[rows].reshape(len(rows), -1)
    batch.at[rows] = np.take_along_axis(both, offsets, axis=1)


def _own(batch: Batch, rows: Rows, child: np.ndarray) -> tuple[Ints, Ints]:
    """The first place and the number of the columns of the child, or of the parent."""
    sizes = batch.hand_sizes[rows]
    is_first = batch.upwards[rows] == child
    starts = np.where(is_first, 0, np.where(child, sizes[:, 1], sizes[:, 0]))
    return starts, np.where(child, sizes[:, 0], sizes[:, 1])


def _draw_ungrouped(batch: Batch, numbers: Numbers, rows: Rows, orders: bool) -> None:
    sizes = batch.at_sizes[rows]
    counts = 1 + numbers.below(rows, sizes)
    items = numbers.sample(rows, sizes, counts)
    batch.items[rows, : items.shape[1]] = items
    batch.item_counts[rows] = counts
    if orders:
        _draw_keys(batch, numbers, rows[numbers.chance(rows, ORDERED_SHARE)])


def _draw_keys(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """As `Draft.keys`."""
    if not len(rows):
        return
    sizes, config = batch.at_sizes[rows], batch.config
    limits = np.where(batch.joined[rows], np.minimum(sizes, MOST_KEYS), sizes)
    limits = np.minimum(limits, config.max_keys or limits)
    counts = 1 + numbers.below(rows, limits)
    keys = numbers.sample(rows, sizes, counts)
    # Behind the last selected column a further key would change nothing.
    selected = _selected(batch, rows)
    seen = np.cumsum(np.take_along_axis(selected, keys, axis=1), axis=1)
    enough = first(seen == batch.item_counts[rows, None])
    unseen = (enough < 0) | (enough >= counts)
    counts = np.where(unseen, counts, enough + 1)
    places = np.arange(batch.at.shape[1])
    child_starts, child_sizes = _own(batch, rows, np.ones(len(rows), bool))
    of_child = (places >= child_starts[:, None]) & (places < (child_starts + child_sizes)[:, None])
    spreads = (batch.kinds(rows) != BOOLEAN) & of_child
    lines = np.arange(len(rows))
    mended = np.flatnonzero(unseen & ~spreads[lines, keys[lines, counts - 1]])
    keys[mended], counts[mended] = _with_last(keys[mended], counts[mended], spreads[mended], limits[mended])
    _keep_keys(batch, numbers, rows, keys, counts)


def _with_last(keys: Ints, counts: Ints, spreads: np.ndarray, limits: Ints) -> tuple[Ints, Ints]:
    """The keys with one at their end whose values can all differ; no keys where no column is such a one."""
    lines, places = np.arange(len(keys)), np.arange(keys.shape[1])
    chosen = places < counts[:, None]
    among = first(np.take_along_axis(spreads, keys, axis=1) & chosen)
    last = np.where(among >= 0, keys[lines, among], first(spreads))
    order, kept = compress(chosen & (keys != last[:, None]))
    keys = np.take_along_axis(keys, order, axis=1)
    kept = np.minimum(kept, limits - 1)
    keys[lines, kept] = last
    return keys, np.where(last >= 0, kept + 1, 0)


def _keep_keys(batch: Batch, numbers: Numbers, rows: Rows, keys: Ints, counts: Ints) -> None:
    batch.keys[rows, : keys.shape[1]] = keys
    batch.key_counts[rows] = counts
    for place in range(int(counts.max()) if len(rows) else 0):
        active = rows[counts > place]
        batch.descending[active, place] = ~numbers.chance(active, 0.5)


def _selected(batch: Batch, rows: Rows) -> np.ndarray:
    """For each column at hand whether it is selected, bare or in an aggregate."""
    found = np.zeros((len(rows), batch.at.shape[1]), bool)
    counts = batch.item_counts[rows]
    lines = np.repeat(np.arange(len(rows)), counts)
    found[lines, batch.items[rows][np.arange(batch.items.shape[1]) < counts[:, None]]] = True
    return found


def _draw_grouped(batch: Batch, numbers: Numbers, rows: Rows, orders: bool) -> None:
    """As `_grouped` of bodies."""
    if not len(rows):
        return
    sizes = batch.at_sizes[rows]
    starts, own_sizes = np.zeros(len(rows), np.int64), sizes.copy()
    joined = np.flatnonzero(batch.joined[rows])
    anchors = numbers.below(rows[joined], sizes[joined])
    child_starts, child_sizes = _own(batch, rows[joined], np.ones(len(joined), bool))
    of_child = (anchors >= child_starts) & (anchors < child_starts + child_sizes)
    starts[joined], own_sizes[joined] = _own(batch, rows[joined], of_child)
    counts = np.minimum(numbers.below(rows, np.minimum(MOST_GROUPS, sizes - 1) + 1), own_sizes)
    grouping = numbers.sample(rows, own_sizes, counts) + starts[:, None]
    places = np.arange(batch.at.shape[1])
    bare = np.zeros((len(rows), len(places)), bool)
    chosen = np.arange(grouping.shape[1]) < counts[:, None]
    bare[np.repeat(np.arange(len(rows)), counts), grouping[chosen]] = True
    rest, rest_sizes = compress(~bare & (places < sizes[:, None]))
    more = 1 + numbers.below(rows, np.minimum(rest_sizes, MOST_AGGREGATES))
    some = np.take_along_axis(rest, numbers.sample(rows, rest_sizes, more), axis=1)
    functions = _draw_functions(batch, numbers, rows, some, more)
    _shuffle_items(batch, numbers, rows, (grouping, counts), (some, more, functions))
    with_groups = rows[counts > 0]
    batch.grouped[with_groups] = True
    if orders:
        _draw_group_keys(batch, numbers, with_groups[numbers.chance(with_groups, ORDERED_SHARE)])


def _draw_functions(batch: Batch, numbers: Numbers, rows: Rows, some: Ints, counts: Ints) -> Ints:
    kinds = np.take_along_axis(batch.kinds(rows), some, axis=1)
    functions = np.zeros((len(rows), MOST_AGGREGATES), np.int64)
    for place in range(int(counts.max())):
        active = np.flatnonzero(counts > place)
        kind = kinds[active, place]
        functions[active, place] = _FUNCTIONS[kind, numbers.below(rows[active], _FUNCTION_COUNTS[kind])]
    return functions


def _shuffle_items(
    batch: Batch, numbers: Numbers, rows: Rows, bare: tuple[Ints, Ints], aggregates: tuple[Ints, Ints, Ints]
) -> None:
    columns, counts = bare
    some, more, functions = aggregates
    totals = counts + more
    order = numbers.sample(rows, totals, totals)
    is_bare = order < counts[:, None]
    bare_places = np.clip(order, 0, columns.shape[1] - 1)
    other_places = np.clip(order - counts[:, None], 0, MOST_AGGREGATES - 1)
    wide = order.shape[1]
    batch.items[rows, :wide] = np.where(
        is_bare,
        np.take_along_axis(columns, bare_places, axis=1),
        np.take_along_axis(some, np.clip(other_places, 0, some.shape[1] - 1), axis=1),
    )
    batch.functions[rows, :wide] = np.where(is_bare, -1, np.take_along_axis(functions, other_places, axis=1))
    batch.item_counts[rows] = totals


def _draw_group_keys(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """As `Draft.group_keys`: the keys are places of items."""
    if not len(rows):
        return
    totals = batch.item_counts[rows]
    counts = 1 + numbers.below(rows, np.minimum(totals, MOST_KEYS))
    sampled = numbers.sample(rows, totals, counts)
    widest = batch.items.shape[1]
    keys = np.zeros((len(rows), widest), np.int64)
    keys[:, : sampled.shape[1]] = sampled
    places, lines = np.arange(widest), np.arange(len(rows))
    functions = batch.functions[rows]
    is_bare = (functions < 0) & (places < totals[:, None])
    chosen = places < counts[:, None]
    seen = np.cumsum(np.take_along_axis(is_bare, keys, axis=1) & chosen, axis=1)
    enough = first(seen == is_bare.sum(axis=1)[:, None])
    unseen = (enough < 0) | (enough >= counts)
    counts = np.where(unseen, counts, enough + 1)
    their = np.take_along_axis(functions, keys, axis=1)
    counted = (their < 0) | (their == COUNT)
    mended = np.flatnonzero(unseen & counted[lines, counts - 1])
    last = first(~counted[mended] & (places < counts[mended, None]))
    # An aggregate of values goes to the end; where there is none, the bare items follow that are no keys yet.
    moved, bare = mended[last >= 0], mended[last < 0]
    end = keys[moved, last[last >= 0]]
    order, kept = compress((keys[moved] != end[:, None]) & (places < counts[moved, None]))
    keys[moved] = np.take_along_axis(keys[moved], order, axis=1)
    keys[moved, kept] = end
    for line in bare.tolist():
        named = keys[line, : counts[line]].tolist()
        named += [place for place in np.flatnonzero(is_bare[line]).tolist() if place not in named]
        keys[line, : len(named)], counts[line] = named, len(named)
    if batch.config.max_keys is not None:
        counts[counts > batch.config.max_keys] = 0
    _keep_keys(batch, numbers, rows, keys, counts)


def _draw_where(batch: Batch, numbers: Numbers, rows: Rows) -> None:
    """As `Draft.where`, for a set without skills of logic."""
    if not len(rows):
        return
    widest = batch.at.shape[1]
    places, lines = np.arange(widest), np.arange(len(rows))
    varying = _selected(batch, rows)
    functions, items, counts = batch.functions[rows], batch.items[rows], batch.item_counts[rows]
    is_aggregate = (functions >= 0) & (places < counts[:, None])
    untouched = np.ones((len(rows), widest), bool)
    untouched[np.repeat(lines, is_aggregate.sum(axis=1)), items[is_aggregate]] = False
    # The keys of grouped rows are items.
    is_key = (places < batch.key_counts[rows, None]) & ~batch.grouped[rows, None]
    varying[np.repeat(lines, is_key.sum(axis=1)), batch.keys[rows][is_key]] = True
    kinds = batch.kinds(rows)
    free, sizes = compress(
        untouched & (places < batch.at_sizes[rows, None]) & ~((kinds == BOOLEAN) & varying)
    )
    some = np.flatnonzero(sizes)
    rows, free, sizes, kinds, varying = rows[some], free[some], sizes[some], kinds[some], varying[some]
    counts = 1 + numbers.below(rows, np.minimum(MOST_CONDITIONS, sizes))
    columns = np.take_along_axis(free, numbers.sample(rows, sizes, counts), axis=1)
    batch.condition_counts[rows] = counts
    for place in range(int(counts.max()) if len(rows) else 0):
        active = np.flatnonzero(counts > place)
        column = columns[active, place]
        _draw_condition(
            batch, numbers, rows[active], place, column, kinds[active, column], varying[active, column]
        )


def _draw_condition(
    batch: Batch, numbers: Numbers, rows: Rows, place: int, columns: Ints, kinds: Ints, varies: np.ndarray
) -> None:
    deck = batch.deck
    batch.conditions[rows, place] = columns
    is_like = (kinds == TEXT) & varies
    unsure = np.flatnonzero((kinds == TEXT) & ~varies)
    is_like[unsure] = numbers.chance(rows[unsure], LIKE_SHARE)
    operators = np.where(is_like, LIKE, 0)
    literals = np.zeros(len(rows), np.int64)
    literals[is_like] = numbers.below(rows[is_like], len(ANYWHERE))
    ranked = np.flatnonzero((kinds != TEXT) & (kinds != BOOLEAN))
    varied = varies[ranked].astype(np.int64)
    operators[ranked] = varied + numbers.below(rows[ranked], len(ORDERED_COMPARISONS) - varied)
    others = np.flatnonzero(~is_like)
    types = deck.column_types[batch.at[rows[others], columns[others]]]
    literals[others] = deck.literal_starts[types] + numbers.below(rows[others], deck.literal_sizes[types])
    batch.operators[rows, place], batch.literals[rows, place] = operators, literals


def shows_held_out(batch: Batch, rows: Rows) -> np.ndarray:
    """As `has_held_out_clauses`."""
    places = np.arange(batch.items.shape[1])
    functions = np.array([*map(bits_of_name, AGGREGATES), 0])[batch.functions[rows]]
    functions = np.where(places < batch.item_counts[rows, None], functions, 0)
    found = np.bitwise_or.reduce(functions, axis=1)
    operators = np.array(list(map(bits_of_name, OPERATORS)))[batch.operators[rows]]
    present = np.arange(MOST_CONDITIONS) < batch.condition_counts[rows, None]
    found |= np.bitwise_or.reduce(np.where(present, operators, 0), axis=1)
    found |= np.where(batch.joined[rows], bits_of_name("join") | bits_of_name("INNER"), 0)
    for place in range(2):
        ways = np.array([bits_of_name(f"order_by.{place}.{way}") for way in ("ASC", "DESC")])
        bits = ways[batch.descending[rows, place].astype(np.int64)]
        found |= np.where(batch.key_counts[rows] > place, bits, 0)
    return np.any([found & pair == pair for pair in HELD_OUT_PAIRS], axis=0)
