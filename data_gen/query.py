"""Typed query -> SQL and English: the one source of truth that both are written from, and its command sets."""

from __future__ import annotations

import re
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from data_gen.errors import InputError, nearest
from data_gen.schema import Schema

Direction = Literal["ASC", "DESC"]
AggregateFunction = Literal["SUM", "AVG", "MIN", "MAX", "COUNT"]
WindowFunction = Literal["ROW_NUMBER", "RANK", "SUM"]
Comparison = Literal["=", "<>", ">", "<", ">=", "<="]
Operator = Literal["=", "<>", ">", "<", ">=", "<=", "LIKE", "IN", "BETWEEN", "IS NULL", "EXISTS"]
JoinKind = Literal["INNER", "LEFT", "CROSS"]
SetOperator = Literal["UNION", "EXCEPT", "INTERSECT"]
Value = bool | int | float | str
"""A literal; dates are ISO text."""

AGGREGATES: tuple[AggregateFunction, ...] = get_args(AggregateFunction)
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


class ColumnRef(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A column as it is written: perhaps behind the name or alias of its table."""

    column: str
    table: str | None = None


class OrderBy(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One sort key with its own direction; `column` may also be the alias of a selected item."""

    column: str
    direction: Direction
    table: str | None = None


class Window(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`function(column) OVER (PARTITION BY ... ORDER BY ...)`."""

    function: WindowFunction
    order_by: tuple[OrderBy, ...]
    partition_by: tuple[ColumnRef, ...] = ()


class SelectItem(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is selected: a column, an aggregate of one, or a window function; `*` for COUNT(*), `1` for EXISTS."""

    column: str
    table: str | None = None
    aggregate: AggregateFunction | None = None
    window: Window | None = None
    alias: str | None = None

    @property
    def output(self) -> str:
        """The name under which ORDER BY knows it."""
        return self.alias or self.column


class Condition(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One comparison of WHERE or HAVING, with values, another column, or a subquery on its right."""

    column: str = ""
    """Empty for EXISTS; `*` for COUNT(*)."""
    operator: Operator
    values: tuple[Value, ...] = ()
    """One for a comparison or LIKE, two for BETWEEN, several for IN."""
    negated: bool = False
    """NOT LIKE, NOT IN, NOT BETWEEN, IS NOT NULL, NOT EXISTS."""
    table: str | None = None
    aggregate: AggregateFunction | None = None
    """In HAVING."""
    other: ColumnRef | None = None
    subquery: Select | None = None


class Join(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """`JOIN table AS alias ON left = right`."""

    table: str
    kind: JoinKind = "INNER"
    alias: str | None = None
    left: ColumnRef | None = None
    """None on both sides for a CROSS JOIN, which only a wrong answer has."""
    right: ColumnRef | None = None


class Select(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One SELECT: what a query is, and what stands inside another one."""

    select: tuple[SelectItem, ...]
    table: str
    distinct: bool = False
    joins: tuple[Join, ...] = ()
    where: tuple[tuple[Condition, ...], ...] = ()
    """AND of groups, each of which is an OR of conditions."""
    group_by: tuple[ColumnRef, ...] = ()
    having: tuple[Condition, ...] = ()
    order_by: tuple[OrderBy, ...] = ()
    limit: int | None = None


class Cte(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`WITH name AS (select)`."""

    name: str
    select: Select


class Compound(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`... UNION select`."""

    operator: SetOperator
    select: Select


class Query(Select, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked: a SELECT over a schema, perhaps behind a CTE, perhaps combined with a second one."""

    command_set: str
    schema: Schema
    cte: Cte | None = None
    compound: Compound | None = None

    def to_json(self) -> str:
        """One line of JSON from which `from_json` builds an equal query."""
        return _ENCODER.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Query:
        """The query that `to_json` wrote.

        Raises:
            InputError: the text is not such JSON.
        """
        try:
            query = _DECODER.decode(text)
            query.schema.check()
            command_set(query.command_set)
        except (msgspec.DecodeError, InputError, RecursionError, UnicodeEncodeError) as error:
            reason = error.message if isinstance(error, InputError) else error
            raise InputError(
                f"not the JSON of a query: {reason}", hint="write it with `Query.to_json`"
            ) from error
        return query


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Query)

SKILLS: dict[str, str] = {
    "order_by": "ORDER BY with a direction per key",
    "aggregate": "SUM, AVG, MIN, MAX, COUNT, with GROUP BY where bare columns stand beside them",
    "where": "WHERE with up to three conditions joined by AND",
    "join": "JOIN of two tables on a foreign key",
    "having": "HAVING",
    "distinct": "SELECT DISTINCT",
    "limit": "LIMIT behind ORDER BY",
    "or": "OR in WHERE",
    "not": "NOT LIKE, NOT IN, NOT BETWEEN, IS NOT NULL, <>",
    "in": "IN with a list",
    "between": "BETWEEN",
    "null": "IS NULL",
    "like": "LIKE patterns that fix the beginning or the end",
    "left_join": "LEFT JOIN",
    "two_joins": "two JOINs in a row",
    "self_join": "a table joined with itself",
    "qualified": "names behind the name of their table, also where they need not be",
    "foreign_keys": "REFERENCES in CREATE TABLE",
    "scalar": "comparison with a scalar subquery",
    "in_subquery": "IN with a subquery",
    "exists": "EXISTS with a correlated subquery",
    "cte": "WITH",
    "set_operation": "UNION, EXCEPT, INTERSECT",
    "row_number": "ROW_NUMBER() OVER",
    "rank": "RANK() OVER",
    "running_sum": "SUM(...) OVER with ORDER BY",
}
"""What a query may use beyond SELECT and FROM; each is a switch: `cs4+limit`, `cs9-cte`."""


_JOINS = ("join", "left_join", "two_joins", "self_join")
NEEDS: dict[str, tuple[str, ...]] = {
    "having": ("aggregate",),
    # Without an order, any rows would do.
    "limit": ("order_by",),
    **dict.fromkeys(("or", "not", "in", "between", "null", "like"), ("where",)),
    "self_join": ("qualified",),
    "qualified": _JOINS,
    "foreign_keys": ("join", "left_join", "two_joins", "in_subquery", "exists"),
    **dict.fromkeys(("scalar", "in_subquery", "exists", "cte", "set_operation"), ("where",)),
}
"""Skill -> those of which a set has to have one for this skill to be shown."""


class CommandSet(Struct, frozen=True):
    """A subset of SQL with its name."""

    name: str
    skills: frozenset[str]

    @property
    def orders(self) -> bool:
        """Whether a query of this set may have ORDER BY."""
        return "order_by" in self.skills


def _sets() -> dict[str, CommandSet]:
    cs2 = {"order_by"}
    cs3 = cs2 | {"aggregate"}
    cs4 = cs3 | {"where"}
    cs5 = cs4 | {"join"}
    skills = {
        "cs1": set(),
        "cs2": cs2,
        "cs3": cs3,
        "cs4": cs4,
        "cs5": cs5,
        "cs6": cs4 | {"having", "distinct", "limit"},
        "cs7": cs4 | {"or", "not", "in", "between", "null", "like"},
        "cs8": cs5 | {"left_join", "two_joins", "self_join", "qualified", "foreign_keys"},
        "cs9": cs4 | {"scalar", "in_subquery", "exists", "cte", "set_operation"},
        "cs10": cs4 | {"row_number", "rank", "running_sum"},
    }
    return {name: CommandSet(name, frozenset(some)) for name, some in skills.items()}


COMMAND_SETS = _sets()
"""CS1 to CS5 as published, each with the skills of the one before and one more; then one field of SQL each."""


def command_set(name: str) -> CommandSet:
    """The command set called `name`: one of `COMMAND_SETS`, perhaps with skills added or taken away.

    Example: `command_set("cs4+limit-aggregate")`.

    Raises:
        InputError: there is no set, or no skill, of that name.
    """
    if name in COMMAND_SETS:
        return COMMAND_SETS[name]
    base, *switches = re.split(r"(?=[+-])", name)
    if base not in COMMAND_SETS:
        known = ", ".join(COMMAND_SETS)
        raise InputError(
            f"no command set `{base}`{nearest(base, COMMAND_SETS)}", hint=f"command sets: {known}"
        )
    skills = set(COMMAND_SETS[base].skills)
    for switch in switches:
        skill = switch[1:]
        if skill not in SKILLS:
            raise InputError(
                f"no skill `{skill}` in `{name}`{nearest(skill, SKILLS)}", hint=f"skills: {', '.join(SKILLS)}"
            )
        skills = skills | {skill} if switch[0] == "+" else skills - {skill}
    for skill, needed in NEEDS.items():
        if skill in skills and skills.isdisjoint(needed):
            known = " or ".join([f"`{one}`" for one in needed])
            raise InputError(
                f"command set `{name}` has `{skill}` without {known}, so it could not be shown",
                hint=f"add +{needed[0]} or take -{skill}",
            )
    return CommandSet(name, frozenset(skills))
