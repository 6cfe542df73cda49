"""Channels over positions -> SiLU of their causal depthwise convolution: kernels forward and backward.

    a_t = bias + sum_r w_r x_{t-r}        y_t = a_t sigmoid(a_t)

Sums are float32, whatever the dtype of `x`. With `segments` a tap that lies in another document counts nothing; with
`before` the taps ahead of the first position read there. The backward kernel computes `a` again instead of keeping
it. A program walks over its positions with the last few inputs of its channels at hand. Letters: B batch, T
positions and K channels, `reach` = taps - 1.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

POSITIONS, CHANNELS, WARPS = 32, 128, 1
"""What one program treats, and its warps."""

MAX_TAPS = 4
"""Inputs that a program keeps at hand while it walks over positions."""


class ConvGradients(NamedTuple):
    """Gradients of the convolution's inputs; those of `bias` and `before` are empty where there was none."""

    x: Float[Tensor, "batch seq channel"]
    weight: Float[Tensor, "channel tap"]
    bias: Tensor
    before: Tensor


@triton.jit
@no_type_check
def _input_at(p_x, p_before, t, o_k, seq, row, K, REACH: tl.constexpr, HAS_BEFORE: tl.constexpr):
    """The channels at position `t`, which may lie in `before` or outside of everything: [K] float32."""
    o_t = t + tl.zeros_like(o_k)
    inside = (o_k < K) & (o_t >= 0) & (o_t < seq)
    b_x = tl.load(p_x + tl.cast(t, tl.int64) * row + o_k, mask=inside, other=0.0).to(tl.float32)
    if HAS_BEFORE:
        inside = (o_k < K) & (o_t < 0) & (o_t >= -REACH)
        b_x += tl.load(p_before + (t + REACH) * K + o_k, mask=inside, other=0.0).to(tl.float32)
    return b_x


@triton.jit
@no_type_check
def _tap(w, o_k, K, back: tl.constexpr, TAPS: tl.constexpr):
    """The weights of the inputs `back` positions before, 0 where the convolution does not reach: [K] float32."""
    b_w = tl.zeros_like(o_k).to(tl.float32)
    if back < TAPS:
        b_w = tl.load(w + o_k * TAPS + (TAPS - 1 - back), mask=o_k < K, other=0.0).to(tl.float32)
    return b_w


@triton.jit
@no_type_check
def _document(p_seg, t, seq, PACKED: tl.constexpr):
    """The document of position `t`; what lies outside belongs to the first or the last."""
    place = t
    if PACKED:
        place = tl.load(p_seg + tl.minimum(tl.maximum(t, 0), seq - 1))
    return place


@triton.jit
@no_type_check
def _if_same(b, one, other, PACKED: tl.constexpr):
    """`b` [K], or 0 where two documents differ."""
    if PACKED:
        b = tl.where(one == other, b, 0.0)
    return b


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv(
    x, w, bias, before, seg, y, seq, row, K: tl.constexpr, T: tl.constexpr, BK: tl.constexpr,
    TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """y [B, T, K]."""
    i_b, start = tl.program_id(2).to(tl.int64), tl.program_id(0) * T
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    p_x, p_before, p_seg = x + i_b * seq * row, before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    w0, w1 = _tap(w, o_k, K, 0, TAPS), _tap(w, o_k, K, 1, TAPS)
    w2, w3 = _tap(w, o_k, K, 2, TAPS), _tap(w, o_k, K, 3, TAPS)
    b_bias = tl.zeros([BK], tl.float32)
    if HAS_BIAS:
        b_bias = tl.load(bias + o_k, mask=o_k < K, other=0.0).to(tl.float32)
    # [K] each: the inputs 1, 2 and 3 positions before, and their documents
    x1 = _input_at(p_x, p_before, start - 1, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    x2 = _input_at(p_x, p_before, start - 2, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    x3 = _input_at(p_x, p_before, start - 3, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    for i in range(start, tl.minimum(start + T, seq)):
        t = tl.cast(i, tl.int32)
        x0 = _input_at(p_x, p_before, t, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        here = _document(p_seg, t, seq, PACKED)
        b_a = b_bias + w0 * x0
        b_a += w1 * _if_same(x1, here, _document(p_seg, t - 1, seq, PACKED), PACKED)
        b_a += w2 * _if_same(x2, here, _document(p_seg, t - 2, seq, PACKED), PACKED)
        b_a += w3 * _if_same(x3, here, _document(p_seg, t - 3, seq, PACKED), PACKED)
        p_y = y + (i_b * seq + t) * K + o_k
        tl.store(p_y, (b_a * tl.sigmoid(b_a)).to(y.dtype.element_ty), mask=o_k < K)
        x3, x2, x1 = x2, x1, x0


@triton.jit(do_not_specialize=["seq"])
@no_type_check
def _conv_gradients(
    dy, x, w, bias, before, seg, dx, dbefore, parts, seq, dy_row, row, K: tl.constexpr, T: tl.constexpr,
    BK: tl.constexpr, TAPS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_BEFORE: tl.constexpr, PACKED: tl.constexpr,
):  # fmt: skip
    """dx [B, T, K], dbefore, and this program's part of the gradients of the taps and the bias [program, 5, K].

    A program owns T positions and walks 3 further, whose outputs its last inputs reach. With HAS_BEFORE the tiles
    begin `TAPS - 1` positions early. In `parts` tap *r* stands at row *r*, counted back from the position itself.
    """
    i_b, start = tl.program_id(2).to(tl.int64), tl.program_id(0) * T
    if HAS_BEFORE:
        start -= TAPS - 1
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    p_x, p_dy, p_before, p_seg = x + i_b * seq * row, dy + i_b * seq * dy_row, before, seg
    if HAS_BEFORE:
        p_before = before + i_b * (TAPS - 1) * K
    if PACKED:
        p_seg = seg + i_b * seq
    w0, w1 = _tap(w, o_k, K, 0, TAPS), _tap(w, o_k, K, 1, TAPS)
    w2, w3 = _tap(w, o_k, K, 2, TAPS), _tap(w, o_k, K, 3, TAPS)
    zero = tl.zeros([BK], tl.float32)
    b_bias = zero
    if HAS_BIAS:
        b_bias = tl.load(bias + o_k, mask=o_k < K, other=0.0).to(tl.float32)
    # [K] each: inputs x, and gradients d of the sums a, so many positions before; sums over this program's positions
    x1 = _input_at(p_x, p_before, start - 1, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    x2 = _input_at(p_x, p_before, start - 2, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    x3 = _input_at(p_x, p_before, start - 3, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
    d1, d2, d3 = zero, zero, zero
    dw0, dw1, dw2, dw3, db = zero, zero, zero, zero, zero
    for i in range(start, start + T + 3):
        t = tl.cast(i, tl.int32)
        x0 = _input_at(p_x, p_before, t, o_k, seq, row, K, TAPS - 1, HAS_BEFORE)
        s0, s1 = _document(p_seg, t, seq, PACKED), _document(p_seg, t - 1, seq, PACKED)
        s2, s3 = _document(p_seg, t - 2, seq, PACKED), _document(p_seg, t - 3, seq, PACKED)
        seen1, seen2 = _if_same(x1, s0, s1, PACKED), _if_same(x2, s0, s2, PACKED)
        seen3 = _if_same(x3, s0, s3, PACKED)
        b_a = b_bias + w0 * x0 + w1 * seen1 + w2 * seen2 + w3 * seen3
        b_gate = tl.sigmoid(b_a)
        d0 = _input_at(p_dy, p_before, t, o_k, seq, dy_row, K, TAPS - 1, False)
        d0 *= b_gate * (1.0 + b_a * (1.0 - b_gate))
        own = tl.where(t < start + T, d0, 0.0)
        db += own
        dw0 += own * x0
        dw1 += own * seen1
        dw2 += own * seen2
        dw3 += own * seen3
        # The gradient of the input 3 positions before, which nothing after t reaches.
        b_dx = w0 * d3 + w1 * _if_same(d2, s2, s3, PACKED)
        b_dx += w2 * _if_same(d1, s1, s3, PACKED) + w3 * _if_same(d0, s0, s3, PACKED)
        to = t - 3
        o_to = to + tl.zeros_like(o_k)
        mask = (o_k < K) & (o_to >= tl.maximum(start, 0)) & (o_to < seq)
        tl.store(dx + (i_b * seq + to) * K + o_k, b_dx.to(dx.dtype.element_ty), mask=mask)
        if HAS_BEFORE:
            p_dbefore = dbefore + (i_b * (TAPS - 1) + to + TAPS - 1) * K + o_k
            tl.store(
                p_dbefore, b_dx.to(dbefore.dtype.element_ty), mask=(o_k < K) & (o_to >= start) & (o_to < 0)
            )
        x3, x2, x1 = x2, x1, x0
        d3, d2, d1 = d2, d1, d0
    p_parts = parts + (i_b * tl.num_programs(0) + tl.program_id(0)) * 5 * K + o_k
    tl.store(p_parts, dw0, mask=o_k < K)
    tl.store(p_parts + K, dw1, mask=o_k < K)
    tl.store(p_parts + 2 * K, dw2, mask=o_k < K)
    tl.store(p_parts + 3 * K, dw3, mask=o_k < K)
    tl.store(p_parts + 4 * K, db, mask=o_k < K)


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
    parts = x.new_empty(batch * tiles, MAX_TAPS + 1, channels, dtype=torch.float32)
    _conv_gradients[tiles, triton.cdiv(channels, CHANNELS), batch](
        dy, x, weight, bias, before, segments, dx, dbefore, parts, seq, dy.stride(1), x.stride(1), channels,
        POSITIONS, CHANNELS, taps, bias is not None, before is not None, segments is not None, num_warps=WARPS,
    )  # fmt: skip
    whole = parts.sum(0)
    # Copies: what an operator returns must not share memory.
    dbias = whole[MAX_TAPS].to(bias.dtype, copy=True) if bias is not None else x.new_empty(0)
    return ConvGradients(dx, whole[:taps].flip(0).t().to(weight.dtype).contiguous(), dbias, dbefore)
