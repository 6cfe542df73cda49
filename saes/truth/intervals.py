"""Detectors' firings -> 95 % intervals: the examples are drawn again, for tokens of one query are not independent.

F1 is a function of counts per example, so each draw has its exact F1. AUROC and average precision are functions of
ranks over all tokens; each draw has what they are to first order in the weights of the examples (their influence
functions: DeLong's placement values, clustered as in Obuchowski 1997), so no draw is ranked anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from saes.truth.firing import Firings

RESAMPLES = 1000
"""Bootstrap resamples of the examples."""


@dataclass(frozen=True, kw_only=True)
class PerExample:
    """What one detector per row adds up to in every example."""

    tokens: Float64[np.ndarray, " example"]
    wanted: Float64[np.ndarray, "detector example"]
    """Tokens that the detector is to find."""
    fired: Float64[np.ndarray, "detector example"]
    """Tokens at which it passes its threshold."""
    right: Float64[np.ndarray, "detector example"]
    """Both."""
    over: Float64[np.ndarray, "detector example"]
    """Over tokens to find: the share of all other tokens that are lower, ties by half."""
    under: Float64[np.ndarray, "detector example"]
    """Over all other tokens: the share of tokens to find that are higher, ties by half."""
    precise: Float64[np.ndarray, "detector example"]
    """Over all tokens: their influence on the sum of precisions that average precision is a mean of."""

    def f1(self, weight: Float32[np.ndarray, "draw example"]) -> Float64[np.ndarray, "draw detector"]:
        """2 right / (fired + wanted); NaN in a draw with neither."""
        return _ratio(2 * self._drawn(self.right, weight), self._drawn(self.fired + self.wanted, weight))

    def auroc(self, weight: Float32[np.ndarray, "draw example"]) -> Float64[np.ndarray, "draw detector"]:
        """Mean share of others below a token to find, plus of tokens to find above another, less their total."""
        rest = self.tokens - self.wanted
        over = _ratio(self._drawn(self.over, weight), self._drawn(self.wanted, weight))
        under = _ratio(self._drawn(self.under, weight), self._drawn(rest, weight))
        return over + under - self.over.sum(1) / self.wanted.sum(1)

    def average_precision(
        self, weight: Float32[np.ndarray, "draw example"]
    ) -> Float64[np.ndarray, "draw detector"]:
        """Influences over tokens to find."""
        return _ratio(self._drawn(self.precise, weight), self._drawn(self.wanted, weight))

    @staticmethod
    def _drawn(
        amount: Float64[np.ndarray, "detector example"], weight: Float32[np.ndarray, "draw example"]
    ) -> Float64[np.ndarray, "draw detector"]:
        return (weight @ amount.T.astype(np.float32)).astype(np.float64)


def resamples(n_examples: int, seed: int) -> Float32[np.ndarray, "draw example"]:
    """How often each example is in each of `RESAMPLES` draws of as many with replacement."""
    rng = np.random.default_rng(seed)
    weight = np.empty((RESAMPLES, n_examples), np.float32)
    for row in weight:
        row[:] = np.bincount(rng.integers(0, n_examples, n_examples), minlength=n_examples)
    return weight


def interval(draws: Float[np.ndarray, " draw"]) -> tuple[float, ...]:
    """From the 2.5th to the 97.5th percentile, within 0 and 1."""
    return tuple(float(q) for q in np.clip(np.nanquantile(draws, [0.025, 0.975]), 0, 1))


def per_example(
    firings: Firings,
    example: Int[Tensor, " token"],
    wanted: Bool[Tensor, "detector token"],
    *,
    latent: Int[Tensor, " detector"],
    threshold: Float[Tensor, " detector"],
) -> PerExample:
    """Add up each detector's firings; `example` numbers the examples of the tokens from 0."""
    # Thousands of small counts: a GPU would be waited for at each of them.
    firings, example, wanted = firings.cpu(), example.cpu(), wanted.cpu()
    n_examples, n = int(example.max()) + 1, len(example)
    starts, fired = firings.starts.tolist(), firings.fired.tolist()
    rows: list[list[np.ndarray]] = []

    def add(tokens: Tensor, weight: Tensor | None = None) -> np.ndarray:
        return torch.bincount(example[tokens], weights=weight, minlength=n_examples).double().numpy()

    everywhere = torch.bincount(example, minlength=n_examples).double().numpy()
    for i, (j, h) in enumerate(zip(latent.tolist(), threshold.tolist(), strict=True)):
        own = slice(starts[j], starts[j] + fired[j])
        token, value = firings.token[own], firings.value[own]
        y = wanted[i, token]
        found = wanted[i].nonzero()[:, 0]
        to_find = add(found)
        curve = _curve(value, y, n_wanted=len(found), n=n)
        passed = value >= h
        # What is silent is silent together, so it is counted and not listed.
        silent_wanted, silent = to_find - add(token[y]), everywhere - add(token)
        rows.append(
            [
                to_find,
                add(token[passed]),
                add(token[passed & y]),
                add(token[y], curve.placement[y]) + silent_wanted * curve.silent_over,
                add(token[~y], curve.placement[~y]) + (silent - silent_wanted) * curve.silent_under,
                add(token, curve.influence)
                + silent_wanted * curve.silent_wanted
                + (silent - silent_wanted) * curve.silent_other,
            ]
        )
    names = ("wanted", "fired", "right", "over", "under", "precise")
    columns = {name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return PerExample(tokens=everywhere, **columns)


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """What each firing of a detector, and each kind of silent token, adds to AUROC and average precision."""

    placement: Float64[Tensor, " firing"]
    """`PerExample.over` of a token to find, `PerExample.under` of another."""
    influence: Float64[Tensor, " firing"]
    silent_over: float
    silent_under: float
    silent_wanted: float
    silent_other: float


def _curve(value: Float[Tensor, " firing"], y: Bool[Tensor, " firing"], *, n_wanted: int, n: int) -> _Curve:
    """`value` falls; `y` says which firings are at tokens to find; `n` tokens in all."""
    rest, met = n - n_wanted, int(y.sum())
    size = torch.unique_consecutive(value, return_counts=True)[1]
    reached = size.cumsum(0)
    hits = torch.cat([y.new_zeros(1).long(), y.long().cumsum(0)])[reached]
    within = torch.diff(hits, prepend=hits.new_zeros(1))
    above, others = hits - within, size - within
    others_above = reached - size - above
    over = (rest - others_above - others.double() / 2) / max(rest, 1)
    under = (above + within.double() / 2) / max(n_wanted, 1)
    # Moving the weight of a token moves the precision at every token to find at or below it.
    precision, share, silent = hits.double() / reached, n_wanted / n, n_wanted - met
    ones = torch.cat([within / reached.double(), value.new_full((1,), silent / n).double()])
    weighted = ones * torch.cat([precision, precision.new_full((1,), share)])
    below, weighted_below = (t.flip(0).cumsum(0).flip(0) for t in (ones, weighted))
    of = torch.arange(len(size), device=value.device).repeat_interleave(size)
    return _Curve(
        placement=torch.where(y, over[of], under[of]),
        influence=torch.where(y, precision[of] + below[of], 0) - weighted_below[of],
        silent_over=(rest - (len(value) - met)) / 2 / max(rest, 1),
        silent_under=(met + silent / 2) / max(n_wanted, 1),
        silent_wanted=share + float(below[-1]) - float(weighted_below[-1]),
        silent_other=-float(weighted_below[-1]),
    )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
