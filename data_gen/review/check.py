"""A dataset on disk -> its audit, on several processes where there are several cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.pairs.alignment import tokenizer_of
from data_gen.review.audit import Auditor
from data_gen.review.findings import Audit, merge
from data_gen.review.hashes import Answers
from data_gen.review.rows import read_rows
from data_gen.review.sides import is_pair

SECONDS_BETWEEN_REPORTS = 0.2
"""How often it is looked how far the other processes are."""
_done: Synchronized[int] | None = None
"""In a process of several, how many rows all of them have audited."""


def check_rows(
    path: Path | str,
    *,
    duckdb: bool = True,
    workers: int = 1,
    rows: int | None = None,
    report: Callable[[int, int | None], None] | None = None,
    tokenizer: Path | str | None = None,
) -> Audit:
    """Audit the first `rows` rows or pairs of a dataset (all by default).

    `report` is told now and then how many are done, and of how many, None where the files do not say that.

    With `tokenizer`, the `tokenizer.json` that pairs were made with, what they say of tokens is checked too.

    Raises:
        InputError: as `read_rows`; workers or rows are not positive; DuckDB is asked for and not installed; the
            tokenizer is none, or another one than the pairs name, or there are no pairs.
    """
    for name, value in (("workers", workers), ("rows", rows)):
        if value is not None and value < 1:
            raise InputError(
                f"{name} is {value}, expected at least 1", hint=f"leave out --{name} for all there are"
            )
    header = _header_of(Path(path))
    if tokenizer is not None:
        _check_tokenizer(tokenizer, header)
        if not is_pair(next(read_rows(path))):
            raise InputError(
                f"tokenizer `{tokenizer}` is given, but `{path}` holds rows and no pairs, which alone tell of tokens",
                hint="leave out --tokenizer, or check what `tinysql data pairs` wrote",
            )
    make = partial(Auditor, duckdb=duckdb, stated=_stated(header), tokenizer=tokenizer)
    total = _total(header, rows)

    def tell(done: int) -> None:
        if report is not None:
            report(done, total)

    if workers == 1:
        return _check_part(path, 0, 1, rows, make, tell).finish()
    context = get_context("spawn")
    done: Synchronized[int] = context.Value("q", 0)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_share, initargs=(done,)) as pool:
        jobs = [pool.submit(_part, path, part, workers, rows, make) for part in range(workers)]
        while wait(jobs, SECONDS_BETWEEN_REPORTS).not_done:
            tell(done.value)
        parts = [job.result() for job in jobs]
    tell(done.value)
    whole = Auditor(duckdb=False)
    whole.audit = merge([audit for audit, _ in parts])
    return whole.finish([answers for _, answers in parts])


def _total(header: dict[str, Any], rows: int | None) -> int | None:
    """How many rows or pairs are checked, as far as that is known before they are read."""
    there = header.get("rows")
    if not isinstance(there, int):
        return None
    return there if rows is None else min(there, rows)


def _share(done: Synchronized[int]) -> None:
    """Count into `done`, which all processes share."""
    global _done
    _done = done


def _part(
    path: Path | str, part: int, parts: int, rows: int | None, make: Callable[[], Auditor]
) -> tuple[Audit, Answers]:
    def count(_: int) -> None:
        assert _done is not None
        with _done.get_lock():
            _done.value += 1

    auditor = _check_part(path, part, parts, rows, make, count)
    return auditor.audit, auditor.answers


def _check_part(
    path: Path | str,
    part: int,
    parts: int,
    rows: int | None,
    make: Callable[[], Auditor],
    tell: Callable[[int], None],
) -> Auditor:
    """Audit every row whose number leaves `part` when divided by `parts`; `tell` hears after each how many were."""
    auditor = make()
    for number, row in enumerate(read_rows(path)):
        if rows is not None and number >= rows:
            break
        if number % parts == part:
            auditor.add(row, number)
            tell(number // parts + 1)
    return auditor


def _header_of(path: Path) -> dict[str, Any]:
    """What a directory of ours says of its rows; empty for rows from elsewhere."""
    header = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return header if isinstance(header.get("config"), dict) and "shards" in header else {}


def _stated(header: dict[str, Any]) -> dict[str, Any] | None:
    if not header:
        return None
    config = header["config"]
    # Pairs have a seed of their own.
    return {"seed": header.get("pair_seed", config.get("seed")), "split": config.get("split")}


def _check_tokenizer(tokenizer: Path | str, header: dict[str, Any]) -> None:
    tokenizer_of(tokenizer)
    recorded = header.get("tokenizer_sha256")
    found = sha256(Path(tokenizer).read_bytes()).hexdigest()
    if recorded is not None and recorded != found:
        raise InputError(
            f"tokenizer `{tokenizer}` is not the one that the pairs were made with: its SHA-256 is {found[:12]}..., "
            f"expected {str(recorded)[:12]}...",
            hint="name the tokenizer.json that `tinysql data pairs` was given",
        )
