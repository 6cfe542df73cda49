"""Training state <-> a directory from which training goes on bit for bit, and the log of its metrics.

`step-N/` holds parameters, moments and counters as safetensors and the rest as JSON, and appears whole or not at all.
No random state is kept: the order of the activations is a function of the seed and the step. So it matters to nothing
how often a state is written, and the clock may decide it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any

from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import atomic_directory, read_json, write_atomic
from saes.training.config import SAEConfig, difference
from tinysql.config import to_json
from tinysql.training.checkpoints import load_tensors, save_tensors

METRICS = "metrics.jsonl"
TENSORS, STATE = "state.safetensors", "state.json"
FINGERPRINT_ROWS = 4096
SECONDS_BETWEEN_STATES, SHARE_OF_WRITING = 60, 0.05
"""How long a training goes on at least between two states, and the most of its time that writing them may take."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Where training stood."""

    step: int
    """Steps done."""
    tensors: Mapping[str, Tensor]
    """Parameters, moments and counters by name."""


def fingerprint(values: Float[Tensor, "token d_in"]) -> str:
    """A short name of the activations: of their shape and some 4,096 rows."""
    rows = values[:: max(len(values) // FINGERPRINT_ROWS, 1)].float().cpu().contiguous()
    content = repr(tuple(values.shape)).encode() + rows.numpy().tobytes()
    return blake2b(content, digest_size=8).hexdigest()


def save_state(
    directory: Path, config: SAEConfig, data: str, *, step: int, tensors: Mapping[str, Tensor]
) -> None:
    """Write `directory/step-N` and remove the ones before it."""
    made = {"step": step, "activations": data, "sae": to_json(config)}
    with atomic_directory(directory / f"step-{step:08d}", overwrite=True) as folder:
        save_tensors(folder / TENSORS, tensors)
        write_atomic(folder / STATE, json.dumps(made, indent=1))
    for old in _steps(directory):
        if old.name != f"step-{step:08d}":
            shutil.rmtree(old, ignore_errors=True)


def load_state(directory: Path, config: SAEConfig, data: str) -> Saved | None:
    """The newest state in `directory`, None when there is none.

    Raises `InputError` when it belongs to another configuration or to other activations, or is damaged.
    """
    found = _steps(directory)
    if not found:
        return None
    made = read_json(found[-1] / STATE)
    for name, now in (("sae", to_json(config)), ("activations", data)):
        if made.get(name) != now:
            what = "configuration" if name == "sae" else "activations"
            raise InputError(
                f"{found[-1]} was trained with other {what}{difference(made.get(name), now)}",
                hint="give what it was trained with, or train anew with --overwrite instead of --resume",
            )
    return Saved(step=int(made["step"]), tensors=load_tensors(found[-1] / TENSORS))


class Clock:
    """Whether it is time to write states: about once a minute, and more rarely where writing takes long."""

    def __init__(self) -> None:
        """At the first step, or the first one behind what was gone on from."""
        self._due = monotonic() + SECONDS_BETWEEN_STATES

    def is_due(self) -> bool:
        """Whether states are to be written now."""
        return monotonic() >= self._due

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the writing, whose time says when the next is due."""
        begun = monotonic()
        yield
        now = monotonic()
        self._due = now + max(SECONDS_BETWEEN_STATES, (now - begun) * (1 / SHARE_OF_WRITING - 1))


class MetricsLog:
    """`metrics.jsonl`, one line per logged step; nothing without a directory."""

    def __init__(self, directory: Path | None, step: int) -> None:
        """Lines of `step` and later are dropped, since training is about to write them again.

        Raises `InputError` for a whole line that is none of ours.
        """
        self.path = directory / METRICS if directory is not None else None
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = ""
        if self.path.is_file():
            lines = self.path.read_text().splitlines(keepends=True)
            kept = "".join(line for line in lines if line.endswith("\n") and self._step(line) < step)
        write_atomic(self.path, kept)

    def _step(self, line: str) -> int:
        try:
            return int(json.loads(line)["step"])
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.path} holds a line that is no step's metrics: {line.strip()[:60]!r}",
                hint="it was edited, or the disk failed: train anew without --resume",
            ) from error

    def add(self, values: Mapping[str, Any]) -> None:
        """Append a line."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(dict(values)) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path else []


def _steps(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("step-*") if path.name[5:].isdigit())
