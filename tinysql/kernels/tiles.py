"""Shapes of a scan -> tiles and launch sizes of its kernels: one fixed table, nothing tuned while running."""

from __future__ import annotations

from dataclasses import dataclass

import torch

CHANNELS = 64
"""Channels of a head that one program holds: a wider head is shared by several, a narrower one is filled with zeros.

Products of narrower tiles came out wrong with Triton 3.6 on an H100 (`docs/kernels.md`).
"""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """What the kernels of one scan are compiled and launched with."""

    chunk: int
    """Positions that one program treats together."""
    heads: int
    """Most heads of one group that one program does one after another, sharing their product of B and C."""
    backward_heads: int
    """As many of them in the backward pass."""
    forward_warps: int
    backward_warps: int
    """Of tiles of 64 rows, more than four warps each do all of the work again."""
    stages: int
    """Tiles that are loaded ahead in the forward pass."""
    backward_stages: int = 1
    state_warps: int = 4
    state_stages: int = 3
    state_block: int = 64
    """Most channels and most numbers of a state that one program carries along the chunks."""
    mix_warps: int = 4
    mix_stages: int = 3
    mix_block: int = 128
    """Most numbers of a state for which one program adds up gradients of B and C."""
    walks: int = 256
    """Heads of all sequences that fill a device; where there are fewer, each is walked in several spans."""
    span: int = 32
    """Fewest chunks of a span."""

    def spans(self, chunks: int, walks: int) -> int:
        """Into how many spans the `chunks` of each of so many walks are cut."""
        return max(1, min(chunks // self.span, self.walks // walks))


TABLE = {
    # Whether products are of float32: they run on the ordinary units, and tiles take twice the memory.
    False: Tiles(
        chunk=64, heads=4, backward_heads=4, forward_warps=4, backward_warps=4, stages=1, backward_stages=2
    ),
    # Compiled for Hopper, the outputs spill nothing with two tiles ahead, and 3.6 KB of each thread with one.
    True: Tiles(
        chunk=32, heads=4, backward_heads=4, forward_warps=8, backward_warps=8, stages=2, mix_stages=1
    ),
}


def choose(dtype: torch.dtype) -> Tiles:
    """The table's entry for scans whose matrix products run in `dtype`."""
    return TABLE[dtype == torch.float32]


def shared(most: int, per_group: int) -> int:
    """How many of the `per_group` heads of a group a program does: the largest divisor up to `most`."""
    return max(n for n in range(1, most + 1) if per_group % n == 0)


def block(size: int, dtype: torch.dtype = torch.float32) -> int:
    """Tile that holds `size` entries: a power of two, and at least what a matrix product in `dtype` needs.

    Tiles of two-byte numbers below 64 are filled up: products of narrower ones broke with Triton 3.6 on an H100.
    """
    return max(16 if dtype == torch.float32 else 64, 1 << (size - 1).bit_length())


def ceil_div(size: int, tile: int) -> int:
    """How many tiles cover `size` entries."""
    return -(-size // tile)
