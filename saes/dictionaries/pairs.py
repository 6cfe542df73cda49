"""Active latents of a batch -> the three products that a sparse step needs, without a dense [B F] matrix.

A pair is one active latent in one bag; a bag is one row of the batch, or one nested level of one row. `dense`
is the same three products by matrices of zeros and values, which a GPU multiplies faster while there are few latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.ops import HAS_TRITON

DENSE_BELOW = {"cpu": 4, "kernels": 14}
"""Latents per active latent below which matrices are faster: measured on the CPU; for Triton's kernels where 2 F d
operations at 51 TFLOP/s take as long as reading 4 k d bytes at 7.5 TB/s, most of it from the cache (an H100's float32).
"""
DENSE_ELSEWHERE = 144
"""As much on a GPU without kernels: where reading 2 k d bytes costs as much as 2 F d operations."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Active latents in the order of their bags."""

    latent: Int[Tensor, " pair"]
    bag: Int[Tensor, " pair"]
    """Which bag each pair is in, ascending."""
    start: Int[Tensor, " bag"]
    """The first pair of each bag."""
    value: Float[Tensor, " pair"]
    """At least 0; the latent has fired where it is more."""
    d_sae: int

    def is_dense(self, share: int = 1) -> bool:
        """Whether matrices are faster here, with so many bags taken as one; shapes, device and dtype alone decide."""
        on = "kernels" if on_kernels(self.value) else self.value.device.type
        few = DENSE_BELOW.get(on, DENSE_ELSEWHERE)
        return self.d_sae * len(self.start) // share < few * len(self.latent)

    @cached_property
    def by_latent(self) -> ByLatent:
        """The pairs sorted by latent, when first asked for."""
        # Sorting takes time by the bits of what is sorted.
        bits = torch.int16 if self.d_sae <= 2**15 else torch.int32
        latent, order = self.latent.to(bits).sort(stable=True)
        start = torch.searchsorted(latent, torch.arange(self.d_sae, device=latent.device, dtype=bits))
        return ByLatent(order=order, bag=self.bag[order], start=start)


@dataclass(frozen=True, kw_only=True)
class ByLatent:
    """The same pairs in the order of their latents."""

    order: Int[Tensor, " pair"]
    bag: Int[Tensor, " pair"]
    start: Int[Tensor, " d_sae"]


def decode(pairs: Pairs, rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, "bag d"]:
    """Per bag the sum of `value * rows[latent]`."""
    if pairs.is_dense():
        return _matrix(pairs, pairs.value) @ rows
    if on_kernels(rows):
        from saes.dictionaries import kernels

        return kernels.sum_rows(rows, pairs.latent, pairs.value, pairs.start)
    return _bags(rows, pairs.latent, pairs.value, pairs.start)


def errors(
    pairs: Pairs, rows: Float[Tensor, "d_sae d"], target: Float[Tensor, "batch d"]
) -> tuple[Float[Tensor, "batch level d"], Float[Tensor, " level"]]:
    """How far from the target the sums of each row's bags up to each level are, and the squares of that, all rows'.

    The first holds for each level its own error and those of all later ones, added up: what the bag has a part in.
    """
    if on_kernels(rows) and not pairs.is_dense():
        from saes.dictionaries import kernels

        return kernels.errors(rows, pairs.latent, pairs.value, pairs.start, target)
    parts = rearrange(decode(pairs, rows), "(row level) d -> row level d", row=len(target))
    nested = parts.shape[1] > 1
    error = (parts.cumsum(1) if nested else parts).sub_(target[:, None])
    squares = error.square().sum((0, 2))
    return error.flip(1).cumsum(1).flip(1) if nested else error, squares


def activations(
    pairs: Pairs, x: Float[Tensor, "bag d"], encoder: Float[Tensor, "d_sae d"], bias: Float[Tensor, " d_sae"]
) -> Float[Tensor, " pair"]:
    """Per pair ReLU of the pre-activation of its latent at its bag's row."""
    if on_kernels(x) and not pairs.is_dense():
        from saes.dictionaries import kernels

        return kernels.inner(x, encoder, pairs.bag, pairs.latent, bias=bias)
    return (_inner(pairs, x, encoder) + bias[pairs.latent]).relu_()


def toward(
    pairs: Pairs, of_bags: Float[Tensor, "bag d"], rows: Float[Tensor, "d_sae d"], scale: float = 1.0
) -> Float[Tensor, " pair"]:
    """Per pair that has fired `scale` times the inner product of its bag's row and its latent's row, else 0."""
    if on_kernels(rows) and not pairs.is_dense():
        from saes.dictionaries import kernels

        return kernels.inner(of_bags, rows, pairs.bag, pairs.latent, gate=pairs.value, scale=scale)
    return _inner(pairs, of_bags, rows).mul_(scale) * (pairs.value > 0)


def outer(
    pairs: Pairs,
    value: Float[Tensor, " pair"],
    of_bags: Float[Tensor, "bag d"],
    *,
    scale: float = 1.0,
    share: int = 1,
) -> Float[Tensor, "d_sae d"]:
    """Per latent the sum of `scale * value * of_bags[bag]` over its pairs: a weight gradient, without atomic additions.

    So many bags `share` one row of `of_bags`.
    """
    if pairs.is_dense(share):
        return _matrix(pairs, value * scale, share).T @ of_bags
    order, bag, start = pairs.by_latent.order, pairs.by_latent.bag, pairs.by_latent.start
    if on_kernels(of_bags):
        from saes.dictionaries import kernels

        return kernels.sum_rows(of_bags, bag, value, start, order=order, scale=scale, share=share)
    return _bags(of_bags, _shared(bag, share), value[order] * scale, start)


def per_latent(pairs: Pairs, value: Float[Tensor, " pair"]) -> Float[Tensor, " d_sae"]:
    """Per latent the sum of `value`: the gradient of a bias of latents."""
    if on_kernels(value):
        from saes.dictionaries import kernels

        return kernels.per_bag(value, pairs.by_latent.order, pairs.by_latent.start, counted=False)
    return value.new_zeros(pairs.d_sae).index_add_(0, pairs.latent, value)


def fired(pairs: Pairs) -> Int[Tensor, " d_sae"]:
    """Per latent in how many bags it is above 0."""
    if on_kernels(pairs.value):
        from saes.dictionaries import kernels

        return kernels.per_bag(pairs.value, pairs.by_latent.order, pairs.by_latent.start, counted=True)
    active = (pairs.value > 0).long()
    return active.new_zeros(pairs.d_sae).index_add_(0, pairs.latent, active)


def equal_bags(latent: Int[Tensor, "row k"], value: Float[Tensor, "row k"], d_sae: int) -> Pairs:
    """k pairs in every row."""
    rows, k = latent.shape
    return Pairs(
        latent=rearrange(latent, "row k -> (row k)"),
        bag=repeat(torch.arange(rows, device=latent.device), "row -> (row k)", k=k),
        start=torch.arange(0, rows * k, k, device=latent.device),
        value=rearrange(value, "row k -> (row k)"),
        d_sae=d_sae,
    )


def on_kernels(x: Tensor) -> bool:
    """Whether Triton's kernels treat `x`: float32 on a GPU, with Triton installed."""
    return x.is_cuda and x.dtype == torch.float32 and HAS_TRITON


def _inner(
    pairs: Pairs, of_bags: Float[Tensor, "bag d"], rows: Float[Tensor, "d_sae d"]
) -> Float[Tensor, " pair"]:
    if pairs.is_dense():
        return (of_bags @ rows.T)[pairs.bag, pairs.latent]
    # The backward pass of `embedding_bag` towards its weights, which PyTorch has no public name for.
    product = torch.ops.aten._embedding_bag_per_sample_weights_backward
    return product(of_bags, rows, pairs.latent, pairs.start, pairs.bag, 0, -1)


def _bags(
    rows: Float[Tensor, "row d"],
    index: Int[Tensor, " pair"],
    weight: Float[Tensor, " pair"],
    start: Int[Tensor, " bag"],
) -> Float[Tensor, "bag d"]:
    return F.embedding_bag(index, rows, start, mode="sum", per_sample_weights=weight)


def _shared(bag: Int[Tensor, " pair"], share: int) -> Int[Tensor, " pair"]:
    return bag if share == 1 else torch.div(bag, share, rounding_mode="floor")


def _matrix(pairs: Pairs, value: Float[Tensor, " pair"], share: int = 1) -> Float[Tensor, "bag d_sae"]:
    dense = value.new_zeros(len(pairs.start) // share, pairs.d_sae)
    # A latent occurs once in a bag, so nothing is added up here.
    dense[_shared(pairs.bag, share), pairs.latent] = value
    return dense
