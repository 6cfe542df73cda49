"""Conditions and subqueries of a query -> English pieces."""

from __future__ import annotations

from data_gen.query import Condition, Select, Value
from data_gen.say.fragments import marks_of
from data_gen.say.sayable import unsayable
from data_gen.say.speaker import Speaker
from data_gen.say.style import PLACES
from data_gen.schema import Kind
from data_gen.text import BREAK, role
from data_gen.vocabulary.phrases import Pattern

_COLUMN = ("{column}",)


def add_where(speaker: Speaker, select: Select, place: str) -> None:
    keyword = role(place, "where.keyword")
    # Behind the table of an inner query, "only where" could speak of the outer one.
    options = speaker.wording.inner_where_openers
    if place == "english":
        options = speaker.wording.nat_where_openers if speaker.nat else speaker.wording.where_openers
    for index, group in enumerate(select.where):
        opener = speaker.choose(speaker.wording.and_words if index else options, PLACES.where + bool(index))
        if not index and (group[0].subquery or group[0].table or len(group) > 1):
            # `whose` needs a column behind it.
            opener = speaker.choose(tuple([o for o in options if "whose" not in o.text]), PLACES.where)
        if index and len(select.where[index - 1]) > 1:
            speaker.pieces.add(",", keyword)
        speaker.phrase(opener, keyword, "")
        at = role(place, "where", index)
        if len(group) == 1:
            _add_condition(speaker, group[0], at, index)
            continue
        if len(select.where) > 1:
            speaker.phrase(speaker.choose(speaker.wording.either, PLACES.where + 2), role(at, "keyword"), "")
        for inner, condition in enumerate(group):
            if inner:
                speaker.phrase(
                    speaker.choose(speaker.wording.or_words, PLACES.where + 3), role(at, "keyword"), ""
                )
            _add_condition(speaker, condition, role(at, inner), 4 * index + inner)


def _add_condition(speaker: Speaker, condition: Condition, at: str, index: int) -> None:
    if condition.operator == "EXISTS":
        _add_exists(speaker, condition, at)
        return
    if condition.operator == "IN" and condition.subquery is not None:
        _add_subject(speaker, condition, at, index)
        _add_in(speaker, condition, condition.subquery, at, index)
        return
    if condition.aggregate is None and len(condition.values) == 1 and condition.operator != "IN":
        pattern = _operator(speaker, condition, index)
        text = pattern.joined.replace("{value}", f" {_stated(condition)}")
        column = marks_of(_COLUMN, at, "operator", speaker.owners(condition.table))
        speaker.add(
            (
                f"{speaker.full(condition.column, condition.table)}{BREAK}{text}",
                column + marks_of(pattern.shape, at, "operator"),
            )
        )
        return
    _add_subject(speaker, condition, at, index)
    if condition.subquery is not None:
        # "or more" behind a subquery would belong to what the subquery says last.
        options = tuple([one for one in _options(speaker, condition) if one.parts[-1] == "{value}"])
        speaker.pieces.add(speaker.choose(options, PLACES.operator + index).parts[0], role(at, "operator"))
        _add_scalar(speaker, condition.subquery, at, index)
        return
    _add_operator(speaker, condition, at, index)


def _add_operator(speaker: Speaker, condition: Condition, at: str, index: int) -> None:
    for part in _operator(speaker, condition, index).parts:
        if part == "{value}":
            speaker.pieces.add(f" {_stated(condition)}", role(at, "value"))
        elif part == "{values}":
            _add_values(speaker, condition.values, at)
        elif part in ("{low}", "{high}"):
            speaker.pieces.add(f" {say_value(condition.values[part == '{high}'])}", role(at, part[1:-1]))
        else:
            speaker.pieces.add(part, role(at, "operator"))


def _add_subject(speaker: Speaker, condition: Condition, at: str, index: int) -> None:
    if condition.aggregate is not None:
        speaker.add(speaker.aggregate(condition, at, 16 + index))
    else:
        speaker.column(condition.column, condition.table, at)


def _operator(speaker: Speaker, condition: Condition, index: int) -> Pattern:
    return speaker.choose(_options(speaker, condition), PLACES.operator + index)


def _options(speaker: Speaker, condition: Condition) -> tuple[Pattern, ...]:
    """Every way to say what the condition does to its column."""
    name = operator_name(condition)
    if condition.aggregate in ("SUM", "AVG", "COUNT"):
        kind: Kind = "number"
    else:
        kind = speaker.kinds.get(condition.column, "number")
    options = speaker.wording.operators.get(name, {}).get(kind, ())
    if not options:
        what = f"`{name}` of the {kind} column `{condition.column}`"
        raise unsayable(speaker.query, what)
    return options


def _add_values(speaker: Speaker, values: tuple[Value, ...], at: str) -> None:
    for index, value in enumerate(values):
        if index:
            is_last = index == len(values) - 1
            speaker.pieces.add(" or" if is_last else ",", role(at, "separator"))
        speaker.pieces.add(f" {say_value(value)}", role(at, index, "value"))


def add_having(speaker: Speaker, condition: Condition, index: int) -> None:
    at = role("english.having", index)
    speaker.pieces.add(",", "english.having.phrase")
    for part in speaker.choose(speaker.wording.having, PLACES.having).parts:
        if part == "{aggregate}":
            speaker.add(speaker.aggregate(condition, at, 16 + index))
        elif part == "{condition}":
            _add_operator(speaker, condition, at, 16 + index)
        else:
            speaker.pieces.add(part, "english.having.phrase")


def _add_scalar(speaker: Speaker, select: Select, at: str, index: int) -> None:
    place = role(at, "subquery")
    for part in speaker.choose(speaker.wording.scalar, PLACES.subquery + index).parts:
        if part == "{aggregate}":
            speaker.add(speaker.aggregate(select.select[0], role(place, "select.0"), 8 + index))
        elif part == "{table}":
            speaker.table(select.table, role(place, "table"))
        else:
            speaker.pieces.add(part, role(place, "phrase"))
    if select.where:
        add_where(speaker, select, place)


def _add_in(speaker: Speaker, condition: Condition, select: Select, at: str, index: int) -> None:
    place = role(at, "subquery")
    options = speaker.wording.not_in_subquery if condition.negated else speaker.wording.in_subquery
    for part in speaker.choose(options, PLACES.subquery + index).parts:
        if part == "{column}":
            speaker.column(select.select[0].column, None, role(place, "select.0"))
        elif part == "{table}":
            speaker.table(select.table, role(place, "table"))
        else:
            speaker.pieces.add(part, role(at, "operator"))
    if select.where:
        add_where(speaker, select, place)


def _add_exists(speaker: Speaker, condition: Condition, at: str) -> None:
    select = condition.subquery
    assert select is not None
    link = select.where[0][0]
    assert link.other is not None
    place = role(at, "subquery")
    options = speaker.wording.not_exists if condition.negated else speaker.wording.exists
    for part in speaker.choose(options, PLACES.subquery).parts:
        if part == "{table}":
            speaker.table(select.table, role(place, "table"))
        elif part == "{left}":
            speaker.column(link.column, link.table, role(place, "where.0"))
        elif part == "{right}":
            speaker.column(link.other.column, link.other.table, role(place, "where.0.other"))
        else:
            speaker.pieces.add(part, role(at, "operator"))
    for index, group in enumerate(select.where[1:], 1):
        speaker.pieces.add(" and whose", role(place, "where.keyword"))
        speaker.column(group[0].column, None, role(place, "where", index))
        _add_operator(speaker, group[0], role(place, "where", index), 4 + index)


def operator_name(condition: Condition) -> str:
    """The wording's name of what a condition does: `>=`, `NOT LIKE x%`, `IS NOT NULL`."""
    operator, values = condition.operator, condition.values
    if operator == "LIKE":
        assert isinstance(values[0], str)
        start, end = values[0].startswith("%"), values[0].endswith("%")
        shape = "%x%" if start and end else "%x" if start else "x%"
        return f"NOT LIKE {shape}" if condition.negated else f"LIKE {shape}"
    if operator == "IS NULL":
        return "IS NOT NULL" if condition.negated else "IS NULL"
    return f"NOT {operator}" if condition.negated else operator


def _stated(condition: Condition) -> str:
    value = say_value(condition.values[0])
    return value.strip("%") if condition.operator == "LIKE" else value


def say_value(value: Value) -> str:
    """A literal as English has it: `5`, `amber`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
