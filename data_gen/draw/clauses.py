"""Random numbers + columns at hand -> one clause at a time: items, conditions, groups, keys."""

from __future__ import annotations

from collections.abc import Set

from data_gen.config import DataConfig
from data_gen.draw.at_hand import SUITING as SUITING
from data_gen.draw.at_hand import At, at_hand
from data_gen.draw.schemas import Drawn, between, pick, sample
from data_gen.query import (
    CommandSet,
    Comparison,
    Condition,
    Operator,
    OrderBy,
    SelectItem,
    Value,
)
from data_gen.schema import KINDS, SQL_TYPES, WHOLE, Column, Kind, SqlType
from data_gen.seeding import Draws
from data_gen.vocabulary.lexicon import LEXICONS

ORDERED_SHARE = 0.9
"""Share of queries with ORDER BY, in the command sets that have it, where rows or groups are there to sort.

One row needs no order, and set operations and windows have none; `docs/data.md` has the measured share of each set.
"""
FILTERED_SHARE = 0.8
"""Share of plain and joined queries with WHERE, as published; with a subquery, WITH or a window it is another."""
AGGREGATED_SHARE = 0.6
"""Share of plain and joined queries with an aggregate, where there are two columns; no other form has aggregates."""
LIKE_SHARE = 0.6
"""Share of conditions on a text that are LIKE; the others are equalities."""
MOST_CONDITIONS = 3
CLOSEST = 15
"""Least distance of the bounds of BETWEEN for a number that has to vary."""
FIRST_YEAR, LAST_YEAR = 2000, 2023
"""Years of date literals, as published."""
MOST_GROUPS = 3
"""Most columns of GROUP BY; with more, hardly two rows would fall into one group."""
MOST_AGGREGATES = 3
MOST_KEYS = 3
"""Most sort keys of a query of several tables, of groups, or with LIMIT: few rows are left to show more.

Groups may tie on a count that is the last key; then the columns of GROUP BY that are no keys yet follow as well.
"""

ORDERED_COMPARISONS: tuple[Comparison, ...] = ("=", ">", "<", ">=", "<=")
LOGIC_ATTEMPTS = 64
"""Draws of a WHERE after which no column is taken to suit the set's skills of logic."""
LOGIC = frozenset({"or", "not", "in", "between", "null", "like"})
"""Skills that are ways to write a condition."""
SPECIAL = ("in", "between", "null")
LITERALS: dict[SqlType, tuple[Value, ...]] = {
    kind: {
        # Halves are exact in single precision too, which some engines mean by REAL.
        "number": tuple([n if kind in WHOLE else n + 0.5 for n in range(1, 101)]),
        "date": tuple(
            [f"{y}-{m:02d}-{d:02d}" for y in range(2000, 2024) for m in range(1, 13) for d in range(1, 29)]
        ),
        "boolean": (False, True),
        "text": (),
    }[KINDS[kind]]
    for kind in SQL_TYPES
}
"""Type -> the literals of it; texts are words of the lexicon."""
_LETTERS = tuple("aeiorstnlm")
ANYWHERE = tuple([f"%{letter}%" for letter in _LETTERS])
_SYLLABLES = ("an", "ar", "er", "in", "on", "ta", "ri", "le")


class Draft:
    """What the clauses of one query are drawn from."""

    def __init__(self, rng: Draws, config: DataConfig, skills: CommandSet, drawn: Drawn) -> None:
        self.rng, self.config, self.drawn = rng, config, drawn
        self.random = rng.random
        self.command_set, self.skills = skills.name, skills.skills
        self.words = LEXICONS[config.lexicon]
        self.logical = not LOGIC.isdisjoint(skills.skills)
        self.hands: dict[str, list[At]] = {}
        """Table, or alias -> its columns, as far as they are at hand."""

    def chance(self, share: float) -> bool:
        """True in `share` of all rows."""
        return self.random() < share

    def is_ordered(self, *, always: bool = False) -> bool:
        """Whether the query has ORDER BY: never without the skill, else in most rows or `always`."""
        return "order_by" in self.skills and (always or self.random() < ORDERED_SHARE)

    def columns(self, table: str, qualifier: str | None = None) -> list[At]:
        """The columns of a table that people ask about: all but its keys."""
        found = self.drawn.asked.get(table)
        if found is None:
            keys = {"id", *[link.key for link in self.drawn.links]}
            columns = self.drawn.schema.table(table).columns
            found = [at_hand(column) for column in columns if column.name not in keys]
        if qualifier is not None:
            found = [at_hand(one.column, qualifier) for one in found]
        self.hands[qualifier or table] = found
        return found

    def beside(self, at: At) -> list[At]:
        """The columns of the table, or alias, that a column belongs to."""
        return next(hand for hand in self.hands.values() if at in hand)

    def items(self, at: list[At], most: int | None = None) -> list[SelectItem]:
        """Some of the columns, in random order."""
        count = 1 + int(self.random() * min(len(at), most or len(at)))
        return [SelectItem(one.name, one.table) for one in sample(self.rng, at, count)]

    def aggregates(self, at: list[At]) -> list[SelectItem]:
        """One to `MOST_AGGREGATES` aggregates of different columns."""
        some = sample(self.rng, at, between(self.rng, 1, min(len(at), MOST_AGGREGATES)))
        return [self.aggregate(one) for one in some]

    def aggregate(self, at: At) -> SelectItem:
        """An aggregate that suits the column; its alias is the published one, `SUM_price`."""
        function = pick(self.rng, SUITING[at.kind])
        return SelectItem(at.name, at.table, function, alias=f"{function}_{at.name}")

    def keys(
        self, at: list[At], items: list[SelectItem], *, most: int | None = None, many: str | None = None
    ) -> tuple[OrderBy, ...]:
        """Sort keys of any columns, each with its own direction; `many`: the table on the many side of a join.

        A key need not be selected. Once every selected column is a key, rows that tie look the same, so a
        further key would change nothing and is left out. Before that, the last key is one whose values can all
        differ, because what ties on every key has no order: not a yes or no, nor a column of a joined row that
        several rows share. None if the set has no ORDER BY.
        """
        if "order_by" not in self.skills:
            return ()
        random = self.random
        limit = min(len(at), most or len(at), self.config.max_keys or len(at))
        unseen = {(item.column, item.table) for item in items}
        chosen: list[At] = []
        for one in sample(self.rng, at, 1 + int(random() * limit)):
            chosen.append(one)
            unseen.discard((one.name, one.table))
            if not unseen:
                break
        if unseen and not self._spreads(chosen[-1], many):
            last = next((one for one in (*chosen, *at) if self._spreads(one, many)), None)
            if last is None:
                return ()
            chosen = [*[one for one in chosen if one != last][: limit - 1], last]
        return tuple([OrderBy(one.name, "ASC" if random() < 0.5 else "DESC", one.table) for one in chosen])

    def _spreads(self, at: At, many: str | None) -> bool:
        return at.kind != "boolean" and (many is None or at in self.hands[many])

    def group_keys(self, items: list[SelectItem], most: int) -> tuple[OrderBy, ...]:
        """Sort keys of groups: selected items, among them all bare ones, or at last an aggregate of values."""
        rng = self.rng
        unseen = [item for item in items if item.aggregate is None]
        chosen: list[SelectItem] = []
        for item in sample(rng, items, between(rng, 1, min(len(items), most))):
            chosen.append(item)
            unseen = [one for one in unseen if one != item]
            if not unseen:
                break
        # Groups often tie on a count.
        if unseen and chosen[-1].aggregate in (None, "COUNT"):
            last = next((item for item in chosen if item.aggregate not in (None, "COUNT")), None)
            chosen = [*chosen, *unseen] if last is None else [*[one for one in chosen if one != last], last]
        return self.output_keys(chosen)

    def output_keys(self, items: list[SelectItem]) -> tuple[OrderBy, ...]:
        """The selected items as sort keys, in this order; none if that is more than there may be."""
        if len(items) > (self.config.max_keys or len(items)):
            return ()
        random = self.random
        return tuple(
            [
                OrderBy(i.output, "ASC" if random() < 0.5 else "DESC", None if i.alias else i.table)
                for i in items
            ]
        )

    def where(
        self, at: list[At], most: int = MOST_CONDITIONS, varying: Set[str] = frozenset()
    ) -> tuple[tuple[Condition, ...], ...]:
        """One to `most` conditions on different columns; OR groups where the set has OR.

        The columns `varying` (sort keys, groups, arguments of aggregates) get no condition that leaves them one
        value, and a set with skills of logic shows one of them wherever a column at hand suits it. Empty if no
        column is left.
        """
        free = [one for one in at if one.kind != "boolean" or one.name not in varying]
        if not free:
            return ()
        for _ in range(LOGIC_ATTEMPTS):
            count = 1 + int(self.random() * min(most, len(free)))
            some = sample(self.rng, free, count)
            conditions = [self.condition(one, varies=one.name in varying) for one in some]
            groups = self._groups(conditions)
            if not self.logical or len(groups) < count or any(map(_is_logical, conditions)):
                break
        return groups

    def _groups(self, conditions: list[Condition]) -> tuple[tuple[Condition, ...], ...]:
        if "or" not in self.skills or len(conditions) == 1 or not self.chance(0.6):
            return tuple(zip(conditions, strict=True))
        if len(conditions) == 2:
            return (tuple(conditions),)
        pair, single = tuple(conditions[:2]), (conditions[2],)
        return (pair, single) if self.chance(0.5) else (single, pair)

    def condition(self, at: At, *, varies: bool = False) -> Condition:
        """A condition that suits the column's kind and the set's skills; `varies`: not one for a single value."""
        name, table, kind, skills = at.name, at.table, at.kind, self.skills
        special, negated = None, False
        if self.logical:
            special_ones = ("between",) if varies else SPECIAL
            options = [op for op in special_ones if op in skills and _suits(op, kind)]
            negated = "not" in skills and self.chance(0.35)
            special = pick(self.rng, tuple(options)) if options and self.chance(0.6) else None
        if special == "null":
            return Condition(column=name, table=table, operator="IS NULL", negated=negated)
        if special is not None:
            values = tuple(dict.fromkeys([self.value(at.column) for _ in range(between(self.rng, 2, 3))]))
            if special == "between":
                values = tuple(sorted(values[:2]))
                if varies and len(values) == 2:
                    values = _apart(*values)
            if len(values) > 1:
                operator: Operator = "IN" if special == "in" else "BETWEEN"
                return Condition(column=name, table=table, operator=operator, values=values, negated=negated)
        if kind == "text" and (varies or self.chance(LIKE_SHARE)):
            return Condition(
                column=name, table=table, operator="LIKE", values=(self.like(),), negated=negated
            )
        operator = "="
        if kind in ("number", "date"):
            operator = pick(self.rng, ORDERED_COMPARISONS[varies:])
        if negated and operator == "=" and kind != "boolean":
            operator = "<>"
        return Condition(column=name, table=table, operator=operator, values=(self.value(at.column),))

    def like(self) -> str:
        """A pattern: one letter anywhere, as published; with `like` also a syllable at one end."""
        if "like" in self.skills and self.chance(0.6):
            letters = pick(self.rng, _SYLLABLES if self.chance(0.5) else _LETTERS)
            return f"{letters}%" if self.chance(0.5) else f"%{letters}"
        return pick(self.rng, ANYWHERE)

    def value(self, column: Column) -> Value:
        """A literal of the column's type: whole numbers 1 to 100, halves, days of 2000 to 2023, a word."""
        return pick(self.rng, LITERALS[column.type] or self.words.values)


def _apart(low: Value, high: Value) -> tuple[Value, Value]:
    """The bounds far enough apart for a dozen different values between them, which a sort key needs."""
    if isinstance(low, int | float) and isinstance(high, int | float):
        return low, max(high, low + CLOSEST)
    low, high = str(low), str(high)
    if low[:4] != high[:4]:
        return low, high
    year = int(low[:4])
    return (low, f"{year + 1}{high[4:]}") if year < LAST_YEAR else (f"{year - 1}{low[4:]}", high)


def _is_logical(condition: Condition) -> bool:
    fixed = condition.operator == "LIKE" and not str(condition.values[0]).startswith("%")
    end = condition.operator == "LIKE" and not str(condition.values[0]).endswith("%")
    return condition.negated or condition.operator in ("IN", "BETWEEN", "IS NULL", "<>") or fixed or end


def _suits(special: str, kind: Kind) -> bool:
    return special == "null" or (kind in ("number", "date") if special == "between" else kind != "boolean")
