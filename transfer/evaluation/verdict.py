"""Outcomes of conditions and controls -> ratio, interval and verdict, which no one words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_gen.errors import InputError

Word = Literal["transferred", "not transferred", "no native effect", "not decided"]
DECIDING = (
    "gaussian",
    "top components",
    "sign flip",
    "shuffled pairs",
    "shuffled within tokens",
    "token look-up",
    "position and token look-up",
    "random source",
)
"""The controls that a transfer has to exceed: numbers 3 to 8 of the sixteen."""
LEAST_RATIO = 0.5
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How much of the native effect the transferred vector has, and what follows."""

    native: float
    """Restored with the target's own vector, less what is right without steering."""
    transferred: float
    ratio: float | None
    """transferred / native; None where there is no native effect."""
    interval: tuple[float, ...]
    """95 % of the ratio over resampled prompts; empty without a ratio."""
    bar: float
    """The largest, over the deciding controls, of the 95th percentiles of their draws' effects."""
    bar_of: str
    missing: tuple[str, ...]
    """Deciding controls that were not run; with one of them missing nothing is called transferred."""
    verdict: Word


def decide(
    nothing: Sequence[bool],
    native: Sequence[bool],
    transferred: Sequence[bool],
    controls: Mapping[str, Sequence[float]],
    *,
    seed: int = 0,
) -> Transfer:
    """The verdict on one transfer, from what was right prompt by prompt, and the controls' shares draw by draw.

    Effects are shares of restored prompts minus the share without steering. `transferred` needs an effect above the
    95th percentile of every deciding control and a ratio whose interval lies above one half; where the interval of
    the native effect reaches zero there is nothing to transfer. Raises `InputError` for outcomes of unequal length.
    """
    if not len(nothing) == len(native) == len(transferred) or not nothing:
        raise InputError(
            f"{len(nothing)}, {len(native)} and {len(transferred)} outcomes do not belong to the same prompts",
            hint="run every condition on the same prompts",
        )
    base, own, sent = (np.asarray(flags, dtype=float) for flags in (nothing, native, transferred))
    before = float(base.mean())
    bars = {
        name: float(np.quantile(values, 0.95)) - before
        for name, values in controls.items()
        if name in DECIDING
    }
    bar_of = max(bars, key=bars.__getitem__, default="")
    bar = bars.get(bar_of, 0.0)
    effects = float(own.mean()) - before, float(sent.mean()) - before
    missing = tuple(name for name in DECIDING if name not in controls)
    is_native = _exceeds(own, base, seed)
    ratio: float | None = None
    interval: tuple[float, ...] = ()
    if is_native:
        ratio, interval = effects[1] / effects[0], _interval(base, own, sent, seed)
    return Transfer(
        native=effects[0],
        transferred=effects[1],
        ratio=ratio,
        interval=interval,
        bar=bar,
        bar_of=bar_of,
        missing=missing,
        verdict=_word(is_native, effects[1] > bar, interval, missing),
    )


def _word(is_native: bool, is_above: bool, interval: tuple[float, ...], missing: tuple[str, ...]) -> Word:
    if not is_native:
        return "no native effect"
    if not is_above or interval[0] <= LEAST_RATIO:
        return "not transferred"
    return "not decided" if missing else "transferred"


def _resampled(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def _exceeds(own: np.ndarray, base: np.ndarray, seed: int) -> bool:
    """Whether the native effect is above zero in 97.5 % of resamples."""
    rows = _resampled(len(own), seed)
    return float(np.quantile((own - base)[rows].mean(1), 0.025)) > 0


def _interval(base: np.ndarray, own: np.ndarray, sent: np.ndarray, seed: int) -> tuple[float, ...]:
    """Percentile bootstrap over prompts, the three conditions resampled together."""
    rows = _resampled(len(own), seed)
    below = (own - base)[rows].mean(1)
    above = (sent - base)[rows].mean(1)
    ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
