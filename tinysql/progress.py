"""Progress bars on stderr, so that stdout carries data alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 20
"""How often a log that is no terminal hears of long work."""


def progress(items: Iterable[Item], *, total: int, title: str) -> Iterator[Item]:
    """Pass `items` through and show how many of `total` are done: a bar, or now and then a line in a log."""
    with Bar(title) as bar:
        bar.show(0, total)
        for done, item in enumerate(items, start=1):
            yield item
            bar.show(done, total)


class Bar:
    """A bar that is told how far work has come and what to show beside it; in a log, a line now and then."""

    def __init__(self, title: str, *, active: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.title, self.active = title, active
        self.console = Console(stderr=True)
        silent = not (active and self.console.is_terminal)
        self.progress = Progress(
            *columns, TextColumn("{task.fields[shown]}"), console=self.console, transient=True, disable=silent
        )
        self.task = self.progress.add_task(title, total=None, shown="")
        self.told = time.monotonic()

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line that stays, above the bar or in a log."""
        if self.active:
            self.console.print(f"      {self.title}: {text}", highlight=False)

    def show(self, done: int, total: int, values: Mapping[str, float] | None = None) -> None:
        """`done` of `total`, and some numbers."""
        text = "  ".join(f"{name} {value:,.4g}" for name, value in (values or {}).items())
        self.progress.update(self.task, completed=done, total=total, shown=text)
        quiet = time.monotonic() - self.told < SECONDS_BETWEEN_LINES
        if self.active and not self.console.is_terminal and not quiet:
            self.told = time.monotonic()
            self.console.print(f"      {self.title}: {done} of {total}  {text}".rstrip())
