"""One position and a state -> its output and the next state: the kernel that decoding is bound by.

Reads and writes each state once, `2 * batch * head * d_head * d_state` numbers, which is nearly all it does.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from tinysql.kernels.decays import LOG2E
from tinysql.kernels.launch import kind, launch
from tinysql.kernels.tiles import block, ceil_div

ROWS, WARPS = 16, 2
"""Channels of a head that one program advances, and its warps."""


@triton.jit
@no_type_check
def _step(
    x, dt, log, b, c, d, state, y, after, H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, HAS_D: tl.constexpr,
):  # fmt: skip
    """y [B, H, P] and after [B, H, P, N], of BP channels of one head."""
    i_h, i_b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_p, o_n = tl.program_id(0) * BP + tl.arange(0, BP), tl.arange(0, BN)
    head = i_b * H + i_h
    decay = tl.exp2(tl.load(log + head).to(tl.float32) * LOG2E)
    p_group = (i_b * (H // R) + i_h // R) * N + o_n
    b_b = tl.load(b + p_group, mask=o_n < N, other=0.0).to(tl.float32)
    b_c = tl.load(c + p_group, mask=o_n < N, other=0.0).to(tl.float32)
    b_x = tl.load(x + head * P + o_p, mask=o_p < P, other=0.0).to(tl.float32)
    # [P, N]
    p_state = head * P * N + o_p[:, None] * N + o_n[None, :]
    mask = (o_p < P)[:, None] & (o_n < N)[None, :]
    m_h = tl.load(state + p_state, mask=mask, other=0.0).to(tl.float32) * decay
    m_h += (b_x * tl.load(dt + head).to(tl.float32))[:, None] * b_b[None, :]
    tl.store(after + p_state, m_h, mask=mask)
    b_y = tl.sum(m_h * b_c[None, :], 1)
    if HAS_D:
        b_y += tl.load(d + i_h).to(tl.float32) * b_x
    tl.store(y + head * P + o_p, b_y.to(y.dtype.element_ty), mask=o_p < P)


def step_forward(
    x: Float[Tensor, "batch head d_head"],
    dt: Float[Tensor, "batch head"],
    log_decay: Float[Tensor, "batch head"],
    B: Float[Tensor, "batch group d_state"],
    C: Float[Tensor, "batch group d_state"],
    state: Float[Tensor, "batch head d_head d_state"],
    D: Float[Tensor, " head"] | None,
) -> tuple[Float[Tensor, "batch head d_head"], Float[Tensor, "batch head d_head d_state"]]:
    """`reference.ssd_step` in one launch: the output and the new state, float32."""
    (batch, heads, width), (groups, size) = x.shape, B.shape[1:]
    x, dt, log_decay, B, C, state = (t.contiguous() for t in (x, dt, log_decay, B, C, state))
    D = D if D is None else D.contiguous()
    y, after = torch.empty_like(x), torch.empty_like(state, dtype=torch.float32)
    launch(
        _step, (ceil_div(width, ROWS), heads, batch), kind(x, dt, log_decay, B, C, D, state),
        (x, dt, log_decay, B, C, D, state, y, after),
        (heads, heads // groups, width, size, ROWS, block(size), D is not None), num_warps=WARPS,
    )  # fmt: skip
    return y, after
