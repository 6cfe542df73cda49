"""Any plain values -> random numbers of their own, the same on every machine and in every process."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
BLOCK, BLOCKS = 32, 4
"""Numbers of a row that are computed together, and how many such blocks are computed for many rows at once."""


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash of the parts; unlike the built-in `hash` it does not change from process to process."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@lru_cache(maxsize=65536)
def name_hash(name: str) -> int:
    """The stable hash of a name of a table or column."""
    return stable_hash("name", name)


def mix(number: int) -> int:
    """A 64-bit number that looks unrelated to `number` (the finalizer of SplitMix64, Steele et al. 2014)."""
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & MASK
    return number ^ number >> 31


class Draws:
    """The random numbers of one row: a counter-based generator, so row i needs no row before it.

    Number k of row i is SplitMix64 at a place that (key, i, k) determine. `random()` gives a float in [0, 1).
    """

    __slots__ = ("random",)

    def __init__(self, key: int, row: int, numbers: Iterator[float] | None = None) -> None:
        if numbers is None:
            numbers = chain.from_iterable(_Blocks(key, range(row, row + 1)).of(0))
        self.random = numbers.__next__


def draws(key: int, rows: range) -> Iterator[Draws]:
    """The numbers of each of these rows, computed together and many times faster than one by one."""
    blocks = _Blocks(key, rows)
    for place, row in enumerate(rows):
        yield Draws(key, row, chain.from_iterable(blocks.of(place)))


class _Blocks:
    """The numbers of some rows, a block of each row at a time, and none before a row asks for it."""

    def __init__(self, key: int, rows: range) -> None:
        self.key, self.rows = key, rows
        self.made: list[list[list[float]]] = []

    def of(self, place: int) -> Iterator[Iterable[float]]:
        for block in range(BLOCKS):
            if block == len(self.made):
                self.made.append(self._make(block))
            yield self.made[block][place]
        # So few rows come here that the others need not be computed with them.
        yield _numbers(self.key, self.rows[place], BLOCK * BLOCKS)

    def _make(self, block: int) -> list[list[float]]:
        found: list[list[float]] = uniform(self.key, self.rows, block * BLOCK, BLOCK).tolist()
        return found


def uniform(key: int, rows: range, first: int, count: int) -> np.ndarray:
    """The numbers `first` to `first + count - 1` of each of these rows."""
    # Importing it takes time, and the command line imports this module.
    import numpy as np

    steps = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    golden = np.uint64(GOLDEN)
    numbers = np.arange(rows.start, rows.stop, rows.step, dtype=np.uint64) * golden + np.uint64(key)
    _mix(numbers)
    numbers = numbers[:, None] + steps * golden
    _mix(numbers)
    numbers >>= np.uint64(11)
    return numbers * 2.0**-53


def _numbers(key: int, row: int, first: int) -> Iterator[float]:
    place = mix(row * GOLDEN + key & MASK) + first * GOLDEN
    while True:
        place = place + GOLDEN & MASK
        yield (mix(place) >> 11) * 2.0**-53


def _mix(numbers: np.ndarray) -> None:
    """`mix` of every number, in place."""
    import numpy as np

    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)


def read_seed(text: str) -> int:
    """A seed as the command line gives it: a whole number from 0 to 2^63 - 1.

    Raises:
        argparse.ArgumentTypeError: anything else; argparse names the option in front of the sentence.
    """
    if not (text.isascii() and text.isdigit() and int(text) < 2**63):
        raise ArgumentTypeError(f"{text!r} is no seed, expected a whole number from 0 to 2^63 - 1")
    return int(text)


MOST_COUNT, MOST_ROWS = 10_000_000, 100_000_000_000
"""Of what a command holds in memory, and of the rows of a dataset."""


def read_count(text: str) -> int:
    """How many of something as the command line gives it; that there are any is for the command to ask.

    Raises:
        argparse.ArgumentTypeError: no whole number, or one beyond `MOST_COUNT`, which nobody would see the end of.
    """
    return _at_most(MOST_COUNT, text)


def read_rows(text: str) -> int:
    """How many rows of a dataset, as `read_count`, up to the `MOST_ROWS` that one can have."""
    return _at_most(MOST_ROWS, text)


def _at_most(most: int, text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no whole number") from None
    if count > most:
        raise ArgumentTypeError(f"{count:,} is more than {most:,}, expected fewer")
    return count
