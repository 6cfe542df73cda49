"""An encoded batch on a GPU -> the places of its largest numbers, ascending, by Triton kernels.

The n-th largest of integer keys is found eight bits at a time: a pass counts the keys that begin as the n-th largest
does by their next eight bits, and from 256 such counts everyone reads what those of the n-th largest are. It is asked
for twice. The n groups of the largest maxima hold n of the largest numbers; of those groups only what is no less than
the least of these maxima, hardly more than n numbers, is a candidate, and the n-th largest of the candidates is the
bound. Counts are integers and what is written has its place by them, so the same bits come out twice; all shapes are
known beforehand, and nothing waits for the device.
"""

from __future__ import annotations

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, Int16, Int32
from torch import Tensor

from saes.dictionaries.searching import GROUP, LEAST, keys_at, maxima

PASSES = tl.constexpr(4)
"""Passes of eight bits that a key of 32 takes."""
BINS = tl.constexpr(256)
BLOCK, TILE, WARPS = 8192, 4096, 8
"""Keys that one program treats, those of them that are in registers together, and its warps."""
FROM, LISTED, FEW = 256, 512, 4
"""Groups whose candidates one program lists, how many of these are in registers together, and its warps."""
COUNTED = 16
"""Blocks whose counts one program adds up."""


class _List(NamedTuple):
    """Keys in blocks of one size."""

    keys: Int32[Tensor, " key"]
    block: int
    lengths: Int32[Tensor, " block"] | None
    """How many keys of each block there are; all, where it is None."""
    within: Int16[Tensor, " key"] | None
    """Where in its block's groups each key stands; at its own place, where it is None."""
    groups: Int32[Tensor, " group"] | None
    tile: int
    warps: int


@triton.jit
@no_type_check
def _reached(counts, n, AFTER: tl.constexpr):
    """The bits of the n-th largest key that so many passes have found, and its rank among the keys that have them."""
    digit = tl.arange(0, BINS)
    key = 0
    rank = n
    for i in tl.static_range(0, AFTER):
        count = tl.load(counts + i * BINS + digit)
        # The largest digit that at least `rank` keys reach.
        found = tl.sum((tl.cumsum(count, 0, reverse=True) >= rank).to(tl.int32), 0) - 1
        rank -= tl.sum(tl.where(digit > found, count, 0), 0)
        key |= (found ^ (128 if i == 0 else 0)) << (24 - 8 * i)
    return key, rank


@triton.jit
@no_type_check
def _count(
    keys, lengths, counts, own, over, N, n, PASS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """counts [PASS, digit] of all blocks; where asked for own [block, digit] and over [block], keys surely above."""
    block = tl.program_id(0)
    begin, _ = _reached(counts, n, PASS)
    length = tl.minimum(N - block * BLOCK, BLOCK)
    if lengths is not None:
        length = tl.load(lengths + block)
    keys += block.to(tl.int64) * BLOCK
    total = tl.zeros([BINS], tl.int32)
    higher = tl.zeros([TILE], tl.int32)
    for at in range(0, length, TILE):
        place = at + tl.arange(0, TILE)
        there = place < length
        key = tl.load(keys + place, mask=there, other=LEAST)
        digit = (key >> (24 - 8 * PASS)) & 255
        alike = there
        if PASS == 0:
            digit ^= 128  # numbers below 0 are below the others
        else:
            known = key & -(1 << (32 - 8 * PASS))
            alike = there & (known == begin)
            higher += (there & (known > begin)).to(tl.int32)
        # Behind three passes hardly a tile has such keys.
        if tl.max(alike.to(tl.int32), 0) > 0:
            total += tl.histogram(digit, BINS, mask=alike)
    digit = tl.arange(0, BINS)
    tl.atomic_add(counts + PASS * BINS + digit, total, mask=total > 0, sem="relaxed")
    if own is not None:
        tl.store(own + block * BINS + digit, total)
        tl.store(over + block, tl.sum(higher, 0))


@triton.jit
@no_type_check
def _add_up(own, over, counts, out, n, blocks, COUNTED: tl.constexpr):
    """out [2, block], `COUNTED` of them: how many keys are above the n-th largest, and how many are equal to it."""
    last = _reached(counts, n, PASSES)[0] & 255
    block = tl.program_id(0) * COUNTED + tl.arange(0, COUNTED)
    there = block < blocks
    digit = tl.arange(0, BINS)[None, :]
    count = tl.load(own + block[:, None] * BINS + digit, mask=there[:, None], other=0)
    above = tl.load(over + block, mask=there, other=0) + tl.sum(tl.where(digit > last, count, 0), 1)
    tl.store(out + block, above, mask=there)
    tl.store(out + blocks + block, tl.sum(tl.where(digit == last, count, 0), 1), mask=there)


@triton.jit
@no_type_check
def _write(
    keys, lengths, within, groups, counts, upto, out, N, n, blocks,
    BLOCK: tl.constexpr, TILE: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """out [n], ascending: where the keys above the n-th largest are, and the first of those that are equal to it."""
    block = tl.program_id(0)
    least, rank = _reached(counts, n, PASSES)
    above = tl.load(upto + block - 1, mask=block > 0, other=0)
    equal = tl.load(upto + blocks + block - 1, mask=block > 0, other=0)
    length = tl.minimum(N - block * BLOCK, BLOCK)
    if lengths is not None:
        length = tl.load(lengths + block)
    begin = block.to(tl.int64) * BLOCK
    for at in range(0, length, TILE):
        place = at + tl.arange(0, TILE)
        key = tl.load(keys + begin + place, mask=place < length, other=LEAST)
        more = (place < length) & (key > least)
        same = (place < length) & (key == least)
        # Both are counted at once: the lower 16 bits are those above.
        both = more.to(tl.int32) + (same.to(tl.int32) << 16)
        before = tl.cumsum(both, 0) - both
        equals = equal + (before >> 16)
        chosen = more | (same & (equals < rank))
        number = begin + place
        if groups is not None:
            inside = tl.load(within + begin + place, mask=chosen, other=0).to(tl.int32)
            group = tl.load(groups + (begin + inside) // GROUP, mask=chosen, other=0).to(tl.int64)
            number = group * GROUP + inside % GROUP
        tl.store(out + above + (before & 0xFFFF) + tl.minimum(equals, rank), number, mask=chosen)
        tile = tl.sum(both, 0)
        above += tile & 0xFFFF
        equal += tile >> 16


@triton.jit
@no_type_check
def _list(x, groups, counts, keys, within, lengths, N, n, GROUP: tl.constexpr, FROM: tl.constexpr):
    """keys and within [block, FROM GROUP] of the candidates in `FROM` of n groups, and lengths [block], how many."""
    block = tl.program_id(0)
    least, _ = _reached(counts, n, PASSES)
    lane = tl.arange(0, FROM)
    member = tl.arange(0, GROUP)[None, :]
    chosen = block * FROM + lane < n
    group = tl.load(groups + block * FROM + lane, mask=chosen, other=0).to(tl.int64)
    number = group[:, None] * GROUP + member
    # What fills up the last group is no more than any number, and stands behind as many as are wanted.
    key = keys_at(x, number, N)
    there = chosen[:, None] & (key >= least)
    each = there.to(tl.int32)
    count = tl.sum(each, 1)
    place = (tl.cumsum(count, 0) - count)[:, None] + tl.cumsum(each, 1) - each
    place += block.to(tl.int64) * (FROM * GROUP)
    tl.store(keys + place, key, mask=there)
    tl.store(within + place, (lane[:, None] * GROUP + member).to(tl.int16), mask=there)
    tl.store(lengths + block, tl.sum(count, 0))


def _chosen(
    given: _List, n: int, counts: Int32[Tensor, "pass digit"], dtype: torch.dtype
) -> Int[Tensor, " n"]:
    """Places of the n largest keys, ascending; fills the counts, which are 0, of each digit of the n-th largest."""
    size = len(given.keys)
    assert size < 2**31, "keys are counted in 32 bits"
    blocks = triton.cdiv(size, given.block)
    own, over, sums = (counts.new_empty(shape) for shape in ((blocks, BINS.value), (blocks,), (2, blocks)))
    for i in range(PASSES.value):
        per_block = (own, over) if i == PASSES.value - 1 else (None, None)
        _count[(blocks,)](
            given.keys, given.lengths, counts, *per_block, size, n, i, given.block, given.tile, num_warps=given.warps
        )  # fmt: skip
    _add_up[(triton.cdiv(blocks, COUNTED),)](own, over, counts, sums, n, blocks, COUNTED, num_warps=4)
    upto = sums.cumsum(1, dtype=torch.int32)
    out = torch.empty(n, dtype=dtype, device=counts.device)
    _write[(blocks,)](
        given.keys, given.lengths, given.within, given.groups, counts, upto, out, size, n, blocks,
        given.block, given.tile, GROUP, num_warps=given.warps,
    )  # fmt: skip
    return out


def _whole(keys: Int32[Tensor, " key"]) -> _List:
    return _List(keys, BLOCK, None, None, None, TILE, WARPS)


def largest_of_all(x: Float[Tensor, " number"], n: int) -> Int[Tensor, " n"]:
    """Places of the n largest of float32 numbers, ascending; of equal ones the first, and NaN is the largest of all."""
    x = x.contiguous()
    counts = torch.zeros(2, PASSES.value, BINS.value, dtype=torch.int32, device=x.device)
    if 2 * n * GROUP > len(x):  # the groups would hold nearly everything
        return _chosen(_whole(maxima(x[None], 1)[0]), n, counts[0], torch.int64)
    groups = _chosen(_whole(maxima(x[None])[0]), n, counts[0], torch.int32)
    block = FROM * GROUP
    blocks = triton.cdiv(n, FROM)
    keys, lengths = (counts.new_empty(length) for length in (blocks * block, blocks))
    within = torch.empty_like(keys, dtype=torch.int16)
    _list[(blocks,)](x, groups, counts[0], keys, within, lengths, len(x), n, GROUP, FROM, num_warps=8)
    return _chosen(_List(keys, block, lengths, within, groups, LISTED, FEW), n, counts[1], torch.int64)
