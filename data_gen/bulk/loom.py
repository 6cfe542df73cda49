"""Numbers of strings, piece by piece and row by row -> the rows' texts, and the role of each piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_gen.text import MARKS

if TYPE_CHECKING:
    import pyarrow as pa

Ints = np.ndarray
NONE = -1
"""Where a row does not have a piece."""


class Strings:
    """Strings by number; they are added before they are woven."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.numbers: dict[str, int] = {}
        self._array: pa.StringArray | None = None

    def number(self, text: str) -> int:
        """The number of a string, which is added if it is new."""
        number = self.numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number

    def block(self, texts: Iterable[str]) -> Ints:
        """The numbers of many strings."""
        return np.array([self.number(text) for text in texts], np.int32)

    def array(self) -> pa.StringArray:
        """All strings so far."""
        import pyarrow as pa

        if self._array is None or len(self._array) != len(self.texts):
            self._array = pa.array(self.texts, pa.string())
            self.lengths = np.array([len(text) for text in self.texts], np.int32)
        return self._array


class Woven(NamedTuple):
    """The pieces of all rows, one behind the other."""

    pieces: pa.StringArray
    """Their bytes lie one behind the other too, so any run of pieces is one string."""
    places: Ints
    """Where each piece begins in characters, and where the last one ends."""
    offsets: Ints
    """The same in bytes."""
    roles: Ints
    ends: Ints
    """For each row and section the number of pieces before its end, in this row and all before it."""

    def strings(self, starts: Ints) -> pa.StringArray:
        """The bytes between these offsets, without a copy."""
        import pyarrow as pa

        buffers = [None, pa.py_buffer(starts.astype(np.int32)), self.pieces.buffers()[2]]
        return pa.StringArray.from_buffers(len(starts) - 1, buffers[1], buffers[2])


class Loom:
    """Takes one piece of every row after the other, in the order of the text."""

    def __init__(self, strings: Strings, rows: int) -> None:
        self.strings, self.rows = strings, rows
        self.pieces: list[Ints] = []
        self.roles: list[Ints | int] = []
        self.sections: list[int] = []

    def add(self, numbers: Ints | int | str, role: str | Ints = "", where: np.ndarray | None = None) -> None:
        """The next piece: a string, or the number of one for each row; only of the rows `where`.

        A role is a name, or a mark for each row.
        """
        if where is not None and not where.any():
            return
        if isinstance(numbers, str):
            numbers = self.strings.number(numbers)
        column = np.empty(self.rows, np.int32)
        column[:] = numbers
        if where is not None:
            column[~where] = NONE
        self.pieces.append(column)
        self.roles.append((ord(MARKS[role]) if role else 0) if isinstance(role, str) else role)

    def end_section(self) -> None:
        """What was added since the last end is one section of each row."""
        self.sections.append(len(self.pieces))

    def weave(self) -> Woven:
        """Put the pieces together."""
        import pyarrow as pa

        numbers = np.array(self.pieces).T.copy()
        is_there = numbers >= 0
        flat = numbers[is_there]
        roles = np.empty((len(self.roles), self.rows), np.int32)
        for place, role in enumerate(self.roles):
            roles[place] = role
        array = self.strings.array()
        pieces = array.take(pa.array(flat))
        places = np.zeros(len(flat) + 1, np.int64)
        np.cumsum(self.strings.lengths[flat], out=places[1:])
        offsets = np.frombuffer(pieces.buffers()[1], np.int32)[: len(flat) + 1].astype(np.int64)
        counts = [part.sum(axis=1) for part in np.split(is_there, self.sections[:-1], axis=1)]
        ends = np.cumsum(np.stack(counts, axis=1).ravel()).reshape(self.rows, -1)
        return Woven(pieces, places, offsets, roles.T[is_there], ends)
