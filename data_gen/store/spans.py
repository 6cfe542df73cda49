"""Pieces of many rows with their roles -> spans, as arrays of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from data_gen.text import MARKS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Spans(NamedTuple):
    """The spans of some rows, one row behind the other."""

    counts: np.ndarray
    """Spans of each row."""
    starts: np.ndarray
    ends: np.ndarray
    roles: np.ndarray
    """Code points of `MARKS`."""


def roles_type(role: pa.DataType | None = None) -> pa.DataType:
    """A list of spans; none of them is null, so that Parquet need not say of each that it is there."""
    import pyarrow as pa

    kinds = {"start": pa.int32(), "end": pa.int32(), "role": role or pa.string()}
    struct = pa.struct([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
    return pa.list_(pa.field("element", struct, nullable=False))


def merge_pieces(begins: np.ndarray, places: np.ndarray, roles: np.ndarray) -> Spans:
    """Pieces -> spans: neighbours of one row and one role become one, and empty pieces vanish.

    Row r begins at character `begins[r]` and piece p at `places[p]`; both lists end with the end of the text.
    """
    import numpy as np

    filled = places[1:] > places[:-1]
    if not filled.all():
        places, roles = np.append(places[:-1][filled], places[-1]), roles[filled]
    firsts = np.searchsorted(places, begins)
    is_new = np.empty(len(roles), bool)
    is_new[1:] = roles[1:] != roles[:-1]
    is_new[firsts[:-1]] = True
    new = np.flatnonzero(is_new)
    counts = np.diff(np.searchsorted(new, firsts))
    starts = places[new]
    offsets = np.repeat(begins[:-1], counts)
    ends = np.append(starts[1:], places[-1])
    return Spans(counts, (starts - offsets).astype(np.int32), (ends - offsets).astype(np.int32), roles[new])


def roles_array(spans: list[Spans]) -> pa.Array:
    """The spans as a list of structs for each row; the roles are a dictionary array, as Parquet keeps them."""
    import numpy as np
    import pyarrow as pa

    counts, starts, ends, roles = (np.concatenate(parts) for parts in zip(*spans, strict=True))
    # The marks depend on what the process did before; an order of the roles' own does not.
    used = sorted(np.flatnonzero(np.bincount(roles)).tolist(), key=MARKS.roles.__getitem__)
    code_of = np.zeros(max(used) + 1, np.int32)
    code_of[used] = np.arange(len(used), dtype=np.int32)
    names = pa.array([MARKS.roles[mark] for mark in used], pa.string())
    role = pa.DictionaryArray.from_arrays(pa.array(code_of[roles]), names)
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    kind = roles_type(role.type)
    struct = pa.StructArray.from_arrays(
        [pa.array(starts), pa.array(ends), role], fields=list(kind.value_type)
    )
    return pa.ListArray.from_arrays(pa.array(offsets), struct, type=kind)
