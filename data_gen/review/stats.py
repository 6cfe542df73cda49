"""Rows -> what they are made of: shares of clauses, counts of columns and keys, lengths, roles, wording."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from data_gen.query import COMMAND_SETS, Query, Select
from data_gen.query import selects as every_select
from data_gen.review.hashes import HashSet
from data_gen.review.outline import clauses, conditions, operator, skeleton
from data_gen.review.sides import unusable

_FUNCTION_WORDS = """
    a about above after all also am among an and another any anything are as at be because been before being below
    between both but by can could did do does doing down each either else even every few for from had has have having
    he her here him his how i if in into is it its just least less many may me might mine more most much must my
    neither next no none nor not nothing nowhere of off on once one only onto or other our out over own per please
    same shall she should so some something somewhere such than that the their them then there these they this those
    through to too under until up upon us very was we were what when where whether which while who whom whose why
    will with within without would you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that have a grammatical task rather than a meaning; all others count for lexical density."""


@dataclass(kw_only=True)
class SetStats:
    """The rows of one command set."""

    rows: int = 0
    bytes: int = 0
    """UTF-8 bytes of prompt and SQL."""
    clauses: Counter[str] = field(default_factory=Counter)
    """Clause -> rows that show it."""
    operators: Counter[str] = field(default_factory=Counter)
    """Operator of WHERE or HAVING -> conditions with it, those of subqueries too."""
    functions: Counter[str] = field(default_factory=Counter)
    """Aggregate or window function -> selected items with it."""
    directions: Counter[str] = field(default_factory=Counter)
    """Direction -> sort keys with it, and `mixed` -> rows that have both."""
    columns: Counter[int] = field(default_factory=Counter)
    """Columns of the schema -> rows with so many."""
    selected: Counter[int] = field(default_factory=Counter)
    """Selected items -> rows with so many."""
    keys: Counter[int] = field(default_factory=Counter)
    """Sort keys -> rows with so many."""
    conditions: Counter[int] = field(default_factory=Counter)
    """Conditions of the outermost WHERE -> rows with so many."""
    characters: dict[str, Counter[int]] = field(default_factory=dict)
    """`prompt`, `english` or `sql` -> length in characters -> rows."""
    words: dict[str, Counter[int]] = field(default_factory=dict)
    """The same in words, which are what stands between spaces."""
    roles: Counter[str] = field(default_factory=Counter)
    """Role with its numbers left out (`sql.order_by.direction`) -> characters."""
    distinct: dict[str, int] = field(default_factory=dict)
    """`prompt`, `sql` or `skeleton` -> different ones."""
    reading_ease: float = 0.0
    """Mean of `reading_ease` over the questions."""
    lexical_density: float = 0.0
    """Mean of `lexical_density` over the questions."""

    def share(self, clause: str) -> float:
        """The share of rows that show a clause."""
        return self.clauses[clause] / self.rows if self.rows else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; counts are sorted."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Command set -> its rows, in the order of the sets."""

    sets: Mapping[str, SetStats]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {name: one.to_dict() for name, one in self.sets.items()}

    def __str__(self) -> str:
        lines = [("", list(self.sets)), *_lines(list(self.sets.values()))]
        first = max(len(label) for label, _ in lines)
        widths = [max(map(len, column)) for column in zip(*(cells for _, cells in lines), strict=True)]
        return "\n".join(
            f"{label:<{first}}" + "".join(f"  {cell:>{n}}" for cell, n in zip(cells, widths, strict=True))
            for label, cells in lines
        )


def stats(rows: Iterable[Mapping[str, Any]]) -> Stats:
    """Count what rows of a dataset are made of, row by row.

    Raises:
        InputError: a row lacks a column that a dataset of ours has, or holds something else in it.
    """
    counters: dict[str, _Counter] = {}
    for number, row in enumerate(rows):
        try:
            counters.setdefault(row["command_set"], _Counter()).add(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise unusable(f"row {number}", error, "count a dataset that tinysql wrote") from error
    order = list(COMMAND_SETS)
    names = sorted(counters, key=lambda name: (order.index(name) if name in order else len(order), name))
    return Stats(sets={name: counters[name].finish() for name in names})


class _Counter:
    def __init__(self) -> None:
        self.stats = SetStats(
            characters={name: Counter() for name in ("prompt", "english", "sql")},
            words={name: Counter() for name in ("prompt", "english", "sql")},
        )
        # Eight bytes of each text, instead of the text.
        self.hashes = {name: HashSet() for name in ("prompt", "sql", "skeleton")}
        self.ease = self.density = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        found, sql = self.stats, row["sql_statement"]
        texts = {"prompt": row["prompt"], "english": row["english_prompt"], "sql": sql}
        found.rows += 1
        found.bytes += sum(len(row[name].encode()) for name in ("prompt", "sql_statement"))
        for name, text in texts.items():
            found.characters[name][len(text)] += 1
            found.words[name][len(text.split())] += 1
        for span in row["roles"]:
            found.roles[_family(span["role"])] += span["end"] - span["start"]
        self._add_query(Query.from_json(row["query"]))
        for name, text in (("prompt", row["prompt"]), ("sql", sql), ("skeleton", skeleton(sql))):
            self.hashes[name].extend((hash(text),))
        self.ease += reading_ease(row["english_prompt"])
        self.density += lexical_density(row["english_prompt"])

    def _add_query(self, query: Query) -> None:
        found = self.stats
        found.clauses.update(clauses(query))
        found.columns[sum(len(table.columns) for table in query.schema.tables)] += 1
        found.selected[len(query.select)] += 1
        found.keys[len(query.order_by)] += 1
        found.conditions[sum(1 for _ in conditions(query))] += 1
        ways = [key.direction for key in query.order_by]
        found.directions.update(ways)
        found.directions["mixed"] += len(set(ways)) > 1
        for select, _ in every_select(query):
            self._add_select(select)

    def _add_select(self, select: Select) -> None:
        for item in select.select:
            if item.aggregate is not None:
                self.stats.functions[item.aggregate] += 1
            elif item.window is not None:
                self.stats.functions[f"{item.window.function} OVER"] += 1
        for condition in (*conditions(select), *select.having):
            self.stats.operators[operator(condition)] += 1

    def finish(self) -> SetStats:
        self.stats.distinct = {name: len(hashes) for name, hashes in self.hashes.items()}
        self.stats.reading_ease = self.ease / self.stats.rows
        self.stats.lexical_density = self.density / self.stats.rows
        return self.stats


@lru_cache(maxsize=65536)
def _family(role: str) -> str:
    return ".".join(part for part in role.split(".") if not part.isdigit())


_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.?!](?:\s|$)")


def reading_ease(text: str) -> float:
    """Flesch's reading ease: 206.835 - 1.015 words / sentences - 84.6 syllables / words.

    Words are runs of letters, so that `unit_price` is two. A sentence ends with `.`, `?` or `!` before a space or
    the end of the text; a text has at least one.
    """
    words = _WORD.findall(text)
    if not words:
        return 0.0
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * sum(map(syllables, words)) / len(words)


@lru_cache(maxsize=65536)
def syllables(word: str) -> int:
    """Runs of the vowels a, e, i, o, u, y, less a silent `e` at the end (not `le` behind a consonant); at least one.

    Example: `price` has one, `table` two, `category` four.
    """
    word = word.lower()
    count = len(re.findall(r"[aeiouy]+", word))
    if re.search(r"[^aeiouy]e$", word) and not re.search(r"[^aeiouy]le$", word):
        count -= 1
    return max(1, count)


def lexical_density(text: str) -> float:
    """The share of words, which are runs of letters, that are none of `FUNCTION_WORDS`."""
    words = _WORD.findall(text)
    return sum(word.lower() not in FUNCTION_WORDS for word in words) / len(words) if words else 0.0


def mean(counts: Mapping[int, int]) -> float:
    """The mean of a histogram."""
    rows = sum(counts.values())
    return sum(value * times for value, times in counts.items()) / rows if rows else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, Counter):
        by_count = all(isinstance(key, str) for key in value)
        items = value.most_common() if by_count else sorted(value.items())
        return {str(key): times for key, times in items}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def _lines(sets: list[SetStats]) -> list[tuple[str, list[str]]]:
    """The lines of the table: a label and a cell per command set."""

    def shares(part: str, names: Iterable[str], whole: str = "") -> list[tuple[str, list[str]]]:
        made = []
        for name in names:
            totals = [one.rows if not whole else getattr(one, part).total() for one in sets]
            counts = [getattr(one, part)[name] for one in sets]
            cells = [f"{n / all_:.1%}" if n else "-" for n, all_ in zip(counts, totals, strict=True)]
            made.append((name, cells))
        return made

    lines = [("rows", [f"{one.rows:,}" for one in sets]), ("bytes", [f"{one.bytes:,}" for one in sets])]
    lines += shares("clauses", _names(sets, "clauses"))
    lines += [(f"mean {name}", [f"{mean(getattr(one, part)):.2f}" for one in sets]) for name, part in _MEANS]
    for name in ("prompt", "sql"):
        lines.append((f"{name} characters", [f"{mean(one.characters[name]):.0f}" for one in sets]))
        lines.append((f"{name} words", [f"{mean(one.words[name]):.1f}" for one in sets]))
        lines.append((f"longest {name}", [f"{max(one.characters[name]):,}" for one in sets]))
    for name in ("prompt", "sql", "skeleton"):
        lines.append((f"distinct {name}", [f"{one.distinct[name]:,}" for one in sets]))
    lines += shares("operators", _names(sets, "operators"), "of all")
    lines += shares("functions", _names(sets, "functions"), "of all")
    lines.append(("keys ASC", [_ascending(one) for one in sets]))
    lines.append(("reading ease", [f"{one.reading_ease:.1f}" for one in sets]))
    lines.append(("lexical density", [f"{one.lexical_density:.2f}" for one in sets]))
    return lines


_MEANS = (
    ("columns", "columns"),
    ("selected", "selected"),
    ("sort keys", "keys"),
    ("conditions", "conditions"),
)


def _ascending(one: SetStats) -> str:
    keys = one.directions["ASC"] + one.directions["DESC"]
    return f"{one.directions['ASC'] / keys:.1%}" if keys else "-"


def _names(sets: list[SetStats], part: str) -> list[str]:
    total: Counter[str] = Counter()
    for one in sets:
        total.update(getattr(one, part))
    return [name for name, _ in total.most_common()]
