"""A wanted L0 -> the weight of the penalty that gives it: what k is to the k-sparse kinds, for the others.

log L0 falls nearly linearly in the log of the penalty's weight, so a few trainings find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from data_gen.errors import InputError
from saes.training.config import SAEConfig

NEAR, TRIALS = 0.1, 8
"""How far off, relatively, L0 may be, and after how many trainings the nearest is taken."""
FAR = 2.0
"""How many times too many or too few latents make another SAE than the one that was asked for."""
LEAST = 1e-3
"""An L0 below this counts as this."""


def check_l0(config: SAEConfig, wanted: float) -> None:
    """Raise `InputError` where k decides how many latents are active, and for what no SAE can have."""
    if config.is_k_sparse and math.isfinite(wanted):
        raise InputError(
            f"an L0 of {wanted:g} is asked of `{config.architecture}`, whose k is {config.k}",
            hint=f"set k, as in --set k={max(round(wanted), 1)}",
        )
    most = config.d_sae or math.inf
    if not 0 < wanted < most:
        raise InputError(
            f"L0 is {wanted:g}, expected more than 0 and less than d_sae", hint="give a number such as 32"
        )


def search(
    l0_of: Callable[[float], float],
    wanted: float,
    *,
    first: float = 1.0,
    tried: Mapping[float, float] | None = None,
    keep: Callable[[Mapping[float, float]], None] = lambda _: None,
) -> float:
    """The weight whose L0 is within `NEAR` of `wanted`, or of `TRIALS` the nearest.

    `l0_of` trains with a weight and says the L0; `first` is tried first. `keep` is given all that was tried after each
    trial, and a search that begins with it, as `tried`, goes on.
    """
    known = dict(tried or {})
    while (found := chosen(known, wanted)) is None:
        weight = next_weight(known, wanted, first)
        if weight in known:  # two weights with no number between them
            return _nearest(known, wanted)
        known[weight] = max(l0_of(weight), LEAST)
        keep(known)
    return found


def chosen(tried: Mapping[float, float], wanted: float) -> float | None:
    """Of weights and the L0 they gave the nearest, where a search ends; None where it goes on."""
    if not tried:
        return None
    best = _nearest(tried, wanted)
    return best if abs(tried[best] / wanted - 1) <= NEAR or len(tried) >= TRIALS else None


def _nearest(tried: Mapping[float, float], wanted: float) -> float:
    return min(tried, key=lambda weight: abs(math.log(tried[weight] / wanted)))


def next_weight(tried: Mapping[float, float], wanted: float, first: float = 1.0) -> float:
    """Where L0 should be `wanted`, from weights and the L0 they gave: along the line through the two nearest."""
    if not tried:
        return first
    # Of weights that made no difference, the one that lies furthest that way.
    near = sorted(tried, key=lambda p: (abs(math.log(tried[p] / wanted)), -p if tried[p] > wanted else p))
    slope = -1.0
    if len(near) > 1:
        rise = math.log(tried[near[0]] / tried[near[1]])
        slope = min(rise / math.log(near[0] / near[1]), -0.2)
    step = math.log(wanted / tried[near[0]]) / slope
    weight = near[0] * math.exp(max(min(step, 2.5), -2.5))
    above = [p for p in tried if tried[p] < wanted]
    below = [p for p in tried if tried[p] > wanted]
    # Between what is too active and what is not active enough, if both are known.
    if above and below and not max(below) < weight < min(above):
        weight = math.sqrt(max(below) * min(above))
    elif weight in tried:
        # L0 went the other way: on from the last weight on the side that is left.
        weight = max(tried) * math.exp(2.5) if below else min(tried) * math.exp(-2.5)
    return weight
