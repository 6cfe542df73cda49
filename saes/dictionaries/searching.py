"""Encoded rows on a GPU -> the largest latents of each, by Triton kernels."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

COLUMNS, MAX_WARPS = 128, 16
"""Columns of a row per warp, so that a thread has whole ones and finds their largest by itself, and warps at most."""
MAX_LATENTS = 32_768
"""Widest row that `largest` takes: its numbers are held in registers, 64 of them in each thread."""


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
def _keys(x, at, F):
    """Integers in the order of the numbers of a row at these places; outside of it the least."""
    bits = tl.load(x + at, mask=at < F, other=float("-inf")).to(tl.int32, bitcast=True)
    key = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    # Of NaNs those with a sign would be below what fills the row up, and places outside of it be chosen.
    return tl.where((bits & 0x7FFFFFFF) > 0x7F800000, 0x7FFFFFFF, key)


@triton.jit
@no_type_check
def _largest(x, out, F, k: tl.constexpr, S: tl.constexpr, G: tl.constexpr):  # fmt: skip
    """out [row, k], of one row, in G columns of S numbers; most of the search looks at the largest of each alone."""
    row = tl.program_id(0).to(tl.int64)
    x += row * F
    out += row * k
    column = tl.arange(0, G)
    at = tl.arange(0, S)[:, None] * G + column[None, :]
    key = _keys(x, at, F)
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
        above = _keys(x, s * G + column, F) > least
        tl.store(out + place, s * G + column, mask=above)
        place += above.to(tl.int32)
    if found == 0:  # several are the k-th: some of them, none of what fills the row up
        same = tl.zeros([G], tl.int32)
        for s in range(0, S):
            same += ((_keys(x, s * G + column, F) == low) & (s * G + column < F)).to(tl.int32)
        place = tl.sum(count, 0) + tl.cumsum(same, 0) - same
        for s in range(0, S):
            equal = (_keys(x, s * G + column, F) == low) & (s * G + column < F)
            tl.store(out + place, s * G + column, mask=equal & (place < k))
            place += equal.to(tl.int32)


def largest(x: Float[Tensor, "row latent"], k: int) -> Int[Tensor, "row k"]:
    """Places of the k largest numbers of every row, in no order; NaN is the largest of all, as for torch's `topk`."""
    width = x.shape[1]
    if width > MAX_LATENTS:
        return x.topk(k, dim=1, sorted=False).indices
    out = torch.empty(len(x), k, dtype=torch.int32, device=x.device)
    warps = min(max(triton.next_power_of_2(width) // (8 * COLUMNS), 1), MAX_WARPS)
    rows = triton.next_power_of_2(triton.cdiv(width, COLUMNS * warps))
    _largest[(len(x),)](x.contiguous(), out, width, k, rows, COLUMNS * warps, num_warps=warps)
    return out.long()
