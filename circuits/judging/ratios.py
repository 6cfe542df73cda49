"""Metrics of pairs -> faithfulness: the circuit's share of the way from the corrupt run to the clean one.

`f(C) = (m(C) - m(corrupt)) / (m(clean) - m(corrupt))`, each m a mean over pairs. 1 is the full model, 0 the corrupt
run; nothing bounds it, for a circuit may leave out what works against the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.graph import Graph
from circuits.judging.bootstrap import percentiles, resampled_means
from circuits.metrics import Metric, check_finite
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True)
class Estimate:
    """A number made of means over pairs, with its 95 % bootstrap interval over pairs: NaN with one pair."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        told = (
            "no interval with one pair" if isnan(self.low) else f"95 % interval {span(self.low, self.high)}"
        )
        return f"{three_digits(self.value)} ({told})"

    @classmethod
    def from_json(cls, found: dict[str, float | None]) -> Estimate:
        """Inverse of `plain`."""
        return cls(**_numbers(found))


@dataclass(frozen=True)
class Band:
    """The same number for size-matched random circuits: mean and 5th to 95th percentile over circuits, NaN for one."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        told = "one circuit alone" if isnan(self.low) else f"5-95 %: {span(self.low, self.high)}"
        return f"{three_digits(self.mean)} ({told})"

    @classmethod
    def from_json(cls, found: dict[str, float | None]) -> Band:
        """Inverse of `plain`."""
        return cls(**_numbers(found))


def ratios_of(
    model: HybridLM, graph: Graph, pairs: TokenPairs, metric: Metric, *, seed: int, batch_size: int | None
) -> Ratios:
    """Run all edges and none, before anything dearer is run; `seed` draws the bootstrap. Raises as `Ratios` does."""
    ends = [Circuit(graph, graph.edges), Circuit(graph, ())]
    clean, corrupt = metric_of(model, ends, pairs, metric, batch_size=batch_size).double().numpy()
    return Ratios(clean, corrupt, seed, pairs.edit)


class Ratios:
    """Turns metrics of pairs into faithfulness.

    Raises `InputError` when the metric is the same on clean and corrupt, or differs by no more than noise over the
    pairs: no ratio exists then.
    """

    def __init__(self, clean: np.ndarray, corrupt: np.ndarray, seed: int, edit: str) -> None:
        self.clean, self.corrupt, self.span, self.seed = clean, corrupt, clean - corrupt, seed
        check_finite("metric", torch.from_numpy(np.stack([clean, corrupt])))
        mean = float(self.span.mean())
        error = float(self.span.std(ddof=1) / len(self.span) ** 0.5) if len(self.span) > 1 else 0.0
        if not abs(mean) > max(1e-6, 2 * error):
            raise InputError(
                f"the model does not tell clean from corrupt on edit `{edit}`: the metric differs by {mean:.2g}"
                f" ± {error:.2g} (standard error over {len(self.span)} pairs), so faithfulness is not defined",
                hint="train the model longer, take more pairs, or choose an edit it has learned",
            )

    def of(self, values: np.ndarray) -> np.ndarray:
        """Faithfulness of each circuit in `values` `[..., pair]`."""
        return np.asarray((values - self.corrupt).mean(-1) / self.span.mean())

    def draws(self, values: np.ndarray) -> np.ndarray:
        """The same on resampled pairs, the same pairs for every circuit: `[resample, ...]` of `[..., pair]`.

        A draw of pairs that all have the same metric on both sides has no ratio, and is given the one of all pairs.
        """
        moved = np.moveaxis(np.broadcast_to(self.span, values.shape), -1, 0)
        both = np.stack([np.moveaxis(values - self.corrupt, -1, 0), moved], axis=1)
        means = resampled_means(both, seed=self.seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = means[:, 0] / means[:, 1]
        return np.where(means[:, 1] == 0, self.of(values), ratios)

    def estimate(self, values: np.ndarray) -> Estimate:
        """Faithfulness of one circuit's `[pair]`, with its interval."""
        return estimate(float(self.of(values)), self.draws(values))

    def band(self, values: np.ndarray) -> Band:
        """Faithfulness of random circuits' `[circuit pair]`."""
        return band(self.of(values))


def estimate(value: float, draws: np.ndarray) -> Estimate:
    """A value with the central 95 % of its bootstrap draws."""
    low, high = percentiles(draws, 0.95)
    return Estimate(value, float(low), float(high))


def band(values: np.ndarray) -> Band:
    """Mean and central 90 % of one number per random circuit."""
    low, high = percentiles(values, 0.90)
    return Band(float(values.mean()), float(low), float(high))


def three_digits(value: float) -> str:
    """Three digits behind the point, and no minus in front of a zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def counted(n: int, noun: str) -> str:
    """A number and its noun, as in "1 pair" and "2 pairs"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def span(low: float, high: float, number: Callable[[float], str] = three_digits) -> str:
    """`low to high`, each as `number` writes it; `none` for what has no interval."""
    return "none" if isnan(low) else f"{number(low)} to {number(high)}"


def _numbers(found: dict[str, float | None]) -> dict[str, float]:
    return {name: nan if value is None else value for name, value in found.items()}
