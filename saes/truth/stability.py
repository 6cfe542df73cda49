"""SAEs of several seeds -> how much of what they found is the same.

Matched latents are those that the assignment of greatest total cosine pairs (Hungarian algorithm), so that each has one
partner; MMCS, the mean over latents of the largest cosine to any latent of the other (Sharkey et al. 2022), lets many
share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from data_gen.errors import InputError
from saes.disk import SAE

SAME = 0.9
"""From which cosine on two latents count as the same."""


@dataclass(frozen=True, kw_only=True)
class SeedStability:
    """Agreement between dictionaries trained alike but for their seed."""

    mcc: float
    """Mean cosine of matched latents, over pairs of SAEs."""
    mmcs: float
    """Mean largest cosine, over latents, directions and pairs of SAEs."""
    same: float
    """Share of the first SAE's latents whose match has a cosine of at least `SAME` in every other SAE."""
    stable: tuple[int, ...]
    """Those latents."""


def stability(saes: Sequence[SAE]) -> SeedStability:
    """Compare the decoders of at least two SAEs of one hook; they may have different numbers of latents.

    Raises:
        InputError: fewer than two, or of different widths.
    """
    if len(saes) < 2:
        raise InputError(
            f"stability needs at least 2 SAEs, there is {len(saes)}", hint="train one with another seed"
        )
    widths = {sae.W_dec.shape[1] for sae in saes}
    if len(widths) > 1:
        raise InputError(
            f"the SAEs are {sorted(widths)} wide", hint="compare SAEs of the same hook of the same model"
        )
    rows = [_unit(sae.W_dec) for sae in saes]
    matched, largest = [], []
    stable = np.ones(len(rows[0]), bool)
    for a, b in combinations(range(len(rows)), 2):
        cosines = (rows[a] @ rows[b].T).cpu().numpy()
        own, other = match(cosines)
        matched.append(cosines[own, other].mean())
        largest.append((cosines.max(0).mean() + cosines.max(1).mean()) / 2)
        if a == 0:
            same = np.zeros(len(rows[0]), bool)
            same[own] = cosines[own, other] >= SAME
            stable &= same
    return SeedStability(
        mcc=float(np.mean(matched)),
        mmcs=float(np.mean(largest)),
        same=float(stable.mean()),
        stable=tuple(np.flatnonzero(stable).tolist()),
    )


def match(cosines: Float[np.ndarray, "latent other"]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (latent, other) of the assignment with the greatest total cosine, one per latent of the smaller side."""
    own, other = linear_sum_assignment(cosines, maximize=True)
    return own, other


def _unit(rows: Float[Tensor, "latent d_in"]) -> Float[Tensor, "latent d_in"]:
    return (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)).detach().float()
