"""Query -> one filled database, in which rows pass and miss its conditions by little and tie on its keys."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from data_gen.query import Condition, Query, Select, Value
from data_gen.run.database import INDEX, Database
from data_gen.run.sqlite import Row
from data_gen.run.values import Cell, Pool, make_pool, meets, near_misses, rare_values
from data_gen.schema import Column, Table
from data_gen.seeding import stable_hash
from data_gen.vocabulary.lexicon import LEXICONS

PASSING, MISSING = 0.6, 0.3
"""Share of rows that pass every condition, and of rows that miss exactly one; the others are random."""
INNER_MISSING = 0.75
"""Share of rows outside the filter of a scalar subquery, so that few rows set the mark and others pass it."""
TIED = 0.5
"""Share of tables with a group that ties with another on the first sort keys."""
REPEATED = 0.7
"""Share of tables with a row that occurs twice."""
OTHERS, WIDE_OTHERS = 12, 64
"""Values of a column besides those at literals; more where no value may repeat."""
EARLY = 4
"""Values at the head of a pool, those at literals, that half of all cells take."""
CALM_FROM = 24
"""Candidates from this number on are made to settle the order of groups, whatever mistakes they show; before
it every other one."""
SIZES = (1.0, 1.0, 2.0, 0.5, 1.0, 3.0, 1.0)
"""Numbers of rows of the candidates, as multiples of a dozen."""
NULLS, DANGLING = 0.25, 0.1
"""Share of NULLs in a column that may have them, and of foreign keys that refer to no row."""


def fill(query: Query, seed: int) -> Database:
    """Candidate number `seed` for the databases of `query`: a pure function of (query, seed)."""
    return Plan(query).fill(seed)


class _Aim(NamedTuple):
    """What one row is to show."""

    missed: frozenset[str] = frozenset()
    """Columns whose conditions it misses."""
    stands_out: bool = False
    """Whether it would be the largest or smallest, or come first, because it misses one condition, or might."""
    at_random: bool = False
    """Whether any column may miss."""
    forced: tuple[str, Cell] | None = None
    """A column and its value."""


_PASSING = _Aim()


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
        if query.limit:
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

    def _probes(self) -> list[_Aim]:
        found = []
        for group in self.groups:
            for condition in group:
                name = condition.column
                if name in self.inner or condition.operator == "LIKE":
                    continue
                # The other operands of an OR miss.
                missed = frozenset([other.column for other in group]) - {name}
                for value in dict.fromkeys(near_misses(condition.values)):
                    fails = not all(meets(one, value) for one in self.conditions[name])
                    found.append(_Aim(missed, fails, forced=(name, value)))
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
        names = set() if self.query.group_by or self.query.distinct else set(self.keys[-1:])
        return (names | self.numbered) - self.narrow

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

    def fill(self, seed: int) -> Database:
        """Candidate number `seed`."""
        filling = _Filling(self, seed)
        parents = set(self.links.values())
        # Parents first, so that a foreign key finds its rows.
        for table in sorted(self.query.schema.tables, key=lambda one: one.name not in parents):
            filling.fill_table(table, is_parent=table.name in parents)
        rows = tuple(filling.rows[table.name] for table in self.query.schema.tables)
        return Database(self.query.schema, rows, self._index(("", "DESC", "ASC")[seed % 3]))

    def _index(self, direction: str) -> str | None:
        """An index in whose direction SQLite forms groups; by itself it would always sort them one way."""
        query = self.query
        names = [ref.column for ref in query.group_by]
        if query.distinct:
            names = [item.column for item in query.select]
        for table in query.schema.tables if names and direction else ():
            columns = [column.name for column in table.columns]
            if set(names) <= set(columns):
                keys = [f"{name} {direction}" for name in names] + [
                    name for name in columns if name not in names
                ]
                return f"CREATE INDEX {INDEX} ON {table.name} ({', '.join(keys)})"
        return None


class _Filling:
    """One candidate in the making: its random numbers, and the rows of the tables that are done."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self.rng = plan, seed, Random(plan.hash + seed)
        self.size, calm = SIZES[seed % len(SIZES)], seed % 2 == 1 or seed >= CALM_FROM
        # Groups that are sorted by one aggregate alone may tie again and again, until its column repeats nothing.
        self.wide = plan.wide | plan.last_aggregate if calm else plan.wide
        self.shown = plan.shown - plan.last_aggregate if calm else plan.shown
        self.repeats = not (calm and plan.last_aggregate) and not plan.numbered
        self.rows: dict[str, tuple[Row, ...]] = {}

    def fill_table(self, table: Table, *, is_parent: bool) -> None:
        """Make the rows of `table`."""
        rng, plan = self.rng, self.plan
        is_small = is_parent and len(plan.query.schema.tables) > 1
        self.table = table
        self.count = int(self.size * (rng.randint(5, 7) if is_small else rng.randint(9, 13)))
        self.places = {column.name: place for place, column in enumerate(table.columns)}
        self.groups = [group for group in plan.groups if any(c.column in self.places for c in group)]
        self.pools = {column.name: self._pool(column) for column in table.columns if not self._is_key(column)}
        # Before the others, as they take their values out of wide columns.
        aims = self._some_probes()
        aims += [self._aim(passing=number < 3) for number in range(self.count - len(aims))]
        made = self._rows(aims)
        own_keys = [key for key in plan.keys if key in self.places]
        if own_keys and not plan.query.group_by:
            made += self._ties(made, own_keys)
        if len(plan.keys) > 1 and plan.query.group_by and rng.random() < TIED:
            made = self._tie_groups(made)
        self._balance(made)
        if self.repeats and rng.random() < REPEATED:
            # A row that occurs twice but for its id, so that DISTINCT changes the answer.
            made.append(list(rng.choice(made)))
        rng.shuffle(made)
        if "id" in self.places:
            for row, number in zip(made, rng.sample(range(1, len(made) + 1), len(made)), strict=True):
                row[self.places["id"]] = number
        self.rows[table.name] = tuple([tuple(row) for row in made])

    def _is_key(self, column: Column) -> bool:
        return column.name == "id" or column.name in self.plan.links or column.references is not None

    def _pool(self, column: Column) -> Pool:
        plan, rng, name = self.plan, self.rng, column.name
        conditions = plan.conditions.get(name, [])
        others = WIDE_OTHERS if name in self.wide else OTHERS
        pool = make_pool(rng, column, conditions, plan.near.get(name, ()), plan.words, others)
        rare = self._rare(name, pool) if name in self.shown else []
        if name not in self.wide and rng.random() <= (0.85 if name in plan.narrow else 0.4):
            # Few enough groups to have several rows each, and more of them than LIMIT lets through.
            several, limit = len(plan.query.group_by) > 1, plan.query.limit
            size = 2 if len(plan.query.group_by) > 2 else rng.choice((2, 2, 3, 4))
            size += 1 if several and limit else limit or 0
            pool = Pool(pool.good[:size], pool.bad[: size + 1])
        return pool._replace(rare=tuple(rare))

    def _some_probes(self) -> list[_Aim]:
        """As many as half of the rows hold, others in each fill; one that passes stands out too."""
        probes = [aim for aim in self.plan.probes if aim.forced and aim.forced[0] in self.places]
        if not probes:
            return []
        count = min(len(probes), self.count // 2)
        start = self.seed * count % len(probes)
        some = (probes + probes)[start : start + count]
        passing = [place for place, aim in enumerate(some) if not aim.stands_out]
        if passing:
            place = passing[self.seed % len(passing)]
            some[place] = some[place]._replace(stands_out=True)
        return some

    def _rare(self, name: str, pool: Pool) -> list[Cell]:
        plan = self.plan
        if plan.query.compound is not None:
            # Behind those that other rows take.
            return pool.good[2 * EARLY :] or pool.good
        rare = rare_values(pool.good, plan.conditions.get(name, ()))
        if plan.query.limit and name == plan.keys[0]:
            return rare[:1] if plan.query.order_by[0].direction == "ASC" else rare[-1:]
        return rare

    def _aim(self, *, passing: bool) -> _Aim:
        """To pass every condition, or (not `passing`) perhaps to miss one, or to be random."""
        plan, rng = self.plan, self.rng
        if not plan.groups:
            return _PASSING
        chance = 0.0 if passing else rng.random()
        missed: set[str] = set()
        for group in plan.groups:
            if len(group) > 1 and (passing or rng.random() < 0.8):
                # One operand of an OR alone decides.
                missed |= {condition.column for condition in group} - {rng.choice(group).column}
        fails = bool(self.groups) and PASSING < chance < PASSING + MISSING
        if fails:
            missed |= {condition.column for condition in rng.choice(self.groups)}
        at_random = chance > PASSING + MISSING or plan.query.compound is not None
        return _Aim(frozenset(missed), fails, at_random)

    def _rows(self, aims: list[_Aim]) -> list[list[Cell]]:
        columns = [self._cells(column, aims) for column in self.table.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def _cells(self, column: Column, aims: list[_Aim]) -> list[Cell]:
        """The values of one column in rows with these aims."""
        name = column.name
        if name == "id":
            return [0] * len(aims)
        if self._is_key(column):
            return [self._reference(column) for _ in aims]
        pool = self.pools[name]
        if name in self.plan.bound:
            return [self._cell(name, pool, aim) for aim in aims]
        # Half of them among the first, as in `_cell`.
        random, values = self.rng.random, pool.good
        values = values[:EARLY] * (len(values) // EARLY) + values
        size = len(values)
        return [values[int(random() * size)] for _ in aims]

    def _cell(self, name: str, pool: Pool, aim: _Aim) -> Cell:
        random, plan = self.rng.random, self.plan
        values = pool.good
        if aim.forced is not None and aim.forced[0] == name:
            value = aim.forced[1]
            if name in self.wide and len(values) > 1 and value in values:
                values.remove(value)
            return value
        if name in self.shown and name not in aim.missed and (aim.stands_out or self._is_rare()):
            # A row that is left out shows best where it would be the largest, the smallest, or new.
            return self.rng.choice(pool.rare)
        is_bad = name in aim.missed or (aim.at_random and random() < 0.5)
        if name in plan.inner:
            is_bad = random() < INNER_MISSING
        if name in plan.nullable and random() < NULLS:
            return None
        values = pool.bad if is_bad else pool.good
        # The first values are those at the literals.
        place = int(random() * (len(values) if random() < 0.5 else min(EARLY, len(values))))
        # In a wide column no value comes twice.
        return values.pop(place) if name in self.wide and len(values) > 1 else values[place]

    def _is_rare(self) -> bool:
        """In a join it may be the partner that fails, and the row that would show it is another's."""
        return bool(self.plan.query.joins) and self.rng.random() < NULLS

    def _reference(self, column: Column) -> Cell:
        rng, parent = self.rng, self.plan.links.get(column.name) or column.references
        assert parent is not None
        known = self.count if parent == self.table.name else len(self.rows.get(parent, ()))
        chance = rng.random()
        if chance < DANGLING:
            return None
        if chance < 2 * DANGLING and column.references is None:
            return known + rng.randint(3, 9)
        # Some parents are left without children.
        return rng.randint(1, max(1, known - rng.randint(0, 2)))

    def _ties(self, made: list[list[Cell]], keys: list[str]) -> list[list[Cell]]:
        """For each key but the first a row that ties with an earlier one on all keys before it."""
        places, plan = self.places, self.plan
        links = [places[key] for key in plan.links if key in places]
        tested = [places[name] for name in plan.conditions if name in places and name not in keys]
        new: list[list[Cell]] = []
        for length in range(1, len(keys)):
            base = self.rng.choice(made[:3] + new[-1:])
            (row,) = self._rows([self._aim(passing=True)])
            for place in (*[places[key] for key in keys[:length]], *tested, *links):
                row[place] = base[place]
            new.append(row)
        return new

    def _tie_groups(self, made: list[list[Cell]]) -> list[list[Cell]]:
        """The rows with those of one group twice, under two names: the two tie on the first sort keys or more."""
        rng, plan, places = self.rng, self.plan, self.places
        length = rng.randrange(1, len(plan.keys))
        names = [ref.column for ref in plan.query.group_by if ref.column in places]
        free = [name for name in names if name not in plan.keys[:length] and name in self.pools]
        if not free:
            return made
        base, name = made[0], rng.choice(free)
        others = [value for value in self.pools[name].good if value not in (base[places[name]], None)]
        if not others:
            return made
        old, new = [base[places[one]] for one in names], rng.choice(others)
        turned = [new if one == name else value for one, value in zip(names, old, strict=True)]
        copies = [list(row) for row in made if [row[places[one]] for one in names] == old]
        later = [i for i in plan.query.select if i.alias in plan.keys[length:] and i.column in self.pools]
        for number, row in enumerate(copies):
            row[places[name]] = new
            for item in later:
                if item.aggregate != "COUNT":
                    row[places[item.column]] = rng.choice(self.pools[item.column].good)
                elif number == 0 and item.column in plan.nullable:
                    row[places[item.column]] = None
        return [row for row in made if [row[places[one]] for one in names] != turned] + copies

    def _balance(self, made: list[list[Cell]]) -> None:
        """Make some value the very mean of a column that is compared with its own mean."""
        rng = self.rng
        for name in sorted(self.plan.balanced & self.places.keys()):
            centre = rng.randint(20, 80)
            steps = [rng.randint(1, 15) for _ in range(len(made) // 2)]
            values = [centre + step for step in steps] + [centre - step for step in steps]
            values += [centre] * (len(made) - len(values))
            if rng.random() < 0.7:
                values[0] = values[len(steps)] = centre
            rng.shuffle(values)
            for row, value in zip(made, values, strict=True):
                row[self.places[name]] = value


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
