"""Measurements of training -> TensorBoard or Weights & Biases, where they are asked for beside the JSONL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from data_gen.errors import InputError

Tracker = Callable[[int, Mapping[str, float]], None]
"""Takes a step and what was measured at it."""


class StopTraining(Exception):
    """A tracker raises it to end training for now; a checkpoint is written first. For a run of one process."""


def tensorboard(run: Path) -> Tracker:
    """Event files under `run/tensorboard`; `InputError` when the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "TensorBoard is not installed", hint="pip install tensorboard, or leave out --tensorboard"
        ) from error
    writer: SummaryWriter | None = None

    def track(step: int, values: Mapping[str, float]) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(run / "tensorboard"))
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return track


def weights_and_biases(run: Path, project: str) -> Tracker:
    """A run of a Weights & Biases project; `InputError` when the package is not installed or lets no run begin."""
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "Weights & Biases is not installed", hint="pip install wandb, or leave out --wandb"
        ) from error

    def track(step: int, values: Mapping[str, float]) -> None:
        if wandb.run is None:
            # The same directory goes on as the same run.
            try:
                wandb.init(project=project, name=run.name, id=run.name, resume="allow", dir=str(run))
            except wandb.Error as error:
                raise InputError(
                    f"Weights & Biases began no run of the project {project!r}: {str(error).splitlines()[0]}",
                    hint="log in, set WANDB_MODE=offline, or leave out --wandb; --resume goes on",
                ) from error
        wandb.log(dict(values), step=step)

    return track
