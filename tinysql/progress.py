"""Progress bars on stderr, so that stdout carries data alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 20
"""How often a log that is no terminal hears of long work."""


def progress(items: Iterable[Item], *, total: int, title: str) -> Iterator[Item]:
    """Pass `items` through and show how many of `total` are done: a bar, or now and then a line in a log."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    told = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        for done, item in enumerate(items, start=1):
            yield item
            bar.advance(task)
            if not console.is_terminal and time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                console.print(f"      {title}: {done} of {total}")
