"""Pair of a file and its two sides as examples -> which of the promises of a pair it breaks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.pairs.alignment import changed_span
from data_gen.pairs.counterfactual import CounterfactualPair
from data_gen.pairs.edits import EDITS
from data_gen.pairs.slots import is_sound
from data_gen.review.rebuilt import difference
from data_gen.store.pair_columns import CHANGES, SIDES, TOKEN_COLUMNS, pair_table

if TYPE_CHECKING:
    import tokenizers

_ROLES = {
    "schema.table": r"schema\.table",
    "english.table": r"english\.table",
    "join.0.key": r"english\.join\.0\.(left|right)\.column",
    "where.0.negated": r"english\.where\.0\.operator",
    "where.0.subquery.kind": r"english\.where\.0\.operator",
    "where.connective": r"english\.where(\.0)?\.keyword",
}
"""Edit -> the role of the span that it changes; for the others it is the edit's name, behind `english`."""


def pair_problems(
    row: Mapping[str, Any], clean: Example, corrupt: Example, tokenizer: tokenizers.Tokenizer | None
) -> Iterator[tuple[str, str | None]]:
    """Each of `PAIR_PROPERTIES` that the row's columns allow to check, and why the pair lacks it.

    Where some of the columns that a property needs are missing, it can be broken by the others, but not proved.
    """
    if "edit" in row:
        edit = row["edit"]
        yield "one edit", _other_edit(edit, clean, corrupt)
        differs = clean.query.schema != corrupt.query.schema
        changes = isinstance(edit, str) and edit.startswith("schema.")
        yield "one schema", None if differs == changes else f"edit `{edit}`: the schemas {_SCHEMAS[differs]}"
    loose = [example.sql.string for example in (clean, corrupt) if not is_sound(example.query)]
    yield "sides are sound", f"no one right answer: {loose[0]}" if loose else None
    pair = CounterfactualPair(edit=str(row.get("edit")), clean=clean, corrupt=corrupt)
    for name, columns in _LOCATED.items():
        if columns is TOKEN_COLUMNS and tokenizer is None:
            continue
        given = tokenizer if columns is TOKEN_COLUMNS else None
        problem = _differing(row, pair, given, columns) if set(row) & set(columns) else None
        if problem is not None or set(row) >= set(columns):
            yield name, problem


_CHANGE_COLUMNS = tuple(f"{side}_{name}" for side in SIDES for name in CHANGES)
_LOCATED = {"change located": _CHANGE_COLUMNS, "tokens located": TOKEN_COLUMNS}


def _differing(
    row: Mapping[str, Any],
    pair: CounterfactualPair,
    tokenizer: tokenizers.Tokenizer | None,
    names: Sequence[str],
) -> str | None:
    try:
        [expected] = pair_table([pair], seed=0, split="", tokenizer=tokenizer).to_pylist()
    except InputError as error:
        return error.message
    return difference(row, expected, names)


_SCHEMAS = {True: "differ", False: "are the same"}


def _other_edit(edit: object, clean: Example, corrupt: Example) -> str | None:
    if not isinstance(edit, str) or edit not in EDITS:
        return f"no edit `{edit}`"
    if clean.style != corrupt.style:
        return "the sides are said in two styles"
    if clean.sql.string == corrupt.sql.string:
        return f"both sides have the answer {clean.sql.string}"
    change = changed_span(clean.prompt, corrupt.prompt)
    if change is None:
        return "the prompts differ in other than one span"
    roles = {span.role for span in change if span.role}
    if not all(re.fullmatch(role_of(edit), role) for role in roles):
        return f"what differs plays {' and '.join(sorted(roles))}, which edit `{edit}` does not change"
    return None


def role_of(edit: str) -> str:
    """A regular expression for the role of what an edit changes in the prompt."""
    if edit in _ROLES:
        return _ROLES[edit]
    name = re.sub("^window", "select.N", edit.replace("aggregate.column", "column"))
    return r"english\." + re.escape(name).replace("N", r"\d+")
