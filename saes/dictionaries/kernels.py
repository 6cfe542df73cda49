"""Pairs on a GPU -> the sums and inner products of a sparse step, and the largest latents of a row, by Triton kernels.

Nothing is added up by several programs at once, so the same bits come out twice. All numbers are float32.
"""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

AT_ONCE, WIDE = 8, 256
"""Rows that are in flight together, and how much of each."""
PAIRS, TOGETHER, PART = 64, 16, 128
"""Pairs that one program makes inner products of, those in flight together, and how much of each: a warp has whole rows
of a part, so that it adds their products up by itself."""
WIDTH = 256
"""Columns that one program multiplies. Programs of the same columns run together, so that what they read of all rows
stays in the cache."""
ADDED = 1024
"""Pairs whose parts one program adds up."""
LANES = tl.constexpr(256)
"""Pairs of one latent that are read together."""


@triton.jit
@no_type_check
def _sum_rows(
    rows, index, weight, order, start, out, n_bags, n_pairs, scale, D,
    SHARE: tl.constexpr, AT_ONCE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """out [bag, D], `WIDE` columns of one bag."""
    bag = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    first = tl.load(start + bag)
    last = tl.load(start + bag + 1, mask=bag + 1 < n_bags, other=n_pairs)
    total = tl.zeros([AT_ONCE, WIDE], tl.float32)
    for at in range(first, last, AT_ONCE):
        pair = at + tl.arange(0, AT_ONCE)
        row = tl.load(index + pair, mask=pair < last, other=0).to(tl.int64) // SHARE
        own = pair
        if order is not None:
            own = tl.load(order + pair, mask=pair < last, other=0)
        by = tl.load(weight + own, mask=pair < last, other=0.0)
        mask = (pair < last)[:, None] & (column < D)[None, :]
        total += by[:, None] * tl.load(rows + row[:, None] * D + column[None, :], mask=mask, other=0.0)
    tl.store(out + bag * D + column, scale * tl.sum(total, 0), mask=column < D)


def sum_rows(
    rows: Float[Tensor, "row d"],
    index: Int[Tensor, " pair"],
    weight: Float[Tensor, " pair"],
    start: Int[Tensor, " bag"],
    *,
    order: Int[Tensor, " pair"] | None = None,
    scale: float = 1.0,
    share: int = 1,
) -> Float[Tensor, "bag d"]:
    """Per bag the sum of `scale * weight * rows[index // share]` over its pairs, from its start to the next bag's.

    With an `order`, the weight of a pair is the one that stands where the order says.
    """
    out = rows.new_empty(len(start), rows.shape[1])
    grid = (len(start), triton.cdiv(rows.shape[1], WIDE))
    _sum_rows[grid](
        rows.contiguous(),
        index.contiguous(),
        weight.contiguous(),
        None if order is None else order.contiguous(),
        start.contiguous(),
        out,
        len(start),
        len(index),
        scale,
        rows.shape[1],
        share,
        AT_ONCE,
        WIDE,
        num_warps=4,
    )
    return out


@triton.jit
@no_type_check
def _errors(
    rows, index, weight, start, target, out, squares, n_bags, n_pairs, D,
    LEVELS: tl.constexpr, L: tl.constexpr, AT_ONCE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """out [row, LEVELS, D] and squares [row, block, LEVELS], `WIDE` columns of one row; L is LEVELS or more."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    squares += (row * tl.num_programs(1) + tl.program_id(1)) * LEVELS
    wanted = tl.load(target + row * D + column, mask=column < D, other=0.0)
    total = tl.zeros([AT_ONCE, WIDE], tl.float32)
    level = tl.arange(0, L)
    onward = tl.zeros([L, WIDE], tl.float32)
    first = tl.load(start + row * LEVELS)
    for reached in range(0, LEVELS):
        bag = row * LEVELS + reached
        last = tl.load(start + bag + 1, mask=bag + 1 < n_bags, other=n_pairs)
        for at in range(first, last, AT_ONCE):
            pair = at + tl.arange(0, AT_ONCE)
            of = tl.load(index + pair, mask=pair < last, other=0).to(tl.int64)
            by = tl.load(weight + pair, mask=pair < last, other=0.0)
            mask = (pair < last)[:, None] & (column < D)[None, :]
            total += by[:, None] * tl.load(rows + of[:, None] * D + column[None, :], mask=mask, other=0.0)
        # Outside of the row both are 0.
        error = tl.sum(total, 0) - wanted
        tl.store(squares + reached, tl.sum(error * error, 0))
        onward += tl.where((level <= reached)[:, None], error[None, :], 0.0)
        first = last
    mask = (level < LEVELS)[:, None] & (column < D)[None, :]
    tl.store(out + (row * LEVELS + level)[:, None] * D + column[None, :], onward, mask=mask)


def errors(
    rows: Float[Tensor, "row d"],
    index: Int[Tensor, " pair"],
    weight: Float[Tensor, " pair"],
    start: Int[Tensor, " bag"],
    target: Float[Tensor, "batch d"],
) -> tuple[Float[Tensor, "batch level d"], Float[Tensor, " level"]]:
    """What the bags of a row, level by level, add up to, minus the target; and the squares of that, over the batch.

    The first has for each level the sum of its own error and those of all later ones: the bag is in all of them.
    """
    batch, d = target.shape
    if not batch:
        return target.new_empty(0, 0, d), target.new_empty(0)
    levels = len(start) // batch
    out = target.new_empty(batch, levels, d)
    blocks = triton.cdiv(d, WIDE)
    squares = target.new_empty(batch * blocks, levels)
    _errors[(batch, blocks)](
        rows.contiguous(),
        index.contiguous(),
        weight.contiguous(),
        start.contiguous(),
        target.contiguous(),
        out,
        squares,
        len(start),
        len(index),
        d,
        levels,
        triton.next_power_of_2(levels),
        AT_ONCE,
        WIDE,
        num_warps=4,
    )
    return out, squares.sum(0)


@triton.jit
@no_type_check
def _inner(
    of_bags, rows, bag, index, out, n_pairs, D,
    WIDTH: tl.constexpr, PAIRS: tl.constexpr, TOGETHER: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """out [block, pair], `PAIRS` of one block of columns, whose bags need not be one."""
    begin = tl.program_id(0) * PAIRS
    left = tl.program_id(1) * WIDTH
    out += tl.program_id(1).to(tl.int64) * n_pairs
    for at in range(begin, tl.minimum(begin + PAIRS, n_pairs), TOGETHER):
        pair = at + tl.arange(0, TOGETHER)
        there = pair < n_pairs
        latent = tl.load(index + pair, mask=there, other=0).to(tl.int64)
        first = tl.load(bag + at).to(tl.int64)
        last = tl.load(bag + tl.minimum(at + TOGETHER, n_pairs) - 1)
        total = tl.zeros([TOGETHER, PART], tl.float32)
        # Bags are in order. Most often there is one, whose row is then read once.
        if first == last:
            for part in tl.static_range(0, WIDTH, PART):
                column = left + part + tl.arange(0, PART)
                mask = there[:, None] & (column < D)[None, :]
                shared = tl.load(of_bags + first * D + column, mask=column < D, other=0.0)
                of = tl.load(rows + latent[:, None] * D + column[None, :], mask=mask, other=0.0)
                total += shared[None, :] * of
        else:
            each = tl.load(bag + pair, mask=there, other=0).to(tl.int64)
            for part in tl.static_range(0, WIDTH, PART):
                column = left + part + tl.arange(0, PART)
                mask = there[:, None] & (column < D)[None, :]
                own = tl.load(of_bags + each[:, None] * D + column[None, :], mask=mask, other=0.0)
                of = tl.load(rows + latent[:, None] * D + column[None, :], mask=mask, other=0.0)
                total += own * of
        tl.store(out + pair, tl.sum(total, 1), mask=there)


@triton.jit
@no_type_check
def _added(parts, index, bias, gate, out, n_pairs, blocks, scale, ADDED: tl.constexpr):
    """out [pair], `ADDED` of them: parts [block, pair] together, scaled, with ReLU behind a bias or through a gate."""
    pair = tl.program_id(0) * ADDED + tl.arange(0, ADDED)
    there = pair < n_pairs
    made = tl.zeros([ADDED], tl.float32)
    for _ in range(0, blocks):
        made += tl.load(parts + pair, mask=there, other=0.0)
        parts += n_pairs
    made *= scale
    if bias is not None:
        made += tl.load(bias + tl.load(index + pair, mask=there, other=0), mask=there, other=0.0)
        made = tl.where(made < 0, 0.0, made)  # a maximum would lose a NaN
    if gate is not None:
        made *= (tl.load(gate + pair, mask=there, other=0.0) > 0).to(tl.float32)
    tl.store(out + pair, made, mask=there)


def inner(
    of_bags: Float[Tensor, "bag d"],
    rows: Float[Tensor, "row d"],
    bag: Int[Tensor, " pair"],
    index: Int[Tensor, " pair"],
    *,
    bias: Float[Tensor, " row"] | None = None,
    gate: Float[Tensor, " pair"] | None = None,
    scale: float = 1.0,
) -> Float[Tensor, " pair"]:
    """Per pair `scale` times the inner product of the rows of its bag and its index.

    With a `bias`, ReLU of that and the bias of its index; with a `gate`, 0 where that is not above 0. Work is dealt out
    by pairs, so it matters not how many are in one bag; bags are ascending.
    """
    n, d = len(index), rows.shape[1]
    blocks = triton.cdiv(d, WIDTH)
    index, parts, out = index.contiguous(), rows.new_empty(blocks, n), rows.new_empty(n)
    _inner[(triton.cdiv(n, PAIRS), blocks)](
        of_bags.contiguous(),
        rows.contiguous(),
        bag.contiguous(),
        index,
        parts,
        n,
        d,
        WIDTH,
        PAIRS,
        TOGETHER,
        PART,
        num_warps=4,
    )
    of_each = [None if each is None else each.contiguous() for each in (bias, gate)]
    _added[(triton.cdiv(n, ADDED),)](parts, index, *of_each, out, n, blocks, scale, ADDED, num_warps=4)
    return out


@triton.jit
@no_type_check
def _per_bag(value, order, start, out, n_bags, n_pairs, COUNTED: tl.constexpr):
    """out [bag], of one bag: its sum, or how many are above 0."""
    bag = tl.program_id(0).to(tl.int64)
    first = tl.load(start + bag)
    last = tl.load(start + bag + 1, mask=bag + 1 < n_bags, other=n_pairs)
    total = tl.zeros([LANES], tl.int32 if COUNTED else tl.float32)
    for at in range(first, last, LANES):
        pair = at + tl.arange(0, LANES)
        own = tl.load(order + pair, mask=pair < last, other=0)
        each = tl.load(value + own, mask=pair < last, other=0.0)
        total += (each > 0).to(tl.int32) if COUNTED else each
    tl.store(out + bag, tl.sum(total, 0))


def per_bag(
    value: Float[Tensor, " pair"], order: Int[Tensor, " pair"], start: Int[Tensor, " bag"], *, counted: bool
) -> Tensor:
    """Per bag the sum of `value[order]` over its pairs, or `counted`, how many of them are above 0."""
    out = torch.empty(len(start), dtype=torch.int64 if counted else value.dtype, device=value.device)
    _per_bag[(len(start),)](
        value.contiguous(),
        order.contiguous(),
        start.contiguous(),
        out,
        len(start),
        len(order),
        counted,
        num_warps=1,
    )
    return out
