"""HybridLM -> its ports: where each reader reads, where each writer writes, and what lies between the two.

A reader port is one linear map from the normed residual stream (`W_Q` of a head, `W_in` of an MLP); a writer
port is one linear map into the stream (`W_O` of a head, `W_out`) with the latent it is applied to (`z`, the MLP's
activations, a Mamba head's gated output, an expert's weighted output). So the model runs bare: no per-head copies of
its inputs and outputs are ever made, heads are read before the output projection and scored through it by linearity.
What lies between a block's ports is in `mixers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from circuits.graph import Graph
from circuits.metrics import check_weights
from data_gen.errors import InputError
from tinysql.models.hybrid import Block, HybridLM
from tinysql.models.layers import Norm

Slots = Float[Tensor, "batch _ _ _"]
"""What flows through a port, `[batch seq slot width]`: one slot per head, a single slot for an MLP."""

Parts = tuple[Slots, ...]
"""One tensor per reader port, or per writer port, of a block."""


@dataclass(frozen=True, kw_only=True)
class ReaderPort:
    """`normed stream @ weight + bias`, one slot per reader."""

    readers: slice
    """Columns of a score matrix."""
    weight: Float[Tensor, "slot d_model width"] | Float[Tensor, "1 d_model width"] | None
    """One for all slots where they share it; `None` where they read the normed stream as it is."""
    bias: Float[Tensor, "slot width"] | None = None

    @property
    def slots(self) -> int:
        return self.readers.stop - self.readers.start

    def read(self, normalized: Float[Tensor, "batch seq d_model"]) -> Slots:
        """What every slot reads when all read the same."""
        if self.weight is None:
            return normalized[:, :, None].expand(-1, -1, self.slots, -1)
        if len(self.weight) < self.slots:
            return (normalized @ self.weight[0])[:, :, None].expand(-1, -1, self.slots, -1)
        slots, width, each = self.weight.shape
        weight = self.weight.transpose(0, 1).reshape(width, slots * each)
        out = (normalized @ weight).unflatten(-1, (slots, each))
        return out if self.bias is None else out + self.bias

    def read_each(
        self, normalized: Float[Tensor, "some batch seq d_model"], slots: Sequence[int]
    ) -> Float[Tensor, "batch seq some width"]:
        """What the given slots read when each has a stream of its own."""
        out = normalized
        if self.weight is not None:
            weight = self.weight[list(slots)] if len(self.weight) == self.slots else self.weight[0]
            out = (normalized.flatten(1, 2) @ weight).unflatten(1, normalized.shape[1:3])
        out = rearrange(out, "some batch seq width -> batch seq some width")
        return out if self.bias is None else out + self.bias[list(slots)]

    def pull_back(
        self,
        gradient: Float[Tensor, "batch seq slot width"],
        norm: Norm,
        out: Float[Tensor, "slot batch seq d_model"],
    ) -> None:
        """Gradient at the port's outputs -> at `centred(x) / divisor`, its slots' inputs before the norm's scaling."""
        by_slot = rearrange(gradient, "batch seq slot width -> slot batch seq width").contiguous()
        if self.weight is None:
            torch.mul(by_slot, norm.w, out=out)
            out -= out.mean(-1, keepdim=True) if norm.centred else 0
            return
        weight = self.weight * norm.w[:, None]
        weight = weight - weight.mean(1, keepdim=True) if norm.centred else weight
        torch.matmul(by_slot.flatten(1, 2), weight.mT, out=out.flatten(1, 2))

    def offset(self, norm: Norm) -> Float[Tensor, "#slot width"] | float:
        """What a slot reads of no stream at all: its own bias and the norm's through its weight."""
        found: Tensor | float = 0.0 if self.bias is None else self.bias
        if norm.b is not None:
            found = found + (norm.b[None] if self.weight is None else norm.b @ self.weight)
        return found


@dataclass(frozen=True, kw_only=True)
class WriterPort:
    """`latent @ weight` is added to the stream, one slot per writer."""

    writers: slice
    """Rows of a score matrix."""
    weight: Float[Tensor, "slot width d_model"] | Float[Tensor, "1 width d_model"] | None
    """One for all slots where they share it; `None` where the latent itself is added."""

    @property
    def slots(self) -> int:
        return self.writers.stop - self.writers.start

    def written(
        self,
        latent: Slots,
        slots: Sequence[int] | None = None,
        out: Float[Tensor, "slot batch seq d_model"] | None = None,
    ) -> Float[Tensor, "slot batch seq d_model"]:
        """What each writer of the port, or each of `slots`, adds to the stream; into `out` where it is given."""
        by_slot = rearrange(latent, "batch seq slot width -> slot batch seq width")
        if self.weight is None:
            return by_slot if out is None else out.copy_(by_slot)
        every = slots is None or len(slots) == self.slots or len(self.weight) < self.slots
        weight = self.weight if slots is None or every else self.weight[list(slots)]
        flat = None if out is None else out.flatten(1, 2)
        return torch.matmul(by_slot.flatten(1, 2), weight, out=flat).unflatten(1, by_slot.shape[1:3])

    def total(self, latent: Slots) -> Float[Tensor, "batch seq d_model"]:
        """What all its writers together add to the stream."""
        if self.weight is None:
            return latent.sum(2)
        if len(self.weight) < self.slots:
            return latent.sum(2) @ self.weight[0]
        return latent.flatten(2) @ self.weight.flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Through:
    """What went through one block in one run."""

    reads: Parts
    """In the graph of the run. Experts read `[batch seq active width]`, each token's chosen ones alone."""
    latents: Parts
    chosen: Int[Tensor, "batch seq active"] | None = None
    """Which experts a token was sent to."""
    light: bool = False
    """Experts' latents too are the chosen ones' alone, and those of a block of one writer are not there."""

    def lightened(self, *, reads: bool) -> Through:
        """What `changes` needs, without gradients, and what was read, if it is wanted."""
        kept = self.reads if reads else ()
        if self.light:
            return replace(self, reads=kept)
        latents = tuple(part.detach() for part in self.latents)
        if sum(part.shape[2] for part in latents) == 1:
            latents = ()
        elif self.chosen is not None:
            routed, shared = latents
            latents = (routed.gather(2, _like(self.chosen, routed)), shared)
        return Through(reads=kept, latents=latents, chosen=self.chosen, light=True)

    def dense_latents(self, slots: int) -> Parts:
        """One of every writer; the first port's are so many."""
        if not self.light or self.chosen is None:
            return self.latents
        routed, shared = self.latents
        return scattered(routed, self.chosen, slots), shared


def scattered(
    x: Float[Tensor, "batch seq active width"], chosen: Int[Tensor, "batch seq active"], experts: int
) -> Float[Tensor, "batch seq expert width"]:
    """Per chosen expert -> per expert, 0 where it was not chosen."""
    empty = x.new_zeros(*x.shape[:2], experts, x.shape[3])
    return empty.scatter(2, _like(chosen, x), x)


def _like(
    chosen: Int[Tensor, "batch seq active"], x: Float[Tensor, "batch seq _ width"]
) -> Int[Tensor, "batch seq active width"]:
    return chosen[..., None].expand(-1, -1, -1, x.shape[-1])


def blocks_of(model: HybridLM) -> tuple[Block, ...]:
    """The model's blocks, in order."""
    return tuple(cast(Block, block) for block in model.blocks)


def tail_of(model: HybridLM) -> int:
    """The first block behind the last one that mixes positions: from there on only the metric's position matters."""
    return max(model.cfg.pattern.rfind("*"), model.cfg.pattern.rfind("M")) + 1


def at(
    x: Float[Tensor, "batch seq *rest"], position: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
) -> Float[Tensor, "batch answer *rest"]:
    """One position of each sequence, or several, kept as a sequence."""
    return x[torch.arange(len(x), device=x.device)[:, None], _columns(position)]


def at_each(
    x: Float[Tensor, "node batch seq d_model"], position: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
) -> Float[Tensor, "node batch answer d_model"]:
    """`at`, of many nodes at once."""
    return x[:, torch.arange(x.shape[1], device=x.device)[:, None], _columns(position)]


def _columns(position: Tensor) -> Int[Tensor, "batch answer"]:
    return position if position.ndim == 2 else position[:, None]


@contextmanager
def frozen(model: HybridLM) -> Iterator[HybridLM]:
    """Run without gradients for parameters; every `requires_grad` flag is put back at the end, whatever happens.

    Raises `InputError` when someone's hooks are on the model: they would change it behind the closed forms; for a
    model that is no `HybridLM`, and for one whose weights are not finite.
    """
    Graph.of(model)
    check_weights(model.named_parameters())
    hooked = [name for name, point in model.hook_dict.items() if point.has_hooks()]
    if hooked:
        raise InputError(
            f"the model has hooks on {', '.join(hooked[:3])}",
            hint="call model.reset_hooks() or leave their context",
        )
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
