"""A row and its query -> what the row's other columns have to be, and the first that is something else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from data_gen.draw.splits import SPLITS
from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.query import Query
from data_gen.say.style import Style
from data_gen.store.columns import COLUMNS, example_table
from data_gen.store.pair_columns import PAIR_COLUMNS, TOKEN_COLUMNS
from data_gen.store.published import Loss, Recovered, check_columns, imported_record

TEXTS = ("english_prompt", "create_statement", "sql_statement", "prompt", "roles")
"""What English, schema and SQL are written to; the columns besides these are facts about them."""
PLACED = ("index", "seed", "split")
"""What says where a row belongs, and follows neither from its query nor from its style."""
_OURS = ("prompt", "query", "style", "roles")
_UNKNOWN = ("style", "variant", "split", "seed")
_MAY_BE_NULL = ("table_name_synonym", "order_by")


def is_ours(row: Mapping[str, Any]) -> bool:
    """Whether the row has a column that only datasets of ours have."""
    return any(name in row for name in _OURS)


def is_imported(row: Mapping[str, Any]) -> bool:
    """Whether the row says that it was imported: nobody knows its style, variant, split and seed."""
    return all(name in row and row[name] is None for name in _UNKNOWN)


def null_column(row: Mapping[str, Any]) -> str | None:
    """A column that is null though every row of ours fills it; one that is not there at all is no such column."""
    may_be = (*_MAY_BE_NULL, *_UNKNOWN, "table_fields", "table_name_use_synonym", "select")
    empty = may_be if is_imported(row) else _MAY_BE_NULL
    return next(
        (f"`{name}` is null" for name, value in row.items() if value is None and name not in empty), None
    )


def read_style(text: object) -> Style:
    """The style that a row's column `style` holds.

    Raises:
        InputError: it is not the JSON of a style.
    """
    try:
        return msgspec.json.decode(str(text), type=Style)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InputError(
            f"`style` is not the JSON of a style: {error}",
            hint="write the row again, or leave the column out",
        ) from error


def expected_of(example: Example) -> dict[str, Any]:
    """The columns that this example has to have; where it belongs is not among them."""
    [row] = example_table([example], seed=0, split="").to_pylist()
    return {name: value for name, value in row.items() if name not in PLACED}


def expected_import(row: Mapping[str, Any], query: Query) -> dict[str, Any]:
    """The columns that an imported row has to have for its question."""
    found = Recovered(index=0, query=query, question=str(row["english_prompt"]))
    return {name: value for name, value in imported_record(row, found).items() if name not in PLACED}


def difference(row: Mapping[str, Any], expected: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of these columns that the row has and that is not what was expected."""
    for name in names:
        if name in row and name in expected and row[name] != expected[name]:
            if name == "roles":
                return _other_roles(row[name], expected[name])
            return f"{name} is `{row[name]}`, expected `{expected[name]}`"
    return None


def _other_roles(given: Any, expected: list[Any]) -> str:
    pairs = zip(given, expected, strict=False) if isinstance(given, list) else ()
    return f"roles: {next((one for one, other in pairs if one != other), 'their number')} is not what the query gives"


def contradiction(row: Mapping[str, Any], query: Query) -> str | None:
    """Whether the columns that state the query a second time say something else; a null one says nothing."""
    try:
        check_columns(row, query)
    except Loss as loss:
        return loss.message
    return None


def misplaced(row: Mapping[str, Any], number: int, stated: Mapping[str, Any] | None) -> str | None:
    """Which of `PLACED` is not that of row `number` of the dataset that states its seed and its split.

    Where nothing is stated: which of them is that of no row at all.
    """
    if stated is not None:
        return difference(row, {"index": number, **stated}, PLACED)
    for name in ("index", "seed"):
        value = row.get(name)
        if name in row and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return f"{name} is `{value}`, expected a whole number from 0 on"
    if "split" in row and row["split"] not in SPLITS:
        return f"split is `{row['split']}`, expected one of {', '.join(SPLITS)}"
    return None


def absent(row: Mapping[str, Any]) -> list[str]:
    """The columns of ours that the row has not."""
    return [name for name in COLUMNS if name not in row]


def absent_of_pair(row: Mapping[str, Any], *, aligned: bool) -> list[str]:
    """The columns of ours that the pair has not; those of tokens only if it is `aligned` or has one of them."""
    wanted = PAIR_COLUMNS
    if aligned or any(name in row for name in TOKEN_COLUMNS):
        wanted += TOKEN_COLUMNS
    return [name for name in wanted if name not in row]
