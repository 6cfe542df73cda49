"""Example -> what its English could be mistaken for: names of two columns, phrases of another meaning.

The rules stand here a second time and in another form than in the word lists, so that a list that breaks one
is found out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data_gen.example import Example
from data_gen.schema import Kind
from data_gen.vocabulary.lexicon import LEXICONS

_NAMED = re.compile(r"english\.(?:.*\.)?(?:column|table|left\.column|right\.column)$")
_KIND_WORDS: dict[Kind, re.Pattern[str]] = {
    "text": re.compile(r"alphabet|dictionary|\b[AZ]\b|\bletters?\b"),
    "date": re.compile(r"\b(newest|oldest|recent|chronological(ly)?|earliest|latest|time|dates?)\b"),
    "number": re.compile(
        r"\b(lowest|highest|smallest|largest|low|high|small|large|biggest|tiniest|numbers?)\b"
    ),
}
_UP = re.compile(r"\b(ascending|increasing|rising|upwards?|up|oldest|lowest|smallest)\b")
_DOWN = re.compile(
    r"\b(descending|decreasing|falling|downwards?|down|newest|highest|largest|reverse|backwards?)\b"
)
_NEVER_SORT = re.compile(r"\b(group|grouped|categorized|classified)\b")
_NEVER_AGGREGATE = re.compile(r"\b(median|middle|typical|distinct|different|unique)\b")


def ambiguous_names(example: Example, english: str) -> Iterator[str]:
    """Names that the English says in words which fit another table or column of the schema as well."""
    known = _meanings(example)
    text = example.english
    for start, end, role in text.spans:
        if not _NAMED.search(role):
            continue
        said = text.string[start:end].strip().lower()
        meanings = known.get(said, set())
        if len(meanings) > 1:
            yield f"`{said}` may mean {' or '.join(sorted(meanings))}"
        if said not in english.lower():
            yield f"the English does not say `{said}`"


def _meanings(example: Example) -> dict[str, set[str]]:
    """What may be said -> the names of the schema that it fits."""
    synonyms = LEXICONS[example.style.lexicon].synonyms
    found: dict[str, set[str]] = {}
    for table in example.query.schema.tables:
        for name in (table.name, *(column.name for column in table.columns)):
            for said in (name, name.replace("_", " "), *synonyms.get(name, ())):
                found.setdefault(said.lower(), set()).add(name)
    return found


def misused_phrases(example: Example) -> Iterator[str]:
    """Phrases that contradict the kind of their column, their direction or their aggregate."""
    kinds = {c.name: c.kind for table in example.query.schema.tables for c in table.columns}
    pieces = [(piece.strip(), role) for piece, role in example.english.pieces()]
    yield from _misused_sorts(example, pieces, kinds)
    aggregates = {
        f"english.select.{index}.aggregate": kinds[item.column]
        for index, item in enumerate(example.query.select)
        if item.aggregate in ("MIN", "MAX")
    }
    for piece, role in pieces:
        if role.endswith(".aggregate") and _NEVER_AGGREGATE.search(piece):
            yield f"`{piece}` is no aggregate that SQL has"
        if role in aggregates:
            yield from _wrong_kind(piece, aggregates[role])


def _misused_sorts(example: Example, pieces: list[tuple[str, str]], kinds: dict[str, Kind]) -> Iterator[str]:
    for index, key in enumerate(example.query.order_by):
        kind = kinds.get(key.column)
        said = " ".join(piece for piece, role in pieces if role == f"english.order_by.{index}.direction")
        if not said:
            yield f"the direction of sort key {index} is not said"
        if kind is not None:
            yield from _wrong_kind(said, kind)
        wrong = _DOWN if key.direction == "ASC" else _UP
        # "from newest to oldest" has both words; the first decides.
        first = min((m.start() for m in _UP.finditer(said)), default=len(said))
        second = min((m.start() for m in _DOWN.finditer(said)), default=len(said))
        if wrong.search(said) and (first < second) == (wrong is _UP):
            yield f"`{said}` does not say {key.direction}"
    for piece, role in pieces:
        if role.startswith("english.order_by") and _NEVER_SORT.search(piece):
            yield f"`{piece}` speaks of groups where the query sorts"


def _wrong_kind(said: str, kind: Kind) -> Iterator[str]:
    for other, words in _KIND_WORDS.items():
        if other != kind and words.search(said) and not _KIND_WORDS.get(kind, words).search(said):
            yield f"`{said}` is said of a column of {kind}s"
