"""Moments -> affine map: mean, identity, Procrustes, affine, ridge and low rank, each in one step."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from transfer.maps.activation_map import Made
from transfer.maps.kinds import AffineMap
from transfer.maps.moments import Moments

SMALLEST = 1e-10
"""Eigenvalues of the source's correlation below this share of the largest count as zero."""
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties to choose from, in units of a source dimension's variance."""


def mean_map(moments: Moments, made: Made) -> AffineMap:
    """The target's mean, whatever the source says: what mean ablation puts in."""
    return _centred(torch.zeros_like(moments.cross), moments, made)


def identity_map(moments: Moments, made: Made) -> AffineMap:
    """The source's activation as it is. Raises `InputError` where the widths differ."""
    d_in, d_out = moments.cross.shape
    if d_in != d_out:
        raise InputError(
            f"the identity map needs equal widths; the source is {d_in} wide and the target {d_out}",
            hint="choose `procrustes` or `affine`",
        )
    weight = torch.eye(d_in, device=moments.cross.device)
    return AffineMap(made=made, weight=weight, bias=torch.zeros(d_out, device=weight.device))


def procrustes_map(moments: Moments, made: Made) -> AffineMap:
    """A rotation and one scale around the means: W = s U V^T, with U S V^T the SVD of the cross-covariance.

    Schönemann (1966). Of unequal widths W has orthonormal rows or columns; it then is the one that correlates best.
    """
    left, _, right = torch.linalg.svd(moments.cross, full_matrices=False)
    rotation = left @ right
    scale = (rotation * moments.cross).sum() / (rotation * (moments.source @ rotation)).sum()
    return _centred(scale * rotation, moments, made)


def affine_map(moments: Moments, made: Made) -> AffineMap:
    """Ordinary least squares; of several solutions, where the source has no full rank, the smallest."""
    return ridge_map(moments, made, penalty=0.0)


def ridge_map(moments: Moments, made: Made, *, penalty: float = 1e-3) -> AffineMap:
    """Least squares with `penalty * |W|^2` per pair, source dimensions divided by their standard deviations.

    W = D (R + penalty I)^-1 D C, with R the correlation and D the inverse deviations of the source, C the covariance.
    """
    if penalty < 0:
        raise InputError(f"the ridge penalty is {penalty}, expected at least 0", hint=f"as in {PENALTIES[3]}")
    return _centred(_ridge(moments, penalty), moments, made)


def chosen_ridge_map(moments: Moments, held_out: Moments, made: Made) -> AffineMap:
    """The ridge map whose penalty, of `PENALTIES`, leaves the least variance unexplained on held-out pairs."""
    fits = [ridge_map(moments, made, penalty=penalty) for penalty in PENALTIES]
    return min(fits, key=lambda one: held_out.unexplained(one.weight, one.bias))


def low_rank_map(moments: Moments, made: Made, *, rank: int, penalty: float = 1e-6) -> AffineMap:
    """Reduced-rank regression (Izenman 1975): the ridge map, onto the `rank` directions that its images vary most in.

    Among maps of that rank it has the least squared error, at penalty 0. Raises `InputError` for an impossible rank.
    """
    most = min(moments.cross.shape)
    if not 1 <= rank <= most:
        raise InputError(
            f"rank is {rank}, expected 1 to {most}, the smaller of the two widths", hint="give a smaller rank"
        )
    weight = _ridge(moments, penalty)
    images = weight.T @ moments.cross
    _, axes = torch.linalg.eigh((images + images.T) / 2)
    kept = axes[:, -rank:]
    return _centred(weight @ kept @ kept.T, moments, made)


def low_rank_step_map(moments: Moments, made: Made, *, rank: int) -> AffineMap:
    """y = x + (x - mean x) W + (mean y - mean x) with W of that rank: the low-rank map to y - x, added to x.

    The form of a switch between a model and its fine-tuned self, which differ by little: its factors are all that it
    needs. Raises `InputError` where the widths differ and for an impossible rank.
    """
    identity = identity_map(moments, made)
    step = low_rank_map(moments.to_difference(), made, rank=rank)
    return AffineMap(made=made, weight=identity.weight + step.weight, bias=step.bias)


def _ridge(moments: Moments, penalty: float) -> Float[Tensor, "d_in d_out"]:
    deviation = (moments.source.diagonal() / moments.count).sqrt()
    # A dimension that never varies tells nothing and gets no weight.
    inverse = torch.where(deviation > 1e-12 * deviation.max(), 1 / deviation, 0.0)
    correlation = moments.source * torch.outer(inverse, inverse) / moments.count
    values, vectors = torch.linalg.eigh(correlation)
    kept = values > SMALLEST * values[-1]
    shrunk = torch.where(kept, 1 / (values + penalty), 0.0)
    wanted = inverse[:, None] * moments.cross / moments.count
    return inverse[:, None] * (vectors * shrunk @ (vectors.T @ wanted))


def _centred(weight: Tensor, moments: Moments, made: Made) -> AffineMap:
    """The affine map of that weight that takes the source's mean to the target's."""
    bias = moments.target_mean - moments.source_mean @ weight
    return AffineMap(made=made, weight=weight.float(), bias=bias.float())
