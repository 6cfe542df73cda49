"""Two shares of the same prompts -> by how much the one exceeds the other, with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinysql.answering.shares import wilson

PERCENTILE = 0.95
"""Of a control's draws; where it lies between two of them it is interpolated."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """What a vector restores less the bar, both as shares of the same prompts."""

    value: float
    interval: tuple[float, float]
    """95 %: what other prompts of the same kind would give, with the same vector and the same draws of the control.

    Newcombe's method 10. With outcomes prompt by prompt the one for pairs (Statistics in Medicine 17, 2635, 1998),
    whose correlation is that of the prompts; from shares alone the one for independent groups (17, 873), which takes
    it for 0. Where the two agree on prompts more often than chance, as they mostly do, that is the wider.
    """
    holds_zero: bool
    """Whether the interval does: then other prompts might have put the vector on the other side of the bar."""
    prompts: int
    draws: int
    """Of the control that sets the bar. Of several the bar is their 95th percentile, and they are taken as they are:
    the interval says nothing of what other draws would give."""
    is_paired: bool


def percentile(draws: Sequence[float]) -> float:
    """The 95th percentile of a control's draws, interpolated."""
    return float(np.quantile(np.asarray(draws, dtype=float), PERCENTILE))


def paired_margin(outcomes: Sequence[bool], draws: Sequence[Sequence[bool]]) -> Margin:
    """The margin of outcomes over the 95th percentile of a control's draws on the same prompts.

    The percentile is the weighted mean of the two draws that it lies between, and so it is prompt by prompt.
    """
    own = np.asarray(outcomes, dtype=float)
    drawn = np.asarray(draws, dtype=float)
    ranked = drawn[np.argsort(drawn.mean(1), kind="stable")]
    below = math.floor((len(ranked) - 1) * PERCENTILE)
    above = min(below + 1, len(ranked) - 1)
    weight = (len(ranked) - 1) * PERCENTILE - below
    bar = (1 - weight) * ranked[below] + weight * ranked[above]
    found = _interval(float(own.mean()), float(bar.mean()), len(own), _correlation(own, bar))
    return _margin(float(own.mean() - bar.mean()), found, len(own), len(ranked), is_paired=True)


def unpaired_margin(share: float, draws: Sequence[float], prompts: int) -> Margin:
    """The same from the shares alone, each of so many prompts."""
    bar = percentile(draws)
    return _margin(share - bar, _interval(share, bar, prompts, 0.0), prompts, len(draws), is_paired=False)


def _margin(
    value: float, interval: tuple[float, float], prompts: int, draws: int, *, is_paired: bool
) -> Margin:
    low, high = interval
    return Margin(
        value=value,
        interval=interval,
        holds_zero=low <= 0 <= high,
        prompts=prompts,
        draws=draws,
        is_paired=is_paired,
    )


def _interval(first: float, second: float, prompts: int, correlation: float) -> tuple[float, float]:
    """Newcombe's: of the difference of two shares, from Wilson's interval of each and their correlation."""
    (low, high), (lowest, highest) = wilson(first, prompts), wilson(second, prompts)

    def reach(one: float, other: float) -> float:
        # Rounding may leave less than nothing where the two reach as far and are the same on every prompt.
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    value = first - second
    return value - reach(first - low, highest - second), value + reach(high - first, second - lowest)


def _correlation(own: np.ndarray, bar: np.ndarray) -> float:
    """Pearson's over prompts, a positive one less half a prompt of agreement, as method 10 has it; 0 for a constant."""
    spread = float(own.std() * bar.std())
    if not spread:
        return 0.0
    shared = float((own * bar).mean() - own.mean() * bar.mean())
    if shared > 0:
        shared = max(0.0, shared - 0.5 / len(own))
    return shared / spread
