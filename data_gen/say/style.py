"""A lexicon, a variant and a number -> how a query is said: which phrase, which name."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from msgspec import Struct

from data_gen.seeding import MASK, Draws, mix
from data_gen.vocabulary.invented import invented_word
from data_gen.vocabulary.lexicon import LEXICONS
from data_gen.vocabulary.phrases import Pattern

Variant = Literal["base", "syn", "nat"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


class Style(Struct, frozen=True, kw_only=True):
    """How a query is said; the meaning stays the query's, so an edited query keeps its style."""

    lexicon: str = "full"
    variant: Variant = "base"
    """`base`: explicit; `syn`: tables and columns by their synonyms too; `nat`: as a person would ask."""
    template: int = 0
    """Which of the variant's instructions; with their count added, the same one, opened by an invented word."""
    number: int = 0
    """64 random bits; each choice of a phrase is a function of this number and of the place of the choice."""

    @property
    def pattern(self) -> Pattern:
        """The instruction."""
        templates = LEXICONS[self.lexicon].wording.templates_of[self.variant]
        if self.template < len(templates):
            return templates[self.template]
        return reopened(templates[self.template - len(templates)], self.number)

    @property
    def mentions_table(self) -> bool:
        """Whether the English names the table; if not, it has to be read from the schema."""
        return self.pattern.mentions_table

    def choose(self, place: int, count: int) -> int:
        """A number below `count`, always the same at the same place."""
        return self.number % PRIME * FACTORS[place] % PRIME % count


def reopened(pattern: Pattern, number: int) -> Pattern:
    """An instruction with a word invented from `number` where its own stand before the columns, but for `the`.

    Example: `from {table} give me the {columns}` may become `from {table} tovalin the {columns}`.
    """
    before, slot, behind = pattern.text.partition("{columns}")
    head, brace, words = before.rpartition("}")
    article = "the " if words.endswith(" the ") or words == "the " else ""
    said = f"{head}{brace} {invented_word(Draws(number, 0))} {article}{slot}{behind}"
    return Pattern.parse(said.strip())


PRIME = 2**30 - 35
"""Products of numbers below it are quick."""
# Factors that have nothing to do with each other: were they in line, two choices would tell the third.
FACTORS = tuple([mix(place + 1) % PRIME for place in range(2048)])


class _Places(NamedTuple):
    """Places of choices, far enough apart for an index to be added."""

    opener: int = 100
    phrase: int = 200
    separator: int = 300
    aggregate: int = 400
    join: int = 500
    where: int = 600
    operator: int = 700
    group_by: int = 800
    having: int = 900
    distinct: int = 1000
    limit: int = 1100
    subquery: int = 1200
    window: int = 1300
    closer: int = 1400
    arrangement: int = 1500
    cte: int = 1600


PLACES = _Places()
TABLE_SHARE, COLUMN_SHARE = 0.8, 0.5
"""How often `syn` says a synonym for the name of a table, or of a column, as published."""
NAT_SHARE = 1 / 3
"""How often `nat` says a synonym for a name of one piece; one of two pieces has no synonym but its own words."""


class _Word(NamedTuple):
    """How a name may be said."""

    bits: int
    synonyms: tuple[str, ...]
    often: dict[bool, int]
    """How many of 2^32 draws take a synonym, for the name of a table (True) or of a column."""
    otherwise: str


class _Words(dict[str, _Word]):
    """Name -> how it may be said in one variant, remembered."""

    def __init__(self, lexicon: str, variant: Variant) -> None:
        super().__init__()
        self.lexicon, self.variant = LEXICONS[lexicon], variant

    def __missing__(self, name: str) -> _Word:
        if len(self) >= 16384:
            # Random names are drawn from millions.
            self.clear()
        synonyms = self.lexicon.synonyms.get(name, ())
        nat = self.variant == "nat"
        shares = {True: NAT_SHARE, False: NAT_SHARE} if nat else {True: TABLE_SHARE, False: COLUMN_SHARE}
        often = {table: int(share * 2**32) if synonyms else 0 for table, share in shares.items()}
        found = _Word(self.lexicon.hash_of(name), synonyms, often, name.replace("_", " ") if nat else name)
        self[name] = found
        return found


WORD_FACTOR = 0xBF58476D1CE4E5B9
words_of = lru_cache(maxsize=16)(_Words)


def spoken(style: Style, name: str, *, table: bool = False) -> str:
    """How the English says a name: the name itself, its words, or a synonym that fits no other name."""
    if style.variant == "base":
        return name
    return say_word(style.number, words_of(style.lexicon, style.variant)[name], table)


def say_word(number: int, word: _Word, table: bool) -> str:
    # One multiplication: the upper bits of the product depend on all bits of the row's number and the name's hash.
    bits = (number ^ word.bits) * WORD_FACTOR & MASK
    if bits >> 32 < word.often[table]:
        return word.synonyms[(bits >> 16 & 0xFFFF) % len(word.synonyms)]
    return word.otherwise
