"""Gradients of a scan's outputs and final state -> those of its inputs: the backward kernels.

With the state `h` that enters a chunk and the gradient `g` of the one that leaves it, everything else is local to the
chunk, so each program owns one chunk and a few heads of a group, as in the forward pass; `h` and `g` are replayed
(short sequences, one launch) or stored by two walks (long ones). Per head, with v = dt x, L the decays within the
chunk, s and e those from its start and to its end, M = C B^T * L:

    dv = M^T dy + e B g^T            dx = dt dv + D dy         ddt = x . dv
    dC = (L * dy v^T) B + s dy h     dB = (L * dy v^T)^T C + e v g
    dlog_k = sum over every path (j, or h) -> (i, or g) that crosses the step to k of what it carries

The sum over crossing paths never subtracts what lies outside the chunk. No program adds to another's result: B's and
C's gradients are given per program and summed over the heads in a fixed order.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.decays import chunk_decays, decay_between
from tinysql.kernels.scan import load_column, load_tile, load_turned, precision, retreat, rows, walk
from tinysql.kernels.tiles import CHANNELS, Tiles, block, shared


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


@triton.jit
@no_type_check
def _advance_upright(
    m_h, p_x, p_dt, p_log, p_b, p_seg, start, seq, x_row, b_row, heads, p_left, n_left,
    Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`scan.advance` of a state kept as [P, N]."""
    _, _, _, to_end, carry = chunk_decays(p_log, p_seg, start, seq, heads, Q, PACKED)
    m_dt = load_column(p_dt, start, seq, heads, Q)
    # [P, Q]
    m_xt = load_turned(p_x, start, seq, x_row, p_left, Q, BP)
    m_vt = (m_xt.to(tl.float32) * m_dt[None, :]).to(m_xt.dtype)
    m_vt = (m_vt.to(tl.float32) * to_end[None, :]).to(m_xt.dtype)
    # [Q, N]
    m_b = load_tile(p_b, start, seq, b_row, n_left, Q, BN)
    return tl.dot(m_vt, m_b, acc=m_h * carry, input_precision=PRECISION)


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _gradients(
    dy, dfinal, x, dt, log, b, c, d, init, seg, states, dstates,
    dx, ddt, dlog, db, dc, dd, dinit, wrote, seq, chunks, dy_row, x_row, b_row, c_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, HAS_D: tl.constexpr, HAS_INIT: tl.constexpr, HAS_FINAL: tl.constexpr,
    PACKED: tl.constexpr, REPLAY: tl.constexpr, PRECISION: tl.constexpr, INPUTS: tl.constexpr, MIXES: tl.constexpr,
):  # fmt: skip
    """All gradients that one chunk and HEADS heads of a group have a part in.

    `dx` [B, T, H, P]; `ddt`, `dlog` [P blocks, B, T, H]; `db`, `dc` [B, T, programs, N] with the programs of a group
    side by side; `dd` [B, chunk, H, P blocks]. INPUTS asks for `dx`, `ddt`, `dd` and `dinit`, MIXES for `dlog`, `db`
    and `dc`. INPUTS alone leaves in `wrote` [P blocks, B, T, H] what the inputs wrote into the state, which MIXES
    alone adds to `dlog`.
    """
    P_BLOCKS: tl.constexpr = (P + BP - 1) // BP
    i_c, i_p = tl.program_id(0) // P_BLOCKS, tl.program_id(0) % P_BLOCKS
    first, i_b = tl.program_id(1) * HEADS, tl.program_id(2).to(tl.int64)
    start, p_left = i_c * Q, P - i_p * BP
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    p_b = b + i_b * seq * b_row + (first // R) * N
    p_c = c + i_b * seq * c_row + (first // R) * N
    o_q, o_p, o_n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    # [P, N], and [N, P] of the same array
    upright = (i_p * BP + o_p)[:, None] * N + o_n[None, :]
    turned = (i_p * BP + o_p)[None, :] * N + o_n[:, None]
    in_upright = (o_p < p_left)[:, None] & (o_n < N)[None, :]
    in_turned = (o_p < p_left)[None, :] & (o_n < N)[:, None]
    valid = start + o_q < seq
    # [Q, N], [N, Q]
    m_b, m_c = load_tile(p_b, start, seq, b_row, N, Q, BN), load_tile(p_c, start, seq, c_row, N, Q, BN)
    # Tiles as loaded may be turned for a product; accumulators must not (see `scan`).
    m_bt, m_ct = tl.trans(m_b), tl.trans(m_c)
    if INPUTS:
        # [j, i]
        m_bc = tl.dot(m_b, m_ct, input_precision=PRECISION)
    if MIXES:
        # [i, j]
        m_cb = tl.dot(m_c, m_bt, input_precision=PRECISION)
        m_dcb = tl.zeros([Q, Q], tl.float32)
        # [Q, N], [N, Q]
        m_dc, m_dbt = tl.zeros([Q, BN], tl.float32), tl.zeros([BN, Q], tl.float32)
    # What the compiler would move out of this loop it could not keep in registers.
    for i_h in tl.range(first, first + HEADS, disable_licm=True):
        p_x = x + i_b * seq * x_row + i_h * P + i_p * BP
        p_dy = dy + i_b * seq * dy_row + i_h * P + i_p * BP
        p_dt, p_log = dt + i_b * seq * H + i_h, log + i_b * seq * H + i_h
        of_head = (i_b * H + i_h) * P * N
        p_state = ((i_b * chunks + i_c) * H + i_h) * P * N
        if REPLAY:
            m_g = tl.zeros([BN, BP], tl.float32)
            if HAS_FINAL:
                m_g = tl.load(dfinal + of_head + turned, mask=in_turned, other=0.0).to(tl.float32)
            for i_after in range(0, chunks - 1 - i_c):
                m_g, _ = retreat(
                    m_g, p_dy, p_log, p_c, p_seg, (chunks - 1 - i_after) * Q, seq, dy_row, c_row, H, p_left, N,
                    Q, BP, BN, PACKED, PRECISION,
                )  # fmt: skip
            m_gt = m_g.to(m_b.dtype)
        else:
            m_gt = tl.load(dstates + p_state + turned, mask=in_turned, other=0.0)
        sums, place, from_start, to_end, carry = chunk_decays(p_log, p_seg, start, seq, H, Q, PACKED)
        m_dt = load_column(p_dt, start, seq, H, Q)
        # [Q, P]
        m_dy = load_tile(p_dy, start, seq, dy_row, p_left, Q, BP)
        o_line = ((i_p * tl.num_programs(2) + i_b) * seq + start) * H + i_h + o_q * H
        if INPUTS:
            m_x = load_tile(p_x, start, seq, x_row, p_left, Q, BP)
            m_xf, m_dyf = m_x.to(tl.float32), m_dy.to(tl.float32)
            m_v = (m_xf * m_dt[:, None]).to(m_x.dtype).to(tl.float32)
            m_dv = tl.dot(m_b, m_gt, input_precision=PRECISION) * to_end[:, None]
            written = tl.sum(m_dv * m_v, 1).to(tl.float64)
            written = (tl.cumsum(written, 0) - written).to(tl.float32)
            m_decay = decay_between(sums, place, True, PRECISION == "ieee", PACKED, Q)
            m_dv = tl.dot((m_bc * m_decay).to(m_x.dtype), m_dy, acc=m_dv, input_precision=PRECISION)
            m_dx = m_dv * m_dt[:, None]
            if HAS_D:
                m_dx += tl.load(d + i_h).to(tl.float32) * m_dyf
                tl.store(
                    dd + ((i_b * chunks + i_c) * H + i_h) * P_BLOCKS + i_p, tl.sum(tl.sum(m_dyf * m_xf, 1), 0)
                )
            p_dx = dx + (i_b * seq + start) * H * P + i_h * P + i_p * BP
            mask = valid[:, None] & (o_p < p_left)[None, :]
            tl.store(p_dx + o_q[:, None] * (H * P) + o_p[None, :], m_dx.to(m_x.dtype), mask=mask)
            tl.store(ddt + o_line, tl.sum(m_dv * m_xf, 1).to(ddt.dtype.element_ty), mask=valid)
            if not MIXES:
                tl.store(wrote + o_line, written, mask=valid)
        if MIXES:
            if REPLAY:
                m_h = tl.zeros([BP, BN], tl.float32)
                if HAS_INIT:
                    m_h = tl.load(init + of_head + upright, mask=in_upright, other=0.0).to(tl.float32)
                for i_before in range(0, i_c):
                    m_h = _advance_upright(
                        m_h, p_x, p_dt, p_log, p_b, p_seg, i_before * Q, seq, x_row, b_row, H, p_left, N,
                        Q, BP, BN, PACKED, PRECISION,
                    )  # fmt: skip
                m_h = m_h.to(m_b.dtype)
                carried = tl.sum(tl.sum(tl.trans(m_h).to(tl.float32) * m_gt.to(tl.float32), 1), 0)
            else:
                m_h = tl.load(states + p_state + upright, mask=in_upright, other=0.0)
                m_ht = tl.load(states + p_state + turned, mask=in_turned, other=0.0)
                carried = tl.sum(tl.sum(m_ht.to(tl.float32) * m_gt.to(tl.float32), 1), 0)
            # [P, Q]
            m_vt = load_turned(p_x, start, seq, x_row, p_left, Q, BP)
            m_vt = (m_vt.to(tl.float32) * m_dt[None, :]).to(m_b.dtype)
            # [i, j]
            m_dm = tl.dot(m_dy, m_vt, input_precision=PRECISION)
            m_dm *= decay_between(sums, place, False, PRECISION == "ieee", PACKED, Q)
            m_dcb += m_dm
            # What every pair i > j carries, then that of the pairs around each step k: i >= k > j. Sums of rows less
            # sums of columns would be the same but for rounding, and leave some of it where nothing crosses.
            m_w = tl.where(o_q[:, None] > o_q[None, :], m_cb * m_dm, 0.0)
            if PRECISION == "ieee":
                m_w = tl.cumsum(m_w, 0, reverse=True)
            else:
                m_ahead = (o_q[None, :] >= o_q[:, None]).to(m_b.dtype)
                m_w = tl.dot(m_ahead, m_w.to(m_b.dtype), input_precision=PRECISION)
            crossing = tl.sum(tl.where(o_q[:, None] > o_q[None, :], m_w, 0.0), 1)
            # [Q, N]
            m_read = tl.dot(m_dy, m_h, input_precision=PRECISION) * from_start[:, None]
            m_dc += m_read
            # [N, Q]
            m_vt = (m_vt.to(tl.float32) * to_end[None, :]).to(m_b.dtype)
            m_dbt = tl.dot(m_gt, m_vt, acc=m_dbt, input_precision=PRECISION)
            arriving = tl.sum(m_read * m_c.to(tl.float32), 1)
            m_dlog = tl.cumsum(arriving, 0, reverse=True) + crossing + carry * carried
            if INPUTS:
                m_dlog += written
            else:
                m_dlog += tl.load(wrote + o_line, mask=valid, other=0.0)
            tl.store(dlog + o_line, m_dlog.to(dlog.dtype.element_ty), mask=valid)
        # Two conditions: the first is a constant, and what it excludes is not compiled.
        if INPUTS and REPLAY and HAS_INIT:  # noqa: SIM102
            if i_c == 0:
                m_g, _ = retreat(
                    m_g, p_dy, p_log, p_c, p_seg, start, seq, dy_row, c_row, H, p_left, N,
                    Q, BP, BN, PACKED, PRECISION,
                )  # fmt: skip
                tl.store(dinit + of_head + turned, m_g.to(dinit.dtype.element_ty), mask=in_turned)
    if MIXES:
        m_dcb = m_dcb.to(m_b.dtype)
        m_dc = tl.dot(m_dcb, m_b, acc=m_dc, input_precision=PRECISION)
        m_dbt = tl.dot(m_ct, m_dcb, acc=m_dbt, input_precision=PRECISION)
        # [B, T, programs, N]
        row = tl.num_programs(1) * P_BLOCKS * N
        p_out = (i_b * seq + start) * row + (tl.program_id(1) * P_BLOCKS + i_p) * N
        mask = valid[:, None] & (o_n < N)[None, :]
        tl.store(dc + p_out + o_q[:, None] * row + o_n[None, :], m_dc.to(dc.dtype.element_ty), mask=mask)
        mask = valid[None, :] & (o_n < N)[:, None]
        tl.store(db + p_out + o_q[None, :] * row + o_n[:, None], m_dbt.to(db.dtype.element_ty), mask=mask)


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
    tiles: Tiles,
) -> Gradients:
    """Gradients of `scan_forward`, given those of `y` and, where it was used, of the final state."""
    (batch, seq, heads, width), (groups, state) = x.shape, B.shape[2:]
    dy, x, B, C, dt, log_decay = rows(dy), rows(x), rows(B), rows(C), dt.contiguous(), log_decay.contiguous()
    initial, segments, dfinal = (t if t is None else t.contiguous() for t in (initial, segments, dfinal))
    chunks, bp, per_group = triton.cdiv(seq, tiles.chunk), CHANNELS, heads // groups
    p_blocks, together = triton.cdiv(width, bp), shared(tiles.backward_heads, per_group)
    if tiles.replay:
        dstates = states
        dinitial = x.new_empty(initial.shape if initial is not None else 0, dtype=torch.float32)
    else:
        dstates, dinitial = walk(dy, dt, log_decay, C, dfinal, segments, tiles, reverse=True)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    ddt = torch.empty(
        (p_blocks, *dt.shape), dtype=dt.dtype if p_blocks == 1 else torch.float32, device=x.device
    )
    dlog = torch.empty_like(ddt, dtype=log_decay.dtype if p_blocks == 1 else torch.float32)
    # The programs that share a group's B and C, side by side.
    parts = per_group // together * p_blocks
    dB = x.new_empty(batch, seq, groups, parts, state, dtype=B.dtype if parts == 1 else torch.float32)
    dC, dD = torch.empty_like(dB), x.new_empty(batch, chunks, heads, p_blocks, dtype=torch.float32)
    wrote = x.new_empty(ddt.shape if tiles.split else 0, dtype=torch.float32)
    for inputs, mixes in ((True, False), (False, True)) if tiles.split else ((True, True),):
        _gradients[chunks * p_blocks, heads // together, batch](
            dy, dfinal, x, dt, log_decay, B, C, D, initial, segments, states, dstates,
            dx, ddt, dlog, dB, dC, dD, dinitial, wrote, seq, chunks,
            dy.stride(1), x.stride(1), B.stride(1), C.stride(1), heads, per_group, width, state, tiles.chunk,
            together, bp, block(state), D is not None, initial is not None, dfinal is not None,
            segments is not None, tiles.replay, precision(x), inputs, mixes,
            num_warps=tiles.backward_warps, num_stages=tiles.stages,
        )  # fmt: skip
    dD = dD.sum((0, 1, 3)).to(D.dtype) if D is not None else x.new_empty(0)
    dinitial = dinitial.to(initial.dtype) if initial is not None else x.new_empty(0)
    return Gradients(
        dx, _whole(ddt, 0, dt), _whole(dlog, 0, log_decay), _whole(dB, 3, B), _whole(dC, 3, C), dD, dinitial
    )


def _whole(parts: Tensor, axis: int, like: Tensor) -> Tensor:
    """The sum of the programs' parts, or the only one."""
    return parts.squeeze(axis) if parts.shape[axis] == 1 else parts.sum(axis).to(like.dtype)
