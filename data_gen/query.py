"""Typed query -> SQL and English: the one source of truth that both are written from, and its command sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from data_gen.errors import InputError, nearest
from data_gen.schema import Schema

Direction = Literal["ASC", "DESC"]
AggregateFunction = Literal["SUM", "AVG", "MIN", "MAX", "COUNT"]
WindowFunction = Literal["ROW_NUMBER", "RANK", "SUM"]
Comparison = Literal["=", "<>", ">", "<", ">=", "<="]
Operator = Literal["=", "<>", ">", "<", ">=", "<=", "LIKE", "IN", "BETWEEN", "IS NULL", "EXISTS"]
JoinKind = Literal["INNER", "LEFT", "CROSS"]
SetOperator = Literal["UNION", "EXCEPT", "INTERSECT"]
_NAME, _ITEM, _TESTED = r"^[^\W\d]\w*\Z", r"^([^\W\d]\w*|\*|1)\Z", r"^([^\W\d]\w*|\*|)\Z"
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*\Z"
_EXPECTED = {
    _NAME: "a name of letters, digits and `_`",
    _ITEM: "a name of letters, digits and `_`, or `*` or `1`",
    _TESTED: "a name of letters, digits and `_`, or `*` or nothing",
    _TEXT: "text without control characters",
}
"""Pattern -> what it stands for in a sentence."""
Name = Annotated[str, Meta(pattern=_NAME)]
"""A name that SQL has without quotes; what is read from JSON is held to it."""
Value = bool | int | float | Annotated[str, Meta(pattern=_TEXT)]
"""A literal; dates are ISO text."""

AGGREGATES: tuple[AggregateFunction, ...] = get_args(AggregateFunction)
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)


class ColumnRef(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A column as it is written: perhaps behind the name or alias of its table."""

    column: Name
    table: Name | None = None


class OrderBy(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One sort key with its own direction; `column` may also be the alias of a selected item."""

    column: Name
    direction: Direction
    table: Name | None = None


class Window(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`function(column) OVER (PARTITION BY ... ORDER BY ...)`."""

    function: WindowFunction
    order_by: Annotated[tuple[OrderBy, ...], Meta(min_length=1)]
    partition_by: tuple[ColumnRef, ...] = ()


class SelectItem(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is selected: a column, an aggregate of one, or a window function; `*` for COUNT(*), `1` for EXISTS."""

    column: Annotated[str, Meta(pattern=_ITEM)]
    table: Name | None = None
    aggregate: AggregateFunction | None = None
    window: Window | None = None
    alias: Name | None = None

    @property
    def output(self) -> str:
        """The name under which ORDER BY knows it."""
        return self.alias or self.column


class Condition(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One comparison of WHERE or HAVING, with values, another column, or a subquery on its right."""

    column: Annotated[str, Meta(pattern=_TESTED)] = ""
    """Empty for EXISTS; `*` for COUNT(*)."""
    operator: Operator
    values: tuple[Value, ...] = ()
    """One for a comparison or LIKE, two for BETWEEN, several for IN."""
    negated: bool = False
    """NOT LIKE, NOT IN, NOT BETWEEN, IS NOT NULL, NOT EXISTS."""
    table: Name | None = None
    aggregate: AggregateFunction | None = None
    """In HAVING."""
    other: ColumnRef | None = None
    subquery: Select | None = None


class Join(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """`JOIN table AS alias ON left = right`."""

    table: Name
    kind: JoinKind = "INNER"
    alias: Name | None = None
    left: ColumnRef | None = None
    """None on both sides for a CROSS JOIN, which only a wrong answer has."""
    right: ColumnRef | None = None


class Select(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """One SELECT: what a query is, and what stands inside another one."""

    select: Annotated[tuple[SelectItem, ...], Meta(min_length=1)]
    table: Name
    distinct: bool = False
    joins: tuple[Join, ...] = ()
    where: tuple[Annotated[tuple[Condition, ...], Meta(min_length=1)], ...] = ()
    """AND of groups, each of which is an OR of conditions."""
    group_by: tuple[ColumnRef, ...] = ()
    having: tuple[Condition, ...] = ()
    order_by: tuple[OrderBy, ...] = ()
    limit: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class Cte(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`WITH name AS (select)`."""

    name: Name
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
            InputError: the text is not such JSON, or what it says could not stand in SQL as it is: a name that is
                none, a condition that lacks its value, control characters, nesting without end.
        """
        try:
            if len(text) > MAX_CHARS:
                raise InputError(f"{len(text):,} characters, expected at most {MAX_CHARS:,}")
            query = _DECODER.decode(text)
            _check(query)
        except (msgspec.DecodeError, InputError, RecursionError, UnicodeEncodeError) as error:
            raise InputError(
                f"not the JSON of a query: {_reason(error, text)}", hint="write it with `Query.to_json`"
            ) from error
        return query


MAX_CHARS = 200_000
"""Longest JSON of a query that is read; those of the command sets have some thousand characters."""
MAX_NESTING = 30
"""Most subqueries within subqueries."""


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Query)


def selects(query: Query) -> Iterator[tuple[Select, str]]:
    """Every SELECT of a query and its place in the roles, each before those within it."""
    if query.cte is not None:
        yield from _nested(query.cte.select, "sql.cte")
    yield from _nested(query, "sql")
    if query.compound is not None:
        yield from _nested(query.compound.select, "sql.compound")


def _nested(select: Select, place: str) -> Iterator[tuple[Select, str]]:
    yield select, place
    for condition, at in conditions(select, place):
        if condition.subquery is not None:
            yield from _nested(condition.subquery, f"{at}.subquery")


def conditions(select: Select, place: str = "sql") -> Iterator[tuple[Condition, str]]:
    """The conditions of WHERE and HAVING of the SELECT at `place`, and their places; none of a subquery."""
    for index, group in enumerate(select.where):
        for number, condition in enumerate(group):
            yield condition, f"{place}.where.{index}" + (f".{number}" if len(group) > 1 else "")
    for index, condition in enumerate(select.having):
        yield condition, f"{place}.having.{index}"


T = TypeVar("T")


def put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """`items` with another one at `index`."""
    return (*items[:index], item, *items[index + 1 :])


def flipped(direction: Direction) -> Direction:
    """The other direction."""
    return "DESC" if direction == "ASC" else "ASC"


def is_key(column: str) -> bool:
    """Whether a column of this name only links tables, so that nobody asks about it."""
    return column == "id" or column.endswith("_id")


def _check(query: Query) -> None:
    """Find what the types of the fields do not say; raises `InputError`."""
    query.schema.check()
    for table in query.schema.tables:
        for name in (table.name, *[column.name for column in table.columns]):
            if not name.isidentifier():
                raise InputError(f"schema has the name {name!r:.60}, expected {_EXPECTED[_NAME]}")
    command_set(query.command_set)
    for select, place in selects(query):
        if place.count(".subquery") > MAX_NESTING:
            raise InputError(f"more than {MAX_NESTING} subqueries within one another")
        for condition, at in conditions(select, place):
            _check_condition(condition, at.removeprefix("sql."))
        for index, join in enumerate(select.joins):
            if {join.left is None, join.right is None} != {join.kind == "CROSS"}:
                raise InputError(f"`joins[{index}]` is {join.kind}, expected two columns, or none for CROSS")


_RIGHT: dict[Operator, str] = {
    "LIKE": "one text",
    "BETWEEN": "two values",
    "IN": "values or a subquery",
    "IS NULL": "nothing",
    "EXISTS": "a subquery and no column",
}
"""What stands on the right of an operator that is no comparison."""


def _check_condition(condition: Condition, place: str) -> None:
    operator, values = condition.operator, condition.values
    others = (condition.other is not None) + (condition.subquery is not None)
    fits = len(values) <= 1 and len(values) + others == 1
    if operator == "LIKE":
        fits = fits and bool(values) and isinstance(values[0], str)
    elif operator == "BETWEEN":
        fits = len(values) == 2 and not others
    elif operator == "IN":
        fits = condition.other is None and bool(values) != bool(others)
    elif operator == "IS NULL":
        fits = not values and not others
    elif operator == "EXISTS":
        fits = not values and condition.other is None and others == 1
    if not fits or (condition.column == "") != (operator == "EXISTS"):
        expected = _RIGHT.get(operator, "one value, column or subquery, with a column on its left")
        raise InputError(f"`{place}` does not have what `{operator}` takes: {expected}")


def _reason(error: Exception, text: str) -> str:
    """What is wrong with the JSON, in words for a pattern that a string in it does not match."""
    if isinstance(error, InputError):
        return error.message
    message = str(error)
    pattern = next((known for known in _EXPECTED if f"regex {known!r} " in message), None)
    if pattern is None:
        return message
    path = message.rpartition("`$.")[2].rstrip("`")
    try:
        value: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as malformed:
        # Behind the name, where nobody had looked yet, is no JSON any more.
        return str(malformed)
    for key in re.findall(r"\w+", path):
        value = value[int(key) if isinstance(value, list) else key]
    return f"`{path}` is {value!r:.60}, expected {_EXPECTED[pattern]}"


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
