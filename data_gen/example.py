"""Config + index -> one example: query, English, schema and SQL, every character with its role."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import gcd

from msgspec import Struct

from data_gen.config import DataConfig
from data_gen.draw.sampling import sample_query, sample_style
from data_gen.errors import InputError
from data_gen.query import Query
from data_gen.say.english import add_english, write_english
from data_gen.say.style import Style
from data_gen.schema import add_schema, write_schema
from data_gen.seeding import Draws, draws, stable_hash
from data_gen.sql import add_sql, write_sql
from data_gen.text import Pieces, Text

__all__ = ["DataConfig", "Example", "make_example", "make_examples", "prompt_string", "write_example"]

MARKUP = "prompt.markup"
"""The role of what stands around question and schema."""
CHUNK = 256
"""Rows of one command set whose random numbers are drawn together; it makes no difference to any row."""


class Example(Struct, frozen=True, kw_only=True, dict=True):
    """One question with its one right answer."""

    index: int
    query: Query
    style: Style

    @cached_property
    def english(self) -> Text:
        """The question."""
        return write_english(self.query, self.style)

    @cached_property
    def schema_text(self) -> Text:
        """Every CREATE TABLE that the question needs."""
        return write_schema(self.query.schema)

    @cached_property
    def sql(self) -> Text:
        """The right answer."""
        return write_sql(self.query)

    @cached_property
    def prompt(self) -> Text:
        """`### Instruction: {english} ### Context: {create} ### Response:`."""
        pieces = Pieces()
        add_prompt(pieces, self.query, self.style)
        return pieces.text()

    @cached_property
    def text(self) -> Text:
        """The prompt, a space, and the SQL."""
        pieces = Pieces()
        add_prompt(pieces, self.query, self.style)
        add_sql(pieces, self.query)
        return pieces.text()


def add_prompt(pieces: Pieces, query: Query, style: Style) -> None:
    """Append the prompt: question and schema, between three pieces of markup."""
    pieces.add("### Instruction:", MARKUP)
    add_english(pieces, query, style)
    pieces.add(" ### Context:", MARKUP)
    add_schema(pieces, query.schema)
    pieces.add(" ### Response:", MARKUP)


def prompt_string(english: str, create: str) -> str:
    """The prompt for a question that has no roles, because a person asked it."""
    return f"### Instruction: {english} ### Context: {create} ### Response:"


def write_example(index: int, query: Query, style: Style) -> Example:
    """The example that says `query` in `style`."""
    return Example(index=index, query=query, style=style)


def make_example(config: DataConfig, index: int) -> Example:
    """Row `index` of the data that `config` describes; no other row has any influence on it.

    Raises:
        InputError: the index is negative, or the split is empty.
    """
    if index < 0:
        raise InputError(f"row index is {index}, expected 0 or more")
    name = config.command_sets[index % len(config.command_sets)]
    return _make(config, name, index, Draws(row_key(config, name), index))


def make_examples(config: DataConfig, start: int, stop: int, step: int = 1) -> Iterator[Example]:
    """Every `step`-th row from `start` to `stop - 1`, as `make_example` makes it but many times faster.

    Raises:
        InputError: as `make_example`.
    """
    if start < 0:
        raise InputError(f"row index is {start}, expected 0 or more")
    sets, rows = config.command_sets, range(start, stop, step)
    # So many rows on, the sets come again in the same order.
    period = len(sets) // gcd(len(sets), step)
    for first in range(0, len(rows), CHUNK * period):
        some = rows[first : first + CHUNK * period]
        names = [sets[index % len(sets)] for index in some[:period]]
        numbers = [draws(row_key(config, name), some[place::period]) for place, name in enumerate(names)]
        for place, index in enumerate(some):
            yield _make(config, names[place % period], index, next(numbers[place % period]))


def _make(config: DataConfig, name: str, index: int, rng: Draws) -> Example:
    query = sample_query(rng, config, name)
    return Example(index=index, query=query, style=sample_style(rng, query, config))


@lru_cache(maxsize=64)
def row_key(config: DataConfig, name: str) -> int:
    """What the random numbers of every row of the command set called `name` begin with.

    Each set has a key of its own: where two sets share the form of a query, one seed would give them the same rows.
    """
    return stable_hash("row", config.seed, config.split, config.lexicon, config.variant, name)
