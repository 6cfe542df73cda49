"""Log-decays of a chunk -> the decays between its positions, inside a kernel.

Running sums are kept in base 2 and in float64, one number per position, so that differences of them do not cancel.
Between two positions they are subtracted as pairs of float32 (`high` + `low`). No exponent is positive. A step below
`FLOOR` is 0 in float32, as is every decay over it, so cutting it there changes nothing.

Letters: Q positions of a chunk; i queries, j keys.
"""

# The interpreter of kernels reads annotations itself.
from typing import no_type_check

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
FLOOR = tl.constexpr(-160.0)


@triton.jit
@no_type_check
def running_logs(p_log, start, seq, heads, Q: tl.constexpr):
    """Sums of a chunk's log-decays up to each position, and their total: [Q] and a number, base 2, float64."""
    o_t = start + tl.arange(0, Q)
    step = tl.load(p_log + o_t.to(tl.int64) * heads, mask=o_t < seq, other=0.0).to(tl.float64) * LOG2E
    # A comparison, not a maximum, which would hide a NaN.
    step = tl.where(step < FLOOR, FLOOR, step)
    return tl.cumsum(step, 0), tl.sum(step, 0)


@triton.jit
@no_type_check
def chunk_decays(p_log, p_segment, start, seq, heads, Q: tl.constexpr, PACKED: tl.constexpr):
    """Sums of a chunk's log-decays, the document of each position, and decays from the chunk's ends.

    Returns `sums` [Q] float64; `place` [Q]; `from_start` [Q], of the entering state up to each position; `to_end`
    [Q], of each position's input up to the end; and `carry`, of the entering state up to the end.
    """
    o_t = start + tl.arange(0, Q)
    # [Q]
    sums, total = running_logs(p_log, start, seq, heads, Q)
    from_start = tl.exp2(sums.to(tl.float32))
    to_end = tl.exp2(tl.minimum(total - sums, 0.0).to(tl.float32))
    carry = tl.exp2(total.to(tl.float32))
    place = o_t
    if PACKED:
        place = tl.load(p_segment + tl.minimum(o_t, seq - 1))
        before = tl.load(p_segment + tl.maximum(start - 1, 0))
        last = tl.load(p_segment + tl.minimum(start + Q, seq) - 1)
        from_start = tl.where(place == before, from_start, 0.0)
        to_end = tl.where(place == last, to_end, 0.0)
        carry = tl.where(before == last, carry, 0.0)
    return sums, place, from_start, to_end, carry


@triton.jit
@no_type_check
def decay_between(
    sums, place, TRANSPOSED: tl.constexpr, EXACT: tl.constexpr, PACKED: tl.constexpr, Q: tl.constexpr
):
    """Decay from key j to query i, [i, j] or, TRANSPOSED, [j, i]; 0 where j > i and across documents."""
    o_q = tl.arange(0, Q)
    return decay_over(sums, sums, o_q, o_q, place, place, TRANSPOSED, EXACT, PACKED)


@triton.jit
@no_type_check
def decay_over(
    sums, origin, o_i, o_j, place_i, place_j, TRANSPOSED: tl.constexpr, EXACT: tl.constexpr, PACKED: tl.constexpr
):  # fmt: skip
    """`exp2(sums_i - origin_j)` where query i is not before key j and in its document: [i, j], or TRANSPOSED."""
    high, back = sums.to(tl.float32), origin.to(tl.float32)
    if TRANSPOSED:
        gap = high[None, :] - back[:, None]
        seen = o_i[None, :] >= o_j[:, None]
    else:
        gap = high[:, None] - back[None, :]
        seen = o_i[:, None] >= o_j[None, :]
    if EXACT:
        low, less = (sums - high.to(tl.float64)).to(tl.float32), (origin - back.to(tl.float64)).to(tl.float32)
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
