"""The `M` block: Mamba-2 (Dao and Gu, arXiv 2405.21060) as Nemotron-H builds it, every inner quantity hooked.

z, x, B, C, dt = projections of the stream     x, B, C = silu(conv(x, B, C))     dt = softplus(dt + dt_bias)
decay = exp(dt * A)     S_t = decay_t S_{t-1} + dt_t x_t ⊗ B_t     y_t = S_t C_t + D x_t
out = RMSNorm(y * silu(z)) @ W_out
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from tinysql.kernels.ops import conv_silu, gated_norm, ssd_scan, ssd_step
from tinysql.kernels.reference import Scanned
from tinysql.models.attention import project_all
from tinysql.models.config import ModelConfig
from tinysql.models.packing import Packing
from tinysql.models.states import scan_with_states

TINY = 1e-30
"""Smallest decay whose logarithm is taken when a hook sets decays."""


@dataclass
class MambaState:
    """What one `M` block carries from call to call."""

    conv: Float[Tensor, "batch before channel"] | None = None
    """The last d_conv - 1 inputs of the convolution."""
    ssm: Float[Tensor, "batch head d_head d_state"] | None = None
    fixed: bool = False
    """Whether the tensors stay where they are and take new values in."""

    def put(self, name: Literal["conv", "ssm"], value: Tensor) -> None:
        """Take the new value of one of the two."""
        room = getattr(self, name)
        if self.fixed and room is not None:
            room.copy_(value)
        else:
            setattr(self, name, value)

    def keep(self, rows: Bool[Tensor, " batch"]) -> None:
        """Go on with these rows alone."""
        if self.conv is not None and self.ssm is not None:
            self.conv, self.ssm = self.conv[rows], self.ssm[rows]


class Mamba(nn.Module):
    """Mamba-2; the gated, normed output of each head, times its rows of `W_out`, is what it writes.

    Hooks, in the order of the computation: `hook_z` `[batch seq head d_head]`; before the convolution
    `hook_x_in`, `hook_B_in`, `hook_C_in` and after it `hook_x` `[batch seq head d_head]`, `hook_B`, `hook_C`
    `[batch seq group d_state]`; `hook_dt` and `hook_decay` `[batch seq head]`; `hook_state`
    `[batch position head d_head d_state]`, all positions or those of `HybridLM.states_at`; `hook_y` and
    `hook_gated` `[batch seq head d_head]`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shape, heads, width = config.mamba, config.mamba_heads, config.d_model
        self.shape, self.eps = shape, config.eps
        channels = heads * shape.d_head + 2 * shape.n_groups * shape.d_state
        self.W_z = nn.Parameter(torch.empty(heads, width, shape.d_head))
        self.W_x = nn.Parameter(torch.empty(heads, width, shape.d_head))
        self.W_B = nn.Parameter(torch.empty(shape.n_groups, width, shape.d_state))
        self.W_C = nn.Parameter(torch.empty(shape.n_groups, width, shape.d_state))
        self.W_dt = nn.Parameter(torch.empty(width, heads))
        self.dt_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.conv_weight = nn.Parameter(torch.empty(channels, shape.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(channels))
        self.norm_weight = nn.Parameter(torch.ones(heads, shape.d_head))
        self.W_out = nn.Parameter(torch.empty(heads, shape.d_head, width))
        self.positions: tuple[int, ...] | None = None
        """Where `hook_state` looks; None is everywhere."""
        self.hook_z, self.hook_dt, self.hook_decay = HookPoint(), HookPoint(), HookPoint()
        self.hook_x_in, self.hook_B_in, self.hook_C_in = HookPoint(), HookPoint(), HookPoint()
        self.hook_x, self.hook_B, self.hook_C = HookPoint(), HookPoint(), HookPoint()
        self.hook_state, self.hook_y, self.hook_gated = HookPoint(), HookPoint(), HookPoint()

    def forward(
        self,
        u: Float[Tensor, "batch seq d_model"],
        past: MambaState | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        # A compiled step makes one product of the five; that of W_dt alone would be a slow one, narrow as it is.
        z, x, B, C, raw_dt = project_all(u, (self.W_z, self.W_x, self.W_B, self.W_C, self.W_dt.T[..., None]))
        gated = self.mix(
            self.hook_z(z),
            self.hook_x_in(x),
            self.hook_B_in(B),
            self.hook_C_in(C),
            raw_dt.squeeze(-1),
            past,
            packing.segments if packing is not None else None,
        )
        return gated.flatten(2) @ self.W_out.flatten(0, 1)

    def mix(
        self,
        z: Float[Tensor, "batch seq head d_head"],
        x: Float[Tensor, "batch seq head d_head"],
        B: Float[Tensor, "batch seq group d_state"],
        C: Float[Tensor, "batch seq group d_state"],
        raw_dt: Float[Tensor, "batch seq head"],
        past: MambaState | None = None,
        segments: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq head d_head"]:
        """All between the projections of the stream and the output projection."""
        x, B, C = self.convolved(x, B, C, past, segments)
        x, B, C = self.hook_x(x), self.hook_B(B), self.hook_C(C)
        dt = self.hook_dt(self.step_sizes(raw_dt))
        if self.hook_dt.has_hooks():
            _check_hooked(self.hook_dt, dt)
        scanned = self.scan(x, dt, B, C, past.ssm if past is not None else None, segments)
        if past is not None:
            past.put("ssm", scanned.state)
        y = self.hook_y(scanned.y)
        gated = gated_norm(y, z, self.norm_weight, groups=self.shape.n_groups, eps=self.eps)
        return self.hook_gated(gated)

    def step_sizes(self, raw: Float[Tensor, "batch seq head"]) -> Float[Tensor, "batch seq head"]:
        """`softplus(raw + dt_bias)` within the limits, in float32 at least."""
        wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
        return F.softplus(wide + self.dt_bias).clamp(self.shape.dt_min, self.shape.dt_max)

    def scan(
        self,
        x: Float[Tensor, "batch seq head d_head"],
        dt: Float[Tensor, "batch seq head"],
        B: Float[Tensor, "batch seq group d_state"],
        C: Float[Tensor, "batch seq group d_state"],
        state: Float[Tensor, "batch head d_head d_state"] | None = None,
        segments: Int[Tensor, "batch seq"] | None = None,
    ) -> Scanned:
        """The recurrence; looked at state by state only when someone hooks the states."""
        log_decay = -dt * self.A_log.to(dt.dtype).exp()
        if self.hook_decay.has_hooks():
            decay = log_decay.exp().clamp_min(TINY)
            # Added as a difference, so that looking alone changes no bit.
            hooked = self.hook_decay(decay)
            _check_hooked(self.hook_decay, hooked, most=1.0)
            log_decay = log_decay + (hooked.clamp_min(TINY).log() - decay.log())
        if self.hook_state.has_hooks():
            return scan_with_states(
                x,
                dt,
                log_decay,
                B,
                C,
                self.D,
                self.hook_state,
                self.positions,
                state,
                segments,
                self.shape.chunk,
            )
        if x.shape[1] == 1 and state is not None:
            y, after = ssd_step(x[:, 0], dt[:, 0], log_decay[:, 0], B[:, 0], C[:, 0], state, D=self.D)
            return Scanned(y[:, None], after)
        return ssd_scan(
            x,
            dt,
            log_decay,
            B,
            C,
            D=self.D,
            initial_state=state,
            segments=segments,
            chunk=self.shape.chunk,
        )

    def convolved(
        self,
        x: Float[Tensor, "batch seq head d_head"],
        B: Float[Tensor, "batch seq group d_state"],
        C: Float[Tensor, "batch seq group d_state"],
        past: MambaState | None = None,
        segments: Int[Tensor, "batch seq"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x, B and C behind convolution and SiLU."""
        joined = torch.cat([t.flatten(2) for t in (x, B, C)], dim=-1)
        before = past.conv if past is not None else None
        mixed, tail = conv_silu(joined, self.conv_weight, self.conv_bias, before=before, segments=segments)
        if past is not None:
            past.put("conv", tail)
        parts = mixed.split([t[0, 0].numel() for t in (x, B, C)], dim=-1)
        x, B, C = (part.unflatten(-1, t.shape[2:]) for part, t in zip(parts, (x, B, C), strict=True))
        return x, B, C


def _check_hooked(
    hook: HookPoint, values: Float[Tensor, "batch seq head"], most: float | None = None
) -> None:
    """`InputError` where a hook sets a decay above 1, or what makes one: a scan on a GPU would cut it, a CPU not."""
    outside = values.detach()[(values < 0) | (values > (inf if most is None else most))]
    if len(outside):
        raise InputError(
            f"a hook gives `{hook.name}` the value {float(outside[0]):.6g}, "
            f"expected {'0 or more' if most is None else f'0 to {most:g}'}",
            hint="no head can keep more of its state than it has: limit what the hook gives, "
            f"`values.clamp({'0' if most is None else f'0, {most:g}'})`",
        )
