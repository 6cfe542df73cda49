"""Lines of wording -> patterns with their slots, ready to be filled.

A pattern is a sentence fragment with slots (`joined with {table} on {left} equals {right}`); a sort phrase is
an ascending and a descending form whose brackets mark the words that carry the direction. Each says which
kinds of column it suits: nobody sorts prices alphabetically.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from data_gen.schema import Kind
from data_gen.text import BREAK

ALL_KINDS: tuple[Kind, ...] = ("number", "text", "date", "boolean")

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

    @property
    def flips_one_word(self) -> bool:
        """Whether the two forms have the same number of words and differ in exactly one."""
        up, down = self.ascending, self.descending
        around = (up.before, up.after) == (down.before, down.after)
        return around and up.direction.count(" ") == down.direction.count(" ") == 1

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
