"""The plain parts of a block: norm, rotary positions and MLP, each with its hooks.

Parameters have TransformerLens' names and shapes, so that one head is one slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tinysql.models.config import ModelConfig, RotaryScaling


def relu2(x: Tensor) -> Tensor:
    """Squared ReLU, as a product: autocast would compute a power in float32."""
    positive = F.relu(x)
    return positive * positive


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "relu2": relu2,
}


class Norm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * w (+ b)`; LayerNorm is the same on `x - mean(x)`. Computed in float32 at least."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.centred = config.norm == "layer"
        self.eps = config.eps
        self.w = nn.Parameter(torch.ones(config.d_model))
        self.b = nn.Parameter(torch.zeros(config.d_model)) if "norm" in config.biases else None
        self.hook_scale = HookPoint()  # [..., 1]
        self.hook_normalized = HookPoint()  # [..., d_model]

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        wide, scale = self.divided(x)
        return self.hook_normalized(self.weighted(wide / self.hook_scale(scale)).to(x.dtype))

    def divided(
        self, x: Float[Tensor, "*batch d_model"]
    ) -> tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch 1"]]:
        """What is divided, and by what."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.centred:
            wide = wide - wide.mean(-1, keepdim=True)
        return wide, (wide.square().mean(-1, keepdim=True) + self.eps).sqrt()

    def weighted(self, directions: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """`directions * w (+ b)`."""
        weighted = directions * self.w
        return weighted if self.b is None else weighted + self.b


class Rotary(nn.Module):
    """Rotary position embedding (Su et al., arXiv 2104.09864).

    The pair of coordinates (i, i + d_head/2) turns by the angle `position * base^(-2i/d_head)`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        half = config.head_width // 2
        frequency = 1 / config.rotary_base ** (torch.arange(half, dtype=torch.float32) / half)
        if config.rotary_scaling is not None:
            frequency = stretched(frequency, config.rotary_scaling)
        angle = torch.outer(torch.arange(config.n_ctx, dtype=torch.float32), frequency)
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)  # [n_ctx, 1, half]
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)

    def forward(
        self, x: Float[Tensor, "batch seq head d_head"], positions: Int[Tensor, "#batch seq"]
    ) -> Float[Tensor, "batch seq head d_head"]:
        cos, sin = (table[positions].to(x.dtype) for table in (self.cos, self.sin))
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


def stretched(frequency: Float[Tensor, " half"], scaling: RotaryScaling) -> Float[Tensor, " half"]:
    """Llama 3.1's rule: slow frequencies divided by `factor`, fast ones kept, a ramp between the two."""
    turns = scaling.original_n_ctx * frequency / (2 * math.pi)
    kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / scaling.factor)


class MLP(nn.Module):
    """`activation(x @ W_in) @ W_out`, or gated: `(activation(x @ W_gate) * (x @ W_in)) @ W_out`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, biased = config.mlp_width, "mlp" in config.biases
        self.W_in = nn.Parameter(torch.empty(config.d_model, width))
        self.W_gate = nn.Parameter(torch.empty(config.d_model, width)) if config.gated else None
        self.W_out = nn.Parameter(torch.empty(width, config.d_model))
        self.b_in = nn.Parameter(torch.zeros(width)) if biased else None
        self.b_gate = nn.Parameter(torch.zeros(width)) if biased and config.gated else None
        self.b_out = nn.Parameter(torch.zeros(config.d_model)) if biased else None
        self.activate: Callable[[Tensor], Tensor] = ACTIVATIONS[config.activation]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()  # [batch seq d_mlp]
        if config.gated:
            self.hook_pre_linear = HookPoint()

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        inner = added(x @ self.W_in, self.b_in)
        if self.W_gate is None:
            post = self.activate(self.hook_pre(inner))
        else:
            post = self.activate(self.hook_pre(added(x @ self.W_gate, self.b_gate))) * self.hook_pre_linear(
                inner
            )
        return added(self.hook_post(post) @ self.W_out, self.b_out)


def added(x: Tensor, bias: Tensor | None) -> Tensor:
    """`x + bias`, where there is one."""
    return x if bias is None else x + bias
