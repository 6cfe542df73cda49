"""Channels over positions -> SiLU of their causal depthwise convolution: kernels forward and backward.

    a_t = bias + sum_r w_r x_{t-r}        y_t = a_t sigmoid(a_t)

Sums are float32, whatever the dtype of `x`. With `segments` a tap that lies in another document counts nothing; with
`before` the taps ahead of the first position read there. The backward kernel computes `a` again instead of keeping
it. Letters: T positions and K channels of a tile, `reach` = taps - 1.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

POSITIONS, CHANNELS, WARPS = 32, 128, 4
"""Tile and warps of one program."""


class ConvGradients(NamedTuple):
    """Gradients of the convolution's inputs; those of `bias` and `before` are empty where there was none."""

    x: Float[Tensor, "batch seq channel"]
    weight: Float[Tensor, "channel tap"]
    bias: Tensor
    before: Tensor


@triton.jit
@no_type_check
def _inputs_at(p_x, p_before, o_t, o_k, seq, row, K, REACH: tl.constexpr, HAS_BEFORE: tl.constexpr):
    """The channels at positions `o_t`, which may lie in `before` or outside of everything: [T, K] float32."""
    mask = ((o_t >= 0) & (o_t < seq))[:, None] & (o_k < K)[None, :]
    m_x = tl.load(p_x + o_t.to(tl.int64)[:, None] * row + o_k[None, :], mask=mask, other=0.0).to(tl.float32)
    if HAS_BEFORE:
        mask = ((o_t < 0) & (o_t >= -REACH))[:, None] & (o_k < K)[None, :]
        m_x += tl.load(p_before + (o_t + REACH)[:, None] * K + o_k[None, :], mask=mask, other=0.0).to(
            tl.float32
        )
    return m_x


@triton.jit
@no_type_check
def _same(p_seg, o_t, back: tl.constexpr, seq):
    """Whether positions and those `back` before them are of one document: [T]."""
    here = tl.load(p_seg + tl.minimum(tl.maximum(o_t, 0), seq - 1))
    return here == tl.load(p_seg + tl.minimum(tl.maximum(o_t - back, 0), seq - 1))


@triton.jit
@no_type_check
def _summed(
    p_x, w, bias, p_before, p_seg, o_t, o_k, seq, row, K,
    TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """The convolution before SiLU: [T, K] float32."""
    m_a = _inputs_at(p_x, p_before, o_t, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    m_a *= tl.load(w + o_k * TAPS + (TAPS - 1), mask=o_k < K, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        m_a += tl.load(bias + o_k, mask=o_k < K, other=0.0).to(tl.float32)[None, :]
    for back in tl.static_range(1, TAPS):
        m_x = _inputs_at(p_x, p_before, o_t - back, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        if PACKED:
            m_x = tl.where(_same(p_seg, o_t, back, seq)[:, None], m_x, 0.0)
        m_a += (
            m_x * tl.load(w + o_k * TAPS + (TAPS - 1 - back), mask=o_k < K, other=0.0).to(tl.float32)[None, :]
        )
    return m_a


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv(
    x, w, bias, before, seg, y, seq, row, K: tl.constexpr, T: tl.constexpr, BK: tl.constexpr,
    TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """y [B, T, K]."""
    i_b = tl.program_id(2).to(tl.int64)
    o_t = tl.program_id(0) * T + tl.arange(0, T)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    p_before, p_seg = before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    m_a = _summed(
        x + i_b * seq * row,
        w,
        bias,
        p_before,
        p_seg,
        o_t,
        o_k,
        seq,
        row,
        K,
        TAPS,
        HAS_BIAS,
        HAS_BEFORE,
        PACKED,
    )
    mask = (o_t < seq)[:, None] & (o_k < K)[None, :]
    m_y = (m_a * tl.sigmoid(m_a)).to(y.dtype.element_ty)
    tl.store(y + (i_b * seq + o_t)[:, None] * K + o_k[None, :], m_y, mask=mask)


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv_gradients(
    dy, x, w, bias, before, seg, dx, dbefore, parts, seq, dy_row, row, K: tl.constexpr, T: tl.constexpr,
    BK: tl.constexpr, TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """dx [B, T, K], dbefore, and this program's part of the gradients of the taps and the bias [program, TAPS + 1, K].

    With HAS_BEFORE the tiles begin `TAPS - 1` positions early.
    """
    i_b = tl.program_id(2).to(tl.int64)
    o_t = tl.program_id(0) * T + tl.arange(0, T)
    if HAS_BEFORE:
        o_t -= TAPS - 1
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    p_x, p_dy, p_before, p_seg = x + i_b * seq * row, dy + i_b * seq * dy_row, before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    p_parts = parts + (i_b * tl.num_programs(0) + tl.program_id(0)) * (TAPS + 1) * K + o_k
    m_dx = tl.zeros([T, BK], tl.float32)
    for back in tl.static_range(0, TAPS):
        # The gradient of a at the position that reads this one over `back` steps.
        o_to = o_t + back
        m_a = _summed(
            p_x, w, bias, p_before, p_seg, o_to, o_k, seq, row, K, TAPS, HAS_BIAS, HAS_BEFORE, PACKED
        )
        m_da = _inputs_at(p_dy, p_before, o_to, o_k, seq, dy_row, K, TAPS - 1, False)
        m_gate = tl.sigmoid(m_a)
        m_da *= m_gate * (1.0 + m_a * (1.0 - m_gate))
        if back == 0:
            tl.store(p_parts + TAPS * K, tl.sum(m_da, 0), mask=o_k < K)
        if PACKED:
            m_da = tl.where(_same(p_seg, o_to, back, seq)[:, None], m_da, 0.0)
        m_x = _inputs_at(p_x, p_before, o_t, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        tl.store(p_parts + (TAPS - 1 - back) * K, tl.sum(m_da * m_x, 0), mask=o_k < K)
        m_dx += (
            m_da
            * tl.load(w + o_k * TAPS + (TAPS - 1 - back), mask=o_k < K, other=0.0).to(tl.float32)[None, :]
        )
    mask = ((o_t >= 0) & (o_t < seq))[:, None] & (o_k < K)[None, :]
    tl.store(dx + (i_b * seq + o_t)[:, None] * K + o_k[None, :], m_dx.to(dx.dtype.element_ty), mask=mask)
    if HAS_BEFORE:
        p_dbefore = dbefore + (i_b * (TAPS - 1) + o_t + TAPS - 1)[:, None] * K + o_k[None, :]
        tl.store(p_dbefore, m_dx.to(dbefore.dtype.element_ty), mask=(o_t < 0)[:, None] & (o_k < K)[None, :])


def even(t: Tensor) -> Tensor:
    """`t` `[batch seq channel]` as the kernels read it: positions equally far apart, channels without gaps."""
    return t if t.stride(2) == 1 and t.stride(0) == t.shape[1] * t.stride(1) else t.contiguous()


def conv_forward(
    x: Float[Tensor, "batch seq channel"],
    weight: Float[Tensor, "channel tap"],
    bias: Float[Tensor, " channel"] | None,
    before: Float[Tensor, "batch tap-1 channel"] | None,
    segments: Int[Tensor, "batch seq"] | None,
) -> Float[Tensor, "batch seq channel"]:
    """SiLU of `reference.causal_conv` in one launch."""
    (batch, seq, channels), taps = x.shape, weight.shape[1]
    x, weight = even(x), weight.contiguous()
    before, segments = (t if t is None else t.contiguous() for t in (before, segments))
    y = torch.empty(batch, seq, channels, dtype=x.dtype, device=x.device)
    _conv[triton.cdiv(seq, POSITIONS), triton.cdiv(channels, CHANNELS), batch](
        x, weight, bias, before, segments, y, seq, x.stride(1), channels, POSITIONS, CHANNELS, taps,
        bias is not None, before is not None, segments is not None, num_warps=WARPS,
    )  # fmt: skip
    return y


def conv_backward(
    dy: Float[Tensor, "batch seq channel"],
    x: Float[Tensor, "batch seq channel"],
    weight: Float[Tensor, "channel tap"],
    bias: Float[Tensor, " channel"] | None,
    before: Float[Tensor, "batch tap-1 channel"] | None,
    segments: Int[Tensor, "batch seq"] | None,
) -> ConvGradients:
    """Gradients of `conv_forward`: one launch, and a sum of the programs' parts of `weight` and `bias`."""
    (batch, seq, channels), taps = x.shape, weight.shape[1]
    dy, x, weight = even(dy), even(x), weight.contiguous()
    before, segments = (t if t is None else t.contiguous() for t in (before, segments))
    tiles = triton.cdiv(seq + (taps - 1 if before is not None else 0), POSITIONS)
    dx = torch.empty(batch, seq, channels, dtype=x.dtype, device=x.device)
    dbefore = torch.empty_like(before) if before is not None else x.new_empty(0)
    parts = x.new_empty(batch * tiles, taps + 1, channels, dtype=torch.float32)
    _conv_gradients[tiles, triton.cdiv(channels, CHANNELS), batch](
        dy, x, weight, bias, before, segments, dx, dbefore, parts, seq, dy.stride(1), x.stride(1), channels,
        POSITIONS, CHANNELS, taps, bias is not None, before is not None, segments is not None, num_warps=WARPS,
    )  # fmt: skip
    whole = parts.sum(0)
    # Copies: what an operator returns must not share memory.
    dbias = whole[taps].to(bias.dtype, copy=True) if bias is not None else x.new_empty(0)
    return ConvGradients(dx, whole[:taps].t().to(weight.dtype).contiguous(), dbias, dbefore)
