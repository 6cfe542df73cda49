"""Row numbers -> their random numbers, taken by many rows at a time, each row in its own order."""

from __future__ import annotations

import numpy as np

from data_gen.seeding import uniform

WIDTH = 64
"""Numbers of a row that are computed at first, and further ones when some row has used them up."""

Ints = np.ndarray
Rows = np.ndarray
"""Places of rows in a batch, none twice."""


class Numbers:
    """What `Draws` gives, for a batch of rows: row by row the same numbers in the same order."""

    def __init__(self, key: int, rows: range) -> None:
        self.key, self.range = key, rows
        self.values = uniform(key, rows, 0, WIDTH)
        self.used = np.zeros(len(rows), np.int64)

    def take(self, rows: Rows) -> np.ndarray:
        """The next number of each of these rows."""
        places = self.used[rows]
        while places.size and places.max() >= self.values.shape[1]:
            further = uniform(self.key, self.range, self.values.shape[1], WIDTH)
            self.values = np.concatenate([self.values, further], axis=1)
        self.used[rows] += 1
        found: np.ndarray = self.values[rows, places]
        return found

    def chance(self, rows: Rows, share: float) -> np.ndarray:
        """True in `share` of these rows."""
        return self.take(rows) < share

    def below(self, rows: Rows, sizes: Ints | int) -> Ints:
        """A whole number from 0 to the size minus 1, as `pick` takes it."""
        found: Ints = (self.take(rows) * sizes).astype(np.int64)
        return found

    def sample(self, rows: Rows, sizes: Ints, counts: Ints) -> Ints:
        """For each row `counts` different places below `sizes`, in random order, as `sample` draws them.

        What stands behind the first `counts` places of a row means nothing.
        """
        widest = int(sizes.max()) if len(rows) else 0
        found = np.tile(np.arange(widest), (len(rows), 1))
        for place in range(int(counts.max()) if len(rows) else 0):
            active = np.flatnonzero(counts > place)
            others = place + self.below(rows[active], sizes[active] - place)
            here = found[active, place]
            found[active, place] = found[active, others]
            found[active, others] = here
        return found


def compress(members: np.ndarray) -> tuple[Ints, Ints]:
    """For each row the places that are members, in order and before all others, and how many they are."""
    return np.argsort(~members, axis=1, kind="stable"), members.sum(axis=1)


def first(members: np.ndarray) -> Ints:
    """For each row the first place that is a member; -1 where none is."""
    return np.where(members.any(axis=1), members.argmax(axis=1), -1)
