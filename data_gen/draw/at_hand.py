"""Column -> a column at hand: what clauses are drawn from, one object per column and qualifier."""

from __future__ import annotations

from functools import lru_cache

from data_gen.query import AggregateFunction, ColumnRef, SelectItem
from data_gen.schema import Column, Kind
from data_gen.seeding import name_hash

SUITING: dict[Kind, tuple[AggregateFunction, ...]] = {
    "number": ("SUM", "AVG", "MIN", "MAX", "COUNT"),
    "text": ("MIN", "MAX", "COUNT"),
    "date": ("MIN", "MAX", "COUNT"),
    "boolean": ("COUNT",),
}
"""Kind of column -> the aggregates that mean something for it, as published."""


class At:
    """A column at hand, and the qualifier before it where names are qualified.

    Two of them are equal where they are the same object, which `at_hand` sees to.
    """

    # Hundreds of columns are in use at once, so little is kept of each: what is small stays near the processor.
    __slots__ = ("bits", "column", "kind", "name", "table")

    def __init__(self, column: Column, table: str | None = None) -> None:
        self.column, self.table = column, table
        self.name, self.kind = column.name, column.kind
        self.bits = name_hash(column.name)

    @property
    def ref(self) -> ColumnRef:
        return ColumnRef(self.name, self.table)

    @property
    def item(self) -> SelectItem:
        return SelectItem(self.name, self.table)


at_hand = lru_cache(maxsize=16384)(At)
