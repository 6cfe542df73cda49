"""What `stability` is at, on stderr; and what it has measured, in a file that a repeated command goes on from."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from circuits.circuit import why
from data_gen.errors import InputError
from data_gen.files import find_json, write_atomic
from data_gen.outputs import check_output
from tinysql.runs import code_of, provenance

MODEL = "model.safetensors"
Row = dict[str, Any]


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr what is done, and when it is done, how many seconds it took."""
    begun = time.perf_counter()
    print(what, end=": ", file=sys.stderr, flush=True)
    took = "not done"
    try:
        yield
        took = f"{time.perf_counter() - begun:.1f} s"
    finally:
        print(took, file=sys.stderr, flush=True)


class Kept:
    """The file of what is measured, written after every edit of a table; a repeated command goes on from it."""

    def __init__(
        self,
        path: Path,
        runs: Sequence[Path],
        seed: int,
        device: str,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Raises `InputError` where the file holds what other runs, weights, code, seed, device or `settings` gave,
        and where it cannot be written."""
        check_output(path, overwrite=True, sources=())
        self.path, made_by = path, provenance()
        self.of = {
            "runs": [str(run) for run in runs],
            "weights": [weights_digest(run) for run in runs],
            "commit": code_of(made_by),
            "seed": seed,
            "device": device,
            **(settings or {}),
        }
        self.made_by = {
            **made_by,
            "command": " ".join(["python", *sys.argv]),
            "threads": torch.get_num_threads(),
        }
        self.found = self._read()

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = find_json(self.path) or {"of": self.of}
        of = found.get("of")
        others = [
            name for name, value in self.of.items() if not isinstance(of, dict) or of.get(name) != value
        ]
        if others:
            raise InputError(
                f"`{self.path}` was not written with the {' and '.join(others)} of this command",
                hint="name another file, or move this one away",
            )
        return found

    def rows(self, table: str, part: str) -> list[Row] | None:
        """What was measured of a part of a table; None where it was not. Raises `InputError` for a file without it."""
        try:
            return self._rows(table, part)
        except (AttributeError, KeyError, TypeError) as error:
            raise self.damaged(table, why(error)) from error

    def damaged(self, part: str, reason: str) -> InputError:
        """The refusal of a file in which a part of what was measured is not what is written there."""
        return InputError(
            f"`{self.path}` holds no whole rows of {part}: {reason}",
            hint="restore the file, or move it away and measure again",
        )

    def _rows(self, table: str, part: str) -> list[Row] | None:
        marks = [mark for mark in self.found.get("seconds", []) if mark["table"] == table]
        if part not in [mark["part"] for mark in marks]:
            return None
        if table != "similar":
            return [row for row in self.found[table] if row.get("part", row["edit"]) == part]
        # Written anew for other edits.
        found: list[Row] | None = self.found[table] if marks[-1]["part"] == part else None
        return found

    def add(self, table: str, part: str, rows: list[Row], seconds: float) -> None:
        """Take in a part of a table, and write the file, whole or not at all.

        Raises `InputError` where something else has been written there meanwhile.
        """
        # Another command may have added other edits since.
        self.found = self._read()
        if self.rows(table, part) is not None:
            return
        before = self.found.pop(table, []) if table != "similar" else []
        mark = {"table": table, "part": part, "seconds": seconds}
        self.found["seconds"] = [*self.found.get("seconds", []), mark]
        self.found = {**self.found, table: [*before, *rows], "made_by": self.made_by}
        write_atomic(self.path, json.dumps(self.found, indent=1))


def part_of(kept: Kept | None, table: str, part: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """A part of a table: what was kept of it, or what is measured now, and kept."""
    found = kept.rows(table, part) if kept is not None else None
    if found is None:
        begun = time.perf_counter()
        found = measure()
        took = time.perf_counter() - begun
        print(f"{table} {part}: {took:.1f} s in all", file=sys.stderr, flush=True)
        if kept is not None:
            kept.add(table, part, found, took)
    return found


def weights_digest(run: Path) -> str:
    """What tells the weights of a run directory from others. Raises `InputError` where there are none."""
    try:
        with (run / MODEL).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(
            f"cannot read `{run / MODEL}`: {error.strerror}", hint="train the run first"
        ) from error
