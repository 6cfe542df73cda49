"""The parts of a block: norm, attention and MLP, each with its hooks.

Parameters have TransformerLens' names and shapes, so that one head is one slice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tinysql.models.config import ModelConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "relu2": lambda x: F.relu(x).square(),
}


class Norm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * w`; LayerNorm is the same on `x - mean(x)`. No bias."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.centred = config.norm == "layer"
        self.eps = config.eps
        self.w = nn.Parameter(torch.ones(config.d_model))
        self.hook_scale = HookPoint()  # [..., 1]
        self.hook_normalized = HookPoint()  # [..., d_model]

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((x.square().mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(x / scale * self.w)


class Rotary(nn.Module):
    """Rotary position embedding (Su et al., arXiv 2104.09864).

    The pair of coordinates (i, i + d_head/2) turns by the angle `position * base^(-2i/d_head)`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, base: float = 10_000.0) -> None:
        super().__init__()
        half = config.head_width // 2
        frequency = base ** (-torch.arange(half, dtype=torch.float32) / half)
        angle = torch.outer(torch.arange(config.n_ctx, dtype=torch.float32), frequency)
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)  # [n_ctx, 1, half]
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)

    def forward(
        self, x: Float[Tensor, "batch seq head d_head"], start: int = 0
    ) -> Float[Tensor, "batch seq head d_head"]:
        """`x` holds positions `start`, `start + 1`, ..."""
        cos, sin = (t[start : start + x.shape[1]].to(x.dtype) for t in (self.cos, self.sin))
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class KeyValues:
    """Keys and values seen so far by one attention block: what a KV cache holds."""

    def __init__(self) -> None:
        self.k: Float[Tensor, "batch seen head d_head"] | None = None
        self.v: Float[Tensor, "batch seen head d_head"] | None = None

    @property
    def seen(self) -> int:
        return 0 if self.k is None else self.k.shape[1]

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if self.k is not None and self.v is not None:
            k, v = torch.cat([self.k, k], dim=1), torch.cat([self.v, v], dim=1)
        self.k, self.v = k, v
        return k, v


class Attention(nn.Module):
    """Causal multi-head attention; `z @ W_O`, summed over heads, is what it writes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        heads, width, d_head = config.n_heads, config.d_model, config.head_width
        self.W_Q = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_K = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_V = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, width))
        self.rotary = Rotary(config) if config.positions == "rope" else None
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_z = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], past: KeyValues | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        q, k, v = (
            hook(self.project(x, weight))
            for hook, weight in ((self.hook_q, self.W_Q), (self.hook_k, self.W_K), (self.hook_v, self.W_V))
        )
        z = self.attend(q, k, v, past)
        return einsum(z, self.W_O, "batch seq head d_head, head d_head d_model -> batch seq d_model")

    @staticmethod
    def project(
        x: Float[Tensor, "batch seq d_model"], weight: Float[Tensor, "head d_model d_head"]
    ) -> Float[Tensor, "batch seq head d_head"]:
        return einsum(x, weight, "batch seq d_model, head d_model d_head -> batch seq head d_head")

    def attend(
        self,
        q: Float[Tensor, "batch seq head d_head"],
        k: Float[Tensor, "batch seq head d_head"],
        v: Float[Tensor, "batch seq head d_head"],
        past: KeyValues | None = None,
    ) -> Float[Tensor, "batch seq head d_head"]:
        """What each head reads out: fused attention, unless someone hooks its scores or its pattern."""
        start = past.seen if past is not None else 0
        if self.rotary is not None:
            q, k = self.rotary(q, start), self.rotary(k, start)
        q, k = self.hook_rot_q(q), self.hook_rot_k(k)
        if past is not None:
            k, v = past.extend(k, v)
        if self._watched():
            return self.hook_z(self._attend_in_the_open(q, k, v, start))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if start == 0:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=causal(q.shape[2], start, q.device))
        return self.hook_z(z.transpose(1, 2))

    def _watched(self) -> bool:
        points = (self.hook_attn_scores, self.hook_pattern)
        return any(point.has_hooks() for point in points)

    def _attend_in_the_open(self, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        scores = einsum(q, k, "batch q head d, batch k head d -> batch head q k") / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~causal(q.shape[1], start, q.device), float("-inf"))
        pattern = self.hook_pattern(self.hook_attn_scores(scores).softmax(-1))
        return einsum(pattern, v, "batch head q k, batch k head d -> batch q head d")


def causal(n_queries: int, start: int, device: torch.device) -> Bool[Tensor, "q k"]:
    """Which keys each query may see, when `start` keys came before the first query."""
    keys = torch.arange(start + n_queries, device=device)
    return keys <= keys[start:, None]


class MLP(nn.Module):
    """`activation(x @ W_in) @ W_out`, no biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.mlp_width))
        self.W_out = nn.Parameter(torch.empty(config.mlp_width, config.d_model))
        self.activate: Callable[[Tensor], Tensor] = ACTIVATIONS[config.activation]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()  # [batch seq d_mlp]

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        return self.hook_post(self.activate(self.hook_pre(x @ self.W_in))) @ self.W_out
