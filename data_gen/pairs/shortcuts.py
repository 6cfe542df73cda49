"""Config + index -> the variants of a row that tell what a model copies a name from: the schema or the English.

In an honest row the two say the same name, so the right answer does not tell where it was read. Here one name, that
of the table or of the first column asked for, is another in the schema, in the English, or in both, or the schema
lacks the column. Where the two disagree no answer is right, but each hypothesis says which one it predicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.draw.sampling import sample_query, sample_style
from data_gen.draw.schemas import pick
from data_gen.draw.splits import UNSEEN
from data_gen.errors import InputError
from data_gen.example import Example, write_example
from data_gen.pairs.changes import PairDraft, other_tables
from data_gen.pairs.slots import change_item, is_simple, names_used
from data_gen.query import Query
from data_gen.read.parse import read_sql
from data_gen.read.reading import SqlError
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import Draws, stable_hash

Variant = Literal[
    "table.clean",
    "table.schema",
    "table.english",
    "table.both",
    "column.clean",
    "column.schema",
    "column.english",
    "column.both",
    "column.missing",
]
SHORTCUTS: tuple[Variant, ...] = get_args(Variant)
"""What is swapped: nothing, a name in the schema only, in the English only, or in both; or the schema lacks it."""
Follows = Literal["both", "schema", "english", "neither"]
ATTEMPTS = 5000
"""Draws after which the command sets are taken to have no such row."""
STYLES = 8
"""Styles drawn to find one that names the table."""
NAMES_TRIED = 32
"""Columns drawn to find one of the right type."""


@dataclass(frozen=True, kw_only=True)
class ShortcutRow:
    """One prompt, and what an answer to it names if it is copied from the schema or from the English."""

    variant: Variant
    example: Example
    """Its English asks for a query that its schema may not allow; its SQL is what copying the English gives."""
    schema_names: frozenset[str]
    """What copying from the schema gives at the slot: one name, or any column where the one asked for is missing."""
    english_name: str

    @property
    def slot(self) -> Literal["table", "column"]:
        """Where in the answer the name is: FROM, or the first selected column."""
        return "table" if self.variant.startswith("table") else "column"

    @property
    def schema_answers(self) -> tuple[str, ...]:
        """The SQL of a model that copies the name from the schema and does all else right."""
        names = sorted(self.schema_names)
        return tuple(write_example(0, self._with(name), self.example.style).sql.string for name in names)

    @property
    def english_answer(self) -> str:
        """The SQL of a model that copies the name from the English and does all else right."""
        return self.example.sql.string

    def _with(self, name: str) -> Query:
        query = self.example.query
        return replace(query, table=name) if self.slot == "table" else change_item(query, 0, column=name)

    def follows(self, sql: str) -> Follows:
        """Which of the two the name at the slot of an answer comes from, whatever else the answer says.

        `both` where the schema and the English say the same name, `neither` for SQL that cannot be read.
        """
        try:
            reading = read_sql(sql)
        except SqlError:
            return "neither"
        if self.slot == "table":
            name = reading.source.table if reading.source else None
        else:
            name = reading.select[0].column if reading.select else None
        in_schema, in_english = name in self.schema_names, name == self.english_name
        if in_schema and in_english:
            return "both"
        return "schema" if in_schema else "english" if in_english else "neither"


def make_shortcuts(config: DataConfig, index: int, seed: int = 0) -> tuple[ShortcutRow, ...]:
    """The variants of row `index`, in the order of `SHORTCUTS`: a pure function of (config, seed, index).

    The row asks one table, which the English names, for a first column that is mentioned once. New names are
    of the kind that the split's rows have, and in neither the schema nor the question.

    Raises:
        InputError: the command sets have no such row.
    """
    name = config.command_sets[index % len(config.command_sets)]
    key = stable_hash("shortcut", config.seed, seed, config.split, config.lexicon, config.variant, index)
    for attempt in range(ATTEMPTS):
        rng = Draws(key, attempt)
        query = sample_query(rng, config, name)
        if not is_simple(query) or not _asks_once(query):
            continue
        draft = PairDraft(rng, config, query)
        table = next(other_tables(draft, query, query.table), None)
        column = _other_column(draft, query)
        styles = (sample_style(rng, query, config) for _ in range(STYLES))
        style = next((style for style in styles if style.mentions_table), None)
        if style is not None and table is not None and column is not None:
            example = write_example(index, query, style)
            return tuple(_VARIANTS[variant](variant, example, table, column) for variant in SHORTCUTS)
    raise InputError(
        f"no row of `{name}` in {ATTEMPTS:,} asks one table for a column that it mentions once",
        hint="give the tables at least two columns (min_columns)",
    )


def _asks_once(query: Query) -> bool:
    """Whether the first selected item is a column that nothing else in the query uses, beside others in the table."""
    first = query.select[0]
    rest = replace(query, select=query.select[1:])
    is_plain = first.aggregate is None and first.window is None
    return is_plain and first.column not in names_used(rest) and len(query.schema.tables[0].columns) > 1


def _other_column(draft: PairDraft, query: Query) -> Column | None:
    """A column that the schema does not have, of the type of the first one asked for."""
    words, [table] = draft.words, query.schema.tables
    old = table.column(query.select[0].column)
    held_out = "columns" in UNSEEN[draft.config.split]
    pool = tuple(words.held_out_columns if held_out else words.columns)
    taken = {table.name, *(column.name for column in table.columns)}
    for _ in range(NAMES_TRIED):
        name = pick(draft.rng, pool)
        same_kind = any(column.type == old.type for column in words.column_variants[name])
        if same_kind and name not in taken and name.count("_") == old.name.count("_"):
            return Column(name, old.type)
    return None


Build = Callable[[Variant, Example, str, Column], ShortcutRow]


def _row(
    variant: Variant, example: Example, asked: Query, schema: Schema, names: set[str], said: str
) -> ShortcutRow:
    changed = write_example(example.index, replace(asked, schema=schema), example.style)
    return ShortcutRow(variant=variant, example=changed, schema_names=frozenset(names), english_name=said)


def _table(in_schema: bool, in_english: bool) -> Build:
    def build(variant: Variant, example: Example, table: str, column: Column) -> ShortcutRow:
        query = example.query
        [old] = query.schema.tables
        seen, said = (table if there else old.name for there in (in_schema, in_english))
        schema = Schema((Table(seen, old.columns),))
        return _row(variant, example, replace(query, table=said), schema, {seen}, said)

    return build


def _column(in_schema: bool, in_english: bool, *, missing: bool = False) -> Build:
    def build(variant: Variant, example: Example, table: str, column: Column) -> ShortcutRow:
        query = example.query
        [old] = query.schema.tables
        first = old.column(query.select[0].column)
        seen, said = (column if there else first for there in (in_schema, in_english))
        kept = [c if c is not first else seen for c in old.columns if not (missing and c is first)]
        schema = Schema((Table(old.name, tuple(kept)),))
        names = {c.name for c in kept} if missing else {seen.name}
        return _row(variant, example, change_item(query, 0, column=said.name), schema, names, said.name)

    return build


_VARIANTS: dict[Variant, Build] = {
    "table.clean": _table(False, False),
    "table.schema": _table(True, False),
    "table.english": _table(False, True),
    "table.both": _table(True, True),
    "column.clean": _column(False, False),
    "column.schema": _column(True, False),
    "column.english": _column(False, True),
    "column.both": _column(True, True),
    "column.missing": _column(False, False, missing=True),
}
