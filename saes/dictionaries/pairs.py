"""Active latents of a batch -> the three products that a sparse step needs, without a dense [B F] matrix.

A pair is one active latent in one bag; a bag is one row of the batch, or one nested level of one row. `dense`
is the same three products by matrices of zeros and values, which a GPU multiplies faster while there are few latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
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

    @property
    def is_dense(self) -> bool:
        """Whether matrices are faster here; decided by shapes, device and dtype alone."""
        on = "kernels" if on_kernels(self.value) else self.value.device.type
        few = DENSE_BELOW.get(on, DENSE_ELSEWHERE)
        return self.d_sae * len(self.start) < few * len(self.latent)


@dataclass(frozen=True, kw_only=True)
class ByLatent:
    """The same pairs in the order of their latents."""

    order: Int[Tensor, " pair"]
    bag: Int[Tensor, " pair"]
    start: Int[Tensor, " d_sae"]


def decode(pairs: Pairs, rows: Float[Tensor, "d_sae d"]) -> Float[Tensor, "bag d"]:
    """Per bag the sum of `value * rows[latent]`."""
    if pairs.is_dense:
        return _matrix(pairs, pairs.value) @ rows
    return _sum_rows(rows, pairs.latent, pairs.value, pairs.start)


def inner(
    pairs: Pairs, of_bags: Float[Tensor, "bag d"], rows: Float[Tensor, "d_sae d"]
) -> Float[Tensor, " pair"]:
    """Per pair the inner product of its bag's row and its latent's row."""
    if pairs.is_dense:
        return (of_bags @ rows.T)[pairs.bag, pairs.latent]
    if on_kernels(rows):
        from saes.dictionaries import kernels

        return kernels.inner(of_bags, rows, pairs.latent, pairs.start)
    # The backward pass of `embedding_bag` towards its weights, which PyTorch has no public name for.
    product = torch.ops.aten._embedding_bag_per_sample_weights_backward
    return product(of_bags, rows, pairs.latent, pairs.start, pairs.bag, 0, -1)


def by_latent(pairs: Pairs) -> ByLatent:
    """Sort the pairs by latent, once for both weight gradients."""
    # Sorting takes time by the bits of what is sorted.
    latent, order = pairs.latent.to(torch.int32).sort(stable=True)
    start = torch.searchsorted(latent, torch.arange(pairs.d_sae, device=latent.device, dtype=torch.int32))
    return ByLatent(order=order, bag=pairs.bag[order], start=start)


def outer(
    pairs: Pairs, sorted_pairs: ByLatent, value: Float[Tensor, " pair"], of_bags: Float[Tensor, "bag d"]
) -> Float[Tensor, "d_sae d"]:
    """Per latent the sum of `value * of_bags[bag]` over its pairs: a weight gradient, without atomic additions."""
    if pairs.is_dense:
        return _matrix(pairs, value).T @ of_bags
    return _sum_rows(of_bags, sorted_pairs.bag, value[sorted_pairs.order], sorted_pairs.start)


def per_latent(pairs: Pairs, value: Float[Tensor, " pair"]) -> Float[Tensor, " d_sae"]:
    """Per latent the sum of `value`: the gradient of a bias of latents."""
    return value.new_zeros(pairs.d_sae).index_add_(0, pairs.latent, value)


def fired(pairs: Pairs) -> Int[Tensor, " d_sae"]:
    """Per latent in how many bags it is above 0."""
    active = (pairs.value > 0).long()
    return active.new_zeros(pairs.d_sae).index_add_(0, pairs.latent, active)


def equal_bags(latent: Int[Tensor, "row k"], value: Float[Tensor, "row k"], d_sae: int) -> Pairs:
    """k pairs in every row."""
    rows, k = latent.shape
    return Pairs(
        latent=rearrange(latent, "row k -> (row k)"),
        bag=torch.arange(rows, device=latent.device).repeat_interleave(k, output_size=rows * k),
        start=torch.arange(0, rows * k, k, device=latent.device),
        value=rearrange(value, "row k -> (row k)"),
        d_sae=d_sae,
    )


def on_kernels(x: Tensor) -> bool:
    """Whether Triton's kernels treat `x`: float32 on a GPU, with Triton installed."""
    return x.is_cuda and x.dtype == torch.float32 and HAS_TRITON


def _sum_rows(
    rows: Float[Tensor, "row d"],
    index: Int[Tensor, " pair"],
    weight: Float[Tensor, " pair"],
    start: Int[Tensor, " bag"],
) -> Float[Tensor, "bag d"]:
    if on_kernels(rows):
        from saes.dictionaries import kernels

        return kernels.sum_rows(rows, index, weight, start)
    return F.embedding_bag(index, rows, start, mode="sum", per_sample_weights=weight)


def _matrix(pairs: Pairs, value: Float[Tensor, " pair"]) -> Float[Tensor, "bag d_sae"]:
    dense = value.new_zeros(len(pairs.start), pairs.d_sae)
    # A latent occurs once in a bag, so nothing is added up here.
    dense[pairs.bag, pairs.latent] = value
    return dense
