"""How many rows are done -> a bar on stderr, or now and then a line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int | None], None]
"""Told how many rows are done, and of how many, where that is known."""
SECONDS_BETWEEN_LINES = 20
"""How often a log that is no terminal hears of long work."""


@contextmanager
def progress(unit: str, begins: str | None = None) -> Iterator[Report]:
    """Show on stderr how many rows are done, and how fast: a bar, or now and then a line in a log.

    A log hears at once that the work `begins`, if it is said here how.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(unit, total=None)
    begun = told = time.monotonic()
    first: int | None = None
    ended = False

    def report(done: int, rows: int | None) -> None:
        nonlocal first, told, ended
        now = time.monotonic()
        # Shards that were there before were not made in this time.
        first = first if first is not None else done if rows is None or done < rows else 0
        speed = f"{(done - first) / max(now - begun, 1e-3):,.0f} {unit}/s"
        bar.update(task, completed=done, total=rows, description=f"{unit}, {speed}")
        if not (console.is_terminal or ended) and (done == rows or now - told > SECONDS_BETWEEN_LINES):
            told, ended = now, done == rows
            of = "" if rows is None else f" of {rows:,}"
            sys.stderr.write(f"{done:,}{of} {unit}, {speed}\n")

    if begins is not None and not console.is_terminal:
        sys.stderr.write(f"{begins}\n")
    with bar:
        yield report
