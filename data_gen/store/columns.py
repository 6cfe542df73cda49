"""Examples -> an Arrow table, many rows at a time.

A row costs some microseconds, because hardly anything is built for it alone: the pieces of a batch of rows lie in
one list, and the spans of all rows are found at once, as arrays of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from data_gen.errors import InputError
from data_gen.example import MARKUP, Example, add_prompt
from data_gen.query import COMMAND_SETS, OrderBy, SelectItem, command_set
from data_gen.say.style import spoken
from data_gen.schema import Column
from data_gen.sql import add_sql
from data_gen.store.spans import Spans, merge_pieces, roles_array, roles_type
from data_gen.text import BREAK, MARKS, Pieces, Prepared
from data_gen.vocabulary.lexicon import LEXICONS

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 512
"""Rows whose pieces lie in one list."""

PUBLISHED = (
    "command_set",
    "table_name",
    "table_name_synonym",
    "table_name_use_synonym",
    "create_statement",
    "english_prompt",
    "sql_statement",
    "table_fields",
    "select",
    "order_by",
)
"""The columns of the published datasets, with the same meaning; `table_fields`, `select` and `order_by` are JSON."""
COLUMNS = (*PUBLISHED, "index", "seed", "split", "variant", "prompt", "query", "style", "roles")
"""All columns of a dataset. `roles` covers `prompt + " " + sql_statement`; `query` is JSON for `Query.from_json`;
`style` is that of a `Style`, and the two of them make the row again."""


def arrow_schema(columns: Iterable[str] = COLUMNS) -> pa.Schema:
    """The Arrow schema of these columns."""
    import pyarrow as pa

    types = {
        "table_name_use_synonym": pa.bool_(),
        "index": pa.int64(),
        "seed": pa.int64(),
        "roles": roles_type(),
    }
    return pa.schema([(name, types.get(name, pa.string())) for name in columns])


def example_table(examples: Iterable[Example], *, seed: int, split: str) -> pa.Table:
    """One row per example, with the columns `COLUMNS`; `seed` and `split` are those of the config they come from.

    The roles are a dictionary array, as Parquet keeps them.
    """
    import pyarrow as pa

    columns, spans = example_columns(examples)
    rows = len(columns["index"])
    columns["seed"] = pa.repeat(pa.scalar(seed, pa.int64()), rows)
    columns["split"] = pa.repeat(pa.scalar(split, pa.string()), rows)
    columns["roles"] = roles_array(spans)
    return pa.Table.from_arrays([columns[name] for name in COLUMNS], names=list(COLUMNS))


def example_columns(
    examples: Iterable[Example], wanted: Iterable[str] = COLUMNS
) -> tuple[dict[str, pa.Array], list[Spans]]:
    """The columns of a table but for `seed`, `split` and `roles`, and the spans of the roles."""
    import pyarrow as pa

    parts: dict[str, list[Any]] = {}
    spans: list[Spans] = []
    remaining = iter(examples)
    while batch := list(islice(remaining, BATCH)):
        texts, found = write_texts(batch)
        spans.append(found)
        for name, values in (texts | _write_facts(batch)).items():
            parts.setdefault(name, []).extend(values)
    schema = arrow_schema()
    names = [name for name in wanted if name in parts]
    return {name: pa.array(parts[name], schema.field(name).type) for name in names}, spans


def published_table(table: pa.Table) -> pa.Table:
    """The published columns alone, with the number of the command set, as published: 4 for `cs4`.

    Raises:
        InputError: a command set with switches, which has no number.
    """
    import pyarrow as pa

    numbers = [_number(name) for name in table["command_set"].to_pylist()]
    return table.select(list(PUBLISHED)).set_column(0, "command_set", pa.array(numbers, pa.int64()))


def _number(name: str) -> int:
    if name not in COMMAND_SETS:
        raise InputError(
            f"command set `{name}` has no number, and the published rows know sets by their numbers",
            hint=f"export rows of {', '.join(COMMAND_SETS)}",
        )
    return int(name.removeprefix("cs"))


def write_texts(batch: list[Example]) -> tuple[dict[str, list[str]], Spans]:
    """The texts of some examples by their columns, and the spans of `prompt + " " + sql_statement`."""
    import numpy as np

    pieces = Pieces()
    for example in batch:
        add_prompt(pieces, example.query, example.style)
        add_sql(pieces, example.query)
    joined = BREAK.join(pieces.strings)
    roles = np.frombuffer("".join(pieces.roles).encode("utf-32-le"), np.uint32)
    breaks = np.flatnonzero(np.frombuffer(joined.encode("utf-32-le"), np.uint32) == ord(BREAK))
    text = joined.replace(BREAK, "")
    # Where each piece begins in `text`, and behind them where the last one ends.
    places = np.empty(len(roles) + 1, np.int64)
    places[0], places[-1] = 0, len(text)
    places[1:-1] = breaks - np.arange(len(breaks))
    # Each row has three pieces of markup: before the question, before the schema, and behind it.
    markup = np.flatnonzero(roles == ord(MARKS[MARKUP])).reshape(-1, 3)
    begins = np.append(places[markup[:, 0]], len(text))
    begin, end = begins[:-1].tolist(), begins[1:].tolist()
    english, create, sql = (places[markup + 1] + 1).T.tolist()
    behind_english, behind_create = places[markup[:, 1:]].T.tolist()
    texts = {
        "english_prompt": [text[a:b] for a, b in zip(english, behind_english, strict=True)],
        "create_statement": [text[a:b] for a, b in zip(create, behind_create, strict=True)],
        "prompt": [text[a : b - 1] for a, b in zip(begin, sql, strict=True)],
        "sql_statement": [text[a:b] for a, b in zip(sql, end, strict=True)],
    }
    return texts, merge_pieces(begins, places, roles)


def _write_facts(batch: list[Example]) -> dict[str, list[Any]]:
    """What is known of each example besides its texts."""
    encode = msgspec.json.Encoder().encode
    tables, synonyms, used, fields, items, keys = [], [], [], [], [], []
    for example in batch:
        query, style = example.query, example.style
        published = _published(style.lexicon)
        # A CTE's name is no name of the schema.
        table = query.table if query.cte is None else query.cte.select.table
        said = spoken(style, table, table=True)
        tables.append(table)
        synonyms.append(said if said != table else published.synonym(table))
        used.append(said != table)
        columns = [column for table in query.schema.tables for column in table.columns]
        fields.append(f"[{', '.join(map(published.fields.__getitem__, columns))}]")
        if style.variant == "base":
            shown = map(published.items.__getitem__, query.select)
        else:
            shown = map(
                published.said_items.__getitem__, [(i, spoken(style, i.column)) for i in query.select]
            )
        items.append(f"[{', '.join(shown)}]")
        sorts = query.order_by or _orders(query.command_set)
        keys.append(f"[{', '.join(map(_KEYS.__getitem__, query.order_by))}]" if sorts else None)
    return {
        "table_name": tables,
        "table_name_synonym": synonyms,
        "table_name_use_synonym": used,
        "table_fields": fields,
        "select": items,
        "order_by": keys,
        "index": [example.index for example in batch],
        "command_set": [example.query.command_set for example in batch],
        "variant": [example.style.variant for example in batch],
        "query": [example.query.to_json() for example in batch],
        "style": [encode(example.style).decode() for example in batch],
    }


class _Published:
    """Fields and items as the published data have them, each written once."""

    def __init__(self, lexicon: str) -> None:
        self.synonyms = LEXICONS[lexicon].synonyms
        self.fields = Prepared(self.field)
        self.items: Prepared[SelectItem] = Prepared(lambda item: self.item((item, item.column)))
        self.said_items = Prepared(self.item)

    def synonym(self, name: str) -> str | None:
        return next(iter(self.synonyms.get(name, ())), None)

    def field(self, column: Column) -> str:
        # In the published data a field of a table never says that its synonym is used.
        name = column.name
        return _json(name=name, type=column.type, synonym=self.synonym(name), use_synonym=False)

    def item(self, pair: tuple[SelectItem, str]) -> str:
        item, said = pair
        name = item.column
        function = item.aggregate or (item.window.function if item.window is not None else "")
        synonym = self.synonym(name) if said == name else said
        return _json(name=name, aggregate=function, synonym=synonym, use_synonym=said != name)


_published = lru_cache(maxsize=16)(_Published)


@lru_cache(maxsize=64)
def _orders(name: str) -> bool:
    return command_set(name).orders


_KEYS: Prepared[OrderBy] = Prepared(lambda key: _json(name=key.column, asc=key.direction == "ASC"))


def _json(**values: Any) -> str:
    return json.dumps(values)
