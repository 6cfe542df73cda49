"""Lines of wording -> patterns with their slots, ready to be filled, and every way to say every clause.

A pattern is a sentence fragment with slots (`joined with {table} on {left} equals {right}`); a sort phrase is
an ascending and a descending form whose brackets mark the words that carry the direction. Each says which
kinds of column it suits: nobody sorts prices alphabetically.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

from data_gen.query import AGGREGATES, AggregateFunction, SetOperator, WindowFunction
from data_gen.schema import Kind
from data_gen.text import BREAK
from data_gen.vocabulary import wording

ALL_KINDS: tuple[Kind, ...] = ("number", "text", "date", "boolean")

K = TypeVar("K")
P = TypeVar("P")


class Pattern(NamedTuple):
    """A fragment split at its slots: `parts` alternate between words, behind a space, and `{slot}`."""

    text: str
    parts: tuple[str, ...]
    joined: str
    """The parts with `BREAK` between them."""
    shape: tuple[str, ...]
    """The parts with `words` for words."""

    @property
    def mentions_table(self) -> bool:
        """Whether the fragment names the table; if not, it has to be read from the schema."""
        return "{table}" in self.parts

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Split `text`; the space before a slot belongs to the slot.

        Example: `is between {low} and {high}` has the parts ` is between`, `{low}`, ` and`, `{high}`.
        """
        split = [part for part in re.split(r" ?(\{\w+\})", text) if part]
        parts = tuple([part if part[0] in " ,;{" else f" {part}" for part in split])
        return cls(
            text, parts, BREAK.join(parts), tuple([part if part[0] == "{" else "words" for part in parts])
        )


class DirectionPhrase(NamedTuple):
    """Words around the direction, and the word (or words) that say it: `in` + `ascending` + `order`."""

    before: str
    direction: str
    after: str

    @classmethod
    def parse(cls, text: str) -> DirectionPhrase:
        """Split `in [ascending] order` at its brackets; each piece takes the space before it."""
        before, direction, after = re.split(r"[\[\]]", text)
        return cls(f" {before.strip()}" if before else "", f" {direction}", after)


class SortPhrase(NamedTuple):
    """One way to say a direction, in both directions."""

    ascending: DirectionPhrase
    descending: DirectionPhrase

    @classmethod
    def parse(cls, text: str) -> SortPhrase:
        """Read `[lowest] first | [highest] first`."""
        ascending, descending = text.split(" | ")
        return cls(DirectionPhrase.parse(ascending), DirectionPhrase.parse(descending))


def patterns(lines: str) -> tuple[Pattern, ...]:
    """Every line as a pattern."""
    return tuple(Pattern.parse(line.strip()) for line in lines.strip().splitlines())


def by_kind(lines: str, parse: Callable[[str], P]) -> dict[Kind, tuple[P, ...]]:
    """Kind -> what suits it; a line may begin with the kinds that it is for (`number,date: `)."""
    found: dict[Kind, list[P]] = {kind: [] for kind in ALL_KINDS}
    for line in lines.strip().splitlines():
        kinds, colon, rest = line.strip().partition(": ")
        for kind in ALL_KINDS:
            if not colon or kind in kinds.split(","):
                found[kind].append(parse(rest if colon else kinds))
    return {kind: tuple(some) for kind, some in found.items()}


Patterns = tuple[Pattern, ...]


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Every way to say every clause; `data_gen/vocabulary/wording.py` says what each is for."""

    templates: Patterns
    nat_templates: Patterns
    sort_openers: Patterns
    nat_sort_openers: Patterns
    sort_phrases: Mapping[Kind, tuple[SortPhrase, ...]]
    aggregates: Mapping[AggregateFunction, Mapping[Kind, Patterns]]
    count_rows: Patterns
    group_by: Patterns
    nat_group_by: Patterns
    join: Patterns
    nat_join: Patterns
    left_join: Patterns
    nat_left_join: Patterns
    where_openers: Patterns
    nat_where_openers: Patterns
    inner_where_openers: Patterns
    and_words: Patterns
    or_words: Patterns
    either: Patterns
    operators: Mapping[str, Mapping[Kind, Patterns]]
    having: Patterns
    distinct: Patterns
    repeats: Patterns
    limit: Patterns
    scalar: Patterns
    in_subquery: Patterns
    not_in_subquery: Patterns
    exists: Patterns
    not_exists: Patterns
    cte: Patterns
    cte_then: Patterns
    set_operations: Mapping[SetOperator, Patterns]
    windows: Mapping[WindowFunction, Patterns]
    partition_by: Patterns
    window_order: Patterns
    closers: Patterns

    @cached_property
    def templates_of(self) -> dict[str, Patterns]:
        """The instructions of each variant."""
        return {"base": self.templates, "syn": self.templates, "nat": self.nat_templates}


def full_wording() -> Wording:
    """The wording of the lexicon `full`."""
    w = wording

    def mapped(sections: Mapping[str, str]) -> dict[str, Mapping[Kind, Patterns]]:
        return {name: by_kind(lines, Pattern.parse) for name, lines in sections.items()}

    def every(sections: Mapping[K, str]) -> dict[K, Patterns]:
        return {name: patterns(lines) for name, lines in sections.items()}

    return Wording(
        templates=patterns(w.TEMPLATES),
        nat_templates=patterns(w.NAT_TEMPLATES),
        sort_openers=patterns(w.SORT_OPENERS),
        nat_sort_openers=patterns(w.NAT_SORT_OPENERS),
        sort_phrases=by_kind(w.SORT_PHRASES, SortPhrase.parse),
        aggregates={name: mapped(w.AGGREGATES)[name] for name in AGGREGATES},
        count_rows=patterns(w.COUNT_ROWS),
        group_by=patterns(w.GROUP_BY),
        nat_group_by=patterns(w.NAT_GROUP_BY),
        join=patterns(w.JOIN),
        nat_join=patterns(w.NAT_JOIN),
        left_join=patterns(w.LEFT_JOIN),
        nat_left_join=patterns(w.NAT_LEFT_JOIN),
        where_openers=patterns(w.WHERE_OPENERS),
        nat_where_openers=patterns(w.NAT_WHERE_OPENERS),
        inner_where_openers=patterns(w.INNER_WHERE_OPENERS),
        and_words=patterns(w.AND),
        or_words=patterns(w.OR),
        either=patterns(w.EITHER),
        operators=mapped(w.OPERATORS),
        having=patterns(w.HAVING),
        distinct=patterns(w.DISTINCT),
        repeats=patterns(w.REPEATS),
        limit=patterns(w.LIMIT),
        scalar=patterns(w.SCALAR),
        in_subquery=patterns(w.IN_SUBQUERY),
        not_in_subquery=patterns(w.NOT_IN_SUBQUERY),
        exists=patterns(w.EXISTS),
        not_exists=patterns(w.NOT_EXISTS),
        cte=patterns(w.CTE),
        cte_then=patterns(w.CTE_THEN),
        set_operations=every(w.SET_OPERATIONS),
        windows=every(w.WINDOWS),
        partition_by=patterns(w.PARTITION_BY),
        window_order=patterns(w.WINDOW_ORDER),
        closers=patterns(w.NAT_CLOSERS),
    )


def demo_wording() -> Wording:
    """The same with few instructions and sort phrases."""
    return replace(
        full_wording(),
        templates=patterns(wording.DEMO_TEMPLATES),
        sort_openers=patterns(wording.DEMO_SORT_OPENERS),
        sort_phrases=by_kind(wording.DEMO_SORT_PHRASES, SortPhrase.parse),
    )
