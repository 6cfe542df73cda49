"""Query -> one filled database, in which rows pass and miss its conditions by little and tie on its keys."""

from __future__ import annotations

from random import Random

from data_gen.query import Query
from data_gen.run.database import INDEX, Database
from data_gen.run.plan import Aim, Plan
from data_gen.run.sqlite import Row
from data_gen.run.values import Cell, Pool, make_pool, rare_values
from data_gen.schema import Column, Table

PASSING = 3
"""Rows that pass every condition in any case."""
PASS_SHARE, MISS_SHARE = 0.6, 0.3
"""Share of the other rows that pass every condition, and that miss exactly one; the rest is random."""
INNER_MISSING = 0.75
"""Share of rows outside the filter of a scalar subquery, so that few rows set the mark and others pass it."""
TIED = 0.5
"""Share of tables with a group that ties with another on the first sort keys."""
SPARED = 0.5
"""Share of fills for a set operation in which one row alone stands out."""
REPEATED = 0.7
"""Share of tables with a row that occurs twice."""
OTHERS, WIDE_OTHERS = 12, 64
"""Values of a column besides those at literals; more where no value may repeat."""
LAST = 2
"""Values that a column keeps in which none may repeat: of one alone, as probes would leave of a BOOLEAN, nobody
could tell how it is sorted."""
EARLY = 4
"""Values at the head of a pool, those at literals, that half of all cells take."""
CALM_FROM = 24
"""Candidates from this number on are made to settle the order of groups, whatever mistakes they show; before
it every other one."""
SIZES = (1.0, 1.0, 2.0, 0.5, 1.0, 3.0, 1.0)
"""Numbers of rows of the candidates, as multiples of a dozen."""
NULLS, DANGLING = 0.25, 0.1
"""Share of NULLs in a column that may have them, and of foreign keys that refer to no row."""
_PASS = Aim()


def fill(query: Query, seed: int) -> Database:
    """Candidate number `seed` for the databases of `query`: a pure function of (query, seed)."""
    return fill_as_planned(Plan(query), seed)


def fill_as_planned(plan: Plan, seed: int) -> Database:
    """`fill` for a query whose plan is there already."""
    query = plan.query
    filling = _Filling(plan, seed)
    parents = set(plan.links.values())
    # Parents first, so that a foreign key finds its rows.
    for table in sorted(query.schema.tables, key=lambda one: one.name not in parents):
        filling.fill_table(table, is_parent=table.name in parents)
    rows = tuple(filling.rows[table.name] for table in query.schema.tables)
    return Database(query.schema, rows, _index(query, ("", "DESC", "ASC")[seed % 3]))


def _index(query: Query, direction: str) -> str | None:
    """An index in whose direction SQLite forms groups; by itself it would always sort them one way."""
    names = [ref.column for ref in query.group_by]
    if query.distinct:
        names = [item.column for item in query.select]
    source = query.cte.select.table if query.cte else query.table
    read = {source, *(join.table for join in query.joins)}
    for table in query.schema.tables if names and direction else ():
        columns = [column.name for column in table.columns]
        if table.name in read and set(names) <= set(columns):
            keys = [f"{name} {direction}" for name in names] + [name for name in columns if name not in names]
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
        if plan.extreme and self.rng.random() < 0.5:
            # One row that stood out would be the only one in the answer, or none would.
            self.shown = self.shown - plan.extreme
        # Of two values, as a BOOLEAN has them, one row alone has the second: whatever adds or drops it shows.
        self.spares = plan.query.compound is not None and self.rng.random() < SPARED
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
        probes = self._some_probes()
        aims = [self._aim(passing=number < PASSING) for number in range(self.count - len(probes))]
        made = self._rows(probes + aims)
        self.passing = made[len(probes) : len(probes) + PASSING]
        own_keys = [key for key in plan.keys if key in self.places]
        if own_keys and not plan.query.group_by:
            made += self._ties(own_keys)
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
        if self.spares and len(pool.good) == 2:
            usual, rare = pool.good[:1], pool.good[1:]
            pool = Pool(usual, pool.bad if name in plan.conditions else usual)
        return pool._replace(rare=tuple(rare))

    def _some_probes(self) -> list[Aim]:
        """As many as half of the rows hold, others in each fill; one that passes stands out too."""
        probes = [aim for aim in self.plan.probes if aim.forced and aim.forced[0] in self.places]
        if not probes:
            return []
        count = min(len(probes), self.count // 2)
        start = self.seed * count % len(probes)
        some = (probes + probes)[start : start + count]
        if self.spares:
            chosen = self.rng.randrange(count)
            return [aim._replace(stands_out=place == chosen) for place, aim in enumerate(some)]
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

    def _aim(self, *, passing: bool) -> Aim:
        """To pass every condition, or (not `passing`) perhaps to miss one, or to be random."""
        plan, rng = self.plan, self.rng
        if not plan.groups:
            return _PASS
        chance = 0.0 if passing else rng.random()
        missed: set[str] = set()
        for group in plan.groups:
            if len(group) > 1 and (passing or rng.random() < 0.8):
                # One operand of an OR alone decides.
                missed |= {condition.column for condition in group} - {rng.choice(group).column}
        fails = bool(self.groups) and PASS_SHARE < chance < PASS_SHARE + MISS_SHARE
        if fails:
            missed |= {condition.column for condition in rng.choice(self.groups)}
        at_random = chance > PASS_SHARE + MISS_SHARE or plan.query.compound is not None
        return Aim(frozenset(missed), fails, at_random)

    def _rows(self, aims: list[Aim]) -> list[list[Cell]]:
        columns = [self._cells(column, aims) for column in self.table.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def _cells(self, column: Column, aims: list[Aim]) -> list[Cell]:
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

    def _cell(self, name: str, pool: Pool, aim: Aim) -> Cell:
        random, plan = self.rng.random, self.plan
        values = pool.good
        if aim.forced is not None and aim.forced[0] == name:
            value = aim.forced[1]
            if name in self.wide and len(values) > LAST and value in values:
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
        # In a wide column no value comes twice, as long as there are more.
        return values.pop(place) if name in self.wide and len(values) > LAST else values[place]

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

    def _ties(self, keys: list[str]) -> list[list[Cell]]:
        """For each key but the first a row that ties with an earlier one on all keys before it."""
        places, plan = self.places, self.plan
        links = [places[key] for key in plan.links if key in places]
        # Both rows pass an OR by the same operand; but it may be the one column of the answer that is no sort key.
        operands = [places[name] for name in sorted(plan.operands & places.keys() - set(keys))]
        compared = [places[name] for name in sorted(plan.compared & places.keys() - set(keys))]
        new = self._rows([self._aim(passing=True) for _ in keys[1:]])
        for number, row in enumerate(new):
            base = self.rng.choice(self.passing + new[max(number - 1, 0) : number])
            shared = operands if self.rng.random() < 0.5 else []
            for place in (*[places[key] for key in keys[: number + 1]], *shared, *compared, *links):
                row[place] = base[place]
        return new

    def _tie_groups(self, made: list[list[Cell]]) -> list[list[Cell]]:
        """The rows with those of one group twice, under two names: the two tie on the first sort keys or more."""
        rng, plan, places = self.rng, self.plan, self.places
        length = rng.randrange(1, len(plan.keys))
        names = [ref.column for ref in plan.query.group_by if ref.column in places]
        free = [name for name in names if name not in plan.keys[:length] and name in self.pools]
        if not free:
            return made
        base, name = self.passing[0], rng.choice(free)
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
