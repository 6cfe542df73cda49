"""Lexicon and variant -> names, phrases and literals by number, and the choices among them for many rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from data_gen.bulk.bodies import OPERATORS
from data_gen.bulk.deck import Deck, deck_of
from data_gen.bulk.loom import NONE, Ints, Strings
from data_gen.draw.clauses import ANYWHERE
from data_gen.query import AGGREGATES
from data_gen.say.english_conditions import say_value
from data_gen.say.style import COLUMN_SHARE, FACTORS, PRIME, TABLE_SHARE, WORD_FACTOR
from data_gen.sql import write_value
from data_gen.vocabulary.lexicon import LEXICONS
from data_gen.vocabulary.phrases import ALL_KINDS, Pattern, SortPhrase

_NAMES = ("table", "columns", "column", "value", "left", "right")
SLOTS = {name: -2 - number for number, name in enumerate(_NAMES)}
"""What stands in an array of patterns for a slot."""


class Patterns:
    """Options of several cases: their parts are numbers of strings, `SLOTS`, and at the end `NONE`."""

    def __init__(self, strings: Strings, cases: list[tuple[Pattern, ...]]) -> None:
        options = [option for case in cases for option in case]
        self.sizes = np.array([len(case) for case in cases])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.parts = np.full((len(options), max(len(option.parts) for option in options)), NONE, np.int32)
        for row, option in enumerate(options):
            for place, part in enumerate(option.parts):
                self.parts[row, place] = SLOTS[part[1:-1]] if part[0] == "{" else strings.number(part)

    def around(self) -> tuple[Ints, Ints]:
        """The parts before and behind `{columns}`."""
        halves = np.full((2, *self.parts.shape), NONE, np.int32)
        for row, parts in enumerate(self.parts.tolist()):
            place = parts.index(SLOTS["columns"])
            for half, some in enumerate((parts[:place], parts[place + 1 :])):
                halves[half, row, : len(some)] = some
        return halves[0], halves[1]


class Directions(NamedTuple):
    """Sort phrases of all kinds: what stands before the direction, the direction, and what stands behind."""

    starts: Ints
    sizes: Ints
    parts: Ints
    """By phrase, by whether it descends, and by part."""

    @classmethod
    def of(cls, strings: Strings, cases: list[tuple[SortPhrase, ...]]) -> Directions:
        sizes = np.array([len(case) for case in cases])
        parts = [
            [[strings.number(part) if part else NONE for part in way] for way in phrase]
            for case in cases
            for phrase in case
        ]
        return cls(np.cumsum(sizes) - sizes, sizes, np.array(parts, np.int32))


class Names:
    """How the names of a deck are said and written, by their numbers."""

    def __init__(self, deck: Deck, strings: Strings, lexicon: str, *, synonyms: bool) -> None:
        self.bare = strings.block(deck.names)
        self.spaced = strings.block([f" {name}" for name in deck.names])
        known = LEXICONS[lexicon].synonyms if synonyms else {}
        options = [known.get(name, ()) for name in deck.names]
        self.sizes = np.array([len(some) for some in options], np.uint64)
        self.synonyms = np.zeros((len(options), max(1, *map(len, options))), np.int32)
        """Numbers of the synonyms, each behind a space."""
        for row, some in enumerate(options):
            self.synonyms[row, : len(some)] = strings.block([f" {synonym}" for synonym in some])
        self.hashes = deck.hashes
        self.often = {
            table: np.where(self.sizes > 0, np.uint64(int(share * 2**32)), np.uint64(0))
            for table, share in ((True, TABLE_SHARE), (False, COLUMN_SHARE))
        }

    def choose(self, bits: np.ndarray, names: Ints, *, table: bool = False) -> Ints:
        """Which synonym says each name, as `say_word` chooses it; -1 where the name is said itself."""
        mixed = (bits ^ self.hashes[names]) * np.uint64(WORD_FACTOR)
        used = mixed >> np.uint64(32) < self.often[table][names]
        which = (mixed >> np.uint64(16) & np.uint64(0xFFFF)) % np.maximum(self.sizes[names], np.uint64(1))
        return np.where(used, which.astype(np.int64), -1)

    def said(self, bits: np.ndarray, names: Ints, *, table: bool = False) -> Ints:
        """The string that says each name, behind a space."""
        if self.synonyms.shape[1] == 1 and not self.sizes.any():
            return self.spaced[names]
        chosen = self.choose(bits, names, table=table)
        return np.where(chosen >= 0, self.synonyms[names, np.maximum(chosen, 0)], self.spaced[names])


class Chooser:
    """`Style.choose` for many rows."""

    def __init__(self, numbers: np.ndarray) -> None:
        self.small = (numbers % np.uint64(PRIME)).astype(np.int64)

    def choose(self, places: Ints | int, counts: Ints | int) -> Ints:
        """A number below the count for each row."""
        found: Ints = self.small * _FACTORS[places] % PRIME % counts
        return found


_FACTORS = np.array(FACTORS, np.int64)


class Book:
    """Everything that the texts of one lexicon and variant are made of, by number."""

    def __init__(self, lexicon: str, variant: str, unseen_columns: bool, unseen_tables: bool) -> None:
        self.deck = deck_of(lexicon, unseen_columns, unseen_tables)
        self.strings = strings = Strings()
        self.names = Names(self.deck, strings, lexicon, synonyms=variant == "syn")
        said = LEXICONS[lexicon].wording
        self.templates = Patterns(strings, [said.templates_of[variant]])
        self.joins = Patterns(strings, [said.join])
        self.groups = Patterns(strings, [said.group_by])
        self.openers = Patterns(strings, [said.where_openers, said.and_words])
        self.sort_openers = Patterns(strings, [said.sort_openers])
        self.aggregates = Patterns(
            strings, [said.aggregates[function][kind] for function in AGGREGATES for kind in ALL_KINDS]
        )
        names = [f"{name} %x%" if name == "LIKE" else name for name in OPERATORS]
        self.operators = Patterns(
            strings, [said.operators[name][kind] for name in names for kind in ALL_KINDS]
        )
        self.directions = Directions.of(strings, [said.sort_phrases[kind] for kind in ALL_KINDS])
        values = self.deck.literals
        stated = [say_value(value) for value in values]
        stated[: len(ANYWHERE)] = [pattern.strip("%") for pattern in ANYWHERE]
        self.stated = strings.block([f" {text}" for text in stated])
        """Literals as English has them, behind a space; `written`: as SQL has them."""
        self.written = strings.block([f" {write_value(value)}" for value in values])
        self._blocks: dict[str, Ints] = {}

    def block(self, name: str, texts: Callable[[], list[str]]) -> Ints:
        """The numbers of texts that are made once."""
        if name not in self._blocks:
            self._blocks[name] = self.strings.block(texts())
        return self._blocks[name]


book_of = lru_cache(maxsize=16)(Book)
