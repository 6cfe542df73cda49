"""A dataset on disk -> its audit, on several processes where there are several cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.review.audit import Auditor
from data_gen.review.findings import Audit, merge
from data_gen.review.hashes import Answers
from data_gen.review.rows import read_rows

REPORT_EVERY = 200


def check_rows(
    path: Path | str,
    *,
    duckdb: bool = True,
    workers: int = 1,
    rows: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Audit:
    """Audit the first `rows` rows or pairs of a dataset (all by default); `report(done)` is called now and then.

    Raises:
        InputError: as `read_rows`; workers or rows are not positive; DuckDB is asked for and not installed.
    """
    for name, value in (("workers", workers), ("rows", rows)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, expected at least 1")
    if workers == 1:
        return _check_part(path, 0, 1, rows, duckdb, report).finish()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_part, str(path), part, workers, rows, duckdb) for part in range(workers)]
        parts = [job.result() for job in jobs]
    whole = Auditor(duckdb=False)
    whole.audit = merge([audit for audit, _ in parts])
    return whole.finish([answers for _, answers in parts])


def _part(path: str, part: int, parts: int, rows: int | None, duckdb: bool) -> tuple[Audit, Answers]:
    auditor = _check_part(path, part, parts, rows, duckdb, None)
    return auditor.audit, auditor.answers


def _check_part(
    path: Path | str,
    part: int,
    parts: int,
    rows: int | None,
    duckdb: bool,
    report: Callable[[int], None] | None,
) -> Auditor:
    """Audit every row whose number leaves `part` when divided by `parts`."""
    auditor = Auditor(duckdb=duckdb, config=_config_of(Path(path)))
    for number, row in enumerate(read_rows(path)):
        if rows is not None and number >= rows:
            break
        if number % parts == part:
            auditor.add(row, number)
        if report is not None and number % REPORT_EVERY == REPORT_EVERY - 1:
            report(number + 1)
    return auditor


def _config_of(path: Path) -> DataConfig | None:
    """The config that a directory of ours was written from; rows from elsewhere have none."""
    file = path / "config.json"
    stated = read_json(file).get("config") if file.is_file() else None
    return DataConfig.from_dict(stated) if isinstance(stated, dict) else None
