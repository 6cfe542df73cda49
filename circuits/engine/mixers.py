"""What a block's readers read -> what its writers are computed from, one class per kind of block.

A mixer knows its ports and `latents`, the function between them. `run` does the same for a run in which every slot
reads the same stream, which experts can do much cheaper. `lanes` is into how many parts a mixer falls that do not see
each other (the heads of one key-value head); each port and writer deals its slots out evenly to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, reduce
from jaxtyping import Float, Int
from torch import Tensor

from circuits.engine.ports import ReaderPort, Slots, WriterPort, blocks_of
from circuits.engine.rules import LIVE, Rules, ratio
from circuits.graph import Graph
from tinysql.kernels.reference import causal_conv, grouped_norm
from tinysql.models.attention import Attention
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import MLP, relu2
from tinysql.models.mamba import Mamba
from tinysql.models.moe import MoE

Parts = tuple[Slots, ...]
"""One tensor per reader port, or per writer port, of a block."""

Keep = Callable[[Tensor], Tensor]
"""`[batch seq ...]` -> the positions that are still needed."""


@dataclass(frozen=True, kw_only=True)
class Through:
    """What went through one block in one run."""

    reads: Parts
    """In the graph of the run. Experts read `[batch seq active width]`, each token's chosen ones alone."""
    latents: Parts
    chosen: Int[Tensor, "batch seq active"] | None = None
    """Which experts a token was sent to."""


class Mixer(ABC):
    """The ports of one block and what lies between them."""

    reads: tuple[ReaderPort, ...]
    writes: tuple[WriterPort, ...]
    bias: Float[Tensor, " d_model"] | None
    """What the block adds to the stream whatever it reads."""
    lanes: int = 1

    @property
    def readers(self) -> slice:
        """Columns of all its readers."""
        return slice(self.reads[0].readers.start, self.reads[-1].readers.stop)

    @property
    def writers(self) -> slice:
        """Rows of all its writers."""
        return slice(self.writes[0].writers.start, self.writes[-1].writers.stop)

    @abstractmethod
    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        """Inputs of the writer ports, given the outputs of the reader ports; any whole lanes of both will do."""

    def run(self, normalized: Float[Tensor, "batch seq d_model"], rules: Rules = LIVE) -> Through:
        """Both, when every slot reads the same stream."""
        reads = tuple(port.read(normalized) for port in self.reads)
        return Through(reads=reads, latents=self.latents(reads, rules))

    def total(self, latents: Parts) -> Float[Tensor, "batch seq d_model"]:
        """What the block adds to the stream, biases apart."""
        totals = [port.total(part) for port, part in zip(self.writes, latents, strict=True)]
        return totals[0] if len(totals) == 1 else totals[0] + totals[1]

    def written(self, latents: Parts) -> Float[Tensor, "writer batch seq d_model"]:
        """What each of its writers adds."""
        return torch.cat([port.written(part) for port, part in zip(self.writes, latents, strict=True)])

    def lanes_of(self, readers: Iterable[int]) -> list[int]:
        """The lanes in which given readers (counted within the block) stand."""
        ends = np.cumsum([port.slots for port in self.reads])
        found = set()
        for reader in readers:
            port = int(np.searchsorted(ends, reader, side="right"))
            slots = self.reads[port].slots
            found.add((int(reader) - int(ends[port]) + slots) * self.lanes // slots)
        return sorted(found)

    def slots_of(self, lanes: Sequence[int], slots: int) -> list[int]:
        """The slots of given lanes, of a port of so many."""
        each = slots // self.lanes
        return [slot for lane in lanes for slot in range(lane * each, (lane + 1) * each)]

    def dense(self, through: Through) -> Parts:
        """What every slot read in a recorded run, also slots that the run had no need of."""
        return through.reads

    def moved(
        self, place: int, read: Slots, reads: Parts, latents: Parts, keep: Keep
    ) -> Float[Tensor, "slot batch left d_model"]:
        """What the block adds more when one slot of one port reads what `read` says and all else `reads`.

        `keep` chooses positions; `latents` belong to `reads`.
        """
        port = self.reads[place]
        if port.alone:
            patched = self.latents((*reads[:place], read, *reads[place + 1 :]))
            change = self.written(tuple(keep(new - old) for new, old in zip(patched, latents, strict=True)))
            return reduce(change, "(slot writer) batch left d -> slot batch left d", "sum", slot=port.slots)
        found = []
        for slot in range(port.slots):
            one = reads[place].clone()
            one[:, :, slot] = read[:, :, slot]
            patched = self.latents((*reads[:place], one, *reads[place + 1 :]))
            found.append(
                self.total(tuple(keep(new - old) for new, old in zip(patched, latents, strict=True)))
            )
        return torch.stack(found)


class AttentionMixer(Mixer):
    """q, k, v -> z."""

    def __init__(self, attention: Attention, readers: Iterator[slice], writers: Iterator[slice]) -> None:
        self.attention, self.bias = attention, attention.b_O
        self.lanes = len(attention.W_K)
        parts = (
            (attention.W_Q, attention.b_Q),
            (attention.W_K, attention.b_K),
            (attention.W_V, attention.b_V),
        )
        self.reads = tuple(
            ReaderPort(readers=next(readers), weight=weight, bias=bias) for weight, bias in parts
        )
        self.writes = (WriterPort(writers=next(writers), weight=attention.W_O),)

    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        q, k, v = reads
        if rules.frozen_patterns:
            q, k = q.detach(), k.detach()
        return (self.attention.attend(q, k, v),)


class MLPMixer(Mixer):
    """Pre-activations -> activations; a gated MLP reads both of its branches through one port."""

    def __init__(self, mlp: MLP, readers: Iterator[slice], writers: Iterator[slice]) -> None:
        self.mlp, self.bias = mlp, mlp.b_out
        weight: Tensor = mlp.W_in
        bias: Tensor | None = mlp.b_in
        if mlp.W_gate is not None:
            weight = torch.cat([mlp.W_gate, weight], dim=-1)
            bias = torch.cat([mlp.b_gate, bias]) if mlp.b_gate is not None and bias is not None else None
        self.reads = (
            ReaderPort(readers=next(readers), weight=weight[None], bias=None if bias is None else bias[None]),
        )
        self.writes = (WriterPort(writers=next(writers), weight=mlp.W_out[None]),)

    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        (pre,) = reads
        if self.mlp.W_gate is None:
            return (rules.activated(self.mlp.activate, pre),)
        gate, linear = pre.chunk(2, dim=-1)
        return (rules.multiplied(rules.activated(self.mlp.activate, gate), linear),)


class MambaMixer(Mixer):
    """z, x, B, C and dt before convolution and softplus -> gated, normed outputs."""

    def __init__(self, mamba: Mamba, readers: Iterator[slice], writers: Iterator[slice]) -> None:
        self.mamba, self.bias = mamba, None
        # The norm behind the gate couples the heads of a group.
        alone = mamba.shape.n_groups == len(mamba.W_z)
        weights = {
            mamba.W_z: alone,
            mamba.W_x: alone,
            mamba.W_B: True,
            mamba.W_C: True,
            mamba.W_dt.T[:, :, None]: alone,
        }
        self.reads = tuple(
            ReaderPort(readers=next(readers), weight=weight, alone=alone) for weight, alone in weights.items()
        )
        self.writes = (WriterPort(writers=next(writers), weight=mamba.W_out),)

    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        z, x, B, C, raw = reads
        if rules == LIVE:
            return (self.mamba.mix(z, x, B, C, raw.squeeze(-1)),)
        return (mamba_under(rules, self.mamba, z, x, B, C, raw.squeeze(-1)),)


class ExpertsMixer(Mixer):
    """Router logits, experts' inputs and the shared expert's pre-activations -> weighted outputs, activations."""

    def __init__(self, moe: MoE, readers: Iterator[slice], writers: Iterator[slice]) -> None:
        self.moe, self.bias = moe, None
        down, up = (weight[None] if weight is not None else None for weight in (moe.W_down, moe.W_up))
        self.reads = (
            ReaderPort(readers=next(readers), weight=moe.W_R[None]),
            ReaderPort(readers=next(readers), weight=down),
            ReaderPort(readers=next(readers), weight=moe.W_in_shared[None]),
        )
        self.writes = (
            WriterPort(writers=next(writers), weight=up),
            WriterPort(writers=next(writers), weight=moe.W_out_shared[None]),
        )

    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        """Every expert at every token, weighted with 0 where it was not chosen."""
        router, inner, shared = reads
        weights, chosen = self.moe.decide(router[:, :, 0])
        hidden = rules.activated(
            relu2, einsum(inner, self.moe.W_in, "b s expert d, expert d f -> b s expert f")
        )
        out = einsum(hidden, self.moe.W_out, "b s expert f, expert f d -> b s expert d")
        spread = scattered(weights[..., None], chosen, len(self.moe.W_in))
        return self._weighted(spread, out, rules), rules.activated(relu2, shared)

    def run(self, normalized: Float[Tensor, "batch seq d_model"], rules: Rules = LIVE) -> Through:
        """The chosen experts alone."""
        if rules.ratios:
            return super().run(normalized, rules)
        router, inner, shared = (port.read(normalized) for port in self.reads)
        weights, chosen = self.moe.decide(router[:, :, 0])
        inputs = inner[:, :, :1].expand(-1, -1, chosen.shape[-1], -1)
        out = self._weighted(weights[..., None], self.moe.experts(inputs, chosen), rules)
        latents = scattered(out, chosen, len(self.moe.W_in)), relu2(shared)
        return Through(reads=(router, inputs, shared), latents=latents, chosen=chosen)

    def dense(self, through: Through) -> Parts:
        router, inner, shared = through.reads
        return router, inner[:, :, :1].expand(-1, -1, len(self.moe.W_in), -1), shared

    def moved(
        self, place: int, read: Slots, reads: Parts, latents: Parts, keep: Keep
    ) -> Float[Tensor, "slot batch left d_model"]:
        routed, shared = self.latents((*reads[:place], read, *reads[place + 1 :]))
        if place == 2:
            return self.writes[1].written(keep(shared - latents[1]))
        change = self.writes[0].written(keep(routed - latents[0]))
        return change if place == 1 else change.sum(0, keepdim=True)

    def _weighted(self, weights: Tensor, out: Slots, rules: Rules) -> Slots:
        weights = weights.to(out.dtype)
        return weights.detach() * out if rules.frozen_router else rules.multiplied(weights, out)


def scattered(
    x: Float[Tensor, "batch seq active width"], chosen: Int[Tensor, "batch seq active"], experts: int
) -> Float[Tensor, "batch seq expert width"]:
    """Per chosen expert -> per expert, 0 where it was not chosen."""
    empty = x.new_zeros(*x.shape[:2], experts, x.shape[3])
    return empty.scatter(2, chosen[..., None].expand_as(x), x)


def mamba_under(
    rules: Rules, mamba: Mamba, z: Slots, x: Slots, B: Slots, C: Slots, raw: Float[Tensor, "batch seq head"]
) -> Slots:
    """`mamba.mix` under rules: the same values, another gradient."""
    weight, bias = (t[: x[0, 0].numel()] for t in (mamba.conv_weight, mamba.conv_bias))
    mixed = causal_conv(x.flatten(2), weight, bias)[0].unflatten(-1, x.shape[2:])
    _, b, c = mamba.convolved(x, B, C)
    b, c, dt = (rules.kept(t, rules.frozen_patterns) for t in (b, c, mamba.step_sizes(raw)))
    y = mamba.scan(rules.activated(F.silu, mixed), dt, b, c).y
    gated = rules.multiplied(y, rules.activated(F.silu, z))
    normed = grouped_norm(gated, mamba.norm_weight, groups=mamba.shape.n_groups, eps=mamba.eps)
    return ratio(normed, gated) if rules.frozen_norms else normed


KINDS: dict[str, tuple[Any, str]] = {
    "*": (AttentionMixer, "attn"),
    "-": (MLPMixer, "mlp"),
    "M": (MambaMixer, "mamba"),
    "E": (ExpertsMixer, "moe"),
}
"""The mixer of each kind of block, and what the block calls the part it takes."""


def mixers_of(model: HybridLM) -> tuple[Mixer, ...]:
    """The mixer of every block, in order, its ports numbered as in `Graph.of(model)`."""
    graph = Graph.of(model)
    readers = _runs([reader.name for reader in graph.readers])
    writers = _runs([writer.name for writer in graph.writers[1:]], start=1)
    found: list[Mixer] = []
    for block in blocks_of(model):
        kind, name = KINDS[block.kind]
        found.append(kind(getattr(block, name), readers, writers))
    return tuple(found)


def _runs(names: Iterable[str], start: int = 0) -> Iterator[slice]:
    """Where each port's slots stand: names that differ in their last number alone are of one port."""
    for _, run in groupby(names, key=lambda name: name.rstrip("0123456789")):
        stop = start + len(list(run))
        yield slice(start, stop)
        start = stop
