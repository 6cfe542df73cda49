"""A generator of random numbers -> schema, query, style."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from random import Random
from typing import TypeVar

from data_gen.config import DataConfig
from data_gen.english import Style
from data_gen.errors import InputError
from data_gen.lexicon import LEXICONS, Lexicon
from data_gen.query import COMMAND_SETS, OrderBy, Query, SelectItem
from data_gen.schema import Column, Schema, Table
from data_gen.seeding import stable_hash

ORDERED_SHARE = 0.9
"""Share of rows with ORDER BY in the command sets that have it, drawn row by row."""
ATTEMPTS = 1000
"""Sets of columns after which a split is taken to be empty."""
TABLE_ATTEMPTS = 64
"""Table names tried with a set of columns; one schema in ten is a test schema by default."""

T = TypeVar("T")


def _pick(rng: Random, items: tuple[T, ...]) -> T:
    # `rng.choice` takes longer, and rows are drawn by the million.
    return items[int(rng.random() * len(items))]


def _sample(rng: Random, items: tuple[T, ...], count: int) -> list[T]:
    # The same for `rng.sample`: a Fisher-Yates shuffle that stops after `count` items.
    pool = list(items)
    for place in range(count):
        other = place + int(rng.random() * (len(pool) - place))
        pool[place], pool[other] = pool[other], pool[place]
    return pool[:count]


def _between(rng: Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


@lru_cache(maxsize=65536)
def _name_hash(kind: str, name: str) -> int:
    return stable_hash("split", kind, name)


def _is_test(total: int, test_fraction: float) -> bool:
    return stable_hash("schema", total) < test_fraction * 2**64


def _column_hash(columns: Iterable[Column]) -> int:
    # A sum does not depend on the order of its terms: the hash of a set, without sorting.
    return sum([_name_hash("column", column.name) for column in columns])


def is_test_schema(schema: Schema, test_fraction: float) -> bool:
    """Whether `schema` belongs to `test`: a function of its table names and their sets of columns alone.

    The order of columns, their types and every seed make no difference, so no schema of test is ever
    drawn for train.
    """
    total = sum(_name_hash("table", table.name) + _column_hash(table.columns) for table in schema.tables)
    return _is_test(total, test_fraction)


def sample_schema(rng: Random, config: DataConfig) -> Schema:
    """One table with `min_columns` to `max_columns` columns, of the config's split.

    Raises:
        InputError: the split has no schema of this lexicon and size.
    """
    words = LEXICONS[config.lexicon]
    randomly = config.split == "train" and rng.random() < config.random_names
    for _ in range(ATTEMPTS):
        count = _between(rng, config.min_columns, config.max_columns)
        if config.split == "names":
            columns = _sample(rng, words.unseen_columns, count)
            return Schema((Table(_pick(rng, words.held_out_tables), tuple(columns)),))
        columns = _random_columns(rng, words, count) if randomly else _known_columns(rng, words, count)
        name = _table_of_split(rng, config, columns, _random_table if randomly else _known_table)
        if name is not None:
            return Schema((Table(name, tuple(columns)),))
    raise InputError(
        f"no schema of split `{config.split}` in {ATTEMPTS} draws",
        hint=f"test_fraction {config.test_fraction} or the column numbers leave that split empty; change them",
    )


def _table_of_split(
    rng: Random, config: DataConfig, columns: list[Column], draw: Callable[[Random, Lexicon], str]
) -> str | None:
    """A table name that puts these columns into the config's split, or None if none is found soon."""
    words = LEXICONS[config.lexicon]
    of_columns = _column_hash(columns)
    for _ in range(TABLE_ATTEMPTS):
        name = draw(rng, words)
        total = of_columns + _name_hash("table", name)
        if _is_test(total, config.test_fraction) == (config.split == "test"):
            return name
    return None


def _known_table(rng: Random, words: Lexicon) -> str:
    compound = rng.random() < words.compound_share
    return _pick(rng, words.compound_tables if compound else words.single_tables)


def _known_columns(rng: Random, words: Lexicon, count: int) -> list[Column]:
    share = words.compound_share
    compounds = min(sum(rng.random() < share for _ in range(count)), len(words.compound_columns))
    columns = _sample(rng, words.single_columns, count - compounds)
    if compounds:
        columns += _sample(rng, words.compound_columns, compounds)
        rng.shuffle(columns)
    return columns


def _random_table(rng: Random, words: Lexicon) -> str:
    while True:
        name = f"{_pick(rng, words.first_pieces)}_{_pick(rng, words.last_table_pieces)}"
        if name not in words.unseen_names:
            return name


def _random_columns(rng: Random, words: Lexicon, count: int) -> list[Column]:
    columns: dict[str, Column] = {}
    while len(columns) < count:
        last = _pick(rng, words.last_column_pieces)
        name = f"{_pick(rng, words.first_pieces)}_{last.name}"
        if name not in words.unseen_names:
            columns[name] = Column(name, last.type)
    return list(columns.values())


def sample_query(rng: Random, command_set: str, schema: Schema, *, max_keys: int | None = None) -> Query:
    """A query of `command_set` on the first table of `schema`.

    Selected columns and sort keys are drawn independently, each in random order and number; a key need not
    be selected, and each has its own direction. Keys that nobody could see in the answer are left out: once
    every selected column is a key, rows that tie look the same, so a further key would change nothing.
    """
    table = schema.tables[0]
    columns = table.columns
    select = _sample(rng, columns, _between(rng, 1, len(columns)))
    order_by: list[OrderBy] = []
    if COMMAND_SETS[command_set].orders and rng.random() < ORDERED_SHARE:
        most = min(len(columns), max_keys or len(columns))
        unseen = {column.name for column in select}
        for column in _sample(rng, columns, _between(rng, 1, most)):
            order_by.append(OrderBy(column.name, "ASC" if rng.random() < 0.5 else "DESC"))
            unseen.discard(column.name)
            if not unseen:
                break
    return Query(
        command_set,
        schema,
        table.name,
        tuple([SelectItem(column.name) for column in select]),
        tuple(order_by),
    )


def sample_style(
    rng: Random, query: Query, lexicon: Lexicon, *, hide_table: bool = False, flip_one_word: bool = False
) -> Style:
    """Template, opener and a phrase per sort key that suits the key's type.

    `hide_table` takes only templates that do not name the table; `flip_one_word` gives the first key a
    phrase whose two directions differ in exactly one word. Counterfactual pairs ask for these.
    """
    phrases = []
    if query.order_by:
        types = {column.name: column.type for column in query.schema.table(query.table).columns}
        for index, key in enumerate(query.order_by):
            one_word = flip_one_word and index == 0
            suiting = lexicon.one_word_phrases_of if one_word else lexicon.phrases_of
            phrases.append(_pick(rng, suiting[types[key.column]]))
    return Style(
        template=_pick(rng, lexicon.templates_without_table if hide_table else lexicon.templates),
        last_separator=" and" if rng.random() < 0.75 else ",",
        opener=_pick(rng, lexicon.openers),
        phrases=tuple(phrases),
    )
