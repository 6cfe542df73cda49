"""Loss and gradient of a step -> a refusal where one is not finite, with the batch that gave it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from data_gen.errors import InputError
from tinysql.training.batches import Batch
from tinysql.training.checkpoints import save_tensors


class Update(NamedTuple):
    """A step whose numbers nobody has looked at yet."""

    step: int
    batch: Batch
    rate: float
    peak: float
    """The learning rate that was set; `rate` is below it within the warm-up and the decay."""
    is_warming: bool
    numbers: Tensor
    """Loss and gradient norm, `[2]`."""


class NotFinite(InputError):
    """A loss or a gradient that is infinite or no number, and the batch that gave it."""

    def __init__(self, update: Update) -> None:
        loss, norm = update.numbers.tolist()
        peak = f" of {update.peak:.4g}" if update.rate != update.peak else ""
        super().__init__(
            f"the loss or the gradient is not finite at step {update.step}: loss {loss:.4g}, norm of the gradient "
            f"{norm:.4g}, learning rate {update.rate:.4g}{peak}"
        )
        self.batch, self.is_warming = update.batch, update.is_warming

    def save(self, file: Path, *, active: bool) -> None:
        """Write the batch where `active`, so that somebody can look at it, and say where it is."""
        if active:
            names = ("ids", "places", "targets", "weights")
            save_tensors(file, {name: getattr(self.batch, name) for name in names})
        again = "train again with a lower train.lr and another --out"
        # Before the peak is reached, a rate that is too high is likelier than a bad batch.
        self.hint = (
            f"{again}; its batch is in {file}"
            if self.is_warming
            else f"look at its batch in {file}, then {again}"
        )
