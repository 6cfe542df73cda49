"""Query -> what its columns and rows have to do in a database, the same for every fill."""

from __future__ import annotations

from typing import NamedTuple

from data_gen.query import COMPARISONS, Condition, Query, Select, Value
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
    """What the fills of one query have in common: which column has to do what.

    Names are those of columns, in whichever table they stand.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.hash = stable_hash("database", query.to_json())
        """Seeds the fills."""
        self.words: tuple[str, ...] = LEXICONS["full"].values
        """What texts are made of."""
        self.selects: list[Select] = _selects(query)
        """The query's SELECTs, outer and inner."""
        self.keys: list[str] = [key.column for key in query.order_by]
        """Columns, or aliases, of ORDER BY."""
        self.links: dict[str, str] = dict(self._links())
        """Foreign key -> table it refers to, as far as the query uses it."""

        # What conditions ask of values.
        self.groups: list[tuple[Condition, ...]] = [g for select in self.selects for g in select.where]
        """The conditions of all WHEREs: an AND of ORs."""
        self.conditions: dict[str, list[Condition]] = self._conditions()
        """Column -> its conditions that a value alone passes or misses."""
        self.near: dict[str, list[Value]] = self._near()
        """Column -> values that its measures in HAVING are compared with."""
        alone = [condition for group in self.groups for condition in group]
        scalar = [c for c in alone if c.subquery is not None and c.operator in COMPARISONS]
        measured = [c.subquery for c in alone if c.subquery is not None and c.subquery.select[0].aggregate]
        self.operands: set[str] = {c.column for group in self.groups if len(group) > 1 for c in group}
        """Columns that OR tests."""
        self.compared: set[str] = {c.column for c in scalar}
        """Columns compared with a scalar subquery: what other rows hold decides whether they pass."""
        self.extreme: set[str] = {c.column for c in scalar if c.operator in ("=", "<>")}
        """Those of them that have to be, or not to be, the largest or smallest, say."""
        self.inner: set[str] = {c.column for select in measured for group in select.where for c in group}
        """Columns by which a scalar subquery filters."""
        self.balanced: set[str] = {
            c.column for c in alone if c.subquery is not None and c.subquery.select[0].aggregate == "AVG"
        }
        """Columns compared with a mean, which some row has to meet exactly."""

        # How often values repeat, and which stand out.
        self.shown: set[str] = self._shown()
        """Columns of which the largest, the smallest or every new value shows in the answer."""
        windows = [item.window for item in query.select if item.window is not None]
        self.numbered: set[str] = {w.order_by[0].column for w in windows if w.function == "ROW_NUMBER"}
        """Columns by which rows are numbered: where two rows tie, their numbers are anybody's guess."""
        self.narrow: set[str] = self._narrow()
        """Columns in which few values repeat often."""
        self.wide: set[str] = self._wide()
        """Columns in which no value repeats, so that nothing is left to chance."""
        self.nullable: set[str] = self._nullable()
        """Columns with NULLs."""
        last = set(self.keys[-1:]) if query.group_by else set()
        self.last_aggregate: set[str] = {item.column for item in query.select if item.alias in last}
        """The column whose aggregate is the last sort key of groups."""
        self.probes: list[Aim] = self._probes()
        """Rows at the edge of a condition: each has one value at or next to a literal and passes all others."""
        self.bound: set[str] = (
            self.conditions.keys() | self.wide | self.shown | self.nullable | self.inner | self.last_aggregate
        )
        """Columns whose value in a row depends on what the row has to do."""

    def _conditions(self) -> dict[str, list[Condition]]:
        found: dict[str, list[Condition]] = {}
        for group in self.groups:
            for condition in group:
                if condition.values or condition.operator == "IS NULL":
                    found.setdefault(condition.column, []).append(condition)
        return found

    def _near(self) -> dict[str, list[Value]]:
        found: dict[str, list[Value]] = {}
        for select in self.selects:
            for condition in select.having:
                if condition.aggregate != "COUNT":
                    near = found.setdefault(condition.column, [])
                    near += condition.values
                    if condition.aggregate == "SUM":
                        # Two rows, or three, that come to the literal.
                        sums = [value for value in condition.values if not isinstance(value, str)]
                        near += [_part(value, number) for value in sums for number in (2, 3)]
        return found

    def _shown(self) -> set[str]:
        query = self.query
        found = {
            i.column for s in self.selects for i in s.select if i.aggregate in ("MIN", "MAX") or s.distinct
        }
        if query.compound is not None:
            found |= {item.column for item in query.select}
        if query.limit and self.keys:
            found.add(self.keys[0])
        return found

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
        names: set[str] = set(self.keys[:-1])
        # Several rows have to share the largest value, or one row would be all there is to see; a last sort key
        # may not repeat.
        names |= self.extreme - set(self.keys[-1:])
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
        names = set() if self.query.group_by or self.query.distinct else set(self.keys[-1:])
        return (names | self.numbered) - self.narrow

    def _nullable(self) -> set[str]:
        """Counted columns and those tested for NULL, unless their order matters: engines sort NULL differently."""
        names = {c.column for g in self.groups for c in g if c.operator == "IS NULL"}
        for select in self.selects:
            names |= {item.column for item in select.select if item.aggregate == "COUNT"}
            names |= {c.column for c in select.having if c.aggregate == "COUNT"}
        others = {i.column for s in self.selects for i in s.select if i.aggregate not in (None, "COUNT")}
        # A sort key is one of the last two.
        return names - others - self.narrow - self.wide

    def _links(self) -> list[tuple[str, str]]:
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


def _part(value: float, number: int) -> Value:
    return value // number if isinstance(value, int) else int(value / number) + 0.5


def _selects(query: Query) -> list[Select]:
    found: list[Select] = [query]
    if query.cte is not None:
        found.append(query.cte.select)
    if query.compound is not None:
        found.append(query.compound.select)
    for select in list(found):
        found += [c.subquery for group in select.where for c in group if c.subquery is not None]
    return found
