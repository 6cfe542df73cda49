"""Conditions on a column -> values that meet them and values that miss them by little."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from random import Random
from typing import NamedTuple

from data_gen.query import Condition, Value
from data_gen.schema import WHOLE, Column, Kind

Cell = Value | None
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

STEPS = 120
"""Different values that a column without literals can have: the whole numbers from -10 to 109, for one."""
_STEPS = Random(0).sample(range(-STEPS // 2, STEPS // 2), STEPS) * 2
_MIDDLE, _MIDDLE_DAY = 50, date(2012, 1, 1)

_COMPARE: dict[str, Callable[[Value, Value], bool]] = {
    "=": eq,
    "<>": ne,
    ">": gt,
    "<": lt,
    ">=": ge,
    "<=": le,
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
        return (ge(value, low) and le(value, high)) != condition.negated
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
    rare: tuple[Cell, ...] = ()
    """`rare_values`, for columns that show the largest or smallest."""


def make_pool(
    rng: Random,
    column: Column,
    conditions: Sequence[Condition],
    near: Sequence[Value],
    words: tuple[str, ...],
    others: int,
) -> Pool:
    """A pool for `column`: values at and next to the literals of its conditions and to `near`, and `others` more.

    Conditions with a subquery or another column on the right pass or fail by rows, not by a value, and are to
    be left out. Good values come in an order in which those at a literal are early.
    """
    if not conditions and not near:
        anything = _stretch(rng, _fixed(column.kind, column.type in WHOLE, words), others)
        return Pool(anything, anything)
    literals = [value for condition in conditions for value in condition.values]
    close: list[Cell] = []
    for literal in (*literals, *near):
        close += _neighbours(literal, words, rng)
    rng.shuffle(close)
    if any(condition.operator == "IS NULL" for condition in conditions):
        close += [None, None]
    values = list(dict.fromkeys([*close, *_others(rng, column, literals, words, others)]))
    good: list[Cell] = []
    bad: list[Cell] = []
    for value in values:
        is_good = True
        for condition in conditions:
            if not meets(condition, value):
                is_good = False
                break
        (good if is_good else bad).append(value)
    return Pool(good or bad, bad or good)


def rare_values(good: Sequence[Cell], conditions: Sequence[Condition]) -> list[Cell]:
    """A value below all good ones and a value above, as far as no condition forbids."""
    known: list[Value] = sorted([value for value in good if value is not None])
    if not known:
        return [None]
    low, high = known[0], known[-1]
    if isinstance(low, bool) or conditions:
        return [low, high]
    if isinstance(low, str) and isinstance(high, str):
        if is_day(low) and is_day(high):
            year = timedelta(days=365)
            return [
                (date.fromisoformat(low) - year).isoformat(),
                (date.fromisoformat(high) + year).isoformat(),
            ]
        # A text of others may sort before "aa" or behind "zz".
        below = next(text for text in (f"aa{low}", f"!{low}", low) if text <= low)
        return [below, max(f"zz{high}", f"{high}z")]
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    return [low - 50, high + 50]


def is_day(value: Value) -> bool:
    """Whether a literal is a date, which is written as text: `2020-02-29`, but neither `2 rooms` nor `2020-02-30`."""
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        return False
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def near_misses(literals: Sequence[Value]) -> list[Cell]:
    """The literals and, for each, what is one more and one less, or a letter longer; of a pattern, a text that
    has its letters and one that has only the first."""
    return [value for literal in literals for value in _next_to(literal)]


def _next_to(value: Value) -> list[Cell]:
    if isinstance(value, bool):
        return [True, False]
    if isinstance(value, int | float):
        return [value, value + 1, value - 1]
    if is_day(value):
        day = date.fromisoformat(value)
        return [value, *[(day + timedelta(days=step)).isoformat() for step in (1, -1)]]
    letters = value.strip("%")
    if letters == value:
        return [value, f"{value}s"]
    return [value.replace(letters, some).replace("%", "q") for some in (letters, letters[:1])]


def _neighbours(value: Value, words: tuple[str, ...], rng: Random) -> list[Cell]:
    if not isinstance(value, str) or is_day(value):
        return _next_to(value)
    letters = value.strip("%")
    if letters == value:
        return [*_next_to(value), rng.choice(words)]
    word, other = rng.choice(words), rng.choice(words)
    inside = f"{word[:2]}{letters}{word[2:]}"
    if value.startswith("%") and value.endswith("%"):
        ends = [letters + word, other + letters]
    else:
        at_start = value.endswith("%")
        ends = [letters + one if at_start else one + letters for one in rng.sample(words, 8)]
        ends.append(other + letters if at_start else letters + other)
    return [*ends, inside, *[rng.choice(words) for _ in range(4)]]


def _others(
    rng: Random, column: Column, literals: Sequence[Value], words: tuple[str, ...], count: int
) -> list[Cell]:
    """`count` different values around the literals, or all that there are."""
    is_whole = column.type in WHOLE
    if not literals or column.kind in ("boolean", "text"):
        return _stretch(rng, _fixed(column.kind, is_whole, words), count)
    start = int(rng.random() * STEPS)
    steps = _STEPS[start : start + count]
    if column.kind == "date":
        days = itertools.cycle([date.fromisoformat(str(value)) for value in literals])
        return [_day(day, step) for step, day in zip(steps, days, strict=False)]
    part = 0 if is_whole else 0.5
    centres = itertools.cycle([int(value) + part for value in literals])
    return [centre + step for step, centre in zip(steps, centres, strict=False)]


def _stretch(rng: Random, values: list[Cell], count: int) -> list[Cell]:
    """`count` values in a row of a list that holds everything twice, so that it has no end."""
    length = len(values) // 2
    start = int(rng.random() * length)
    return values[start : start + min(count, length)]


@lru_cache(maxsize=64)
def _fixed(kind: Kind, is_whole: bool, words: tuple[str, ...]) -> list[Cell]:
    """What a column without literals may hold, in a random order that never changes, twice over."""
    values: list[Cell]
    if kind == "boolean":
        values = [True, False]
    elif kind == "text":
        rng, ends = Random(0), ("", "", "", *"aeiorstnlm")
        # Words of the lexicon, and words that differ from one by a letter.
        drawn = [rng.choice(words) + rng.choice(ends) for _ in range(2 * STEPS)]
        values = list(dict.fromkeys(drawn))[:STEPS]
    elif kind == "date":
        values = [_day(_MIDDLE_DAY, step) for step in _STEPS[:STEPS]]
    else:
        values = [_MIDDLE + step + (0 if is_whole else 0.5) for step in _STEPS[:STEPS]]
    return values * 2


def _day(day: date, step: int) -> str:
    return (day + timedelta(days=7 * step)).isoformat()


def next_value(value: Value, step: int) -> Value:
    """The literal next to this one: one more, one day later, another word."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + step
    if is_day(value):
        return (date.fromisoformat(value) + timedelta(days=step)).isoformat()
    return f"{value}s"


def other_patterns(pattern: str) -> list[str]:
    """A LIKE pattern with its letters changed, and with the first of several alone."""
    letters = pattern.strip("%")
    others = [{"a": "e", "e": "a"}.get(letters, "a" if letters != "a" else "e"), letters[:1]]
    return [pattern.replace(letters, other) for other in others if other != letters]
