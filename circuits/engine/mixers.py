"""What a block's readers read -> what its writers are computed from, one class per kind of block.

A mixer knows its ports and `latents`, the function between them. `run` does the same for a run in which every slot
reads the same stream, which experts can do much cheaper. `lanes` is into how many parts a mixer falls that do not see
each other (the heads of one key-value head); each port and writer deals its slots out evenly to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from circuits.engine.ports import Parts, ReaderPort, Slots, Through, WriterPort, blocks_of, scattered
from circuits.engine.rules import LIVE, Rules, ratio
from circuits.graph import Graph
from tinysql.kernels.reference import causal_conv, grouped_norm
from tinysql.models.attention import Attention
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import MLP, relu2
from tinysql.models.mamba import Mamba
from tinysql.models.moe import MoE

Keep = Callable[[Tensor], Tensor]
"""`[batch seq ...]` -> the positions that are still needed."""

Moving = Callable[[int, Slots], Float[Tensor, "slot batch left d_model"]]
"""A port, and what each slot of it reads when it alone reads something else -> what the block then adds more."""


class Mixer(ABC):
    """The ports of one block and what lies between them."""

    reads: tuple[ReaderPort, ...]
    writes: tuple[WriterPort, ...]
    bias: Float[Tensor, " d_model"] | None
    """What the block adds to the stream whatever it reads."""
    lanes: int = 1
    mixes: bool = False
    """Whether a position sees those before it."""

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

    def moving(self, reads: Parts, latents: Parts, keep: Keep) -> Moving:
        """What the block adds more when one slot of one port reads something else, and all else `reads`.

        `latents` belong to `reads`; `keep` chooses positions.
        """

        def moved(place: int, read: Slots) -> Float[Tensor, "slot batch left d_model"]:
            patched = self.latents((*reads[:place], read, *reads[place + 1 :]))
            change = self.written(tuple(keep(new - old) for new, old in zip(patched, latents, strict=True)))
            slots = self.reads[place].slots
            return reduce(change, "(slot writer) batch left d -> slot batch left d", "sum", slot=slots)

        return moved


class AttentionMixer(Mixer):
    """q, k, v -> z."""

    mixes = True

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

    mixes = True

    def __init__(self, mamba: Mamba, readers: Iterator[slice], writers: Iterator[slice]) -> None:
        self.mamba, self.bias = mamba, None
        weights = (mamba.W_z, mamba.W_x, mamba.W_B, mamba.W_C, mamba.W_dt.T[:, :, None])
        self.reads = tuple(ReaderPort(readers=next(readers), weight=weight) for weight in weights)
        self.writes = (WriterPort(writers=next(writers), weight=mamba.W_out),)

    def latents(self, reads: Parts, rules: Rules = LIVE) -> Parts:
        z, x, B, C, raw = reads
        if rules == LIVE:
            return (self.mamba.mix(z, x, B, C, raw.squeeze(-1)),)
        return (mamba_under(rules, self.mamba, z, x, B, C, raw.squeeze(-1)),)

    def moving(self, reads: Parts, latents: Parts, keep: Keep) -> Moving:
        """Convolution and scan keep heads apart, so one pass patches z, x or dt of every head by itself.

        Only the norm behind the gate couples the heads of a group. With `a` what it reads, `r` what it multiplies a
        group by and `r'` the same when head h is patched, the block adds `(r' a'_h - r a_h) w_h W_h` more, and
        `(r' - r) Σ a_i w_i W_i` over the other heads i of the group.
        """
        z, x, B, C, raw = reads
        whole, norm = super().moving(reads, latents, keep), GroupNorm(self.mamba)
        weight, (write,) = self.mamba.norm_weight, self.writes
        convolved = self.mamba.convolved(x, B, C)
        y = self._scanned(raw, *convolved)
        gated = keep(gate(y, z))
        others = norm.others(norm.squares(gated))
        scale = norm.scale(norm.squares(gated) + others)
        by_others = norm.others(rearrange(write.written((gated * weight).to(y.dtype)), "h b s d -> b s d h"))
        by_others = rearrange(by_others, "b s d h -> h b s d")

        def patched(place: int, read: Slots) -> Float[Tensor, "batch left head d_head"]:
            if place == 0:
                return keep(gate(y, read))
            if place == 1:
                return keep(gate(self._scanned(raw, self.mamba.convolved(read, B, C)[0], *convolved[1:]), z))
            return keep(gate(self._scanned(read, *convolved), z))

        def moved(place: int, read: Slots) -> Float[Tensor, "slot batch left d_model"]:
            # A group's B and C belong to it alone.
            if place in (2, 3):
                return whole(place, read)
            new = patched(place, read)
            after = norm.scale(norm.squares(new) + others)
            own = (after[..., None] * new - scale[..., None] * gated) * weight
            more = rearrange(after - scale, "batch left head -> head batch left 1")
            return write.written(own.to(y.dtype)).addcmul_(more.to(y.dtype), by_others)

        return moved

    def _scanned(self, raw: Slots, x: Slots, B: Slots, C: Slots) -> Slots:
        """The recurrence's output, from what stands behind the convolution."""
        return self.mamba.scan(x, self.mamba.step_sizes(raw.squeeze(-1)), B, C).y


def gate(y: Slots, z: Slots) -> Slots:
    """`y * silu(z)`, in float32 at least."""
    wide = torch.promote_types(y.dtype, torch.float32)
    return y.to(wide) * F.silu(z.to(wide))


class GroupNorm:
    """The norm behind a Mamba block's gate, head by head."""

    def __init__(self, mamba: Mamba) -> None:
        heads, width = mamba.norm_weight.shape
        self.groups, self.eps = mamba.shape.n_groups, mamba.eps
        self.each = heads // self.groups
        self.width = self.each * width

    def squares(self, gated: Slots) -> Float[Tensor, "batch seq head"]:
        """Each head's sum of squares."""
        return gated.square().sum(-1)

    def others(self, x: Float[Tensor, "*batch head"]) -> Float[Tensor, "*batch head"]:
        """The sum over all other heads of the group: added up, as a difference would cancel."""
        apart = 1 - torch.eye(self.each, dtype=x.dtype, device=x.device)
        return (x.unflatten(-1, (self.groups, self.each)) @ apart).flatten(-2)

    def scale(self, squares: Float[Tensor, "batch seq head"]) -> Float[Tensor, "batch seq head"]:
        """What the norm multiplies by where a group's squares add up to these."""
        return torch.rsqrt(squares / self.width + self.eps)


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
        return (
            self._weighted(self._spread(router), self._experts(inner, rules), rules),
            rules.activated(relu2, shared),
        )

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

    def moving(self, reads: Parts, latents: Parts, keep: Keep) -> Moving:
        """What the experts say does not change with the router, nor either of them with the shared expert."""
        router, inner, _ = reads
        spread, out = self._spread(router), self._experts(inner)
        routed, shared = latents

        def moved(place: int, read: Slots) -> Float[Tensor, "slot batch left d_model"]:
            if place == 2:
                return self.writes[1].written(keep(relu2(read) - shared))
            new = spread * self._experts(read) if place == 1 else self._spread(read) * out
            change = self.writes[0].written(keep(new - routed))
            return change if place == 1 else change.sum(0, keepdim=True)

        return moved

    def _experts(self, inner: Slots, rules: Rules = LIVE) -> Slots:
        """What every expert says at every token."""
        hidden = rules.activated(
            relu2, einsum(inner, self.moe.W_in, "b s expert d, expert d f -> b s expert f")
        )
        return einsum(hidden, self.moe.W_out, "b s expert f, expert f d -> b s expert d")

    def _spread(self, router: Slots) -> Float[Tensor, "batch seq expert 1"]:
        """The weight of every expert at every token, 0 where it was not chosen."""
        weights, chosen = self.moe.decide(router[:, :, 0])
        return scattered(weights[..., None], chosen, len(self.moe.W_in))

    def _weighted(self, weights: Tensor, out: Slots, rules: Rules) -> Slots:
        weights = weights.to(out.dtype)
        return weights.detach() * out if rules.frozen_router else rules.multiplied(weights, out)


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
