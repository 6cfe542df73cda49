"""Config + row numbers -> an Arrow table: in bulk where that can be done, else row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd
from typing import TYPE_CHECKING, Any

from data_gen.config import DataConfig
from data_gen.example import make_examples, row_key
from data_gen.store.columns import COLUMNS, arrow_schema, example_columns
from data_gen.store.spans import Spans, merge_pieces, roles_array

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 4096
"""Most rows that are made in bulk at once; more do not fit the processor's caches."""
SPAN_COLUMNS = ("english_prompt", "create_statement", "sql_statement", "prompt", "roles")
"""Columns of the texts and their spans."""

Parts = tuple[dict[str, Any], list[Spans]]


def rows_table(config: DataConfig, rows: range, columns: Iterable[str] = COLUMNS) -> pa.Table:
    """These rows of `config`, each the same as `make_example`'s, with these columns of `COLUMNS`.

    Raises:
        InputError: as `make_example`.
    """
    import numpy as np
    import pyarrow as pa

    wanted = tuple(columns)
    groups = [(name, some, places) for name, some, places in _by_set(config, rows) if len(some)]
    arrays: dict[str, list[Any]] = {name: [] for name in wanted}
    spans: list[Spans] = []
    for name, some, _ in groups:
        for found, its in _group(config, name, some, wanted):
            spans += its
            for column, array in found.items():
                arrays[column].append(array)
    schema, total = arrow_schema(wanted), len(rows)
    constants = {"seed": config.seed, "split": config.split}
    table: dict[str, Any] = {}
    for column in wanted:
        if column in constants:
            table[column] = pa.repeat(pa.scalar(constants[column], schema.field(column).type), total)
        elif column == "roles":
            table[column] = roles_array(spans)
        else:
            table[column] = pa.chunked_array(arrays[column], schema.field(column).type)
    made = pa.table(table)
    if len(groups) == 1:
        return made
    return made.take(np.argsort(np.concatenate([places for _, _, places in groups]))).combine_chunks()


def _by_set(config: DataConfig, rows: range) -> Iterator[tuple[str, range, Any]]:
    """Each command set, its rows, and their places among all rows."""
    import numpy as np

    sets = config.command_sets
    # Every so many rows the command set is the same again.
    period = len(sets) // gcd(len(sets), rows.step)
    for first in range(min(period, len(rows))):
        some = rows[first::period]
        yield sets[some[0] % len(sets)], some, np.arange(first, len(rows), period)


def _group(config: DataConfig, name: str, rows: range, wanted: tuple[str, ...]) -> Iterator[Parts]:
    from data_gen.bulk.drawing import TooRare, suits

    in_bulk = suits(config, name)
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        if in_bulk:
            try:
                yield _in_bulk(config, name, some, wanted)
                continue
            except TooRare:
                in_bulk = False
        yield example_columns(make_examples(config, some.start, some.stop, some.step), wanted)


def _in_bulk(config: DataConfig, name: str, rows: range, wanted: tuple[str, ...]) -> Parts:
    import numpy as np

    from data_gen.bulk.records import TEXTS, Records
    from data_gen.bulk.sampling import draw_batch

    records = Records(draw_batch(config, name, row_key(config, name), rows))
    found: dict[str, Any] = {}
    spans: list[Spans] = []
    if any(column in SPAN_COLUMNS for column in wanted):
        woven = records.weave_texts()
        found = {column: text for column, text in records.texts(woven).items() if column in wanted}
        begins = woven.places[np.append(0, woven.ends[:, -1])]
        spans.append(merge_pieces(begins, woven.places, woven.roles))
    for column in wanted:
        if column not in (*TEXTS, "seed", "split", "roles"):
            found[column] = records.column(column)
    return found, spans
