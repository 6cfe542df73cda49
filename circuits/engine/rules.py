"""Rules -> how gradients pass what is not linear: as they are, or frozen and shared out as RelP does.

A rule changes no value of a forward pass, only what its backward pass takes for a constant. `RELP` follows relevance
patching (Jafari et al., arXiv 2508.21258), which takes the rules of layer-wise relevance propagation: norms are linear
maps with their scale frozen, attention is a linear map with its pattern frozen, an activation is a product with its
own ratio `f(x) / x`, and a product of two branches gives half of the gradient to each. Mamba's `dt`, `B` and `C` and
the router decide where information goes, as an attention pattern does, so they are frozen with it.
`FROZEN_NORMS` holds the divisors alone, as circuit tracing does beside attention patterns (Ameisen et al. 2025,
transformer-circuits.pub); `FROZEN_ROUTER` is our counterpart for experts, and `FROZEN` is both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the backward pass takes for a constant; everything is live by default."""

    frozen_norms: bool = False
    """The divisor of every norm."""
    frozen_router: bool = False
    """The weights an expert's output is multiplied with."""
    frozen_patterns: bool = False
    """Attention patterns, and Mamba's dt, B and C."""
    ratios: bool = False
    """Activations pass gradients by `f(x) / x`, products of two branches by halves."""

    @property
    def suffix(self) -> str:
        """What a method is called more under these rules: nothing when all is live."""
        return SUFFIXES.get(self, "-ruled")

    def kept(self, x: Tensor, frozen: bool) -> Tensor:
        """`x`, without its gradient where `frozen`."""
        return x.detach() if frozen else x

    def activated(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`function(x)` under the rule for activations."""
        return ratio(function(x), x) if self.ratios else function(x)

    def multiplied(self, left: Tensor, right: Tensor) -> Tensor:
        """`left * right` under the rule for products."""
        if not self.ratios:
            return left * right
        return (left * right.detach() + left.detach() * right) / 2


def ratio(out: Tensor, base: Tensor) -> Tensor:
    """`out`, as `base` times a constant."""
    constant = torch.where(base == 0, torch.zeros_like(out), out / base).detach()
    return base * constant + (out - base * constant).detach()


LIVE = Rules()
FROZEN_NORMS = Rules(frozen_norms=True)
FROZEN_ROUTER = Rules(frozen_router=True)
FROZEN = Rules(frozen_norms=True, frozen_router=True)
RELP = Rules(frozen_norms=True, frozen_router=True, frozen_patterns=True, ratios=True)
SUFFIXES = {
    LIVE: "",
    FROZEN_NORMS: "-frozen-norms",
    FROZEN_ROUTER: "-frozen-router",
    FROZEN: "-frozen",
    RELP: "-relp",
}
"""What a method is called more under the rules that have a name."""
