"""Values per example -> intervals of their means, by resampling the examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
"""Draws behind every interval."""


class Interval(NamedTuple):
    """Lower and upper end, shaped like one example."""

    low: np.ndarray
    high: np.ndarray


def resampled_means(values: np.ndarray, *, seed: int) -> np.ndarray:
    """Means over examples (axis 0) of `RESAMPLES` draws with replacement: `[resample, ...]`."""
    counts = draw_counts(len(values), seed)
    means: np.ndarray = np.tensordot(counts / len(values), values, axes=1)
    return means


def draw_counts(n: int, seed: int) -> np.ndarray:
    """How often each of `n` examples is in each draw: `[resample example]`."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)


def interval(values: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval of the mean over examples (axis 0)."""
    return percentiles(resampled_means(values, seed=seed), level)


def percentiles(draws: np.ndarray, level: float) -> Interval:
    """The central `level` of draws along axis 0."""
    return Interval(*np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0))
