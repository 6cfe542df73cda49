"""Model, pairs and edges -> EdgeFlows: each edge's score, by the role it is read at and the role it is carried to.

An edge is read at a position s, and a head carries what it reads to positions t. With `Δ` the writer's change (corrupt
minus clean), `J` the linear change of what the reader reads, and `g_t` the gradient at what the reader's block puts
out at t, an edge's EAP-IG score falls into parts

    s(e, source, target) = Σ over s of source, t of target  ⟨∂(output at t) / ∂(read at s) · J Δ[s], g_t⟩

Over the targets they sum to `role_scores`, over both roles to `eap_ig`. Keys and values (Mamba: x, B and dt) carry;
a query, an MLP, an expert and the logits put out where they read, so there source and target are the same token's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuits.engine.attribution import parts_of
from circuits.engine.batching import Track, by_length
from circuits.engine.ports import ReaderPort, at, frozen
from circuits.engine.recording import Machine, Recording, both_sides, changes, prompts
from circuits.graph import Edge, Graph
from circuits.judging.bootstrap import interval
from circuits.looking.by_role import Grouping, numbered
from circuits.metrics import Metric, check_finite, check_moves, logit_diff, measured, metric_name
from data_gen.errors import InputError
from saes.roles import family
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs


class EdgeFlow(NamedTuple):
    """The part of one edge's score between two roles."""

    edge: str
    source: str
    """Role of the tokens at which the edge is read."""
    target: str
    """Role of the tokens at which the reader's block puts out what came of it."""
    score: float
    low: float
    high: float
    """95 % bootstrap interval of the mean over pairs, NaN with one pair."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeFlows:
    """Scores of some edges between roles; signs and units as in `eap_ig`."""

    edges: tuple[Edge, ...]
    roles: tuple[str, ...]
    per_example: Float[Tensor, "example edge source target"]
    metric: str
    edit: str

    def largest(self, n: int = 20) -> list[EdgeFlow]:
        """The `n` largest parts of all edges by |mean|, without those that are zero."""
        return self._parts(self.per_example.double().mean(0), n)

    def of_edge(self, edge: Edge, n: int = 5) -> list[EdgeFlow]:
        """The `n` largest parts of one edge, without those that are zero."""
        means = self.per_example.double().mean(0)
        others = torch.arange(len(self.edges)) != self.edges.index(edge)
        return self._parts(means.masked_fill(others[:, None, None], 0), n)

    def _parts(self, means: Float[Tensor, "edge source target"], n: int) -> list[EdgeFlow]:
        order = means.flatten().abs().argsort(descending=True, stable=True)[:n]
        order = order[means.flatten()[order] != 0]
        if not len(order):
            return []
        low, high = interval(self.per_example.flatten(1)[:, order].double().numpy())
        places = zip(*(part.tolist() for part in torch.unravel_index(order, means.shape)), strict=True)
        return [
            EdgeFlow(
                str(self.edges[edge]), self.roles[source], self.roles[target], score, float(down), float(up)
            )
            for (edge, source, target), score, down, up in zip(
                places, means.flatten()[order].tolist(), low, high, strict=True
            )
        ]


def edge_flows(
    model: HybridLM,
    pairs: TokenPairs,
    edges: Sequence[Edge],
    metric: Metric = logit_diff,
    *,
    steps: int = 5,
    group: Grouping = family,
    batch_size: int | None = None,
    track: Track = iter,
) -> EdgeFlows:
    """`eap_ig` over the inputs of the given edges, by the roles they run between. `track` as there.

    `group` turns a role into the name it is counted under; the default drops the numbers. A block that looks back
    costs one more backward pass through itself for every role.
    Raises `InputError` for no edges, an edge the model does not have, fewer than one step, or as `check_moves` does.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    if not edges:
        raise InputError("there are no edges to follow", hint="give those of a circuit")
    graph = Graph.of(model)
    places = [graph.index(edge) for edge in edges]
    roles, label = numbered(pairs.clean, group)
    found, done = [], 0
    with frozen(model):
        machine = Machine(model)
        batches = by_length(model, pairs, batch_size)
        for batch in track(batches.batches):
            here = label[batches.order[done : done + len(batch)], : int(batch.position.max()) + 1]
            member = (here[..., None] == torch.arange(len(roles))).to(machine.norms[-1].w)
            done += len(batch)
            parts = [
                _of_batch(machine, batch[rows], metric, steps, places, member[rows])
                for rows in parts_of(machine, batch)
            ]
            found.append(_Of(*(torch.cat(part) for part in zip(*parts, strict=True))))
    flows, clean, corrupt = (batches.restored(part).float().cpu() for part in zip(*found, strict=True))
    check_finite("flows of edges", flows)
    check_moves(clean, corrupt, pairs.edit)
    return EdgeFlows(
        edges=tuple(edges), roles=roles, per_example=flows, metric=metric_name(metric), edit=pairs.edit
    )


class _Of(NamedTuple):
    """Flows of one batch, and the metric of both sides."""

    flows: Float[Tensor, "batch edge source target"]
    clean: Float[Tensor, " batch"]
    corrupt: Float[Tensor, " batch"]


def _of_batch(
    machine: Machine,
    batch: TokenPairs,
    metric: Metric,
    steps: int,
    places: Sequence[tuple[int, int]],
    member: Float[Tensor, "batch seq role"],
) -> _Of:
    with torch.no_grad():
        clean, corrupt = both_sides(machine, batch)
        change = changes(machine, corrupt, clean, batch.position)
        streams = [machine.embedding(ids) for ids in prompts(batch)]
        sides = [measured(metric, run.logits, batch) for run in (clean, corrupt)]
    # Some examples may be cut shorter than their batch.
    members = {False: member[:, : streams[0].shape[1]], True: at(member, batch.position)}
    blocks = [_block_of(machine, reader) for _, reader in places]
    roles = member.shape[-1]
    total = member.new_zeros(len(batch), len(places), roles, roles)
    for step in range(steps):
        stream = torch.lerp(streams[1], streams[0], (step + 0.5) / steps).requires_grad_()
        with torch.enable_grad():
            run = machine.record(stream, batch.position)
            value = measured(metric, run.logits, batch).sum()
        wanted = sorted(set(blocks))
        outputs = [_outputs(run, block) for block in wanted]
        grads = iter(
            torch.autograd.grad(
                value, [x for some in outputs for x in some], allow_unused=True, materialize_grads=True
            )
        )
        at_outputs = {block: [next(grads) for _ in some] for block, some in zip(wanted, outputs, strict=True)}
        for block in wanted:
            narrowed = block >= machine.tail
            moved = change.last if narrowed else change.whole
            mine = [number for number, other in enumerate(blocks) if other == block]
            ends = [(moved[places[number][0]], places[number][1]) for number in mine]
            total[:, mine] += _of_block(machine, run, block, at_outputs[block], ends, members[narrowed])
    return _Of(total / steps, *sides)


def _block_of(machine: Machine, reader: int) -> int:
    """The block a reader stands in; the logits stand behind all."""
    return next(
        (n for n, mixer in enumerate(machine.mixers) if reader < mixer.readers.stop), len(machine.mixers)
    )


def _outputs(run: Recording, block: int) -> tuple[Tensor, ...]:
    """What a block puts out; of the logits the stream they read."""
    return run.through[block].latents if block < len(run.through) else (run.resid[-1],)


def _of_block(
    machine: Machine,
    run: Recording,
    block: int,
    at_outputs: Sequence[Tensor],
    ends: Sequence[tuple[Float[Tensor, "batch seq d_model"], int]],
    member: Float[Tensor, "batch seq role"],
) -> Float[Tensor, "batch edge source target"]:
    """Parts of the edges into one block; `ends` are a writer's change and the reader of each."""
    if block == len(machine.mixers):
        here = [einsum(by, at_outputs[0], "batch seq d, batch seq d -> batch seq") for by, _ in ends]
        return torch.diag_embed(_to_roles(here, member))
    mixer = machine.mixers[block]
    resid = run.resid[block].detach()
    found = [_port_of(mixer.reads, reader) for _, reader in ends]
    moved = [
        _read_change(machine.norms[block], mixer.reads[port], slot, resid, by)
        for (port, slot), (by, _) in zip(found, ends, strict=True)
    ]
    reads = tuple(x.detach().requires_grad_() for x in mixer.dense(run.through[block]))
    with torch.enable_grad():
        latents = mixer.latents(reads)

    def parts(weights: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch edge source"]:
        """With what the block puts out at each position weighed."""
        weighed = [grad * weights[..., None, None] for grad in at_outputs]
        # What the last block that looks back puts out is read at the metric's positions alone: of few roles.
        if not any(grad.any() for grad in weighed):
            return member.new_zeros(len(member), len(ends), member.shape[-1])
        grads = torch.autograd.grad(
            latents, reads, weighed, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        here = [(by * grads[port][:, :, slot]).sum(-1) for by, (port, slot) in zip(moved, found, strict=True)]
        return _to_roles(here, member)

    if machine.model.cfg.pattern[block] not in "*M":
        return torch.diag_embed(parts(torch.ones_like(member[..., 0])))
    return torch.stack([parts(weights) for weights in member.unbind(-1)], dim=-1)


def _to_roles(
    parts: Sequence[Float[Tensor, "batch seq"]], member: Float[Tensor, "batch seq role"]
) -> Float[Tensor, "batch edge role"]:
    return einsum(torch.stack(tuple(parts)), member, "edge batch seq, batch seq role -> batch edge role")


def _port_of(ports: Sequence[ReaderPort], reader: int) -> tuple[int, int]:
    """A reader's port within its block, and its slot there."""
    return next(
        (place, reader - port.readers.start) for place, port in enumerate(ports) if reader < port.readers.stop
    )


def _read_change(
    norm: Norm,
    port: ReaderPort,
    slot: int,
    resid: Float[Tensor, "batch seq d_model"],
    by: Float[Tensor, "batch seq d_model"],
) -> Float[Tensor, "batch seq width"]:
    """By how much a slot reads more when the stream it reads changes a little: `((by - x̂ ⟨x̂, by⟩ / d_model) w / σ) W`.

    `x̂ = centred(x) / σ`, and `by` is centred where the norm centres.
    """
    wide, scale = norm.divided(resid)
    unit = wide / scale
    by = by - by.mean(-1, keepdim=True) if norm.centred else by
    read = ((by - unit * (unit * by).mean(-1, keepdim=True)) / scale * norm.w).to(by.dtype)
    if port.weight is None:
        return read
    return read @ port.weight[slot if len(port.weight) == port.slots else 0]
