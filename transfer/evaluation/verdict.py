"""Outcomes of conditions and controls -> ratio, interval and verdict, which no one words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_gen.errors import InputError
from transfer.evaluation.margin import Margin, paired_margin, percentile

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
    margin: Margin | None
    """By how much the transferred vector exceeds the bar; None without a deciding control. It qualifies the verdict,
    which goes by `bar` alone."""
    native_margin: Margin | None
    """By how much the native one does, which decides whether there is something to transfer."""
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


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """An effect over the native one, with 95 % of it over resampled prompts."""

    value: float
    interval: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the rule asks of one transfer: from its prompts (`decide`), or from what a report of it keeps (`today`)."""

    acts: bool
    """Whether the native effect is above `LEAST_NATIVE` in 97.5 % of resamples."""
    native: float
    transferred: float
    bars: Mapping[str, float]
    """The 95th percentile of the draws' effects, for each deciding control that was run."""
    margin: Margin | None
    native_margin: Margin | None
    ratio: Ratio | None
    """None at most where the native vector does not act, or does no more than a deciding control."""
    clean: Ratio | None
    """None without a clean source, too."""
    refused: tuple[str, ...]


def decide(
    nothing: Sequence[bool],
    native: Sequence[bool],
    transferred: Sequence[bool],
    controls: Mapping[str, Sequence[Sequence[bool]]],
    *,
    clean: Sequence[bool] | None = None,
    refused: Sequence[str] = (),
    seed: int = 0,
) -> Transfer:
    """The verdict on one transfer, from what was wanted prompt by prompt; of the controls draw by draw.

    Effects are shares of restored prompts minus the share without steering. `transferred` needs an effect above the
    95th percentile of every deciding control, a ratio whose interval lies above one half, and a scale that the guard
    allowed: `refused` names the vectors, `native` or `transferred`, that have none. Where the interval of the native
    effect reaches `LEAST_NATIVE`, or the native vector does no more than a deciding control, there is nothing to
    transfer, and no ratio. `clean`, control 9, does not decide whether something was transferred: unlike 3 to 8 its
    source is a model of the task. It decides what (`Transfer.carried`), by the same ratio. Raises `InputError` for
    outcomes of unequal length.
    """
    deciding = {name: draws for name, draws in controls.items() if name in DECIDING}
    drawn = [draw for draws in deciding.values() for draw in draws]
    _check_prompts(nothing, native, transferred, *([] if clean is None else [clean]), *drawn)
    base, own, sent = (np.asarray(flags, dtype=float) for flags in (nothing, native, transferred))
    before = float(base.mean())
    bars = {
        name: percentile([float(np.mean(draw)) for draw in draws]) - before
        for name, draws in deciding.items()
    }
    nearest = deciding.get(highest(bars))
    acts = exceeds_least(native, nothing, seed)
    ratio, clean_ratio = (
        None if not acts or flags is None else _ratio(base, own, np.asarray(flags, dtype=float), seed)
        for flags in (transferred, clean)
    )
    return judge(
        Measured(
            acts=acts,
            native=float(own.mean()) - before,
            transferred=float(sent.mean()) - before,
            bars=bars,
            margin=None if nearest is None else paired_margin(transferred, nearest),
            native_margin=None if nearest is None else paired_margin(native, nearest),
            ratio=ratio,
            clean=clean_ratio,
            refused=tuple(refused),
        )
    )


def highest(bars: Mapping[str, float]) -> str:
    """The control that decides; of equals the first, and the empty name of none."""
    return max(bars, key=bars.__getitem__, default="")


def judge(measured: Measured) -> Transfer:
    """The rule, and there is no other."""
    bar_of = highest(measured.bars)
    bar = measured.bars.get(bar_of, 0.0)
    missing = tuple(name for name in DECIDING if name not in measured.bars)
    ratio = measured.ratio if measured.acts and measured.native > bar else None
    if not measured.acts:
        word: Word = "no native effect"
    elif ratio is None:
        word = "nothing to transfer"
    elif "transferred" in measured.refused or measured.transferred <= bar or ratio.interval[0] <= LEAST_RATIO:
        word = "not transferred"
    else:
        word = "not decided" if missing else "transferred"
    clean = measured.clean if ratio is not None else None
    clean_interval = () if clean is None else clean.interval
    return Transfer(
        native=measured.native,
        transferred=measured.transferred,
        ratio=None if ratio is None else ratio.value,
        interval=() if ratio is None else ratio.interval,
        bar=bar,
        bar_of=bar_of,
        margin=measured.margin,
        native_margin=measured.native_margin,
        missing=missing,
        refused=measured.refused,
        verdict=word,
        clean_ratio=None if clean is None else clean.value,
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


def exceeds_least(native: Sequence[bool], nothing: Sequence[bool], seed: int) -> bool:
    """Whether the native effect is above `LEAST_NATIVE` in 97.5 % of resamples."""
    own, base = (np.asarray(flags, dtype=float) for flags in (native, nothing))
    rows = _resampled(len(own), seed)
    return float(np.quantile((own - base)[rows].mean(1), 0.025)) > LEAST_NATIVE


def _ratio(base: np.ndarray, own: np.ndarray, sent: np.ndarray, seed: int) -> Ratio:
    """The ratio of two effects and its percentile bootstrap over prompts, all three conditions resampled together."""
    rows = _resampled(len(own), seed)
    below = (own - base)[rows].mean(1)
    above = (sent - base)[rows].mean(1)
    ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    low, high = np.quantile(ratios, (0.025, 0.975))
    value = float((sent - base).mean() / (own - base).mean())
    return Ratio(value=value, interval=(float(low), float(high)))
