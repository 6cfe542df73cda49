"""Map + held-out pairs -> how well it predicts: variance left, R2 per dimension, cosines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from transfer.maps.activation_map import ActivationMap
from transfer.points import ActivationPairs


@dataclass(frozen=True, kw_only=True)
class MapQuality:
    """What a map's images are worth on pairs it has not seen."""

    pairs: int
    fvu: float
    """Fraction of variance unexplained: sum |y - f(x)|^2 / sum |y - mean y|^2, each dimension around its own mean."""
    r2: float
    """1 - error / variance of each dimension, then the mean over the dimensions that vary."""
    cosine: float
    """Mean cosine of f(x) and y."""
    centred_cosine: float
    """The same after the target's mean is taken off both, so that a common offset counts for nothing."""


def measure(fitted: ActivationMap, pairs: ActivationPairs) -> MapQuality:
    """Score a map on held-out pairs. Raises `InputError` for other widths and for a target that never varies."""
    images, target = fitted.map_points(pairs.source), pairs.target.values
    if images.shape != target.shape:
        raise InputError(
            f"the map's images are {images.shape[1]} wide and the target activations {target.shape[1]}",
            hint="score a map on the hooks it was fitted on",
        )
    return compare(images, target)


@torch.no_grad()
def compare(images: Float[Tensor, "token d_out"], target: Float[Tensor, "token d_out"]) -> MapQuality:
    """`measure` on images that are already there."""
    y, error = target.double(), (images - target).double()
    mean = y.mean(0)
    variance, lost = (y - mean).square().sum(0), error.square().sum(0)
    # What a constant's rounding leaves is no variance.
    varies = variance > 1e-12 * y.square().sum(0)
    if not bool(varies.any()):
        raise InputError("the target activations never vary", hint="give more than one token")
    images = images.double()
    # An image on the mean itself has no direction from there; its rounding shall not be one.
    off = (images - mean).norm(dim=1, keepdim=True) > 1e-5 * images.norm(dim=1, keepdim=True)
    cosine = torch.cosine_similarity(images, y, dim=-1).mean()
    centred = torch.cosine_similarity((images - mean) * off, y - mean, dim=-1).mean()
    return MapQuality(
        pairs=len(y),
        fvu=float(lost.sum() / variance.sum()),
        r2=float((1 - lost[varies] / variance[varies]).mean()),
        cosine=float(cosine),
        centred_cosine=float(centred),
    )
