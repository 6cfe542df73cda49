"""Encoded rows on a GPU -> the largest latents of each, by Triton kernels.

Where k is small beside a row, what is searched is the maxima of groups of neighbours: the k groups of the largest
maxima hold k of the largest numbers, as a number above the least of those maxima is in one of them. So a row is read
once, in order, and of its groups k are read again.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

GROUP = 16
"""Numbers of which only the largest is looked at in a first search: near the root of d_sae / k."""
MAXIMA = 256
"""Groups whose maxima one program finds."""
PER_WARP, MAX_GROUPS, MAX_CHOSEN = 1024, 8192, 256
"""Numbers that a warp searches, most groups of a row, and most of them that are read again."""
LEAST = tl.constexpr(-(2**31))
"""A key below that of every number."""
COLUMNS, MAX_WARPS = 128, 16
"""Columns of a row per warp, so that a thread has whole ones and finds their largest by itself, and warps at most."""
MAX_LATENTS = 32_768
"""Widest row that `by_columns` takes: its numbers are held in registers, 64 of them in each thread."""


@triton.jit
@no_type_check
def _reaching(key, k, low, high):
    """Halve to the k-th largest key, or to a number that exactly k keys reach; at least k reach what is returned."""
    found = 0
    # At least k keys reach `low`, fewer than k exceed `high`.
    while low < high and found == 0:
        middle = (low & high) + ((low ^ high) >> 1) + ((low ^ high) & 1)
        reach = tl.sum((key >= middle).to(tl.int32))
        found = (reach == k).to(tl.int32)
        low = tl.where(reach >= k, middle, low)
        high = tl.where(reach >= k, high, middle - 1)
    return low, found


@triton.jit
@no_type_check
def keys_at(x, at, F):
    """Integers in the order of the numbers of a row at these places; outside of it the least."""
    bits = tl.load(x + at, mask=at < F, other=float("-inf")).to(tl.int32, bitcast=True)
    key = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    # Of NaNs those with a sign would be below what fills the row up, and places outside of it be chosen.
    return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FFFFFFF, key)


@triton.jit
@no_type_check
def _in_columns(x, out, F, k: tl.constexpr, S: tl.constexpr, G: tl.constexpr):  # fmt: skip
    """out [row, k], of one row, in G columns of S numbers; most of the search looks at the largest of each alone."""
    row = tl.program_id(0).to(tl.int64)
    x += row * F
    out += row * k
    column = tl.arange(0, G)
    at = tl.arange(0, S)[:, None] * G + column[None, :]
    key = keys_at(x, at, F)
    best = tl.max(key, 0)
    high = tl.max(best, 0)
    if k <= G:
        # Where k columns have a number there are k numbers; a few more, as some columns have two.
        low, found = _reaching(best, k, tl.min(best, 0), high)
        found = (tl.sum((key >= low).to(tl.int32)) == k).to(tl.int32)
        if found == 0:
            # Likely above the k-th: what fewer columns have.
            likely, _ = _reaching(best, (3 * k + 3) // 4, low, high)
            few = tl.sum((key > likely).to(tl.int32)) < k
            high = tl.where(few, likely, high)
    else:
        low, found = tl.min(tl.min(key, 0), 0), 0
    if found == 0:
        low, found = _reaching(key, k, low, high)
    least = low - found
    count = tl.sum((key > least).to(tl.int32), 0)
    place = tl.cumsum(count, 0) - count
    # The row is read again, from the cache: a column's places would need more registers than there are.
    for s in range(0, S):
        above = keys_at(x, s * G + column, F) > least
        tl.store(out + place, s * G + column, mask=above)
        place += above.to(tl.int32)
    if found == 0:  # several are the k-th: some of them, none of what fills the row up
        same = tl.zeros([G], tl.int32)
        for s in range(0, S):
            same += ((keys_at(x, s * G + column, F) == low) & (s * G + column < F)).to(tl.int32)
        place = tl.sum(count, 0) + tl.cumsum(same, 0) - same
        for s in range(0, S):
            equal = (keys_at(x, s * G + column, F) == low) & (s * G + column < F)
            tl.store(out + place, s * G + column, mask=equal & (place < k))
            place += equal.to(tl.int32)


@triton.jit
@no_type_check
def _maxima(x, out, F, groups, blocks, GROUP: tl.constexpr, G: tl.constexpr):  # fmt: skip
    """out [row, groups], G of them."""
    row = (tl.program_id(0) // blocks).to(tl.int64)
    begin = (tl.program_id(0) % blocks).to(tl.int64) * G
    group = tl.arange(0, G)
    at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    key = keys_at(x + row * F + begin * GROUP, at, F - begin * GROUP)
    tl.store(out + row * groups + begin + group, tl.max(key, 1), mask=group < groups - begin)


def maxima(x: Float[Tensor, "row latent"], size: int = GROUP) -> Int[Tensor, "row group"]:
    """The largest of every `size` neighbours of a row, the last of which may be fewer.

    They are integers in the order of the numbers, with NaN as the largest.
    """
    rows, width = x.shape
    groups = triton.cdiv(width, size)
    blocks = triton.cdiv(groups, MAXIMA)
    out = torch.empty(rows, groups, dtype=torch.int32, device=x.device)
    _maxima[(rows * blocks,)](x.contiguous(), out, width, groups, blocks, size, MAXIMA, num_warps=4)
    return out


@triton.jit
@no_type_check
def _in_groups(
    x, best, chosen, out, F, groups, k: tl.constexpr, GROUP: tl.constexpr, G: tl.constexpr, K: tl.constexpr
):  # fmt: skip
    """chosen [row, k], the groups of the largest maxima, and out [row, k], the largest numbers of those, of one row."""
    row = tl.program_id(0).to(tl.int64)
    x += row * F
    chosen += row * k
    out += row * k
    group = tl.arange(0, G)
    key = tl.load(best + row * groups + group, mask=group < groups, other=LEAST)
    high = tl.max(key, 0)
    low, found = _reaching(key, k, tl.min(tl.where(group < groups, key, high), 0), high)
    above = (key > low - found).to(tl.int32)
    tl.store(chosen + tl.cumsum(above, 0) - above, group, mask=above > 0)
    if found == 0:  # several are the k-th: some of them
        same = (key == low).to(tl.int32)
        place = tl.sum(above, 0) + tl.cumsum(same, 0) - same
        tl.store(chosen + place, group, mask=(same > 0) & (place < k))
    tl.debug_barrier()
    lane = tl.arange(0, K)
    at = tl.load(chosen + lane, mask=lane < k, other=0)[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    key = tl.where((lane < k)[:, None] & (at < F), keys_at(x, at, F), LEAST)
    low, found = _reaching(key, k, low, high)
    above = (key > low - found).to(tl.int32)
    count = tl.sum(above, 1)
    place = (tl.cumsum(count, 0) - count)[:, None] + tl.cumsum(above, 1) - above
    tl.store(out + place, at, mask=above > 0)
    if found == 0:
        same = (key == low).to(tl.int32)
        number = tl.sum(same, 1)
        place = (tl.sum(count, 0) + tl.cumsum(number, 0) - number)[:, None] + tl.cumsum(same, 1) - same
        tl.store(out + place, at, mask=(same > 0) & (place < k))


def by_groups(x: Float[Tensor, "row latent"], k: int) -> Int[Tensor, "row k"]:
    """As `largest`, for rows of at least k groups."""
    best = maxima(x)
    groups = best.shape[1]
    chosen, out = (torch.empty(len(x), k, dtype=torch.int32, device=x.device) for _ in range(2))
    wide, deep = triton.next_power_of_2(groups), triton.next_power_of_2(k)
    warps = max(max(wide, deep * GROUP) // PER_WARP, 1)
    _in_groups[(len(x),)](
        x.contiguous(), best, chosen, out, x.shape[1], groups, k, GROUP, wide, deep, num_warps=warps
    )
    return out.long()


def by_columns(x: Float[Tensor, "row latent"], k: int) -> Int[Tensor, "row k"]:
    """As `largest`, for rows of at most `MAX_LATENTS`."""
    width = x.shape[1]
    out = torch.empty(len(x), k, dtype=torch.int32, device=x.device)
    warps = min(max(triton.next_power_of_2(width) // (8 * COLUMNS), 1), MAX_WARPS)
    rows = triton.next_power_of_2(triton.cdiv(width, COLUMNS * warps))
    _in_columns[(len(x),)](x.contiguous(), out, width, k, rows, COLUMNS * warps, num_warps=warps)
    return out.long()


def largest(x: Float[Tensor, "row latent"], k: int) -> Int[Tensor, "row k"]:
    """Places of the k largest numbers of every row, in no order; NaN is the largest of all, as for torch's `topk`."""
    width = x.shape[1]
    if k <= MAX_CHOSEN and 2 * k * GROUP <= width <= MAX_GROUPS * GROUP:
        return by_groups(x, k)
    return by_columns(x, k) if width <= MAX_LATENTS else x.topk(k, dim=1, sorted=False).indices
