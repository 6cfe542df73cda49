"""Pair of a file -> its two sides, each as a row of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data_gen.errors import InputError
from data_gen.store.pair_columns import SIDE, SIDES

_SHARED = ("index", "seed", "command_set", "split", "variant")
_BEGIN, _MIDDLE, _END = "### Instruction: ", " ### Context: ", " ### Response:"


def is_pair(row: Mapping[str, Any]) -> bool:
    """Whether the row is one that `tinysql data pairs` writes."""
    return any(f"{side}_{name}" in row for side in SIDES for name in SIDE)


def sides(pair: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The clean and the corrupt side under the names that the columns of rows have.

    Question and CREATE TABLE, which a pair has no columns for, are those that stand in the side's prompt; a prompt
    of another frame has none.
    """
    found = []
    for side in SIDES:
        row = {name: pair[name] for name in _SHARED if name in pair}
        row |= {
            name.removeprefix(f"{side}_"): value
            for name, value in pair.items()
            if name.startswith(f"{side}_")
        }
        row |= _parts(str(row.get("prompt")))
        found.append(row)
    return found


def _parts(prompt: str) -> dict[str, str]:
    inner = prompt.removeprefix(_BEGIN)
    english, middle, create = inner.removesuffix(_END).rpartition(_MIDDLE)
    if not (middle and prompt.startswith(_BEGIN) and inner.endswith(_END)):
        return {}
    return {"english_prompt": english, "create_statement": create}


def single_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows themselves, and the two sides of those that are pairs."""
    for row in rows:
        if is_pair(row):
            yield from sides(row)
        else:
            yield row


def unusable(place: str, error: Exception, hint: str) -> InputError:
    """What to raise of a row that lacks a column of ours, or holds something in it that no row of ours does."""
    hint += "; rows with the published columns alone go through `tinysql data import` first"
    if isinstance(error, InputError):
        return InputError(f"{place}: {error.message}", hint=hint)
    if isinstance(error, KeyError):
        return InputError(f"{place} has no column {error}", hint=hint)
    return InputError(f"{place} has null, or no text, in a column that has to have it: {error}", hint=hint)
