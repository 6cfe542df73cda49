"""Channels over positions -> SiLU of their causal depthwise convolution: kernels forward and backward.

    a_t = bias + sum_r w_r x_{t-r}        y_t = a_t sigmoid(a_t)

Sums are float32, whatever the dtype of `x`. With `segments` a tap that lies in another document counts nothing; with
`before` the taps ahead of the first position read there. The backward pass computes `a` again instead of keeping it,
and stores `d`, the gradient of `a`, in the dtype of `x` for the second of its kernels. Letters: B batch, T positions
and K channels, `reach` = taps - 1.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.launch import kind, launch
from tinysql.kernels.tiles import ceil_div

POSITIONS, CHANNELS, WARPS = 64, 64, 4
"""What one program treats, and its warps."""


class ConvGradients(NamedTuple):
    """Gradients of the convolution's inputs; those of `bias` and `before` are empty where there was none."""

    x: Float[Tensor, "batch seq channel"]
    weight: Float[Tensor, "channel tap"]
    bias: Tensor
    before: Tensor


@triton.jit
@no_type_check
def _inputs(p_x, p_before, o_t, o_k, seq, row, K, REACH: tl.constexpr, HAS_BEFORE: tl.constexpr):
    """Channels at the positions `o_t`, which may lie in `before` or outside of everything: [T, K] float32."""
    mask = (o_k < K)[None, :] & ((o_t >= 0) & (o_t < seq))[:, None]
    places = o_t.to(tl.int64)[:, None] * row + o_k[None, :]
    b_x = tl.load(p_x + places, mask=mask, other=0.0).to(tl.float32)
    if HAS_BEFORE:
        mask = (o_k < K)[None, :] & ((o_t < 0) & (o_t >= -REACH))[:, None]
        places = (o_t + REACH)[:, None] * K + o_k[None, :]
        b_x += tl.load(p_before + places, mask=mask, other=0.0).to(tl.float32)
    return b_x


@triton.jit
@no_type_check
def _tap(w, o_k, K, back: tl.constexpr, TAPS: tl.constexpr):
    """The weights of the inputs `back` positions before: [K] float32."""
    return tl.load(w + o_k * TAPS + (TAPS - 1 - back), mask=o_k < K, other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def _if_same(b, p_seg, o_t, o_s, seq, PACKED: tl.constexpr):
    """`b` [T, K], or 0 where positions `o_t` and `o_s` differ in their document; outside lie the first and the last."""
    if PACKED:
        one = tl.load(p_seg + tl.minimum(tl.maximum(o_t, 0), seq - 1))
        other = tl.load(p_seg + tl.minimum(tl.maximum(o_s, 0), seq - 1))
        b = tl.where((one == other)[:, None], b, 0.0)
    return b


@triton.jit
@no_type_check
def _sums(
    p_x, w, bias, p_before, p_seg, o_t, o_k, seq, row, K, TAPS: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """`a` at the positions `o_t`: [T, K] float32."""
    b_a = tl.zeros([o_t.shape[0], o_k.shape[0]], tl.float32)
    if HAS_BIAS:
        b_a += tl.load(bias + o_k, mask=o_k < K, other=0.0).to(tl.float32)[None, :]
    for back in tl.static_range(TAPS):
        b_x = _inputs(p_x, p_before, o_t - back, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        b_a += _tap(w, o_k, K, back, TAPS)[None, :] * _if_same(b_x, p_seg, o_t, o_t - back, seq, PACKED)
    return b_a


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv(
    x, w, bias, before, seg, y, seq, row, K: tl.constexpr, T: tl.constexpr, BK: tl.constexpr,
    TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """y [B, T, K]."""
    i_b = tl.program_id(2).to(tl.int64)
    o_t, o_k = tl.program_id(0) * T + tl.arange(0, T), tl.program_id(1) * BK + tl.arange(0, BK)
    p_before, p_seg = before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    b_a = _sums(
        x + i_b * seq * row, w, bias, p_before, p_seg, o_t, o_k, seq, row, K, TAPS, HAS_BIAS, HAS_BEFORE, PACKED
    )  # fmt: skip
    mask = (o_t < seq)[:, None] & (o_k < K)[None, :]
    p_y = y + (i_b * seq + o_t.to(tl.int64))[:, None] * K + o_k[None, :]
    tl.store(p_y, (b_a * tl.sigmoid(b_a)).to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv_slopes(
    dy, x, w, bias, before, seg, d, parts, seq, dy_row, row, K: tl.constexpr, T: tl.constexpr, BK: tl.constexpr,
    TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """`d` [B, T, K], and this program's part of the gradients of the taps and the bias [program, TAPS + 1, K].

    In `parts` tap *r*, counted back from the position itself, stands at row *r* and the bias behind the taps.
    """
    i_b = tl.program_id(2).to(tl.int64)
    o_t, o_k = tl.program_id(0) * T + tl.arange(0, T), tl.program_id(1) * BK + tl.arange(0, BK)
    p_x, p_before, p_seg = x + i_b * seq * row, before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    b_a = _sums(p_x, w, bias, p_before, p_seg, o_t, o_k, seq, row, K, TAPS, HAS_BIAS, HAS_BEFORE, PACKED)
    b_gate = tl.sigmoid(b_a)
    # [T, K], 0 behind the last position
    b_d = _inputs(dy + i_b * seq * dy_row, p_before, o_t, o_k, seq, dy_row, K, TAPS - 1, False)
    b_d *= b_gate * (1.0 + b_a * (1.0 - b_gate))
    p_parts = parts + (i_b * tl.num_programs(0) + tl.program_id(0)) * (TAPS + 1) * K + o_k
    for back in tl.static_range(TAPS):
        b_x = _inputs(p_x, p_before, o_t - back, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        b_x = _if_same(b_x, p_seg, o_t, o_t - back, seq, PACKED)
        tl.store(p_parts + back * K, tl.sum(b_d * b_x, 0), mask=o_k < K)
    tl.store(p_parts + TAPS * K, tl.sum(b_d, 0), mask=o_k < K)
    mask = (o_t < seq)[:, None] & (o_k < K)[None, :]
    p_d = d + (i_b * seq + o_t.to(tl.int64))[:, None] * K + o_k[None, :]
    tl.store(p_d, b_d.to(d.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv_inputs(
    d, w, seg, dx, dbefore, seq, K: tl.constexpr, T: tl.constexpr, BK: tl.constexpr, TAPS: tl.constexpr,
    HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """dx [B, T, K] and dbefore from `d`: with HAS_BEFORE the tiles begin `TAPS - 1` positions early."""
    i_b = tl.program_id(2).to(tl.int64)
    o_t, o_k = tl.program_id(0) * T + tl.arange(0, T), tl.program_id(1) * BK + tl.arange(0, BK)
    if HAS_BEFORE:
        o_t -= TAPS - 1
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    # [T, K]
    b_dx = tl.zeros([T, BK], tl.float32)
    for ahead in tl.static_range(TAPS):
        b_d = _inputs(d + i_b * seq * K, d, o_t + ahead, o_k, seq, K, K, TAPS - 1, False)
        b_dx += _tap(w, o_k, K, ahead, TAPS)[None, :] * _if_same(b_d, p_seg, o_t + ahead, o_t, seq, PACKED)
    mask = ((o_t >= 0) & (o_t < seq))[:, None] & (o_k < K)[None, :]
    p_dx = dx + (i_b * seq + o_t.to(tl.int64))[:, None] * K + o_k[None, :]
    tl.store(p_dx, b_dx.to(dx.dtype.element_ty), mask=mask)
    if HAS_BEFORE:
        mask = (o_t < 0)[:, None] & (o_k < K)[None, :]
        p_dbefore = dbefore + (i_b * (TAPS - 1) + o_t + TAPS - 1)[:, None] * K + o_k[None, :]
        tl.store(p_dbefore, b_dx.to(dbefore.dtype.element_ty), mask=mask)


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
    bias, before, segments = (t if t is None else t.contiguous() for t in (bias, before, segments))
    y = torch.empty(batch, seq, channels, dtype=x.dtype, device=x.device)
    launch(
        _conv, (ceil_div(seq, POSITIONS), ceil_div(channels, CHANNELS), batch), kind(x, weight, bias, before, segments),
        (x, weight, bias, before, segments, y),
        (
            seq, x.stride(1), channels, POSITIONS, CHANNELS, taps, bias is not None, before is not None,
            segments is not None,
        ),
        num_warps=WARPS,
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
    """Gradients of `conv_forward`: `d`, then those of the inputs, and a sum of the programs' parts of the weights'."""
    (batch, seq, channels), taps = x.shape, weight.shape[1]
    dy, x, weight = even(dy), even(x), weight.contiguous()
    bias, before, segments = (t if t is None else t.contiguous() for t in (bias, before, segments))
    tiles, beside = ceil_div(seq, POSITIONS), ceil_div(channels, CHANNELS)
    d, dx = (torch.empty(batch, seq, channels, dtype=x.dtype, device=x.device) for _ in range(2))
    dbefore = torch.empty_like(before) if before is not None else x.new_empty(0)
    parts = x.new_empty(batch * tiles, taps + 1, channels, dtype=torch.float32)
    alike, sizes = kind(dy, x, weight, bias, before, segments), (channels, POSITIONS, CHANNELS, taps)
    has = (bias is not None, before is not None, segments is not None)
    launch(
        _conv_slopes, (tiles, beside, batch), alike, (dy, x, weight, bias, before, segments, d, parts),
        (seq, dy.stride(1), x.stride(1), *sizes, *has), num_warps=WARPS,
    )  # fmt: skip
    tiles = ceil_div(seq + (taps - 1 if before is not None else 0), POSITIONS)
    launch(
        _conv_inputs, (tiles, beside, batch), alike, (d, weight, segments, dx, dbefore), (seq, *sizes, *has[1:]),
        num_warps=WARPS,
    )  # fmt: skip
    whole = parts.sum(0)
    # Copies: what an operator returns must not share memory.
    dbias = whole[taps].to(bias.dtype, copy=True) if bias is not None else x.new_empty(0)
    return ConvGradients(dx, whole[:taps].flip(0).t().to(weight.dtype).contiguous(), dbias, dbefore)
