"""Config + index -> one example: query, English, schema and SQL, every character with its role."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from data_gen.config import DataConfig
from data_gen.english import Style, write_english
from data_gen.errors import InputError
from data_gen.lexicon import LEXICONS
from data_gen.query import Query
from data_gen.sampling import sample_query, sample_schema, sample_style
from data_gen.schema import write_schema
from data_gen.seeding import stable_rng
from data_gen.sql import write_sql
from data_gen.text import Text

__all__ = ["DataConfig", "Example", "make_example", "prompt_string", "write_example"]

_MARKUP = "prompt.markup"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question with its one right answer."""

    index: int
    query: Query
    style: Style
    english: Text
    schema_text: Text
    sql: Text

    @cached_property
    def prompt(self) -> Text:
        """`### Instruction: {english} ### Context: {create} ### Response:`."""
        return Text.of(
            [
                ("### Instruction:", _MARKUP),
                *self.english.spaced().pieces(),
                (" ### Context:", _MARKUP),
                *self.schema_text.spaced().pieces(),
                (" ### Response:", _MARKUP),
            ]
        )

    @cached_property
    def text(self) -> Text:
        """The prompt, a space, and the SQL."""
        return Text.join([self.prompt, self.sql.spaced()])


def prompt_string(english: str, create: str) -> str:
    """The prompt for a question that has no roles, because a person asked it."""
    return f"### Instruction: {english} ### Context: {create} ### Response:"


def write_example(index: int, query: Query, style: Style) -> Example:
    """Write `query` as English (in `style`), schema and SQL."""
    return Example(
        index=index,
        query=query,
        style=style,
        english=write_english(query, style),
        schema_text=write_schema(query.schema),
        sql=write_sql(query),
    )


def make_example(config: DataConfig, index: int) -> Example:
    """Row `index` of the data that `config` describes; no other row has any influence on it.

    Raises:
        InputError: the index is negative, or the split is empty.
    """
    if index < 0:
        raise InputError(f"row index is {index}, expected 0 or more")
    rng = stable_rng("row", config.seed, config.split, config.lexicon, index)
    command_set = config.command_sets[index % len(config.command_sets)]
    schema = sample_schema(rng, config)
    query = sample_query(rng, command_set, schema, max_keys=config.max_keys)
    return write_example(index, query, sample_style(rng, query, LEXICONS[config.lexicon]))
