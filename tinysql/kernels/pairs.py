"""Projected inputs, pairs of positions -> what goes from the one to the other: the effective attention as kernels.

A scan never forms the matrix `M` between all positions. These kernels do, tile by tile, for who looks at it or cuts
out of it: `mixing` stores tiles of `M`, `carried` multiplies those under a mask with the inputs, and
`carried_gradients` goes back. A program owns one chunk of `Q` positions of one head, and walks over the chunks that
it sees (or is seen by). Within a chunk the factors are those of `scan`, from the same functions.

Between chunk k and a later chunk c a key's decay is that up to the end of k, over the chunks between, and from the
start of c; in base 2 that is one difference `sums_i - origin_j`, kept in float64 until it is small. Letters as in
`scan`; i queries, j keys, E the mask.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tinysql.kernels.decays import decay_over, running_logs
from tinysql.kernels.launch import kind, launch
from tinysql.kernels.scan import load_column, load_tile, load_turned, precision, rows
from tinysql.kernels.tiles import Tiles, block, ceil_div

WARPS = 8


class PairGradients(NamedTuple):
    """Gradients of what pairs carry, each in the shape and dtype of its input."""

    x: Float[Tensor, "batch seq head d_head"]
    dt: Float[Tensor, "batch seq head"]
    log_decay: Float[Tensor, "batch seq head"]
    B: Float[Tensor, "batch seq group d_state"]
    C: Float[Tensor, "batch seq group d_state"]


@triton.jit
@no_type_check
def _places(p_seg, start, seq, Q: tl.constexpr, PACKED: tl.constexpr):
    """The document of each position of a chunk: [Q]."""
    o_t = start + tl.arange(0, Q)
    place = o_t
    if PACKED:
        place = tl.load(p_seg + tl.minimum(o_t, seq - 1))
    return place


@triton.jit
@no_type_check
def _mask_tile(p_mask, row, first, other, seq, Q: tl.constexpr, TRANSPOSED: tl.constexpr):
    """E of queries `first ...` and keys `other ...`, [i, j] or, TRANSPOSED, [j, i]; 0 and 1."""
    o_i, o_j = first + tl.arange(0, Q), other + tl.arange(0, Q)
    if TRANSPOSED:
        inside = (o_i < seq)[None, :] & (o_j < seq)[:, None]
        tile = tl.load(p_mask + o_i.to(tl.int64)[None, :] * row + o_j[:, None], mask=inside, other=0)
    else:
        inside = (o_i < seq)[:, None] & (o_j < seq)[None, :]
        tile = tl.load(p_mask + o_i.to(tl.int64)[:, None] * row + o_j[None, :], mask=inside, other=0)
    return tile.to(tl.int32)


@triton.jit(do_not_specialize=["seq", "i_low", "i_high", "j_low", "j_high"])
@no_type_check
def _mixing(
    log, b, c, seg, out, seq, i_low, i_high, j_low, j_high, b_row, c_row,
    H: tl.constexpr, R: tl.constexpr, N: tl.constexpr, Q: tl.constexpr, BN: tl.constexpr, PACKED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """out [B, H, i_high - i_low, j_high - j_low] float32, the part of M in one chunk of queries."""
    i_c, i_h, i_b = i_low // Q + tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = i_c * Q
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    p_log = log + i_b * seq * H + i_h
    p_b, p_c = b + i_b * seq * b_row + (i_h // R) * N, c + i_b * seq * c_row + (i_h // R) * N
    o_i = start + tl.arange(0, Q)
    m_c = load_tile(p_c, start, seq, c_row, N, Q, BN)
    sums, _ = running_logs(p_log, start, seq, H, Q)
    place = _places(p_seg, start, seq, Q, PACKED)
    offset = tl.sum(sums * 0.0, 0)
    for step in range(0, i_c + 1 - j_low // Q):
        first = (i_c - step) * Q
        o_j = first + tl.arange(0, Q)
        origin, total = running_logs(p_log, first, seq, H, Q)
        offset = tl.where(step == 0, offset, offset + total)
        if first < j_high:
            m_bt = load_turned(p_b, first, seq, b_row, N, Q, BN)
            m_cb = tl.dot(m_c, m_bt, input_precision=PRECISION)
            other = _places(p_seg, first, seq, Q, PACKED)
            m_cb *= decay_over(
                sums, origin - offset, o_i, o_j, place, other, False, PRECISION == "ieee", PACKED
            )
            row = (j_high - j_low).to(tl.int64)
            p_out = out + (i_b * H + i_h) * (i_high - i_low) * row
            inside = ((o_i >= i_low) & (o_i < i_high))[:, None] & ((o_j >= j_low) & (o_j < j_high))[None, :]
            tl.store(p_out + (o_i - i_low)[:, None] * row + (o_j - j_low)[None, :], m_cb, mask=inside)


@triton.jit(do_not_specialize=["seq", "mask_batch", "mask_head", "mask_row"])
@no_type_check
def _carried(
    x, dt, log, b, c, mask, seg, out, seq, x_row, b_row, c_row, mask_batch, mask_head, mask_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out [B, T, H, P] float32 of one chunk of queries: the sum over j of E M v."""
    i_c, i_h, i_b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = i_c * Q
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    p_mask = mask + i_b * mask_batch + i_h.to(tl.int64) * mask_head
    p_x, p_dt, p_log = x + i_b * seq * x_row + i_h * P, dt + i_b * seq * H + i_h, log + i_b * seq * H + i_h
    p_b, p_c = b + i_b * seq * b_row + (i_h // R) * N, c + i_b * seq * c_row + (i_h // R) * N
    o_q, o_p = tl.arange(0, Q), tl.arange(0, BP)
    m_c = load_tile(p_c, start, seq, c_row, N, Q, BN)
    sums, _ = running_logs(p_log, start, seq, H, Q)
    place = _places(p_seg, start, seq, Q, PACKED)
    m_y = tl.zeros([Q, BP], tl.float32)
    offset = tl.sum(sums * 0.0, 0)
    for step in range(0, i_c + 1):
        first = (i_c - step) * Q
        origin, total = running_logs(p_log, first, seq, H, Q)
        offset = tl.where(step == 0, offset, offset + total)
        m_e = _mask_tile(p_mask, mask_row, start, first, seq, Q, False)
        if tl.max(tl.max(m_e, 1), 0) > 0:
            m_cb = tl.dot(m_c, load_turned(p_b, first, seq, b_row, N, Q, BN), input_precision=PRECISION)
            other = _places(p_seg, first, seq, Q, PACKED)
            m_cb *= decay_over(
                sums,
                origin - offset,
                start + o_q,
                first + o_q,
                place,
                other,
                False,
                PRECISION == "ieee",
                PACKED,
            )
            m_cb = tl.where(m_e != 0, m_cb * load_column(p_dt, first, seq, H, Q)[None, :], 0.0)
            m_x = load_tile(p_x, first, seq, x_row, P, Q, BP)
            m_y = tl.dot(m_cb.to(m_x.dtype), m_x, acc=m_y, input_precision=PRECISION)
    p_out = out + (i_b * seq + start) * H * P + i_h * P
    inside = (start + o_q < seq)[:, None] & (o_p < P)[None, :]
    tl.store(p_out + o_q[:, None] * (H * P) + o_p[None, :], m_y, mask=inside)


@triton.jit(do_not_specialize=["seq", "chunks", "mask_batch", "mask_head", "mask_row"])
@no_type_check
def _query_gradients(
    dout, x, dt, log, b, c, mask, seg, dc, crossed, seq, chunks, d_row, x_row, b_row, c_row,
    mask_batch, mask_head, mask_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dc [B, T, H, N] of one chunk of queries, and its part of the log-decays' gradient, crossed [B, chunk, T, H].

    What goes from j to i crosses every step behind j up to i. Keys are walked from the first on, so that what comes
    from before a chunk is a sum that has only been added to.
    """
    i_c, i_h, i_b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = i_c * Q
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    p_mask = mask + i_b * mask_batch + i_h.to(tl.int64) * mask_head
    p_dout = dout + i_b * seq * d_row + i_h * P
    p_x, p_dt, p_log = x + i_b * seq * x_row + i_h * P, dt + i_b * seq * H + i_h, log + i_b * seq * H + i_h
    p_b, p_c = b + i_b * seq * b_row + (i_h // R) * N, c + i_b * seq * c_row + (i_h // R) * N
    o_q, o_n = tl.arange(0, Q), tl.arange(0, BN)
    m_c = load_tile(p_c, start, seq, c_row, N, Q, BN)
    m_dout = load_tile(p_dout, start, seq, d_row, P, Q, BP)
    sums, _ = running_logs(p_log, start, seq, H, Q)
    place = _places(p_seg, start, seq, Q, PACKED)
    p_crossed = crossed + ((i_b * chunks + i_c) * seq) * H + i_h
    # Of all chunks from the keys' up to the queries'.
    offset = tl.sum(sums * 0.0, 0)
    for i_k in range(0, i_c):
        origin, total = running_logs(p_log, i_k * Q, seq, H, Q)
        offset += total
    m_dc = tl.zeros([Q, BN], tl.float32)
    # What the queries get from the chunks walked so far: of each [Q], and of all.
    arrived, passing = tl.zeros([Q], tl.float32), 0.0
    for i_k in range(0, i_c + 1):
        first = i_k * Q
        origin, total = running_logs(p_log, first, seq, H, Q)
        m_e = _mask_tile(p_mask, mask_row, start, first, seq, Q, False)
        crossing = tl.zeros([Q], tl.float32) + passing
        if i_k == i_c:
            crossing = tl.cumsum(arrived, 0, reverse=True)
        if tl.max(tl.max(m_e, 1), 0) > 0:
            m_xt = load_turned(p_x, first, seq, x_row, P, Q, BP)
            m_b = load_tile(p_b, first, seq, b_row, N, Q, BN)
            other = _places(p_seg, first, seq, Q, PACKED)
            # [i, j]
            m_dm = tl.dot(m_dout, m_xt, input_precision=PRECISION)
            m_dm *= load_column(p_dt, first, seq, H, Q)[None, :]
            m_dm *= decay_over(
                sums,
                origin - offset,
                start + o_q,
                first + o_q,
                place,
                other,
                False,
                PRECISION == "ieee",
                PACKED,
            )
            m_dm = tl.where(m_e != 0, m_dm, 0.0)
            m_w = m_dm * tl.dot(m_c, tl.trans(m_b), input_precision=PRECISION)
            m_dc = tl.dot(m_dm.to(m_b.dtype), m_b, acc=m_dc, input_precision=PRECISION)
            if i_k == i_c:
                m_w = tl.where(o_q[:, None] > o_q[None, :], m_w, 0.0)
                m_w = tl.cumsum(m_w, 0, reverse=True)
                crossing += tl.sum(tl.where(o_q[:, None] > o_q[None, :], m_w, 0.0), 1)
            else:
                arrived += tl.sum(m_w, 1)
                of_key = tl.sum(m_w, 0).to(tl.float64)
                crossing += (tl.cumsum(of_key, 0) - of_key).to(tl.float32)
                passing += tl.sum(of_key, 0).to(tl.float32)
        tl.store(p_crossed + (first + o_q).to(tl.int64) * H, crossing, mask=first + o_q < seq)
        offset = tl.where(i_k + 1 == i_c, offset * 0.0, offset - total)
    p_dc = dc + (i_b * seq + start) * H * N + i_h * N
    inside = (start + o_q < seq)[:, None] & (o_n < N)[None, :]
    tl.store(p_dc + o_q[:, None] * (H * N) + o_n[None, :], m_dc, mask=inside)


@triton.jit(do_not_specialize=["seq", "chunks", "mask_batch", "mask_head", "mask_row"])
@no_type_check
def _key_gradients(
    dout, x, dt, log, b, c, mask, seg, dx, ddt, db, seq, chunks, d_row, x_row, b_row, c_row,
    mask_batch, mask_head, mask_row,
    H: tl.constexpr, R: tl.constexpr, P: tl.constexpr, N: tl.constexpr, Q: tl.constexpr,
    BP: tl.constexpr, BN: tl.constexpr, PACKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dx [B, T, H, P], ddt [B, T, H] and db [B, T, H, N] of one chunk of keys."""
    i_k, i_h, i_b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = i_k * Q
    p_seg = seg
    if PACKED:
        p_seg = seg + i_b * seq
    p_mask = mask + i_b * mask_batch + i_h.to(tl.int64) * mask_head
    p_dout = dout + i_b * seq * d_row + i_h * P
    p_x, p_dt, p_log = x + i_b * seq * x_row + i_h * P, dt + i_b * seq * H + i_h, log + i_b * seq * H + i_h
    p_b, p_c = b + i_b * seq * b_row + (i_h // R) * N, c + i_b * seq * c_row + (i_h // R) * N
    o_q, o_p, o_n = tl.arange(0, Q), tl.arange(0, BP), tl.arange(0, BN)
    m_b = load_tile(p_b, start, seq, b_row, N, Q, BN)
    m_x, m_dt = load_tile(p_x, start, seq, x_row, P, Q, BP), load_column(p_dt, start, seq, H, Q)
    origin, offset = running_logs(p_log, start, seq, H, Q)
    place = _places(p_seg, start, seq, Q, PACKED)
    m_dv, m_db = tl.zeros([Q, BP], tl.float32), tl.zeros([Q, BN], tl.float32)
    for i_c in range(i_k, chunks):
        first = i_c * Q
        sums, total = running_logs(p_log, first, seq, H, Q)
        m_e = _mask_tile(p_mask, mask_row, first, start, seq, Q, True)
        if tl.max(tl.max(m_e, 1), 0) > 0:
            m_c = load_tile(p_c, first, seq, c_row, N, Q, BN)
            m_dout = load_tile(p_dout, first, seq, d_row, P, Q, BP)
            other = _places(p_seg, first, seq, Q, PACKED)
            m_decay = decay_over(
                sums, origin - tl.where(i_c == i_k, offset * 0.0, offset), first + o_q, start + o_q, other, place,
                True, PRECISION == "ieee", PACKED,
            )  # fmt: skip
            m_decay = tl.where(m_e != 0, m_decay, 0.0)
            # [j, i]
            m_bc = tl.dot(m_b, tl.trans(m_c), input_precision=PRECISION) * m_decay
            m_dv = tl.dot(m_bc.to(m_x.dtype), m_dout, acc=m_dv, input_precision=PRECISION)
            m_dm = tl.dot(m_x, tl.trans(m_dout), input_precision=PRECISION) * m_dt[:, None] * m_decay
            m_db = tl.dot(m_dm.to(m_c.dtype), m_c, acc=m_db, input_precision=PRECISION)
        offset = tl.where(i_c == i_k, offset, offset + total)
    valid = start + o_q < seq
    p_dx = dx + (i_b * seq + start) * H * P + i_h * P
    inside = valid[:, None] & (o_p < P)[None, :]
    tl.store(p_dx + o_q[:, None] * (H * P) + o_p[None, :], (m_dv * m_dt[:, None]).to(m_x.dtype), mask=inside)
    p_ddt = ddt + (i_b * seq + start) * H + i_h
    tl.store(p_ddt + o_q * H, tl.sum(m_dv * m_x.to(tl.float32), 1).to(ddt.dtype.element_ty), mask=valid)
    p_db = db + (i_b * seq + start) * H * N + i_h * N
    inside = valid[:, None] & (o_n < N)[None, :]
    tl.store(p_db + o_q[:, None] * (H * N) + o_n[None, :], m_db, mask=inside)


def mixing(
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    queries: range,
    keys: range,
    segments: Int[Tensor, "batch seq"] | None,
    tiles: Tiles,
) -> Float[Tensor, "batch head query key"]:
    """`reference.effective_attention` in one launch; a slice holds the bits that it has in the whole."""
    (batch, seq, heads), (groups, state), q = log_decay.shape, B.shape[2:], tiles.chunk
    B, C, log_decay = rows(B), rows(C), log_decay.contiguous()
    segments = segments.contiguous() if segments is not None else None
    out = B.new_zeros(batch, heads, len(queries), len(keys), dtype=torch.float32)
    if out.numel():
        launch(
            _mixing, (ceil_div(queries.stop, q) - queries.start // q, heads, batch), kind(log_decay, B, C, segments),
            (log_decay, B, C, segments, out),
            (
                seq, queries.start, queries.stop, keys.start, keys.stop, B.stride(1), C.stride(1), heads,
                heads // groups, state, q, block(state), segments is not None, precision(B),
            ),
            num_warps=WARPS, num_stages=tiles.stages,
        )  # fmt: skip
    return out


def carried(
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    entries: Bool[Tensor, "batch head seq seq"],
    segments: Int[Tensor, "batch seq"] | None,
    tiles: Tiles,
) -> Float[Tensor, "batch seq head d_head"]:
    """`reference.carried` in one launch, float32; tiles without a true entry cost their reading."""
    (batch, seq, heads, width), (groups, state), q = x.shape, B.shape[2:], tiles.chunk
    x, B, C, dt, log_decay = rows(x), rows(B), rows(C), dt.contiguous(), log_decay.contiguous()
    mask, segments = _bytes(entries), segments.contiguous() if segments is not None else None
    out = x.new_empty(batch, seq, heads, width, dtype=torch.float32)
    given = (x, dt, log_decay, B, C, mask, segments)
    launch(
        _carried, (ceil_div(seq, q), heads, batch), kind(*given), (*given, out),
        (
            seq, x.stride(1), B.stride(1), C.stride(1), *mask.stride()[:3], heads, heads // groups, width, state, q,
            block(width), block(state), segments is not None, precision(x),
        ),
        num_warps=WARPS, num_stages=tiles.stages,
    )  # fmt: skip
    return out


def carried_gradients(
    dout: Float[Tensor, "batch seq head d_head"],
    x: Float[Tensor, "batch seq head d_head"],
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    entries: Bool[Tensor, "batch head seq seq"],
    segments: Int[Tensor, "batch seq"] | None,
    tiles: Tiles,
) -> PairGradients:
    """Gradients of `carried` in two launches: one of queries, one of keys. No program adds to another's result."""
    (batch, seq, heads, width), (groups, state), q = x.shape, B.shape[2:], tiles.chunk
    dout = rows(dout.to(x.dtype))
    x, B, C, dt, log_decay = rows(x), rows(B), rows(C), dt.contiguous(), log_decay.contiguous()
    mask, segments = _bytes(entries), segments.contiguous() if segments is not None else None
    chunks = ceil_div(seq, q)
    dx, ddt = torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(dt)
    dB = x.new_empty(batch, seq, heads, state, dtype=torch.float32)
    dC, crossed = torch.empty_like(dB), x.new_zeros(batch, chunks, seq, heads, dtype=torch.float32)
    given = (dout, x, dt, log_decay, B, C, mask, segments)
    numbers = (
        seq, chunks, dout.stride(1), x.stride(1), B.stride(1), C.stride(1), *mask.stride()[:3], heads, heads // groups,
        width, state, q, block(width), block(state), segments is not None, precision(x),
    )  # fmt: skip
    grid, alike, shape = (
        (chunks, heads, batch),
        kind(*given),
        {"num_warps": WARPS, "num_stages": tiles.stages},
    )
    launch(_query_gradients, grid, alike, (*given, dC, crossed), numbers, **shape)
    launch(_key_gradients, grid, alike, (*given, dx, ddt, dB), numbers, **shape)
    dB, dC = (t.unflatten(2, (groups, -1)).sum(3) for t in (dB, dC))
    return PairGradients(dx, ddt, crossed.sum(1).to(log_decay.dtype), dB.to(B.dtype), dC.to(C.dtype))


def _bytes(entries: Tensor) -> Tensor:
    """The mask as the kernels read it, keys side by side; repeated batches and heads stay one."""
    return (entries if entries.stride(3) == 1 else entries.contiguous()).view(torch.uint8)
