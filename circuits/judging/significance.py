"""Scores per example -> is an edge's mean other than zero: p values of a sign-flip test, q values over all edges.

The null: each pair's score is as likely to be `x` as `-x`. Then every choice of signs is equally likely, and p
is the share of sign choices whose |mean| is at least the observed one: exact at any number of pairs, whatever the
distribution's tails, where a bootstrap of the same few pairs is too narrow. One sign turns a pair's scores of all
edges round together, so what edges have in common stays as it is. q values are Benjamini & Hochberg's (1995).
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import numpy as np

from circuits.judging.bootstrap import generator
from data_gen.errors import InputError

EXHAUSTIVE_PAIRS = 12
"""Up to here every choice of signs is tried."""
FIRST_FLIPS, SECOND_FLIPS, BAR = 2_000, 20_000, 0.05
"""Random sign choices for every edge, and for those whose first p is at most `BAR`."""
_ENTRIES = 4_000_000


class Significance(NamedTuple):
    """One number per edge."""

    p: np.ndarray
    """Two-sided p value of `mean score = 0`."""
    q: np.ndarray
    """Smallest false-discovery rate at which the edge is still found."""


def significance(values: np.ndarray, *, seed: int = 0) -> Significance:
    """p and q of every column of `values` `[example edge]`. Raises `InputError` as `sign_flip_p` does."""
    p = sign_flip_p(values, seed=seed)
    return Significance(p, q_values(p))


def sign_flip_p(values: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Two-sided sign-flip p value of every column of `values` `[example edge]`.

    With many pairs signs are drawn, in two stages: an edge whose first p is above `BAR` keeps it, the others get a
    new p from fresh signs. Either p is valid by itself, and an edge is below any level only if its last p is, so the
    whole is valid too. The smallest p is then 1 / 20,001: among 15,000 edges a q of .05 needs 15 such edges.
    Raises `InputError` for values that are not finite, or a negative seed.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} scores are not finite, so no p can be told",
            hint="look for NaN in the model's weights, or score in float32",
        )
    n = len(values)
    if n <= EXHAUSTIVE_PAIRS:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return _exceeding(values, signs) / 2**n
    rng = generator(seed)
    p = (1 + _drawn(values, FIRST_FLIPS, rng)) / (1 + FIRST_FLIPS)
    candidates = np.flatnonzero(p <= BAR)
    p[candidates] = (1 + _drawn(values[:, candidates], SECOND_FLIPS, rng)) / (1 + SECOND_FLIPS)
    return p


def q_values(p: np.ndarray) -> np.ndarray:
    """`q_(i) = min over j >= i of p_(j) m / j` with p sorted, Benjamini & Hochberg's step-up rule.

    Controls the expected share of false discoveries where tests are independent or positively dependent.
    """
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return q


def least_p(n: int) -> float:
    """The smallest p that `n` pairs can give: of all sign choices only the observed one and its opposite reach it."""
    return 2.0 / 2**n


def least_pairs(q: float) -> int:
    """How many pairs can give a p of `q`, which is between 0 and 1."""
    return next(n for n in count(1) if least_p(n) <= q)


def check_enough(n: int, q: float) -> None:
    """Raises `InputError` where `n` pairs cannot give a p of `q`, so that no edge can be significant."""
    if least_p(n) > q:
        raise InputError(
            f"no edge can be significant at q = {q} on {n} pairs: the smallest p is {least_p(n):.3g}",
            hint=f"score at least {least_pairs(q)} pairs; 64 are usual",
        )


def _drawn(values: np.ndarray, flips: int, rng: np.random.Generator) -> np.ndarray:
    """How many of `flips` random sign choices reach each column's |sum|."""
    n, edges = values.shape
    chunk = max(1, _ENTRIES // max(1, edges))
    found = np.zeros(edges)
    for start in range(0, flips, chunk):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(min(chunk, flips - start), n))
        found += _exceeding(values, signs)
    return found


def _exceeding(values: np.ndarray, signs: np.ndarray) -> np.ndarray:
    # The same terms summed in another order differ in the last digits, and must count as equal.
    bar = np.abs(values.sum(0)) - 1e-9 * np.abs(values).sum(0)
    found: np.ndarray = (np.abs(signs @ values) >= bar).sum(0)
    return found
