"""A dataset on disk -> its audit, on several processes where there are several cores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.review.audit import PROPERTIES, TARGETS, Audit, Auditor

Row = dict[str, Any]
REPORT_EVERY = 200


def read_rows(path: Path | str) -> Iterator[Row]:
    """The rows of a dataset: a directory of ours, or Parquet or JSON-lines files of anybody.

    Raises:
        InputError: there is nothing to read, a file is damaged, or a directory of ours was changed.
    """
    path = Path(path)
    if path.is_dir() and (path / "config.json").is_file() and "shards" in read_json(path / "config.json"):
        from data_gen.store.dataset import read_dataset

        yield from read_dataset(path)
        return
    files = sorted([*path.rglob("*.parquet"), *path.rglob("*.jsonl")]) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(
            f"`{path}` holds no rows", hint="give a dataset directory, or a .parquet or .jsonl file"
        )
    for file in files:
        yield from _read_file(file)


def _read_file(file: Path) -> Iterator[Row]:
    if file.suffix == ".jsonl":
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"line {number} of `{file}` is no JSON: {error}", hint="write the file again"
                    ) from error
                if not isinstance(row, dict):
                    raise InputError(
                        f"line {number} of `{file}` is a JSON {type(row).__name__}, expected an object",
                        hint="write one row a line, with its columns as keys",
                    )
                yield row
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=1000):
                yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"`{file}` is no whole Parquet file: {str(error).splitlines()[0]}", hint="write it again"
        ) from error


def check_rows(
    path: Path | str,
    *,
    duckdb: bool = True,
    workers: int = 1,
    rows: int | None = None,
    report: Callable[[int], None] | None = None,
) -> Audit:
    """Audit the first `rows` rows of a dataset (all by default); `report(done)` is called now and then.

    Raises:
        InputError: as `read_rows`; workers or rows are not positive; DuckDB is asked for and not installed.
    """
    for name, value in (("workers", workers), ("rows", rows)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, expected at least 1")
    if workers == 1:
        auditor = _check_part(str(path), 0, 1, rows, duckdb, report)
        return _with_answers(auditor.audit, [auditor.answers])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_part, str(path), part, workers, rows, duckdb) for part in range(workers)]
        parts = [job.result() for job in jobs]
    return _with_answers(merge([audit for audit, _ in parts]), [answers for _, answers in parts])


def _part(
    path: str, part: int, parts: int, rows: int | None, duckdb: bool
) -> tuple[Audit, dict[int, tuple[int, int]]]:
    auditor = _check_part(path, part, parts, rows, duckdb, None)
    return auditor.audit, auditor.answers


def _check_part(
    path: str, part: int, parts: int, rows: int | None, duckdb: bool, report: Callable[[int], None] | None
) -> Auditor:
    """Audit every row whose number leaves `part` when divided by `parts`."""
    auditor = Auditor(duckdb=duckdb)
    for number, row in enumerate(read_rows(path)):
        if rows is not None and number >= rows:
            break
        if number % parts == part:
            auditor.add(row, number)
        if report is not None and number % REPORT_EVERY == REPORT_EVERY - 1:
            report(number + 1)
    return auditor


def merge(audits: list[Audit]) -> Audit:
    """One audit of all rows from audits of some each."""
    whole = Audit()
    for audit in audits:
        whole.rows += audit.rows
        whole.checked.update(audit.checked)
        whole.failed.update(audit.failed)
        whole.mutants.update(audit.mutants)
        for name, findings in audit.findings.items():
            whole.findings[name] = [*whole.findings.get(name, []), *findings]
    return whole


def _with_answers(audit: Audit, parts: list[dict[int, tuple[int, int]]]) -> Audit:
    """Add prompts that have one answer in one part and another in another."""
    first: dict[int, tuple[int, int]] = {}
    for answers in parts:
        for prompt, (answer, row) in answers.items():
            other = first.setdefault(prompt, (answer, row))
            if other[0] != answer:
                problem = (
                    f"row {max(row, other[1])}: row {min(row, other[1])} has this prompt and another SQL"
                )
                audit.failed["one right answer"] += 1
                audit.findings.setdefault("one right answer", []).append(problem)
    return audit


def table(audit: Audit) -> str:
    """The audit as lines for a person: each property, how many rows have it, and what was found first."""
    lines = [f"{audit.rows:,} rows"]
    for name, meaning in PROPERTIES.items():
        if audit.checked[name]:
            share, target = audit.share(name), TARGETS.get(name, 1.0)
            verdict = "ok  " if share >= target else "FAIL"
            lines.append(f"{verdict} {name:<26} {share:9.3%} of {audit.checked[name]:,}  {meaning}")
            lines += [f"       {finding}" for finding in audit.findings.get(name, ())[:3]]
    return "\n".join(lines)
