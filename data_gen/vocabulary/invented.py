"""Random numbers -> a word that no lexicon has: `tovalin`, `ruske`.

A model that reads many of them cannot know the names of a schema by heart; it has to copy them, piece by piece.
"""

from __future__ import annotations

from data_gen.seeding import Draws
from data_gen.vocabulary.lexicon import LEXICONS

ONSETS: tuple[str, ...] = (
    *"bcdfghjklmnprstvwz",
    "br",
    "cl",
    "dr",
    "fr",
    "gr",
    "pl",
    "pr",
    "sk",
    "sl",
    "st",
    "tr",
)
VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
CODAS = ("", "", "", "", "l", "m", "n", "r", "s", "t", "ck", "nd", "st")
"""Most syllables have no coda."""
SYLLABLES = 2, 3
"""Fewest and most: hundreds of millions of words."""


def invented_word(rng: Draws) -> str:
    """A pronounceable word of lower-case letters that is no word of ours and no keyword of SQL."""
    while True:
        count = SYLLABLES[0] + int(rng.random() * (SYLLABLES[1] - SYLLABLES[0] + 1))
        word = "".join(_one(rng, ONSETS) + _one(rng, VOWELS) + _one(rng, CODAS) for _ in range(count))
        if word not in KNOWN:
            return word


def _one(rng: Draws, items: tuple[str, ...]) -> str:
    return items[int(rng.random() * len(items))]


def _known() -> frozenset[str]:
    names = [
        name
        for words in LEXICONS.values()
        for group in (words.tables, words.columns, words.held_out_tables, words.held_out_columns)
        for name in group
    ]
    return frozenset(piece for name in names for piece in name.split("_")) | KEYWORDS


KEYWORDS = frozenset({"limit", "create", "table", "using", "natural", "where", "having"})
"""SQL keywords that two or three such syllables could spell."""
KNOWN = _known()
