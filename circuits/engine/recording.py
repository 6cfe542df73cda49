"""Embedding stream -> a Recording: all that was read and written in one bare run of the model's blocks.

A metric looks at one position per sequence, or at a few. Behind the last block that mixes positions nothing else is
computed: recorded tensors of the blocks from `tail_of(model)` on have these positions alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from circuits.engine.mixers import Mixer, mixers_of
from circuits.engine.ports import Through, at, at_each, blocks_of, tail_of
from circuits.engine.rules import LIVE, Rules
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs

Position = Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
"""Where the metric looks: at one position of a sequence, or at several."""
Logits = Float[Tensor, "batch d_vocab"] | Float[Tensor, "batch answer d_vocab"]
"""At those positions."""


ALIGNED = 64
"""Bytes at whose multiples tensors on a CPU begin."""


class Machine:
    """A model taken apart: its blocks' norms and mixers, and where only one position is still needed."""

    def __init__(self, model: HybridLM, rules: Rules = LIVE) -> None:
        self.model, self.rules = model, rules
        self.mixers: tuple[Mixer, ...] = mixers_of(model)
        self.norms: tuple[Norm, ...] = (*(block.ln1 for block in blocks_of(model)), model.ln_final)
        self.tail = tail_of(model)

    def embedding(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """What enters `blocks.0.hook_resid_pre`: token and position embedding."""
        stream: Tensor = self.model.embed(ids)
        learned = self.model.cfg.positions == "learned"
        return stream + self.model.pos_embed.W_pos[: ids.shape[1]] if learned else stream

    def narrow(self, index: int, x: Tensor, position: Position) -> Tensor:
        """Leave all but the metric's positions behind where the tail begins."""
        return at(x, position) if index == self.tail else x

    def logits(self, stream: Float[Tensor, "batch answer d_model"], position: Position) -> Logits:
        """Logits of the last stream, at the positions that are left."""
        logits: Tensor = self.model.unembed(normed(self.norms[-1], stream, self.rules))
        return logits if position.ndim == 2 else logits[:, 0]

    def record(
        self,
        stream: Float[Tensor, "batch seq d_model"],
        position: Position,
        *,
        start: int = 0,
        light: bool = False,
    ) -> Recording:
        """Run the blocks from `start` on; gradients flow or not as the context says.

        `stream` is what block `start` reads: without the positions that are behind, unless it is the embedding. A
        `light` recording keeps what `changes` needs, and, where gradients flow, what was read.
        """
        resid, through, added = [], [], []
        stream = self.narrow(0, stream, position) if start == 0 else stream
        for index in range(start, len(self.mixers)):
            mixer = self.mixers[index]
            # A tensor of the block's own: the gradient at it is of what the block reads, not of what passes it by.
            resid.append(stream.view_as(stream))
            here = mixer.run(normed(self.norms[index], resid[-1], self.rules), self.rules)
            added.append(mixer.total(here.latents))
            through.append(here.lightened(reads=torch.is_grad_enabled()) if light else here)
            stream = stream + added[-1]
            stream = stream if mixer.bias is None else stream + mixer.bias
            stream = self.narrow(index + 1, stream, position)
        return Recording(
            start=start,
            resid=(*resid, stream),
            through=tuple(through),
            added=tuple(added),
            logits=self.logits(stream, position),
        )


def normed(
    norm: Norm, x: Float[Tensor, "*batch d_model"], rules: Rules = LIVE
) -> Float[Tensor, "*batch d_model"]:
    """A norm's output, fused where rules leave it alone."""
    if rules.frozen_norms:
        wide, scale = norm.divided(x)
        return norm.weighted(wide / scale.detach()).to(x.dtype)
    width = (x.shape[-1],)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    weight, bias = norm.w.to(wide.dtype), None if norm.b is None else norm.b.to(wide.dtype)
    if norm.centred:
        return F.layer_norm(wide, width, weight, bias, norm.eps).to(x.dtype)
    out = F.rms_norm(wide, width, weight, norm.eps)
    return (out if bias is None else out + bias).to(x.dtype)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run from block `start` on; tuples hold one entry per block, `resid` one more for the final norm."""

    start: int
    resid: tuple[Float[Tensor, "batch _ d_model"], ...]
    """What each block, and the final norm, reads."""
    through: tuple[Through, ...]
    added: tuple[Float[Tensor, "batch _ d_model"], ...]
    """What each block adds, biases apart."""
    logits: Logits

    def written(self) -> Recording:
        """What `changes` needs of a light run, without gradients."""
        return Recording(
            start=self.start,
            resid=(self.resid[0].detach(),),
            through=tuple(one.lightened(reads=False) for one in self.through),
            added=tuple(part.detach() for part in self.added),
            logits=self.logits.detach(),
        )

    def __getitem__(self, rows: slice) -> Recording:
        """Some examples of the run."""

        def some(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(part[rows] for part in parts)

        through = tuple(
            replace(
                one,
                reads=some(one.reads),
                latents=some(one.latents),
                chosen=one.chosen[rows] if one.chosen is not None else None,
            )
            for one in self.through
        )
        return Recording(
            start=self.start,
            resid=some(self.resid),
            through=through,
            added=some(self.added),
            logits=self.logits[rows],
        )


class Changes(NamedTuple):
    """What writers add to the stream in one run minus what they add in another; rows as in `Graph.writers`."""

    whole: Float[Tensor, "writer batch seq d_model"]
    """All positions from `since` on; only the writers that the last block that mixes positions can read."""
    last: Float[Tensor, "every batch answer d_model"]
    """The metric's positions, all writers."""
    since: int = 0


def changes(
    machine: Machine,
    run: Recording,
    base: Recording,
    position: Position,
    *,
    since: int = 0,
    room: Room | None = None,
) -> Changes:
    """Every writer in `run` minus the same in `base`; at the first `since` positions the two must be the same.

    What is found lies in `room`, if it is given, until that is used again.
    """
    tail, embedding = machine.tail, run.resid[0] - base.resid[0]
    since = since if tail else 0
    embedding, place = embedding[:, since:], position - since
    rows = [mixer.writers for mixer in machine.mixers]
    # Allocated once: at many writers these two are most of the memory there is.
    room = room if room is not None else Room()
    whole = room.rows(rows[tail - 2].stop if tail > 1 else 1, embedding)
    last = embedding.new_empty(rows[-1].stop, len(embedding), position[0].numel(), embedding.shape[-1])
    whole[0], last[0] = embedding, at(embedding, place) if tail else embedding
    for index, mixer in enumerate(machine.mixers):
        keep = partial(_kept, machine, index + 1, since=since, place=place)
        here = whole if index < tail - 1 else last
        if mixer.writers.stop - mixer.writers.start == 1:
            here[mixer.writers] = keep(run.added[index] - base.added[index])
        else:
            ends = (side.through[index].dense_latents(mixer.writes[0].slots) for side in (run, base))
            for port, new, old in zip(mixer.writes, *ends, strict=True):
                port.written(keep(new - old), out=here[port.writers])
        if index < tail - 1:
            last[mixer.writers] = at_each(whole[mixer.writers], place)
    return Changes(whole, last, since)


def _kept(machine: Machine, index: int, x: Tensor, *, since: int, place: Position) -> Tensor:
    """The positions of a recorded tensor in front of block `index` that `Changes` has, `place` counted from `since`."""
    return x if index > machine.tail else machine.narrow(index, x[:, since:], place)


class Room:
    """Memory for what writers say, which a part of a batch or a circuit takes over from the one before."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def rows(self, n: int, like: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "n batch seq d_model"]:
        """`n` tensors like the given one, with anything in them."""
        size = n * like.numel()
        if self._held is None or len(self._held) < size:
            self._held = None  # before there is another
            self._held = _empty(size, like)
        return self._held[:size].view(n, *like.shape)


def _empty(size: int, like: Tensor) -> Tensor:
    if like.device.type != "cpu":
        return like.new_empty(size)
    # NumPy asks for large pages, which are there a few times sooner than many small ones.
    taken = size * like.element_size()
    held = torch.from_numpy(np.empty(taken + ALIGNED, np.uint8))
    start = -held.data_ptr() % ALIGNED
    return held[start : start + taken].view(like.dtype)


def prompts(pairs: TokenPairs) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Clean and corrupt ids, cut behind the last position whose logits are wanted."""
    length = int(pairs.position.max()) + 1
    return pairs.clean.ids[:, :length], pairs.corrupt.ids[:, :length]


def both_sides(machine: Machine, pairs: TokenPairs) -> tuple[Recording, Recording]:
    """The clean and the corrupt run."""
    clean, corrupt = (machine.record(machine.embedding(ids), pairs.position) for ids in prompts(pairs))
    return clean, corrupt
