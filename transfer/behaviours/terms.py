"""Column -> invented business terms: one that stands for a condition on it, and a like one that stands for nothing.

`glint` may mean `price > 50.5` wherever there is a price. What a term means follows from the column alone, so it is the
same in every row, every schema and every model, and no prompt says it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import get_args

import msgspec
from msgspec import Struct

from data_gen.draw.clauses import LITERALS
from data_gen.example import MARKUP, Example, write_example
from data_gen.query import Comparison, Condition, conditions
from data_gen.schema import Column
from data_gen.seeding import Draws, stable_hash
from data_gen.text import Text
from data_gen.vocabulary.invented import invented_word
from data_gen.vocabulary.lexicon import LEXICONS

TERM_ROLE, PHRASE_ROLE = "english.term", "english.term.phrase"
PHRASES = (
    (", only the", " ones"),
    (", those that are", ""),
    (", just the", " ones"),
    (", if they are", ""),
)
"""What is said before and behind a term."""
ORDERED: tuple[Comparison, ...] = tuple(one for one in get_args(Comparison) if one not in ("=", "<>"))
COLUMNS = frozenset(name for lexicon in LEXICONS.values() for name in lexicon.columns)
"""Columns that terms speak of: those that training rows name."""
TEXTS = LEXICONS["demo"].values


class Term(Struct, frozen=True):
    """A word, and what it stands for."""

    word: str
    condition: Condition | None
    """None for a word that stands for nothing."""


def terms_of(column: Column) -> tuple[Term, Term]:
    """The term of a column, and the like word that has no meaning."""
    return _terms(column.name, column.type in ("INTEGER", "BIGINT"), column.kind)


@lru_cache(maxsize=4096)
def _terms(name: str, is_whole: bool, kind: str) -> tuple[Term, Term]:
    rng = Draws(stable_hash("term", name), 0)
    known, unknown = invented_word(rng), invented_word(rng)
    literals = {
        "number": LITERALS["INTEGER" if is_whole else "REAL"],
        "date": LITERALS["DATE"],
        "boolean": LITERALS["BOOLEAN"],
        "text": TEXTS,
    }[kind]
    operator: Comparison = "=" if kind in ("text", "boolean") else ORDERED[int(rng.random() * len(ORDERED))]
    value = literals[int(rng.random() * len(literals))]
    condition = Condition(column=name, operator=operator, values=(value,))
    return Term(known, condition), Term(unknown, None)


class Asked(Struct, frozen=True):
    """An example that is asked with a term: the question without it, the term, and the like one without a meaning."""

    example: Example
    """With the term's condition in its WHERE."""
    plain: Example
    term: Term
    like: Term


@lru_cache(maxsize=16384)
def asked(example: Example) -> Asked | None:
    """What an example is asked about with a term; a pure function.

    None where no column of its table has one but those that WHERE speaks of, and where a second SELECT would not hear.
    """
    query = example.query
    if query.cte is not None or query.compound is not None:
        return None
    tested = {condition.column for condition, _ in conditions(query)}
    columns = [
        column
        for column in query.schema.table(query.table).columns
        if column.name in COLUMNS and column.name not in tested
    ]
    if not columns:
        return None
    term, like = terms_of(columns[stable_hash("asked", query.to_json()) % len(columns)])
    assert term.condition is not None
    condition = term.condition
    if query.joins:
        condition = msgspec.structs.replace(condition, table=query.table)
    full = msgspec.structs.replace(query, where=(*query.where, (condition,)))
    return Asked(write_example(example.index, full, example.style), example, term, like)


def write_question(ask: Asked, term: Term) -> Text:
    """The prompt with a term behind the question: `show the name of orders, only the glint ones`."""
    before, behind = PHRASES[ask.plain.style.number % len(PHRASES)]
    pieces = ask.plain.prompt.pieces()
    at = next(i for i, (_, role) in enumerate(pieces) if i and role == MARKUP)
    said = [(before, PHRASE_ROLE), (f" {term.word}", TERM_ROLE), (behind, PHRASE_ROLE)]
    return Text.of([*pieces[:at], *said, *pieces[at:]])
