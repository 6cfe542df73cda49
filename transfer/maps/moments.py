"""Pairs of activations -> moments: counts, means and covariances in float64, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from transfer.points import ActivationPairs


@dataclass(frozen=True, kw_only=True)
class Moments:
    """All that a closed-form map needs to know of its pairs; `+` joins those of two sets.

    Covariances are sums of products of deviations (not divided by the count), each set's around its own means, so
    that large means cost no precision (Chan, Golub, LeVeque 1979, eq. 2.1).
    """

    count: int
    source_mean: Float[Tensor, " d_in"]
    target_mean: Float[Tensor, " d_out"]
    source: Float[Tensor, "d_in d_in"]
    cross: Float[Tensor, "d_in d_out"]
    target: Float[Tensor, "d_out d_out"]

    @staticmethod
    def of(pairs: ActivationPairs) -> Moments:
        """The moments of one batch of pairs."""
        x, y = pairs.source.values.double(), pairs.target.values.double()
        x_mean, y_mean = x.mean(0), y.mean(0)
        dx, dy = x - x_mean, y - y_mean
        return Moments(
            count=len(pairs),
            source_mean=x_mean,
            target_mean=y_mean,
            source=dx.T @ dx,
            cross=dx.T @ dy,
            target=dy.T @ dy,
        )

    @staticmethod
    def stream(batches: Iterable[ActivationPairs]) -> Moments:
        """The moments of all batches together, none of which is kept; `InputError` when there is none."""
        total: Moments | None = None
        for batch in batches:
            total = Moments.of(batch) if total is None else total + Moments.of(batch)
        if total is None:
            raise InputError("there is no batch of pairs", hint="give at least one")
        return total

    def __add__(self, other: Moments) -> Moments:
        if self.cross.shape != other.cross.shape:
            raise InputError(
                f"moments of widths {list(self.cross.shape)} and {list(other.cross.shape)} do not belong together",
                hint="record all pairs at the same two hooks",
            )
        count = self.count + other.count
        share, both = other.count / count, self.count * other.count / count
        dx, dy = other.source_mean - self.source_mean, other.target_mean - self.target_mean
        return Moments(
            count=count,
            source_mean=self.source_mean + share * dx,
            target_mean=self.target_mean + share * dy,
            source=self.source + other.source + both * torch.outer(dx, dx),
            cross=self.cross + other.cross + both * torch.outer(dx, dy),
            target=self.target + other.target + both * torch.outer(dy, dy),
        )

    def to_difference(self) -> Moments:
        """The moments of source and (target - source), which are of one width; `InputError` where they are not."""
        if self.source.shape != self.target.shape:
            raise InputError(
                f"a source {len(self.source)} wide cannot be taken from a target {len(self.target)} wide",
                hint="choose hooks of one width",
            )
        both = self.cross + self.cross.T
        return replace(
            self,
            target_mean=self.target_mean - self.source_mean,
            cross=self.cross - self.source,
            target=self.target - both + self.source,
        )

    def unexplained(self, weight: Float[Tensor, "d_in d_out"], bias: Float[Tensor, " d_out"]) -> float:
        """The fraction of the target's variance, around its per-dimension means, that `x W + b` leaves.

        sum |y - x W - b|^2 / sum |y - mean y|^2, exactly, without the rows.
        """
        w = weight.double()
        rest = self.target_mean - self.source_mean @ w - bias.double()
        error = self.target.trace() - 2 * (w * self.cross).sum() + (w * (self.source @ w)).sum()
        return float((error + self.count * rest @ rest) / self.target.trace())
