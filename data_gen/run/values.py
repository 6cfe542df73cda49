"""Conditions on a column -> values that meet them and values that miss them by little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from random import Random
from typing import NamedTuple

from data_gen.query import Condition, Value
from data_gen.schema import WHOLE, Column

Cell = Value | None

_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    ">": lambda a, b: a > b,  # type: ignore[operator]
    "<": lambda a, b: a < b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
}


def meets(condition: Condition, value: Cell) -> bool:
    """Whether a row with this value passes the condition, as SQL has it: NULL passes only IS NULL."""
    operator = condition.operator
    if operator == "IS NULL":
        return (value is None) != condition.negated
    if value is None:
        return False
    if operator == "IN":
        return (value in condition.values) != condition.negated
    if operator == "BETWEEN":
        low, high = condition.values
        return (low <= value <= high) != condition.negated  # type: ignore[operator]
    if operator == "LIKE":
        return _like(str(condition.values[0]), str(value)) != condition.negated
    return _COMPARE[operator](value, condition.values[0])


def _like(pattern: str, text: str) -> bool:
    letters = pattern.strip("%")
    if pattern.startswith("%") and pattern.endswith("%"):
        return letters in text
    return text.startswith(letters) if pattern.endswith("%") else text.endswith(letters)


class Pool(NamedTuple):
    """Values of one column: those that pass all of its conditions, and those that do not; near misses first."""

    good: list[Cell]
    bad: list[Cell]
    rare: list[Cell]
    """A value below all good ones and a value above, as far as no condition forbids."""


def make_pool(
    rng: Random,
    column: Column,
    conditions: Sequence[Condition],
    near: Sequence[Value],
    words: Sequence[str],
    others: int,
) -> Pool:
    """A pool for `column`: values at and next to the literals of its conditions and to `near`, and `others` more.

    Conditions with a subquery or another column on the right pass or fail by rows, not by a value, and are to
    be left out. Good values come in an order in which those at a literal are early.
    """
    literals = [value for condition in conditions for value in condition.values]
    close: list[Cell] = []
    for value in (*literals, *near):
        close += _neighbours(value, conditions, words, rng)
    rng.shuffle(close)
    random: list[Cell] = [_other(rng, column, literals, words) for _ in range(others)]
    if any(condition.operator == "IS NULL" for condition in conditions):
        close += [None, None]
    values = list(dict.fromkeys([*close, *random]))
    good = [value for value in values if all(meets(condition, value) for condition in conditions)]
    bad = [value for value in values if not all(meets(condition, value) for condition in conditions)]
    return Pool(good or bad, bad or good, _beyond(good or bad, conditions))


def _beyond(values: list[Cell], conditions: Sequence[Condition]) -> list[Cell]:
    known: list[Value] = sorted([value for value in values if value is not None])
    if not known:
        return [None]
    low, high = known[0], known[-1]
    if isinstance(low, bool) or conditions:
        return [low, high]
    if isinstance(low, str) and isinstance(high, str):
        if low[:1].isdigit():
            year = timedelta(days=365)
            return [
                (date.fromisoformat(low) - year).isoformat(),
                (date.fromisoformat(high) + year).isoformat(),
            ]
        return [f"aa{low}", f"zz{high}"]
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return [low - 50, high + 50]


def _neighbours(
    value: Value, conditions: Sequence[Condition], words: Sequence[str], rng: Random
) -> list[Cell]:
    if isinstance(value, bool):
        return [True, False]
    if isinstance(value, int | float):
        return [value, value + 1, value - 1]
    if value[:1].isdigit():
        day = date.fromisoformat(value)
        return [value, *[(day + timedelta(days=step)).isoformat() for step in (1, -1)]]
    letters = value.strip("%")
    if letters == value:
        return [value, f"{value}s", rng.choice(words)]
    word, other = rng.choice(words), rng.choice(words)
    inside = f"{word[:2]}{letters}{word[2:]}"
    if value.startswith("%") and value.endswith("%"):
        ends = [letters + word, other + letters]
    else:
        at_start = value.endswith("%")
        ends = [letters + one if at_start else one + letters for one in rng.sample(list(words), 8)]
        ends.append(other + letters if at_start else letters + other)
    return [*ends, inside, *[rng.choice(words) for _ in range(4)]]


def _other(rng: Random, column: Column, literals: Sequence[Value], words: Sequence[str]) -> Cell:
    if column.kind == "boolean":
        return rng.random() < 0.5
    if column.kind == "text":
        word = rng.choice(words)
        return word if rng.random() < 0.3 else word + rng.choice("aeiorstnlm")
    if column.kind == "date":
        base = date.fromisoformat(str(rng.choice(literals))) if literals else date(2012, 1, 1)
        return (base + timedelta(days=int(rng.uniform(-400, 400)))).isoformat()
    centre = float(rng.choice(literals)) if literals else 50.0
    if column.type in WHOLE:
        return int(centre + rng.uniform(-60, 60))
    return int(centre + rng.uniform(-60, 60)) + 0.5
