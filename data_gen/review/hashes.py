"""64-bit hashes of many rows -> a set of eight bytes for each different one, or the answer that each prompt has.

Two different things share a hash so rarely that among a hundred million of them one false alarm is to be expected in
thousands of reports.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

FRESH = 1 << 20
"""Numbers that may wait to be sorted in."""


class HashSet:
    """A growing set of signed 64-bit numbers: a sorted array, and behind it those that wait to be sorted in."""

    def __init__(self) -> None:
        self.known: np.ndarray | None = None
        self.fresh = array("q")

    def extend(self, hashes: Iterable[int]) -> None:
        """Add numbers, of which the set may have some."""
        self.fresh.extend(hashes)
        # Sorting at doubled sizes costs n log n in all.
        if len(self.fresh) > max(FRESH, 0 if self.known is None else len(self.known)):
            self._sort_in()

    def __len__(self) -> int:
        return len(self._sort_in())

    def contain(self, hashes: list[int]) -> np.ndarray:
        """Which of `hashes` are in the set: one boolean each."""
        # Importing it takes time, and `tinysql data` need not wait for it.
        import numpy as np

        known, wanted = self._sort_in(), np.array(hashes, np.int64)
        if not len(known):
            return np.zeros(len(wanted), bool)
        places = np.searchsorted(known, wanted)
        places[places == len(known)] = 0
        found: np.ndarray = known[places] == wanted
        return found

    def _sort_in(self) -> np.ndarray:
        import numpy as np

        if self.known is None:
            self.known = np.empty(0, np.int64)
        if self.fresh:
            self.known = np.union1d(self.known, np.frombuffer(self.fresh, np.int64))
            self.fresh = array("q")
        return self.known


class SecondAnswer(NamedTuple):
    """A row whose prompt has another SQL than it had in the first row with that prompt."""

    row: int
    first: int


class Answers:
    """The prompt and the SQL of every row as hashes of 64 bits: with the row's number 24 bytes a row."""

    def __init__(self) -> None:
        self.prompts, self.sqls, self.rows = array("Q"), array("Q"), array("q")

    def add(self, prompt: int, sql: int, row: int) -> None:
        """Note the hashes of one row."""
        self.prompts.append(prompt)
        self.sqls.append(sql)
        self.rows.append(row)

    def extend(self, other: Answers) -> None:
        """Note all rows of another one."""
        self.prompts.extend(other.prompts)
        self.sqls.extend(other.sqls)
        self.rows.extend(other.rows)

    def second(self) -> Iterator[SecondAnswer]:
        """The rows with a second answer, in order."""
        import numpy as np

        prompts, sqls = (np.frombuffer(one, np.uint64) for one in (self.prompts, self.sqls))
        rows = np.frombuffer(self.rows, np.int64)
        order = np.lexsort((rows, prompts))
        prompts, sqls, rows = prompts[order], sqls[order], rows[order]
        is_first = np.append(True, prompts[1:] != prompts[:-1])[: len(rows)]
        first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        wrong = np.flatnonzero(sqls != sqls[first])
        for place in wrong[np.argsort(rows[wrong])]:
            yield SecondAnswer(int(rows[place]), int(rows[first[place]]))
