"""Rows + rows of reference -> how much of the former occurs in the latter, and whether the split promised none.

What a row is made of is kept as 64-bit hashes, eight bytes for each different one (`data_gen/review/hashes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from data_gen.draw.splits import UNSEEN, Split
from data_gen.errors import InputError
from data_gen.query import Query, is_key
from data_gen.review.hashes import HashSet
from data_gen.review.outline import features, skeleton
from data_gen.review.sides import unusable
from data_gen.schema import split_create

if TYPE_CHECKING:
    import numpy as np

KINDS: dict[str, str] = {
    "prompt": "the whole prompt",
    "sql": "the whole SQL",
    "schema": "table names, each with its set of column names",
    "skeleton": "the SQL with its names and literals left open",
    "question": "the English with its names and literals left open",
    "template": "the instruction that the English begins with",
    "clauses": "every pair of clauses, functions, operators and directions that the query shows",
    "table": "a table name",
    "column": "a column name, keys left aside",
    "8-gram": "eight words of the English in a row",
    "masked 8-gram": "the same with names and literals left open",
}
"""What is looked up in the reference. A row counts if one of its things of that kind occurs there."""
WORDS = 8
"""Words of an n-gram."""

_IMPLIED: dict[str, frozenset[str]] = {
    "schemas": frozenset({"prompt", "schema"}),
    "tables": frozenset({"prompt", "sql", "schema", "table"}),
    "columns": frozenset({"prompt", "sql", "schema", "column"}),
    "templates": frozenset({"prompt", "question", "template"}),
    "clauses": frozenset({"prompt", "sql", "skeleton", "clauses"}),
}
"""What a split holds out -> the kinds of which nothing may occur in training."""
_BATCH = 1024


def asked(split: Split) -> frozenset[str]:
    """The kinds of which a split promises that nothing of them occurs in `train`."""
    return frozenset[str]().union(*[_IMPLIED[held] for held in UNSEEN[split]])


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """How many rows have something that occurs in the reference, kind by kind."""

    rows: int
    reference_rows: int
    found: Mapping[str, int]
    """Kind -> rows of which it occurs in the reference."""
    asked: frozenset[str]
    """The kinds of which none was to occur."""
    examples: Mapping[str, int]
    """Kind -> number of the first such row."""

    def share(self, kind: str) -> float:
        """The share of all rows that counts for `kind`."""
        return self.found[kind] / self.rows if self.rows else 0.0

    @property
    def broken(self) -> tuple[str, ...]:
        """The kinds that were to be 0 and are not."""
        return tuple(kind for kind, rows in self.found.items() if rows and kind in self.asked)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        kinds = {
            kind: {"rows": rows, "share": self.share(kind), "asked": 0 if kind in self.asked else None}
            for kind, rows in self.found.items()
        }
        return {
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "kinds": kinds,
            "ok": not self.broken,
        }

    def __str__(self) -> str:
        lines = [f"{self.rows:,} rows against {self.reference_rows:,} of the reference", ""]
        lines.append(f"{'occurs in the reference':<24} {'rows':>9} {'share':>8}  asked")
        for kind, rows in self.found.items():
            verdict = ""
            if kind in self.asked:
                verdict = f"0  LEAK, first in row {self.examples[kind]:,}" if rows else "0  ok"
            lines.append(f"{kind:<24} {rows:>9,} {self.share(kind):>8.2%}  {verdict}".rstrip())
        return "\n".join(lines)


def leakage(
    rows: Iterable[Mapping[str, Any]],
    reference_rows: Iterable[Mapping[str, Any]] | Reference,
    *,
    split: Split | None = None,
) -> Leakage:
    """Look everything that `rows` are made of up in `reference_rows`; each is read once, row by row.

    A `Reference` made of the latter serves for several splits.

    What was asked for is told by `split`, or else by the rows' own column `split`: what all of them promise.

    Raises:
        InputError: a row lacks a column that a dataset of ours has, or holds something else in it.
    """
    reference = reference_rows if isinstance(reference_rows, Reference) else Reference(reference_rows)
    found, examples, count = dict.fromkeys(KINDS, 0), dict[str, int](), 0
    splits: set[Any] = set() if split is None else {split}
    for batch in _batches(rows):
        if split is None:
            splits.update(row.get("split") for row in batch)
        for kind, numbers in reference.look_up(batch, count).items():
            found[kind] += len(numbers)
            if len(numbers):
                examples.setdefault(kind, int(numbers[0]))
        count += len(batch)
    # Rows that name no split of ours, as imported ones, promise nothing.
    promised = [asked(name) if name in UNSEEN else frozenset[str]() for name in splits]
    return Leakage(
        rows=count,
        reference_rows=reference.rows,
        found=found,
        asked=frozenset.intersection(*promised) if promised else frozenset(),
        examples=examples,
    )


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


class _Pairs:
    """Which features of queries have been seen together."""

    def __init__(self) -> None:
        self.bits: dict[str, int] = {}
        self.beside: dict[int, int] = {}
        self.seen: set[int] = set()

    def mask(self, query: Query) -> int:
        mask = 0
        for feature in features(query):
            mask |= self.bits.setdefault(feature, 1 << len(self.bits))
        return mask

    def add(self, query: Query) -> None:
        mask = self.mask(query)
        if mask not in self.seen:
            self.seen.add(mask)
            for bit in self.bits.values():
                if mask & bit:
                    self.beside[bit] = self.beside.get(bit, 0) | mask

    def contain(self, query: Query) -> bool:
        """Whether every pair of the query's features has been seen in one query."""
        mask = self.mask(query)
        return all(not mask & ~self.beside.get(bit, 0) for bit in self.bits.values() if mask & bit)


class Reference:
    """Everything that some rows are made of."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self.rows = 0
        self.sets = {kind: HashSet() for kind in KINDS if kind != "clauses"}
        self.pairs = _Pairs()
        for batch in _batches(rows):
            self._add(batch)

    def _add(self, batch: list[Mapping[str, Any]]) -> None:
        collected: dict[str, list[int]] = {kind: [] for kind in self.sets}
        for row in batch:
            parts = _parts(row, self.rows)
            self.rows += 1
            for kind, hashes in collected.items():
                hashes += parts.hashes[kind]
            self.pairs.add(parts.query)
        for kind, hashes in collected.items():
            self.sets[kind].extend(hashes)

    def look_up(self, batch: list[Mapping[str, Any]], first: int) -> dict[str, np.ndarray]:
        """Kind -> the numbers of the rows that have something of the kind in common; the batch begins with `first`."""
        # Importing it takes time, and the command line imports this module.
        import numpy as np

        collected: dict[str, list[int]] = {kind: [] for kind in self.sets}
        counts: dict[str, list[int]] = {kind: [] for kind in self.sets}
        together = []
        for number, row in enumerate(batch, first):
            parts = _parts(row, number)
            for kind, hashes in collected.items():
                hashes += parts.hashes[kind]
                counts[kind].append(len(parts.hashes[kind]))
            if self.pairs.contain(parts.query):
                together.append(number)
        found = {"clauses": np.array(together, np.int64)}
        for kind, hashes in collected.items():
            numbers = np.repeat(np.arange(first, first + len(batch)), counts[kind])
            found[kind] = np.unique(numbers[self.sets[kind].contain(hashes)])
        return found


class _Parts(NamedTuple):
    hashes: dict[str, list[int]]
    query: Query


def _parts(row: Mapping[str, Any], number: int) -> _Parts:
    try:
        return _take_apart(row)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise unusable(f"row {number}", error, "compare datasets that tinysql wrote") from error


def _take_apart(row: Mapping[str, Any]) -> _Parts:
    prompt, sql = row["prompt"], row["sql_statement"]
    words = row["english_prompt"].split()
    query, tables = Query.from_json(row["query"]), _tables(row["create_statement"])
    open_question, template = _open(prompt, row["roles"])
    masked = open_question.split()
    hashes = {
        "prompt": [hash(prompt)],
        "sql": [hash(sql)],
        "schema": [hash(frozenset(tables))],
        "skeleton": [hash(skeleton(sql))],
        "question": [hash(open_question)],
        "template": [hash(template)],
        "table": [hash(name) for name, _ in tables],
        "column": [hash(name) for _, columns in tables for name in columns if not is_key(name)],
        "8-gram": _grams(words),
        "masked 8-gram": _grams(masked),
    }
    return _Parts(hashes, query)


def _grams(words: list[str]) -> list[int]:
    return [hash(tuple(words[start : start + WORDS])) for start in range(len(words) - WORDS + 1)]


def _tables(create: str) -> list[tuple[str, frozenset[str]]]:
    """The name of each table, and of its columns."""
    return [
        (name, frozenset([column.split(None, 1)[0] for column in columns if column]))
        for name, columns in split_create(create)
    ]


_NAMES = frozenset({"column", "table", "alias", "name"})
_LITERALS = frozenset({"value", "low", "high"})


class _Slots(dict[str, str]):
    """Role -> what stands for its words: `{name}`, `{value}`, or nothing if the words are to stay."""

    def __missing__(self, role: str) -> str:
        last = role.rpartition(".")[2]
        slot = " {name}" if last in _NAMES else " {value}" if last in _LITERALS else ""
        self[role] = slot
        return slot


_SLOTS = _Slots()


def _open(prompt: str, roles: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """The question with its names and literals left open, and of that the words of the instruction alone."""
    question: list[str] = []
    template: list[str] = []
    last = 0
    for span in roles:
        role, start, end = span["role"], span["start"], span["end"]
        if not last <= start <= end:
            # A thousand spans over all of the prompt would make a thousand copies of it.
            raise InputError(f"`roles` has a span from {start} to {end} behind one that ends at {last}")
        last = end
        if not role.startswith("english"):
            if question:
                break
            continue
        piece = prompt[start:end]
        question.append(_SLOTS[role] or piece)
        if role == "english.template":
            template.append(piece)
    return "".join(question), "{}".join(template)
