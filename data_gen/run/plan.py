"""Query -> what its columns and rows have to do in a database, the same for every fill."""

from __future__ import annotations

from typing import NamedTuple

from data_gen.query import Condition, Query, Select, Value
from data_gen.run.values import Cell, meets, near_misses
from data_gen.seeding import stable_hash
from data_gen.vocabulary.lexicon import LEXICONS


class Aim(NamedTuple):
    """What one row is to show."""

    missed: frozenset[str] = frozenset()
    """Columns whose conditions it misses."""
    stands_out: bool = False
    """Whether it would be the largest or smallest, or come first, because it misses one condition, or might."""
    at_random: bool = False
    """Whether any column may miss."""
    forced: tuple[str, Cell] | None = None
    """A column and its value."""


class Plan:
    """What the fills of one query have in common: which column has to do what."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.hash = stable_hash("database", query.to_json())
        self.words = LEXICONS["full"].values
        self.selects = _selects(query)
        self.conditions: dict[str, list[Condition]] = {}
        self.near: dict[str, list[Value]] = {}
        self.groups: list[tuple[Condition, ...]] = []
        for select in self.selects:
            self.groups += select.where
            for condition in select.having:
                if condition.aggregate != "COUNT":
                    near = self.near.setdefault(condition.column, [])
                    near += condition.values
                    if condition.aggregate == "SUM":
                        # Two rows, or three, that come to the literal.
                        near += [_part(condition.values[0], number) for number in (2, 3)]
        for group in self.groups:
            for condition in group:
                if condition.values or condition.operator == "IS NULL":
                    self.conditions.setdefault(condition.column, []).append(condition)
        self.keys = [key.column for key in query.order_by]
        self.balanced = {
            c.column for g in self.groups for c in g if c.subquery and c.subquery.select[0].aggregate == "AVG"
        }
        self.shown = {
            i.column for s in self.selects for i in s.select if i.aggregate in ("MIN", "MAX") or s.distinct
        }
        if query.compound is not None:
            self.shown |= {item.column for item in query.select}
        if query.limit and self.keys:
            self.shown.add(self.keys[0])
        subqueries = [
            c.subquery for g in self.groups for c in g if c.subquery and c.subquery.select[0].aggregate
        ]
        self.inner = {c.column for select in subqueries for group in select.where for c in group}
        windows = [item.window for item in query.select if item.window is not None]
        self.numbered = {w.order_by[0].column for w in windows if w.function == "ROW_NUMBER"}
        """Columns by which rows are numbered: where two rows tie, their numbers are anybody's guess."""
        self.narrow = self._narrow()
        self.wide = self._wide()
        self.nullable = self._nullable()
        last = set(self.keys[-1:]) if query.group_by else set()
        self.last_aggregate = {item.column for item in query.select if item.alias in last}
        self.links = dict(self._links())
        self.probes = self._probes()
        """Rows at the edge of a condition: each has one value at or next to a literal and passes all others."""
        self.bound = (
            self.conditions.keys() | self.wide | self.shown | self.nullable | self.inner | self.last_aggregate
        )
        """Columns whose value in a row depends on what the row has to do."""

    def _probes(self) -> list[Aim]:
        found = []
        for group in self.groups:
            for condition in group:
                name = condition.column
                if name in self.inner:
                    continue
                # The other operands of an OR miss.
                missed = frozenset([other.column for other in group]) - {name}
                for value in dict.fromkeys(near_misses(condition.values)):
                    fails = not all(meets(one, value) for one in self.conditions[name])
                    found.append(Aim(missed, fails, forced=(name, value)))
        if self.query.compound is None:
            return found
        # What one of two queries gives shows where the other does not give it, or does, and no other row.
        names = frozenset(self.conditions)
        return [
            aim._replace(missed=missed, stands_out=True) for aim in found for missed in (aim.missed, names)
        ]

    def _narrow(self) -> set[str]:
        """Columns in which few values repeat often."""
        names: set[str] = set(self.keys[:-1])
        # Several rows have to share the largest value, or one row would be all there is to see; a last sort key
        # may not repeat.
        conditions = [c for group in self.groups for c in group if c.subquery is not None]
        names |= {c.column for c in conditions if c.operator in ("=", "<>")} - set(self.keys[-1:])
        for select in self.selects:
            names |= {ref.column for ref in select.group_by}
            # Groups that tie on one aggregate show the key behind it; a count ties by itself.
            summed = [item for item in select.select if item.aggregate not in (None, "COUNT")]
            names |= {item.column for item in summed if item.alias in self.keys[:-1]}
            if select.distinct or self.query.compound is not None:
                names |= {item.column for item in select.select}
            for item in select.select:
                if item.window is not None:
                    names |= {ref.column for ref in item.window.partition_by}
                    if item.window.function == "RANK":
                        names |= {key.column for key in item.window.order_by}
        return names

    def _wide(self) -> set[str]:
        """Columns in which no value repeats, so that nothing is left to chance."""
        query = self.query
        names = set() if query.group_by or query.distinct else set(self.keys[-1:])
        truths = {c.name for table in query.schema.tables for c in table.columns if c.kind == "boolean"}
        # Of yes and no, each once, nearly every row would have the second.
        return (names | self.numbered) - self.narrow - truths

    def _nullable(self) -> set[str]:
        """Counted columns and those tested for NULL, unless their order matters: engines sort NULL differently."""
        names = {c.column for g in self.groups for c in g if c.operator == "IS NULL"}
        for select in self.selects:
            names |= {item.column for item in select.select if item.aggregate == "COUNT"}
            names |= {c.column for c in select.having if c.aggregate == "COUNT"}
        others = {i.column for s in self.selects for i in s.select if i.aggregate not in (None, "COUNT")}
        return names - others - set(self.keys) - self.narrow - self.wide

    def _links(self) -> list[tuple[str, str]]:
        """Foreign key -> table it refers to, as far as the query uses it."""
        found = []
        for select in self.selects:
            for join in select.joins:
                for one, other in ((join.left, join.right), (join.right, join.left)):
                    if one and other and other.column == "id" and one.column != "id":
                        aliases = {join.alias or join.table: join.table, select.table: select.table}
                        found.append((one.column, aliases.get(other.table or "", other.table or "")))
            for group in select.where:
                for c in group:
                    if c.other is not None:
                        found.append((c.column, c.other.table or ""))
                    elif c.subquery is not None and c.operator == "IN":
                        found.append((c.column, c.subquery.table))
        return found


def _part(value: Value, number: int) -> Value:
    assert isinstance(value, int | float)
    return value // number if isinstance(value, int) else int(value / number) + 0.5


def _selects(query: Query) -> list[Select]:
    """The query's SELECTs, outer and inner."""
    found: list[Select] = [query]
    if query.cte is not None:
        found.append(query.cte.select)
    if query.compound is not None:
        found.append(query.compound.select)
    for select in list(found):
        found += [c.subquery for group in select.where for c in group if c.subquery is not None]
    return found
