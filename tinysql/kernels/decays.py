"""Log-decays -> the decays between a chunk's positions: once per position and head for the kernels of a scan.

Running sums are kept in base 2 and in float64, one number per position, so that differences of them do not cancel.
Between two positions they are subtracted as pairs of float32 (`high` + `low`). No exponent is positive. A step below
`FLOOR` is 0 in float32, as is every decay over it, so cutting it there changes nothing.

Letters: Q positions of a chunk; i queries, j keys.
"""

# The interpreter of kernels reads annotations itself.
from collections.abc import Hashable
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.kernels.launch import launch
from tinysql.kernels.tiles import ceil_div

LOG2E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-160.0)
ROWS = 5
"""Rows of `decays`."""
HEADS = 16
"""Heads that one program of them does."""


@triton.jit
@no_type_check
def running_logs(p_log, start, seq, heads, Q: tl.constexpr):
    """Sums of a chunk's log-decays up to each position, and their total: [Q] and a number, base 2, float64."""
    o_t = start + tl.arange(0, Q)
    step = tl.load(p_log + o_t.to(tl.int64) * heads, mask=o_t < seq, other=0.0).to(tl.float64) * LOG2E
    # A comparison, not a maximum, which would hide a NaN.
    step = tl.where(step < FLOOR, FLOOR, step)
    return tl.cumsum(step, 0), tl.sum(step, 0)


@triton.jit(do_not_specialize=["seq", "chunks"])
@no_type_check
def _decays(
    log, dt, seg, found, seq, chunks, H: tl.constexpr, Q: tl.constexpr, HEADS: tl.constexpr, ROWS: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    """`decays` of one chunk and HEADS heads."""
    i_c, i_b = tl.program_id(0), tl.program_id(2).to(tl.int64)
    start, o_q = i_c * Q, tl.arange(0, Q)
    o_h, o_t = tl.program_id(1) * HEADS + tl.arange(0, HEADS), i_c * Q + o_q
    mask = (o_t < seq)[:, None] & (o_h < H)[None, :]
    places = (i_b * seq + o_t)[:, None] * H + o_h[None, :]
    # [Q, HEADS]
    step = tl.load(log + places, mask=mask, other=0.0).to(tl.float64) * LOG2E
    m_dt = tl.load(dt + places, mask=mask, other=0.0).to(tl.float32)
    # A comparison, not a maximum, which would hide a NaN.
    step = tl.where(step < FLOOR, FLOOR, step)
    sums, total = tl.cumsum(step, 0), tl.sum(step, 0)
    high = sums.to(tl.float32)
    from_start = tl.exp2(high)
    to_end = tl.exp2(tl.minimum(total[None, :] - sums, 0.0).to(tl.float32))
    if PACKED:
        p_seg = seg + i_b * seq
        place = tl.load(p_seg + tl.minimum(o_t, seq - 1))
        before = tl.load(p_seg + tl.maximum(start - 1, 0))
        last = tl.load(p_seg + tl.minimum(start + Q, seq) - 1)
        from_start = tl.where((place == before)[:, None], from_start, 0.0)
        to_end = tl.where((place == last)[:, None], to_end, 0.0)
    p_out = found + ((i_b * H + o_h[None, :]) * chunks + i_c) * (ROWS * Q) + o_q[:, None]
    mask = (o_q < Q)[:, None] & (o_h < H)[None, :]
    tl.store(p_out, high, mask=mask)
    tl.store(p_out + Q, (sums - high.to(tl.float64)).to(tl.float32), mask=mask)
    tl.store(p_out + 2 * Q, from_start, mask=mask)
    tl.store(p_out + 3 * Q, to_end, mask=mask)
    tl.store(p_out + 4 * Q, m_dt, mask=mask)


def decays(
    dt: Float[Tensor, "batch seq head"],
    log_decay: Float[Tensor, "batch seq head"],
    segments: Int[Tensor, "batch seq"] | None,
    chunk: int,
    alike: Hashable,
) -> Float[Tensor, "batch head chunk row position"]:
    """What every kernel of a scan asks of its log-decays and steps, in float32, a row each for all positions.

    Rows: sums of the log-decays of the chunk up to each position, base 2, and what float32 leaves of them;
    `from_start`, the decay of the entering state up to each position; `to_end`, that of each position's input up to
    the end; dt.
    """
    batch, seq, heads = dt.shape
    chunks = ceil_div(seq, chunk)
    found = torch.empty(batch, heads, chunks, ROWS, chunk, dtype=torch.float32, device=dt.device)
    launch(
        _decays, (chunks, ceil_div(heads, HEADS), batch), alike, (log_decay, dt, segments, found),
        (seq, chunks, heads, chunk, HEADS, ROWS, segments is not None),
    )  # fmt: skip
    return found


@triton.jit
@no_type_check
def load_row(p_decays, ROW: tl.constexpr, Q: tl.constexpr):
    """A row of a chunk's `decays`: [Q]."""
    return tl.load(p_decays + ROW * Q + tl.arange(0, Q))


@triton.jit
@no_type_check
def decay_between(
    p_decays, place, EXACT: tl.constexpr, PACKED: tl.constexpr, Q: tl.constexpr, TURNED: tl.constexpr
):
    """Decay from key j to query i, [i, j] or, TURNED, [j, i]; 0 where j > i and across documents."""
    o_q = tl.arange(0, Q)
    high, low = load_row(p_decays, 0, Q), 0.0
    if EXACT:
        low = load_row(p_decays, 1, Q)
    return _exponential(high, low, high, low, o_q, o_q, place, place, TURNED, EXACT, PACKED)


@triton.jit
@no_type_check
def decay_over(
    sums, origin, o_i, o_j, place_i, place_j, TRANSPOSED: tl.constexpr, EXACT: tl.constexpr, PACKED: tl.constexpr
):  # fmt: skip
    """`exp2(sums_i - origin_j)` where query i is not before key j and in its document: [i, j], or TRANSPOSED."""
    high, back = sums.to(tl.float32), origin.to(tl.float32)
    low, less = 0.0, 0.0
    if EXACT:
        low, less = (sums - high.to(tl.float64)).to(tl.float32), (origin - back.to(tl.float64)).to(tl.float32)
    return _exponential(high, low, back, less, o_i, o_j, place_i, place_j, TRANSPOSED, EXACT, PACKED)


@triton.jit
@no_type_check
def _exponential(
    high, low, back, less, o_i, o_j, place_i, place_j, TRANSPOSED: tl.constexpr, EXACT: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    """`decay_over` of sums in two parts."""
    if TRANSPOSED:
        gap = high[None, :] - back[:, None]
        seen = o_i[None, :] >= o_j[:, None]
    else:
        gap = high[:, None] - back[None, :]
        seen = o_i[:, None] >= o_j[None, :]
    if EXACT:
        if TRANSPOSED:
            gap += low[None, :] - less[:, None]
        else:
            gap += low[:, None] - less[None, :]
    if PACKED:
        if TRANSPOSED:
            seen = seen & (place_i[None, :] == place_j[:, None])
        else:
            seen = seen & (place_i[:, None] == place_j[None, :])
    return tl.where(seen, tl.exp2(tl.minimum(gap, 0.0)), 0.0)
