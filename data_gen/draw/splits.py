"""What a row is made of -> the split it belongs to, whatever the seed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, get_args

from data_gen.query import AGGREGATES, JoinKind, Operator, Query, Select, WindowFunction
from data_gen.schema import Schema
from data_gen.seeding import MASK, name_hash

Split = Literal[
    "train", "test", "tables", "columns", "names", "recombined", "invented", "templates", "clauses", "novel"
]
SPLITS: tuple[Split, ...] = get_args(Split)
UNSEEN: dict[Split, frozenset[str]] = {
    "train": frozenset(),
    "test": frozenset({"schemas"}),
    "tables": frozenset({"tables"}),
    "columns": frozenset({"columns"}),
    "names": frozenset({"tables", "columns"}),
    "recombined": frozenset({"tables", "columns"}),
    "invented": frozenset({"tables", "columns"}),
    "templates": frozenset({"templates"}),
    "clauses": frozenset({"clauses"}),
    "novel": frozenset({"tables", "columns", "templates"}),
}
"""Split -> what its rows have that no row of train has. Nothing else of them is new, but the rows themselves."""
MADE_ANEW: frozenset[Split] = frozenset({"recombined", "invented"})
"""Splits whose names are made for the row, as those of some training rows are, and are none of the lexicon's."""

HELD_OUT_CLAUSES: tuple[frozenset[str], ...] = (
    frozenset({"MIN", "order_by.1.ASC"}),
    frozenset({"LIKE", "AVG"}),
    frozenset({"limit", "AVG"}),
    frozenset({"BETWEEN", "IN"}),
    frozenset({"LEFT", "LIKE"}),
    frozenset({"EXISTS", "LIKE"}),
    frozenset({"cte", "LIKE"}),
    frozenset({"RANK", "LIKE"}),
)
"""Pairs of things that training shows apart and never together; each set from CS3 on has one."""


_HELD_OUT = sorted(frozenset().union(*HELD_OUT_CLAUSES))
_THINGS = (
    *AGGREGATES,
    *get_args(Operator),
    *get_args(JoinKind),
    *get_args(WindowFunction),
    "join",
    "cte",
    "limit",
)
_BITS = dict.fromkeys(_THINGS, 0)
_BITS |= {name: 1 << i for i, name in enumerate(_HELD_OUT)}
"""Thing -> the bit that stands for it; 0 for what no pair holds."""
HELD_OUT_PAIRS = tuple([sum([_BITS[name] for name in pair]) for pair in HELD_OUT_CLAUSES])
_KEYS = tuple(
    [{way: _BITS.get(f"order_by.{place}.{way}", 0) for way in ("ASC", "DESC")} for place in range(2)]
)


def bits_of_name(name: str) -> int:
    """The bit of a thing as `HELD_OUT_CLAUSES` calls it; 0 for what no pair holds."""
    return _BITS.get(name, 0)


def _bits_of(select: Select) -> int:
    """The things of a SELECT that `HELD_OUT_CLAUSES` pairs, with its subqueries: clauses, functions, operators
    and directions."""
    found = 0
    for item in select.select:
        if item.aggregate is not None:
            found |= _BITS[item.aggregate]
        elif item.window is not None:
            found |= _BITS[item.window.function]
    for join in select.joins:
        found |= _BITS["join"] | _BITS[join.kind]
    for group in select.where:
        for condition in group:
            found |= _BITS[condition.operator]
            if condition.subquery is not None:
                found |= _bits_of(condition.subquery)
    for bits, key in zip(_KEYS, select.order_by, strict=False):
        found |= bits[key.direction]
    return found if select.limit is None else found | _BITS["limit"]


def has_held_out_clauses(query: Query) -> bool:
    """Whether the query shows a pair of things together that training shows only apart."""
    found = _bits_of(query)
    if query.cte is not None:
        found |= _BITS["cte"] | _bits_of(query.cte.select)
    if query.compound is not None:
        found |= _bits_of(query.compound.select)
    return _holds_pair(found)


@lru_cache(maxsize=4096)
def _holds_pair(found: int) -> bool:
    return any(found & pair == pair for pair in HELD_OUT_PAIRS)


def schema_sum(table: str, hashes: Iterable[int]) -> int:
    """A number for a table and the hashes of its columns' names: the same for every order of these."""
    # A table and a column may have one name, and must not count the same.
    return 3 * name_hash(table) + sum(hashes)


def is_test_sum(total: int, test_fraction: float) -> bool:
    """Whether the schema whose tables add up to `total` belongs to test."""
    # A sum of hashes is as good as a hash.
    return total & MASK < test_fraction * 2**64


def is_held_out_name(name: str, test_fraction: float) -> bool:
    """Whether a name of recombined pieces, or of invented words, is one that no training row has."""
    return is_test_sum(name_hash(name), test_fraction)


def is_test_schema(schema: Schema, test_fraction: float) -> bool:
    """Whether `schema` belongs to `test`: a function of its table names and their sets of columns alone.

    The order of columns, their types and every seed make no difference, so no schema of test is ever
    drawn for train.
    """
    total = sum(
        [
            schema_sum(table.name, [name_hash(column.name) for column in table.columns])
            for table in schema.tables
        ]
    )
    return is_test_sum(total, test_fraction)
