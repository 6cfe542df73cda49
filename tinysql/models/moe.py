"""The `E` block: mixture of experts as Nemotron 3 has it (arXiv 2512.20856), plain or latent (arXiv 2601.18089).

    s = sigmoid(x @ W_R) in float32          chosen = the n_active largest of s + selection_bias
    weight = s[chosen] / sum(s[chosen]) * scale
    out = (sum of weight * expert(x @ W_down)) @ W_up + shared(x)          expert(x) = relu(x @ W_in)^2 @ W_out

Without `d_latent` there are no W_down and W_up. The selection bias has no gradient: `balance` moves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tinysql.models.config import ModelConfig
from tinysql.models.layers import relu2


@dataclass(frozen=True)
class Routing:
    """What one `E` block decided: the trainer balances by it."""

    scores: Float[Tensor, "batch seq expert"]
    """Sigmoid of the router's logits, with gradient."""
    chosen: Int[Tensor, "batch seq active"]


class MoE(nn.Module):
    """Routed experts and a shared one.

    Hooks: `hook_router` (logits) `[batch seq expert]`, `hook_chosen` (indices; a hook may choose others)
    `[batch seq active]`, `hook_weights` `[batch seq active]`, `hook_latent` (what experts read)
    `[batch seq d_expert_in]`, `hook_expert_out` `[batch seq active d_expert_in]`, `hook_routed_out` and
    `hook_shared_out` `[batch seq d_model]`.
    """

    selection_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        moe, width, inner = config.moe, config.d_model, config.expert_width
        self.n_active, self.scale = moe.n_active, moe.scale
        self.W_R = nn.Parameter(torch.empty(width, moe.n_experts))
        self.W_in = nn.Parameter(torch.empty(moe.n_experts, inner, moe.d_expert))
        self.W_out = nn.Parameter(torch.empty(moe.n_experts, moe.d_expert, inner))
        self.W_in_shared = nn.Parameter(torch.empty(width, moe.d_shared))
        self.W_out_shared = nn.Parameter(torch.empty(moe.d_shared, width))
        self.groupable = inner % 8 == 0 and moe.d_expert % 8 == 0
        """Whether the experts' rows begin at multiples of 16 bytes in bfloat16, as grouped products want them."""
        latent = moe.d_latent is not None
        self.W_down = nn.Parameter(torch.empty(width, inner)) if latent else None
        self.W_up = nn.Parameter(torch.empty(inner, width)) if latent else None
        self.register_buffer("selection_bias", torch.zeros(moe.n_experts, dtype=torch.float32))
        self.hook_router, self.hook_chosen, self.hook_weights = HookPoint(), HookPoint(), HookPoint()
        self.hook_latent, self.hook_expert_out = HookPoint(), HookPoint()
        self.hook_routed_out, self.hook_shared_out = HookPoint(), HookPoint()

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], routing: list[Routing] | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        weights, chosen = self.route(x, routing)
        inner = self.hook_latent(x if self.W_down is None else x @ self.W_down)
        out = self.hook_expert_out(self.experts(inner, chosen))
        # No product of matrices: those of one row each take a GPU several times as long.
        routed = (out * weights.to(out.dtype)[..., None]).sum(2)
        routed = self.hook_routed_out(routed if self.W_up is None else routed @ self.W_up)
        shared = self.hook_shared_out(relu2(x @ self.W_in_shared) @ self.W_out_shared)
        return routed + shared

    def route(
        self, x: Float[Tensor, "batch seq d_model"], routing: list[Routing] | None = None
    ) -> tuple[Float[Tensor, "batch seq active"], Int[Tensor, "batch seq active"]]:
        """Weights and indices of the chosen experts, computed in float32 also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(x.dtype, torch.float32)
            return self.decide(x.to(wide) @ self.W_R.to(wide), routing)

    def decide(
        self, logits: Float[Tensor, "batch seq expert"], routing: list[Routing] | None = None
    ) -> tuple[Float[Tensor, "batch seq active"], Int[Tensor, "batch seq active"]]:
        """Weights and indices of the chosen experts, from the router's logits."""
        scores = self.hook_router(logits).sigmoid()
        chosen = self.hook_chosen((scores + self.selection_bias).topk(self.n_active, dim=-1).indices)
        picked = scores.gather(-1, chosen)
        weights = self.hook_weights(picked / (picked.sum(-1, keepdim=True) + 1e-20) * self.scale)
        if routing is not None:
            routing.append(Routing(scores, chosen))
        return weights, chosen

    def experts(
        self,
        x: Float[Tensor, "batch seq d"] | Float[Tensor, "batch seq active d"],
        chosen: Int[Tensor, "batch seq active"],
    ) -> Float[Tensor, "batch seq active d"]:
        """Each chosen expert applied to its tokens, which are sorted by expert first and put back after.

        Every chosen expert may be given an input of its own. On a GPU in bfloat16, or under autocast, all experts share
        one grouped product; in wider types, or where widths are no multiples of 8, each has its own.
        """
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        # One row for all experts of a token, or one for each.
        shared = x.ndim == 3
        sorted_x = _ordered(x.flatten(0, 1 if shared else 2), order, back, chosen.shape[-1] if shared else 1)
        narrow = x.dtype == torch.bfloat16 or torch.is_autocast_enabled(x.device.type)
        out = (self._grouped if x.is_cuda and narrow and self.groupable else self._one_by_one)(sorted_x, flat)
        return _ordered(out, back, order, 1).unflatten(0, chosen.shape)

    def _one_by_one(
        self, x: Float[Tensor, "slot d"], chosen: Int[Tensor, " slot"]
    ) -> Float[Tensor, "slot d"]:
        counts = chosen.bincount(minlength=len(self.W_in)).tolist()
        parts = zip(x.split(counts), self.W_in, self.W_out, strict=True)
        return torch.cat([relu2(part @ w_in) @ w_out for part, w_in, w_out in parts])

    def _grouped(self, x: Float[Tensor, "slot d"], chosen: Int[Tensor, " slot"]) -> Float[Tensor, "slot d"]:
        """One grouped matrix product per layer of all experts, in bfloat16, with no wait for the counts."""
        ends = F.one_hot(chosen, len(self.W_in)).sum(0).cumsum(0).to(torch.int32)
        hidden = F.grouped_mm(x.bfloat16(), self.W_in.bfloat16(), offs=ends)
        return F.grouped_mm(relu2(hidden), self.W_out.bfloat16(), offs=ends).to(x.dtype)


class _Ordered(torch.autograd.Function):
    """See `_ordered`."""

    @staticmethod
    def forward(x: Tensor, order: Tensor, back: Tensor, times: int) -> Tensor:
        return x[order // times] if times > 1 else x[order]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        _, order, back, times = inputs
        ctx.save_for_backward(order, back)
        ctx.times = times

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        order, back = ctx.saved_tensors
        found = _ordered(gradients[0], back, order, 1)
        return (found if ctx.times == 1 else found.unflatten(0, (-1, ctx.times)).sum(1)), None, None, None


def _ordered(
    x: Float[Tensor, "row d"], order: Int[Tensor, " slot"], back: Int[Tensor, " slot"], times: int
) -> Float[Tensor, "slot d"]:
    """The rows of `x`, each `times` over, in an order whose inverse is `back`.

    The gradient goes back by that inverse; indexing, which knows of none, would scatter it with atomic additions.
    """
    found: Tensor = _Ordered.apply(x, order, back, times)
    return found


def experts_of(model: nn.Module) -> list[MoE]:
    """The mixers of all `E` blocks, in order."""
    return [module for module in model.modules() if isinstance(module, MoE)]


def load(routing: Routing, real: Bool[Tensor, "batch seq"]) -> Int[Tensor, " expert"]:
    """How many real tokens chose each expert; padding is routed too, since shapes are fixed, and not counted."""
    return _choices(routing, real).sum(0)


def balance(moe: MoE, counts: Int[Tensor, " expert"], rate: float) -> None:
    """Raise the selection bias of experts below the mean load by `rate`, lower the others', then re-centre.

    The sign rule lets all biases drift together; without re-centring they outgrow their own differences.
    """
    counts = counts.float()
    moe.selection_bias += rate * (counts.mean() - counts).sign()
    moe.selection_bias -= moe.selection_bias.mean()


def sequence_balance_loss(routing: Routing, real: Bool[Tensor, "batch seq"]) -> Float[Tensor, ""]:
    """`experts * sum_i f_i P_i` per sequence, averaged over sequences; 1 when each is balanced.

    f_i is the share of a sequence's choices that fell on expert i, P_i its mean normalised score, both over real
    tokens (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20).
    """
    experts, active = routing.scores.shape[-1], routing.chosen.shape[-1]
    tokens = real.sum(1, keepdim=True)
    share = _choices(routing, real) / (tokens * active)
    normalised = routing.scores / routing.scores.sum(-1, keepdim=True)
    probability = (normalised * real[..., None]).sum(1) / tokens
    return experts * (share * probability).sum(-1).mean()


def _choices(routing: Routing, real: Bool[Tensor, "batch seq"]) -> Int[Tensor, "batch expert"]:
    """How many real tokens of each sequence chose each expert."""
    chosen = F.one_hot(routing.chosen, routing.scores.shape[-1]).sum(2)
    return (chosen * real[..., None]).sum(1)
