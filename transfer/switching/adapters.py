"""Fine-tuned model + its base -> low-rank steps from the one's weights to the other's (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM

READ_BY_HEAD = ("W_Q", "W_K", "W_V", "W_z", "W_x", "W_B", "W_C", "W_in")
"""Weights `[head d_model width]` of heads, groups or experts; other weights of three axes end in the stream."""
Factors = tuple[Float[Tensor, "d_in rank"], Float[Tensor, "rank d_out"]]


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """A step of low rank for each matrix: `W + A B`, heads of one matrix side by side."""

    factors: Mapping[str, Factors]
    """Name of a weight -> A and B."""
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    """Norms and biases that take another's place as they are."""

    @property
    def parameters(self) -> int:
        """Numbers that all this takes."""
        matrices = [one for pair in self.factors.values() for one in pair]
        return sum(one.numel() for one in (*matrices, *self.replaced.values()))

    def cut(self, rank: int) -> Adapters:
        """The first `rank` columns of A and rows of B; `InputError` for a rank below 1."""
        if rank < 1:
            raise InputError(f"rank is {rank}, expected at least 1", hint="give a larger rank")
        factors = {name: (a[:, :rank], b[:rank]) for name, (a, b) in self.factors.items()}
        return Adapters(factors=factors, replaced=self.replaced)

    def weights(self, model: HybridLM) -> dict[str, Tensor]:
        """What the model's weights become, in their own shapes; differentiable in the factors."""
        own = model.state_dict()
        moved = {
            name: own[name] + as_tensor(name, a @ b, own[name]).to(own[name].dtype)
            for name, (a, b) in self.factors.items()
        }
        return {**moved, **self.replaced}


@torch.no_grad()
def decomposed(model: HybridLM, base: HybridLM, most: int) -> Adapters:
    """The best steps of rank `most` from the fine-tuned weights to the base's; `cut` gives those of lower ranks.

    By a singular value decomposition of each difference, in float64; nothing is trained. Norms and biases are
    replaced.
    """
    own, factors, replaced = model.state_dict(), {}, {}
    for name, one in base.state_dict().items():
        if one.ndim < 2:
            replaced[name] = one.clone()
            continue
        left, scale, right = torch.linalg.svd(
            as_matrix(name, one.double() - own[name].double()), full_matrices=False
        )
        factors[name] = (left[:, :most] * scale[:most], right[:most])
    return Adapters(factors=factors, replaced=replaced)


def as_matrix(name: str, value: Tensor) -> Float[Tensor, "d_in d_out"]:
    """A weight as the one matrix it multiplies with, what its heads, groups or experts read or write side by side."""
    if value.ndim == 2:
        return value
    if name.endswith(READ_BY_HEAD):
        return rearrange(value, "head d width -> d (head width)")
    return rearrange(value, "head ... d -> (head ...) d")


def as_tensor(name: str, matrix: Float[Tensor, "d_in d_out"], like: Tensor) -> Tensor:
    """The matrix in the shape of the weight that it belongs to."""
    if like.ndim > 2 and name.endswith(READ_BY_HEAD):
        return rearrange(matrix, "d (head width) -> head d width", head=len(like))
    return matrix.reshape(like.shape)
