"""Projected inputs -> SSM outputs and states: the forward kernels of Mamba-2's scan.

The algorithm is `reference.ssd_scan`'s, in three launches: `decays` of every position and head; `_states`, which walks
along the chunks of `Q` positions and stores the state that enters each; and `_outputs`, in which a program owns one
chunk and a few heads of one group. Matrix products run in the dtype of `x` and add up in float32; states live in
float32 while they are carried.

Letters: B batch, T or S sequence, H heads, P d_head, N d_state, G groups, Q positions of a chunk.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.decays import ROWS, decay_between, decays, load_row
from tinysql.kernels.launch import kind, launch
from tinysql.kernels.tiles import CHANNELS, Tiles, block, ceil_div, shared

EDGE_BLOCK = 1024
"""Numbers of a state that one program carries from span to span."""


class Forward(NamedTuple):
    """What the forward kernels give."""

    y: Float[Tensor, "batch seq head d_head"]
    final: Float[Tensor, "batch head d_head d_state"]
    """After the last position, float32."""
    states: Float[Tensor, "batch chunk head d_head d_state"]
    """Those that enter the chunks, in the dtype of `x`."""
    decays: Float[Tensor, "batch head chunk row position"]
    """See `tinysql.kernels.decays.decays`."""


@triton.jit
@no_type_check
def load_tile(p, start, seq, row, size, Q: tl.constexpr, BLOCK: tl.constexpr):
    """Positions `start ...` of a `[seq, size]` array with `row` numbers per position: [Q, BLOCK]."""
    o_q, o_b = tl.arange(0, Q), tl.arange(0, BLOCK)
    mask = (start + o_q < seq)[:, None] & (o_b < size)[None, :]
    return tl.load(
        p + tl.cast(start, tl.int64) * row + o_q[:, None] * row + o_b[None, :], mask=mask, other=0.0
    )


@triton.jit
@no_type_check
def load_turned(p, start, seq, row, size, Q: tl.constexpr, BLOCK: tl.constexpr):
    """The transpose of `load_tile`: [BLOCK, Q]."""
    o_q, o_b = tl.arange(0, Q), tl.arange(0, BLOCK)
    mask = (start + o_q < seq)[None, :] & (o_b < size)[:, None]
    return tl.load(
        p + tl.cast(start, tl.int64) * row + o_q[None, :] * row + o_b[:, None], mask=mask, other=0.0
    )


@triton.jit
@no_type_check
def load_column(p, start, seq, row, Q: tl.constexpr):
    """One number per position, in float32: [Q]."""
    o_t = start + tl.arange(0, Q)
    return tl.load(p + o_t.to(tl.int64) * row, mask=o_t < seq, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _outputs(
    x, decays, b, c, d, seg, states, y, seq, chunks, x_row, b_row, c_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr, HAS_D: tl.constexpr, PACKED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """y [B, T, H, P] of one chunk and HEADS heads."""
    P_BLOCKS: tl.constexpr = (P + BP - 1) // BP
    i_c, i_p = tl.program_id(0) // P_BLOCKS, tl.program_id(0) % P_BLOCKS
    first, i_b = tl.program_id(1) * HEADS, tl.program_id(2).to(tl.int64)
    start, p_left = i_c * Q, P - i_p * BP
    o_q, o_p, o_n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    place = o_q
    if PACKED:
        place = tl.load(seg + i_b * seq + tl.minimum(start + o_q, seq - 1))
    # [N, P] of an array [P, N]
    turned = (i_p * BP + o_p)[None, :] * N + o_n[:, None]
    inside = (o_p < p_left)[None, :] & (o_n < N)[:, None]
    # [Q, N], [N, Q] -> [i, j]
    m_c = load_tile(c + i_b * seq * c_row + (first // R) * N, start, seq, c_row, N, Q, BN)
    m_bt = load_turned(b + i_b * seq * b_row + (first // R) * N, start, seq, b_row, N, Q, BN)
    m_cb = tl.dot(m_c, m_bt, input_precision=PRECISION)
    for i_h in range(first, first + HEADS):
        p_decays = decays + ((i_b * H + i_h) * chunks + i_c) * (ROWS * Q)
        m_in = tl.load(states + ((i_b * chunks + i_c) * H + i_h) * P * N + turned, mask=inside, other=0.0)
        m_x = load_tile(x + i_b * seq * x_row + i_h * P + i_p * BP, start, seq, x_row, p_left, Q, BP)
        m_decay = decay_between(p_decays, place, PRECISION == "ieee", PACKED, Q, False)
        # [Q, P]
        m_y = tl.dot(m_c, m_in, input_precision=PRECISION) * load_row(p_decays, 2, Q)[:, None]
        m_mix = (m_cb * m_decay * load_row(p_decays, 4, Q)[None, :]).to(m_x.dtype)
        m_y = tl.dot(m_mix, m_x, acc=m_y, input_precision=PRECISION)
        if HAS_D:
            m_y += tl.load(d + i_h).to(tl.float32) * m_x.to(tl.float32)
        p_y = y + (i_b * seq + start) * H * P + i_h * P + i_p * BP
        mask = (start + o_q < seq)[:, None] & (o_p < p_left)[None, :]
        tl.store(p_y + o_q[:, None] * (H * P) + o_p[None, :], m_y.to(m_x.dtype), mask=mask)


@triton.jit(do_not_specialize=["seq", "chunks", "span"])
@no_type_check
def _states(
    x, decays, b, edge, states, final, kept, seq, chunks, span, x_row, b_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr,
    BN: tl.constexpr, ROWS: tl.constexpr, HAS_EDGE: tl.constexpr, REVERSE: tl.constexpr, KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A state walks over a span of the chunks of one head: `states` [B, chunk, H, P, N] are those that enter them.

    `edge` and `final` [B, spans, H, P, N] are the states in front of and behind each span. With REVERSE the gradient
    of the state walks from the end: `x` is dy, `b` is C, `states` the gradients of the states that leave the chunks,
    `edge` the gradient of what leaves a span, and `final` of what enters it. Without KEEP `states` are not stored,
    but `kept` [B, spans, H] is: how much of what enters a span is left behind it.
    """
    P_BLOCKS: tl.constexpr = (P + BP - 1) // BP
    N_BLOCKS: tl.constexpr = (N + BN - 1) // BN
    i_s, i_block = tl.program_id(0) // (P_BLOCKS * N_BLOCKS), tl.program_id(0) % (P_BLOCKS * N_BLOCKS)
    i_p, i_n = i_block // N_BLOCKS, i_block % N_BLOCKS
    i_h, i_b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    spans = tl.num_programs(0) // (P_BLOCKS * N_BLOCKS)
    p_edge = ((i_b * spans + i_s) * H + i_h) * P * N
    first = i_s * span
    last = tl.minimum(first + span, chunks)
    p_left, n_left = P - i_p * BP, N - i_n * BN
    p_x = x + i_b * seq * x_row + i_h * P + i_p * BP
    p_b = b + i_b * seq * b_row + (i_h // R) * N + i_n * BN
    o_p, o_n = tl.arange(0, BP), tl.arange(0, BN)
    upright = (i_p * BP + o_p)[:, None] * N + (i_n * BN + o_n)[None, :]
    inside = (o_p < p_left)[:, None] & (o_n < n_left)[None, :]
    # [P, N]
    m_h = tl.zeros([BP, BN], tl.float32)
    if HAS_EDGE:
        m_h = tl.load(edge + p_edge + upright, mask=inside, other=0.0).to(tl.float32)
    left = 1.0
    for step in range(first, last):
        i_c = step
        if REVERSE:
            i_c = first + last - 1 - step
        if KEEP:
            p_state = states + ((i_b * chunks + i_c) * H + i_h) * P * N
            tl.store(p_state + upright, m_h.to(states.dtype.element_ty), mask=inside)
        p_decays = decays + ((i_b * H + i_h) * chunks + i_c) * (ROWS * Q)
        # [P, Q], [Q, N]
        m_x = load_turned(p_x, i_c * Q, seq, x_row, p_left, Q, BP)
        m_b = load_tile(p_b, i_c * Q, seq, b_row, n_left, Q, BN)
        weight = load_row(p_decays, 2 if REVERSE else 3, Q)
        if not REVERSE:
            weight *= load_row(p_decays, 4, Q)
        m_v = (m_x.to(tl.float32) * weight[None, :]).to(m_x.dtype)
        # What decays from the start to the last position, and in no other document, decays over the whole chunk.
        carry = tl.load(p_decays + 3 * Q - 1)
        m_h = tl.dot(m_v, m_b, acc=m_h * carry, input_precision=PRECISION)
        left *= carry
    tl.store(final + p_edge + upright, m_h, mask=inside)
    if not KEEP:
        tl.store(kept + (i_b * spans + i_s) * H + i_h, left, mask=i_block == 0)


@triton.jit(do_not_specialize=["spans"])
@no_type_check
def _edges(
    kept, ends, edge, edges, final, spans, H: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    HAS_EDGE: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """`edges` [B, spans, H, P N] in front of each span, from what each span makes of nothing, `ends`, and `edge`.

    With REVERSE those behind each span. `final` [B, H, P N] is behind all.
    """
    i_h, i_b = tl.program_id(1), tl.program_id(2).to(tl.int64)
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    # [P N]
    b_h = tl.zeros([BLOCK], tl.float32)
    if HAS_EDGE:
        b_h = tl.load(edge + (i_b * H + i_h) * SIZE + o, mask=o < SIZE, other=0.0).to(tl.float32)
    for step in range(0, spans):
        i_s = step
        if REVERSE:
            i_s = spans - 1 - step
        line = (i_b * spans + i_s) * H + i_h
        tl.store(edges + line * SIZE + o, b_h, mask=o < SIZE)
        b_h = b_h * tl.load(kept + line) + tl.load(ends + line * SIZE + o, mask=o < SIZE, other=0.0)
    tl.store(final + (i_b * H + i_h) * SIZE + o, b_h, mask=o < SIZE)


def rows(t: Tensor) -> Tensor:
    """`t` `[batch seq head size]` as the kernels read it: positions equally far apart, the rest without gaps."""
    _, seq, _, size = t.shape
    batch_row, row, head_row, one = t.stride()
    return t if one == 1 and head_row == size and batch_row == seq * row else t.contiguous()


def precision(t: Tensor) -> str:
    """How products multiply: float32 is float32, never tf32."""
    return "ieee" if t.dtype == torch.float32 else "tf32"


def walk(
    x: Float[Tensor, "batch seq head d_head"],
    found: Float[Tensor, "batch head chunk row position"],
    B: Float[Tensor, "batch seq group d_state"],
    edge: Float[Tensor, "batch head d_head d_state"] | None,
    tiles: Tiles,
    alike: Hashable,
    *,
    reverse: bool,
) -> tuple[Float[Tensor, "batch chunk head d_head d_state"], Float[Tensor, "batch head d_head d_state"]]:
    """States that enter each chunk and the one behind all, by the decays `found`; or, in `reverse`, their gradients.

    Where heads are too few to fill a device, the chunks are walked in spans side by side: once from nothing, to find
    what enters each span, and then from there. See `_states`.
    """
    (batch, seq, heads, width), size, chunks = x.shape, B.shape[3], found.shape[2]
    spans = tiles.spans(chunks, batch * heads)
    span = ceil_div(chunks, spans)
    spans = ceil_div(chunks, span)
    bp, bn = (min(block(n, x.dtype), tiles.state_block) for n in (width, size))
    states = x.new_empty(batch, chunks, heads, width, size)
    final = x.new_empty(batch, heads, width, size, dtype=torch.float32)

    def once(start: Tensor | None, end: Tensor, kept: Tensor | None = None) -> None:
        launch(
            _states, (spans * ceil_div(width, bp) * ceil_div(size, bn), heads, batch), alike,
            (x, found, B, start, states, end, kept),
            (
                seq, chunks, span, x.stride(1), B.stride(1), heads, heads // B.shape[2], width, size, tiles.chunk, bp,
                bn, ROWS, start is not None, reverse, kept is None, precision(x),
            ),
            num_warps=tiles.state_warps, num_stages=tiles.state_stages,
        )  # fmt: skip

    if spans == 1:
        once(edge, final)
        return states, final
    ends = x.new_empty(batch, spans, heads, width, size, dtype=torch.float32)
    edges = torch.empty_like(ends)
    kept = x.new_empty(batch, spans, heads, dtype=torch.float32)
    once(None, ends, kept)
    launch(
        _edges, (ceil_div(width * size, EDGE_BLOCK), heads, batch), alike, (kept, ends, edge, edges, final),
        (spans, heads, width * size, EDGE_BLOCK, edge is not None, reverse),
    )  # fmt: skip
    once(edges, ends)
    return states, final


def scan_forward(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    D: Float[Tensor, " head"] | None,
    initial: Float[Tensor, "batch head d_head d_state"] | None,
    segments: Int[Tensor, "batch seq"] | None,
    tiles: Tiles,
) -> Forward:
    """`reference.ssd_scan` by kernels: decays, then states, then outputs."""
    (batch, seq, heads, width), (groups, state) = x.shape, B.shape[2:]
    x, B, C, dt, log_decay = rows(x), rows(B), rows(C), dt.contiguous(), log_decay.contiguous()
    D, initial, segments = (t if t is None else t.contiguous() for t in (D, initial, segments))
    per_group = heads // groups
    alike = kind(x, dt, log_decay, B, C, D, initial, segments)
    together, found = shared(tiles.heads, per_group), decays(dt, log_decay, segments, tiles.chunk, alike)
    states, final = walk(x, found, B, initial, tiles, alike, reverse=False)
    y = torch.empty(batch, seq, heads, width, dtype=x.dtype, device=x.device)
    launch(
        _outputs, (states.shape[1] * ceil_div(width, CHANNELS), heads // together, batch), alike,
        (x, found, B, C, D, segments, states, y),
        (
            seq, states.shape[1], x.stride(1), B.stride(1), C.stride(1), heads, per_group, width, state, tiles.chunk,
            together, CHANNELS, block(state, x.dtype), ROWS, D is not None, segments is not None, precision(x),
        ),
        num_warps=tiles.forward_warps, num_stages=tiles.stages,
    )  # fmt: skip
    return Forward(y, final, states, found)
