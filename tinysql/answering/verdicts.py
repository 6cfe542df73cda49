"""Rows and answers -> grades, in worker processes: neither rows nor grades need torch.

A row is a pure function of its configuration and number, so a worker is told these and makes the row itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.run.grade import Grade, grade
from data_gen.store.cluster import end_with_parent
from data_gen.store.tables import rows_table


def row_workers(workers: int) -> ProcessPoolExecutor:
    """Processes for `row_texts` and `grade_rows`; they end when this one is killed."""
    # Spawned processes share nothing with this one, so its threads and its GPU cannot hang them.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)


def row_texts(config: DataConfig, rows: range) -> list[tuple[str, str]]:
    """Prompt and SQL of each row."""
    table = rows_table(config, rows, ("prompt", "sql_statement"))
    return list(zip(table["prompt"].to_pylist(), table["sql_statement"].to_pylist(), strict=True))


def grade_rows(config: DataConfig, rows: range, answers: Sequence[str]) -> list[Grade]:
    """The grade of each row's answer."""
    return [grade(make_example(config, row), answer) for row, answer in zip(rows, answers, strict=True)]
