"""Outcomes of conditions and controls -> ratio, interval and verdict, which no one words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_gen.errors import InputError

Word = Literal["transferred", "not transferred", "no native effect", "nothing to transfer", "not decided"]
Carried = Literal["the behaviour's own", "any model's", "not known"]
"""What a transfer carries: a clean source, which was never taught the behaviour, has it or has it not."""
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
LEAST_NATIVE = 0.02
"""A native effect has to lie above this in 97.5 % of resamples: what steering may cost elsewhere and is little damage
(`Plan.most_damage`) is no effect either, and a ratio to it would be a ratio to nothing."""
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How much of the native effect the transferred vector has, and what follows."""

    native: float
    """Restored with the target's own vector, less what is right without steering."""
    transferred: float
    ratio: float | None
    """transferred / native; None where the native vector does not act, or does no more than a deciding control."""
    interval: tuple[float, ...]
    """95 % of the ratio over resampled prompts; empty without a ratio."""
    bar: float
    """The largest, over the deciding controls, of the 95th percentiles of their draws' effects."""
    bar_of: str
    missing: tuple[str, ...]
    """Deciding controls that were not run; with one of them missing nothing is called transferred."""
    refused: tuple[str, ...]
    """Of `native` and `transferred` those that act at a scale which the guard refused, for it allowed none."""
    verdict: Word
    clean_ratio: float | None
    """The effect of the clean source's vector / native; None without a clean source or a ratio."""
    clean_interval: tuple[float, ...]
    carried: Carried | None
    """`the behaviour's own` where the clean ratio's interval lies below one half, `any model's` where it does not,
    `not known` without a clean source; None where nothing is carried."""


def decide(
    nothing: Sequence[bool],
    native: Sequence[bool],
    transferred: Sequence[bool],
    controls: Mapping[str, Sequence[float]],
    *,
    clean: Sequence[bool] | None = None,
    refused: Sequence[str] = (),
    seed: int = 0,
) -> Transfer:
    """The verdict on one transfer, from what was wanted prompt by prompt, and the controls' shares draw by draw.

    Effects are shares of restored prompts minus the share without steering. `transferred` needs an effect above the
    95th percentile of every deciding control, a ratio whose interval lies above one half, and a scale that the guard
    allowed: `refused` names the vectors, `native` or `transferred`, that have none. Where the interval of the native
    effect reaches `LEAST_NATIVE`, or the native vector does no more than a deciding control, there is nothing to
    transfer, and no ratio. `clean`, control 9, does not decide whether something was transferred: unlike 3 to 8 its
    source is a model of the task. It decides what (`Transfer.carried`), by the same ratio. Raises `InputError` for
    outcomes of unequal length.
    """
    _check_prompts(nothing, native, transferred, *([] if clean is None else [clean]))
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
    acts = _exceeds(own, base, seed)
    has_ratio = acts and effects[0] > bar
    ratio, interval = _ratio(base, own, sent, seed) if has_ratio else (None, ())
    if not acts:
        word: Word = "no native effect"
    elif not has_ratio:
        word = "nothing to transfer"
    elif "transferred" in refused or effects[1] <= bar or interval[0] <= LEAST_RATIO:
        word = "not transferred"
    else:
        word = "not decided" if missing else "transferred"
    clean_ratio: float | None = None
    clean_interval: tuple[float, ...] = ()
    if has_ratio and clean is not None:
        clean_ratio, clean_interval = _ratio(base, own, np.asarray(clean, dtype=float), seed)
    return Transfer(
        native=effects[0],
        transferred=effects[1],
        ratio=ratio,
        interval=interval,
        bar=bar,
        bar_of=bar_of,
        missing=missing,
        refused=tuple(refused),
        verdict=word,
        clean_ratio=clean_ratio,
        clean_interval=clean_interval,
        carried=_carried(clean_interval) if word in ("transferred", "not decided") else None,
    )


def _check_prompts(*outcomes: Sequence[bool]) -> None:
    counts = [len(one) for one in outcomes]
    if len(set(counts)) > 1 or not counts[0]:
        raise InputError(
            f"{', '.join(map(str, counts[:-1]))} and {counts[-1]} outcomes do not belong to the same prompts",
            hint="run every condition on the same prompts",
        )


def _carried(clean_interval: tuple[float, ...]) -> Carried:
    if not clean_interval:
        return "not known"
    return "the behaviour's own" if clean_interval[1] < LEAST_RATIO else "any model's"


def _resampled(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))


def _exceeds(own: np.ndarray, base: np.ndarray, seed: int) -> bool:
    """Whether the native effect is above `LEAST_NATIVE` in 97.5 % of resamples."""
    rows = _resampled(len(own), seed)
    return float(np.quantile((own - base)[rows].mean(1), 0.025)) > LEAST_NATIVE


def _ratio(base: np.ndarray, own: np.ndarray, sent: np.ndarray, seed: int) -> tuple[float, tuple[float, ...]]:
    """The ratio of two effects and its percentile bootstrap over prompts, all three conditions resampled together."""
    rows = _resampled(len(own), seed)
    below = (own - base)[rows].mean(1)
    above = (sent - base)[rows].mean(1)
    ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float((sent - base).mean() / (own - base).mean()), (float(low), float(high))
