"""Values per example -> intervals of their means, by resampling the examples."""

from __future__ import annotations

from math import isnan
from typing import Any, NamedTuple

import numpy as np

from data_gen.errors import InputError

RESAMPLES = 1000
"""Draws behind every interval."""


class Interval(NamedTuple):
    """Lower and upper end, shaped like one example."""

    low: np.ndarray
    high: np.ndarray


def resampled_means(values: np.ndarray, *, seed: int) -> np.ndarray:
    """Means over examples (axis 0) of `RESAMPLES` draws with replacement: `[resample, ...]`.

    Raises as `draw_counts` does.
    """
    counts = draw_counts(len(values), seed)
    means: np.ndarray = np.tensordot(counts / len(values), values, axes=1)
    return means


def draw_counts(n: int, seed: int) -> np.ndarray:
    """How often each of `n` examples is in each of `RESAMPLES` draws of `n` with replacement: `[resample example]`.

    NaN for a single example: all draws of it are alike, which would make it look certain.
    Raises `InputError` for no examples or a negative seed.
    """
    if n < 1:
        raise InputError("there are no examples to resample", hint="give at least one; 64 are usual")
    rng = generator(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) if n > 1 else np.full((RESAMPLES, 1), np.nan)


def generator(seed: int) -> np.random.Generator:
    """numpy's generator of a seed. Raises `InputError` for a negative one, which it does not know."""
    if seed < 0:
        raise InputError(f"seed is {seed}, expected at least 0", hint="0 is usual")
    return np.random.default_rng(seed)


def interval(values: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval of the mean over examples (axis 0), in the values' units (Efron 1979); NaN for one example.

    Raises `InputError` for no examples, a negative seed, or a level that is not between 0 and 1.
    """
    return percentiles(resampled_means(values, seed=seed), level)


def percentiles(draws: np.ndarray, level: float) -> Interval:
    """The central `level` of draws along axis 0, NaN where there is one alone.

    Raises `InputError` for a level that is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level}, expected a share between 0 and 1", hint="0.95 is usual")
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(*(ends if len(draws) > 1 else ends * np.nan))


def plain(value: Any) -> Any:
    """The same of lists and dicts with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and isnan(value) else value
