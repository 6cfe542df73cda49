"""Gradients of a scan's outputs and final state -> those of its inputs: the backward kernels.

With the state `h` that enters a chunk and the gradient `g` of the one that leaves it, which a walk from the end finds,
everything else is local to the chunk. Per head, with v = dt x, L the decays within the chunk, s and e those from its
start and to its end, M = C B^T * L:

    dv = M^T dy + e B g^T            dx = dt dv + D dy         ddt = x . dv
    dC = (L * dy v^T) B + s dy h     dB = (L * dy v^T)^T C + e v g
    dlog_k = sum over every path (j, or h) -> (i, or g) that crosses the step to k of what it carries

`_inputs` does what is a head's own and adds up `(L * dy v^T)^T` over the heads of a program; `_mixes` then has dB and
dC as one matrix product over all heads of a group; `_steps` adds up paths along the positions. The sum over crossing
paths never subtracts what lies outside the chunk. No program adds to another's result.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.decays import HEADS, ROWS, decay_between, load_row
from tinysql.kernels.launch import kind, launch
from tinysql.kernels.scan import load_tile, precision, rows, walk
from tinysql.kernels.tiles import CHANNELS, Tiles, block, ceil_div, shared


class Gradients(NamedTuple):
    """What the backward kernels give, each in the shape and dtype of its input."""

    x: Float[Tensor, "batch seq head d_head"]
    dt: Float[Tensor, "batch seq head"]
    log_decay: Float[Tensor, "batch seq head"]
    B: Float[Tensor, "batch seq group d_state"]
    C: Float[Tensor, "batch seq group d_state"]
    D: Tensor
    """Empty where there is no D."""
    initial: Tensor
    """Empty where there is no initial state."""


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _inputs(
    dy, x, decays, b, c, d, seg, states, dstates, dx, raw, dcb, seq, chunks, dy_row, x_row, b_row, c_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr, HAS_D: tl.constexpr, PACKED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """`dx` [B, T, H, P], and what one chunk and HEADS heads of a group carry.

    `raw` [P blocks, B, H, chunk, 5, Q]: the gradient of dt; what arrives at each position from the entering state;
    what each wrote into the leaving one; what crosses the step to it within the chunk; and the gradient of D.
    `dcb` [B, chunk, programs, j, i]: the gradient of `C B^T`, transposed, of the program's heads.
    """
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
    later = o_q[None, :] > o_q[:, None]
    # [Q, N], [j, i]
    m_b = load_tile(b + i_b * seq * b_row + (first // R) * N, start, seq, b_row, N, Q, BN)
    m_c = load_tile(c + i_b * seq * c_row + (first // R) * N, start, seq, c_row, N, Q, BN)
    # Tiles as loaded may be turned for a product; accumulators must not (see `scan`).
    m_dcb = tl.zeros([Q, Q], tl.float32)
    # What the compiler would move out of this loop it could not keep in registers.
    for i_h in tl.range(first, first + HEADS, disable_licm=True):
        p_decays = decays + ((i_b * H + i_h) * chunks + i_c) * (ROWS * Q)
        p_state = ((i_b * chunks + i_c) * H + i_h) * P * N
        m_g = tl.load(dstates + p_state + turned, mask=inside, other=0.0)
        m_h = tl.load(states + p_state + turned, mask=inside, other=0.0)
        m_x = load_tile(x + i_b * seq * x_row + i_h * P + i_p * BP, start, seq, x_row, p_left, Q, BP)
        m_dy = load_tile(dy + i_b * seq * dy_row + i_h * P + i_p * BP, start, seq, dy_row, p_left, Q, BP)
        m_dt = load_row(p_decays, 4, Q)
        p_raw = raw + (((i_p * tl.num_programs(2) + i_b) * H + i_h) * chunks + i_c) * (5 * Q) + o_q
        tl.store(p_raw + 4 * Q, tl.sum(m_dy.to(tl.float32) * m_x.to(tl.float32), 1))
        # [Q, P]
        m_read = tl.dot(m_c, m_h, input_precision=PRECISION)
        arriving = tl.sum(m_read * m_dy.to(tl.float32), 1) * load_row(p_decays, 2, Q)
        # What the entering state carries to the leaving one arrives behind the last position.
        carried = tl.sum(tl.sum(m_h.to(tl.float32) * m_g.to(tl.float32), 1), 0)
        arriving += tl.where(o_q == Q - 1, carried * tl.load(p_decays + 3 * Q - 1), 0.0)
        tl.store(p_raw + Q, arriving)
        # [j, i]
        m_decay = decay_between(p_decays, place, PRECISION == "ieee", PACKED, Q, True)
        m_mix = tl.dot(m_b, tl.trans(m_c), input_precision=PRECISION) * m_decay
        m_dm = tl.dot(m_x, tl.trans(m_dy), input_precision=PRECISION) * m_dt[:, None]
        m_dcb += m_dm * m_decay
        # What every pair i > j carries, then that of the pairs around each step k: i >= k > j. Sums of rows less
        # sums of columns would be the same but for rounding, and leave some of it where nothing crosses.
        m_w = tl.where(later, m_mix * m_dm, 0.0)
        if PRECISION == "ieee":
            m_w = tl.cumsum(m_w, 1, reverse=True)
        else:
            m_behind = tl.where(o_q[:, None] >= o_q[None, :], 1.0, 0.0).to(m_x.dtype)
            m_w = tl.dot(m_w.to(m_x.dtype), m_behind, input_precision=PRECISION)
        crossing = tl.sum(tl.where(later, m_w, 0.0), 0)
        tl.store(p_raw + 3 * Q, crossing)
        m_dv = tl.dot(m_b, m_g, input_precision=PRECISION) * load_row(p_decays, 3, Q)[:, None]
        tl.store(p_raw + 2 * Q, tl.sum(m_dv * m_x.to(tl.float32), 1) * m_dt)
        m_dv = tl.dot(m_mix.to(m_x.dtype), m_dy, acc=m_dv, input_precision=PRECISION)
        m_dx = m_dv * m_dt[:, None]
        if HAS_D:
            m_dx += tl.load(d + i_h).to(tl.float32) * m_dy.to(tl.float32)
        p_dx = dx + (i_b * seq + start) * H * P + i_h * P + i_p * BP
        mask = (start + o_q < seq)[:, None] & (o_p < p_left)[None, :]
        tl.store(p_dx + o_q[:, None] * (H * P) + o_p[None, :], m_dx.to(m_x.dtype), mask=mask)
        tl.store(p_raw, tl.sum(m_dv * m_x.to(tl.float32), 1))
    line = (i_b * chunks + i_c) * (tl.num_programs(1) * P_BLOCKS) + tl.program_id(1) * P_BLOCKS + i_p
    p_dcb = dcb + line * (Q * Q) + o_q[:, None] * Q + o_q[None, :]
    tl.store(p_dcb, m_dcb.to(dcb.dtype.element_ty))


@triton.jit
@no_type_check
def _mixed(
    p_x, p_decays, p_other, p_dcb, p_states, p_out, start, seq, decays_row, x_row, other_row, out_row, n_left,
    P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr, PARTS: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, OF_B: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient [Q, N] of a group's C, or OF_B: then `p_x` is of x, of dy otherwise."""
    P_BLOCKS: tl.constexpr = (P + BP - 1) // BP
    o_q, o_p, o_n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    m_other = load_tile(p_other, start, seq, other_row, n_left, Q, BN)
    m_out = tl.zeros([Q, BN], tl.float32)
    for part in range(PARTS):
        if OF_B:
            m_part = tl.load(p_dcb + part * Q * Q + o_q[:, None] * Q + o_q[None, :])
        else:
            m_part = tl.load(p_dcb + part * Q * Q + o_q[None, :] * Q + o_q[:, None])
        m_out = tl.dot(m_part, m_other, acc=m_out, input_precision=PRECISION)
    for step in range(HEADS * P_BLOCKS):
        i_h, i_p = step // P_BLOCKS, step % P_BLOCKS
        p_left = P - i_p * BP
        p_head = p_decays + i_h * decays_row
        # [Q, P], [P, N]
        m_x = load_tile(p_x + i_h * P + i_p * BP, start, seq, x_row, p_left, Q, BP)
        inside = (o_p < p_left)[:, None] & (o_n < n_left)[None, :]
        m_state = tl.load(
            p_states + (i_h * P + i_p * BP) * N + o_p[:, None] * N + o_n[None, :], mask=inside, other=0.0
        )
        weight = load_row(p_head, 3 if OF_B else 2, Q)
        if OF_B:
            weight *= load_row(p_head, 4, Q)
        m_x = (m_x.to(tl.float32) * weight[:, None]).to(m_x.dtype)
        m_out = tl.dot(m_x, m_state, acc=m_out, input_precision=PRECISION)
    mask = (start + o_q < seq)[:, None] & (o_n < n_left)[None, :]
    tl.store(p_out + o_q[:, None] * out_row + o_n[None, :], m_out.to(p_out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _mixes(
    dy, x, decays, b, c, dcb, states, dstates, db, dc, seq, chunks, dy_row, x_row, b_row, c_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, PARTS: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`db` or `dc` [B, T, G, N] of one chunk and group."""
    N_BLOCKS: tl.constexpr = (N + BN - 1) // BN
    G: tl.constexpr = H // R
    i_c, i_n = tl.program_id(0) // N_BLOCKS, tl.program_id(0) % N_BLOCKS
    i_g, i_b = tl.program_id(1) // 2, tl.program_id(2).to(tl.int64)
    start, n_left = i_c * Q, N - i_n * BN
    p_decays = decays + ((i_b * H + i_g * R) * chunks + i_c) * (ROWS * Q)
    p_dcb = dcb + ((i_b * chunks + i_c) * G + i_g) * (PARTS * Q * Q)
    of_group = ((i_b * chunks + i_c) * H + i_g * R) * P * N + i_n * BN
    of_out = (i_b * seq + start) * (G * N) + i_g * N + i_n * BN
    if tl.program_id(1) % 2 == 0:
        _mixed(
            dy + i_b * seq * dy_row + i_g * R * P, p_decays, b + i_b * seq * b_row + i_g * N + i_n * BN, p_dcb,
            states + of_group, dc + of_out, start, seq, chunks * (ROWS * Q), dy_row, b_row, G * N, n_left,
            P, N, Q, R, PARTS, BP, BN, False, PRECISION,
        )  # fmt: skip
    else:
        _mixed(
            x + i_b * seq * x_row + i_g * R * P, p_decays, c + i_b * seq * c_row + i_g * N + i_n * BN, p_dcb,
            dstates + of_group, db + of_out, start, seq, chunks * (ROWS * Q), x_row, c_row, G * N, n_left,
            P, N, Q, R, PARTS, BP, BN, True, PRECISION,
        )  # fmt: skip


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _steps(
    raw, ddt, dlog, dd, seq, chunks, H: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr, P_BLOCKS: tl.constexpr
):  # fmt: skip
    """`ddt`, `dlog` [B, T, H] and `dd` [B, chunk, H] of one chunk and HEADS heads from what `_inputs` left in `raw`."""
    i_c, i_b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    o_q, o_h = tl.arange(0, Q), tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    mask = (o_h < H)[None, :] & (o_q < Q)[:, None]
    # [Q, HEADS]
    m_dt, arriving = tl.zeros([Q, HEADS], tl.float32), tl.zeros([Q, HEADS], tl.float32)
    written, crossing = tl.zeros([Q, HEADS], tl.float32), tl.zeros([Q, HEADS], tl.float32)
    m_d = tl.zeros([Q, HEADS], tl.float32)
    for i_p in tl.static_range(P_BLOCKS):
        line = ((i_p * tl.num_programs(2) + i_b) * H + o_h[None, :]) * chunks + i_c
        p_raw = raw + line * (5 * Q) + o_q[:, None]
        m_dt += tl.load(p_raw, mask=mask, other=0.0)
        arriving += tl.load(p_raw + Q, mask=mask, other=0.0)
        # Of the positions before.
        written += tl.load(p_raw + 2 * Q - 1, mask=mask & (o_q > 0)[:, None], other=0.0)
        crossing += tl.load(p_raw + 3 * Q, mask=mask, other=0.0)
        m_d += tl.load(p_raw + 4 * Q, mask=mask, other=0.0)
    tl.store(dd + (i_b * chunks + i_c) * H + o_h, tl.sum(m_d, 0), mask=o_h < H)
    m_log = tl.cumsum(arriving, 0, reverse=True) + tl.cumsum(written, 0) + crossing
    mask = mask & (i_c * Q + o_q < seq)[:, None]
    places = (i_b * seq + i_c * Q + o_q)[:, None] * H + o_h[None, :]
    tl.store(ddt + places, m_dt.to(ddt.dtype.element_ty), mask=mask)
    tl.store(dlog + places, m_log.to(dlog.dtype.element_ty), mask=mask)


def scan_backward(
    dy: Float[Tensor, "batch seq head d_head"],
    dfinal: Float[Tensor, "batch head d_head d_state"] | None,
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    D: Float[Tensor, " head"] | None,
    initial: Float[Tensor, "batch head d_head d_state"] | None,
    segments: Int[Tensor, "batch seq"] | None,
    states: Float[Tensor, "batch chunk head d_head d_state"],
    decays: Float[Tensor, "batch head chunk row position"],
    tiles: Tiles,
) -> Gradients:
    """Gradients of `scan_forward`, given those of `y` and, where it was used, of the final state."""
    (batch, seq, heads, width), (groups, state) = x.shape, B.shape[2:]
    dy, x, B, C = rows(dy), rows(x), rows(B), rows(C)
    D, segments, dfinal = (t if t is None else t.contiguous() for t in (D, segments, dfinal))
    chunks, per_group, p_blocks = states.shape[1], heads // groups, ceil_div(width, CHANNELS)
    alike = kind(dy, dfinal, x, dt, log_decay, B, C, D, segments, states, decays)
    dstates, dinitial = walk(dy, decays, C, dfinal, tiles, alike, reverse=True)
    together = shared(tiles.backward_heads, per_group)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    raw = x.new_empty(p_blocks, batch, heads, chunks, 5, tiles.chunk, dtype=torch.float32)
    dcb = x.new_empty(batch, chunks, heads // together * p_blocks, tiles.chunk, tiles.chunk)
    sizes = (
        seq, chunks, dy.stride(1), x.stride(1), B.stride(1), C.stride(1), heads, per_group, width, state, tiles.chunk
    )  # fmt: skip
    launch(
        _inputs, (chunks * p_blocks, heads // together, batch), alike,
        (dy, x, decays, B, C, D, segments, states, dstates, dx, raw, dcb),
        (
            *sizes, together, CHANNELS, block(state, x.dtype), ROWS, D is not None, segments is not None, precision(x),
        ),
        num_warps=tiles.backward_warps, num_stages=tiles.backward_stages,
    )  # fmt: skip
    dB, dC = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (B, C))
    bn = min(block(state, x.dtype), tiles.mix_block)
    launch(
        _mixes, (chunks * ceil_div(state, bn), groups * 2, batch), alike,
        (dy, x, decays, B, C, dcb, states, dstates, dB, dC),
        (*sizes, per_group // together * p_blocks, CHANNELS, bn, ROWS, precision(x)),
        num_warps=tiles.mix_warps, num_stages=tiles.mix_stages,
    )  # fmt: skip
    ddt, dlog = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (dt, log_decay))
    dD = x.new_empty(batch, chunks, heads, dtype=torch.float32)
    launch(
        _steps, (chunks, ceil_div(heads, HEADS), batch), alike, (raw, ddt, dlog, dD),
        (seq, chunks, heads, tiles.chunk, HEADS, p_blocks),
    )  # fmt: skip
    dD = dD.sum((0, 1)).to(D.dtype) if D is not None else x.new_empty(0)
    dinitial = dinitial.to(initial.dtype) if initial is not None else x.new_empty(0)
    return Gradients(dx, ddt, dlog, dB, dC, dD, dinitial)
