"""Values per example -> intervals of their means, by resampling the examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """Lower and upper end, shaped like one example."""

    low: np.ndarray
    high: np.ndarray


def resampled_means(values: np.ndarray, *, seed: int, resamples: int = 1000) -> np.ndarray:
    """Means over examples (axis 0) of `resamples` draws with replacement: `[resample, ...]`."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    means: np.ndarray = np.tensordot(counts / len(values), values, axes=1)
    return means


def interval(values: np.ndarray, *, level: float = 0.95, seed: int = 0, resamples: int = 1000) -> Interval:
    """Percentile interval of the mean over examples (axis 0)."""
    return percentiles(resampled_means(values, seed=seed, resamples=resamples), level)


def percentiles(draws: np.ndarray, level: float) -> Interval:
    """The central `level` of draws along axis 0."""
    return Interval(*np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0))
