"""Clean and corrupt prompts -> a first-order score for every edge: the engine under `eap` and `eap_ig`.

The score of an edge is `Σ_t ⟨Δ_writer[t], ∂metric/∂input_reader[t]⟩` with `Δ = corrupt - clean`: the first-order
estimate of what `exact` measures. Four things keep it near the cost of the passes alone:

- only port outputs are differentiated, and the stream where one reader reads all of it; parameters never are;
- a port's gradient is carried through the norm in closed form. With `x̂ = centred(x) / σ`, a port
  `q = (x̂ * w) @ W` (biases apart) and its gradient `g`, the gradient at the port's own input is
  `centred((g / σ) @ Wᵀ * w - x̂ (q·g) / (σ d_model))`, exact with eps because `σ` is the model's own;
- clean and corrupt prompts begin alike, and up to where they part no writer changes: nothing is multiplied there;
- what several passes (IG steps) have in common is summed in head space, so the projection by `W` and the
  product with `Δ` are paid once per batch, not once per step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.engine.batching import Batches, Track, by_length, parting
from circuits.engine.ports import ReaderPort, Slots, Through, frozen, scattered
from circuits.engine.recording import Changes, Machine, Recording, Room, changes, prompts
from circuits.engine.rules import LIVE, Rules
from circuits.graph import Graph
from circuits.metrics import Metric, check_moves, measured, metric_name
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs

CHANGE_BYTES = (24 * 2**20, 2 * 2**30)
"""What all writers' changes may take, on a CPU and on a GPU: a CPU hands larger pieces back after every use."""

PRODUCTS = 256
"""Matrix products of writers with readers that a GPU computes together, at least."""


class BatchScores(NamedTuple):
    """Per-example scores of one batch, and the metric of both sides."""

    edges: Float[Tensor, "batch writer reader"]
    clean: Float[Tensor, " batch"]
    corrupt: Float[Tensor, " batch"]


def attribute(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric,
    *,
    method: str,
    mixes: Sequence[float],
    batch_size: int | None,
    rules: Rules = LIVE,
    track: Track = iter,
) -> EdgeScores:
    """Scores with gradients averaged over runs whose embedding stream is `corrupt + mix * (clean - corrupt)`.

    The metadata hold the completeness gap: the scores of all edges leaving `embed` sum to the change of the
    metric from clean to corrupt if the path integral is exact, and what is missing is the integration error.
    `track` passes the batches through, for a progress bar.
    Raises `InputError` for no pairs, prompts of unlike shape, hooks on the model, or a metric that is the same on both
    sides.
    """
    with frozen(model):
        machine, room = Machine(model, rules), Room()
        batches = by_length(model, pairs, batch_size)
        found = [_score(machine, batch, metric, mixes, room) for batch in track(batches.batches)]
    return gathered(model, batches, metric, found, method=method)


def gathered(
    model: HybridLM, batches: Batches, metric: Metric, found: Sequence[BatchScores], *, method: str
) -> EdgeScores:
    """The scores of all batches, with the completeness gap. Raises `InputError` as `check_moves` does."""
    edit = batches.batches[0].edit
    edges, clean, corrupt = (batches.restored(part).float().cpu() for part in zip(*found, strict=True))
    check_moves(clean, corrupt, edit)
    change = corrupt - clean
    gap = edges[:, 0].sum(-1) - change
    return EdgeScores(
        graph=Graph.of(model),
        per_example=edges,
        method=method,
        metric=metric_name(metric),
        edit=edit,
        metadata={
            "metric_clean": clean.mean().item(),
            "metric_corrupt": corrupt.mean().item(),
            "completeness_gap": gap.mean().item(),
            "completeness_gap_relative": (gap.abs().sum() / change.abs().sum().clamp_min(1e-12)).item(),
        },
    )


def _score(
    machine: Machine, batch: TokenPairs, metric: Metric, mixes: Sequence[float], room: Room
) -> BatchScores:
    found = differentiate(machine, batch, metric, mixes)
    with torch.no_grad():
        edges = [
            contract(machine, found.change(rows, room), found.gradients, rows)
            for rows in parts_of(machine, found.batch)
        ]
        return BatchScores(torch.cat(edges) / len(mixes), found.metric_clean, found.metric_corrupt)


@dataclass(frozen=True, kw_only=True)
class Differentiated:
    """Both runs of a batch, and the gradients summed over the runs between them."""

    machine: Machine
    batch: TokenPairs
    clean: Recording
    corrupt: Recording
    gradients: list[Gradient]
    metric_clean: Float[Tensor, " batch"]
    metric_corrupt: Float[Tensor, " batch"]

    def change(self, rows: slice, room: Room | None = None) -> Changes:
        """What every writer writes more in the corrupt run, of some examples, from where their prompts part."""
        return changes(
            self.machine,
            self.corrupt[rows],
            self.clean[rows],
            self.batch.position[rows],
            since=int(parting(self.batch[rows]).min()),
            room=room,
        )


def differentiate(
    machine: Machine, batch: TokenPairs, metric: Metric, mixes: Sequence[float]
) -> Differentiated:
    """Run both sides and the mixes between them, and take the gradient of the latter at every reader."""
    with torch.no_grad():
        clean_stream, corrupt_stream = (machine.embedding(ids) for ids in prompts(batch))
        corrupt = machine.record(corrupt_stream, batch.position, light=True).written()
        # A mix of 1 is the clean run, which need not be run twice.
        clean = None if 1.0 in mixes else machine.record(clean_stream, batch.position, light=True).written()
    gradients = gradients_of(machine)
    for mix in mixes:
        stream = torch.lerp(corrupt_stream, clean_stream, mix).requires_grad_()
        with torch.enable_grad():
            run = machine.record(stream, batch.position, light=True)
            value = measured(metric, run.logits, batch).sum()
        collect(run, value, gradients)
        clean = run.written() if mix == 1.0 else clean
        del run, value  # or this run's graph would live until the next one's stands
    assert clean is not None
    with torch.no_grad():
        return Differentiated(
            machine=machine,
            batch=batch,
            clean=clean,
            corrupt=corrupt,
            gradients=gradients,
            metric_clean=measured(metric, clean.logits, batch),
            metric_corrupt=measured(metric, corrupt.logits, batch),
        )


def parts_of(machine: Machine, batch: TokenPairs, most: tuple[int, int] | None = None) -> list[slice]:
    """The batch in even parts whose writers' changes fit into `most` bytes, on a CPU and on a GPU.

    By default into `CHANGE_BYTES`, in which attribution costs no more than the batch as one.
    """
    weight = machine.norms[-1].w
    length = int(batch.position.max()) + 1
    each = machine.mixers[-1].writers.stop * length * len(weight) * weight.element_size()
    fitting = max(1, (CHANGE_BYTES if most is None else most)[weight.is_cuda] // each)
    size = math.ceil(len(batch) / math.ceil(len(batch) / fitting))
    return [slice(start, start + size) for start in range(0, len(batch), size)]


class Gradient:
    """The gradient at every reader behind one norm, summed over runs."""

    def __init__(self, norm: Norm, ports: tuple[ReaderPort, ...], rules: Rules) -> None:
        self.norm, self.ports, self.rules = norm, ports, rules
        self.alone = sum(port.slots for port in ports) == 1
        """A single reader's gradient is that at the stream it reads, and needs no closed form."""
        self.stream: Float[Tensor, "batch seq d_model"] | None = None
        self.direct: list[Slots] = []
        """Per port `Σ g / σ`."""
        self.radial: list[tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch seq reader"]]] = []
        """Per run `x̂` and `(q·g) / (σ d_model)`."""

    def add(
        self, resid: Float[Tensor, "batch seq d_model"], through: Through, grads: Sequence[Tensor]
    ) -> None:
        """Take in one run: what the norm read, what its ports read, and the gradient at those."""
        if self.alone:
            self.stream = grads[0] if self.stream is None else self.stream + grads[0]
            return
        reads, grads = list(through.reads), list(grads)
        if through.chosen is not None:  # the experts' port, token by token
            reads[1], grads[1] = (
                scattered(x, through.chosen, self.ports[1].slots) for x in (reads[1], grads[1])
            )
        wide, scale = self.norm.divided(resid.detach())
        direct = [(grad / scale[..., None]).to(grad.dtype) for grad in grads]
        if not self.rules.frozen_norms:
            parts = zip(self.ports, reads, direct, strict=True)
            along = [((read.detach() - port.offset(self.norm)) * each).sum(-1) for port, read, each in parts]
            self.radial.append((wide / scale, torch.cat(along, dim=2) / wide.shape[-1]))
        self.direct = [a + b for a, b in zip(self.direct, direct, strict=True)] if self.direct else direct

    def at_readers(self, rows: slice, since: int = 0) -> Float[Tensor, "reader batch seq d_model"]:
        """Gradient at the stream that each reader reads, of some examples, from one position on."""
        if self.stream is not None:
            return self.stream[None, rows, since:]
        readers, start = sum(port.slots for port in self.ports), self.ports[0].readers.start
        found = self.direct[0].new_empty(readers, *self.direct[0][rows, since:].shape[:2], len(self.norm.w))
        for port, direct in zip(self.ports, self.direct, strict=True):
            port.pull_back(
                direct[rows, since:], self.norm, found[port.readers.start - start : port.readers.stop - start]
            )
        for directions, along in self.radial:
            by_reader = rearrange(along[rows, since:], "batch seq reader -> reader batch seq 1")
            found.addcmul_(by_reader, directions[rows, since:], value=-1)
        return found


def gradients_of(machine: Machine) -> list[Gradient]:
    """Empty gradients for every norm of a model; behind the last one only the logits read."""
    last = machine.mixers[-1].readers.stop
    logits = ReaderPort(readers=slice(last, last + 1), weight=None)
    return [
        Gradient(norm, ports, machine.rules)
        for norm, ports in zip(
            machine.norms, [*(mixer.reads for mixer in machine.mixers), (logits,)], strict=True
        )
    ]


def collect(run: Recording, value: Tensor, gradients: Sequence[Gradient]) -> None:
    """Differentiate one run, from its first block on, and add it to every norm's gradient."""
    here = gradients[run.start :]
    empty = Through(reads=(), latents=())
    parts = list(zip(here, run.resid, (*run.through, empty), strict=True))
    wanted = [(resid,) if gradient.alone else through.reads for gradient, resid, through in parts]
    # What rules have frozen has no gradient at all.
    grads = iter(
        torch.autograd.grad(
            value, [x for some in wanted for x in some], allow_unused=True, materialize_grads=True
        )
    )
    for (gradient, resid, through), some in zip(parts, wanted, strict=True):
        gradient.add(resid, through, [next(grads) for _ in some])


def contract(
    machine: Machine, change: Changes, gradients: Sequence[Gradient], rows: slice, start: int = 0
) -> Float[Tensor, "batch writer reader"]:
    """`Σ_t ⟨change_writer[t], gradient at the reader's input[t]⟩` on some examples, from block `start` on."""
    graph = Graph.of(machine.model)
    scores = change.last.new_zeros(change.last.shape[1], len(graph.writers), len(graph.readers))
    _, batch, _, width = change.last.shape
    pieces = pieces_of(batch, width, on_gpu=change.last.is_cuda)
    for part in readings(machine, change, gradients, rows, start):
        change_by, gradient_by = (
            rearrange(x.flatten(2), "node batch (piece d) -> (batch piece) node d", piece=pieces)
            for x in (part.change, part.gradient)
        )
        # Readers in front: on a CPU the other way round takes twice as long for one reader, and longer for some.
        by_piece = torch.bmm(gradient_by, change_by.mT)
        scores[:, : len(part.change), part.readers] = by_piece.unflatten(0, (-1, pieces)).sum(1).mT
    return scores


def pieces_of(batch: int, width: int, *, on_gpu: bool) -> int:
    """Into how many pieces the inner products of `batch` examples are cut, over positions of `width` numbers.

    A GPU wants `PRODUCTS` to share out: one of a few hundred writers and some readers is a handful of its tiles,
    however long the sums are.
    """
    pieces = 1
    while on_gpu and pieces * batch < PRODUCTS and width % (2 * pieces) == 0:
        pieces *= 2
    return pieces


class Reading(NamedTuple):
    """What the readers of one block could read, and the gradient there."""

    readers: slice
    change: Float[Tensor, "writer batch seq d_model"]
    """Of every writer in front of the block."""
    gradient: Float[Tensor, "reader batch seq d_model"]
    narrowed: bool
    """Whether only the metric's positions are left."""


def readings(
    machine: Machine, change: Changes, gradients: Sequence[Gradient], rows: slice, start: int = 0
) -> Iterator[Reading]:
    """Block by block from `start` on, then the logits; positions as in `change`."""
    for index, mixer in enumerate(machine.mixers[start:], start=start):
        narrowed = index >= machine.tail
        before = (change.last if narrowed else change.whole)[: mixer.writers.start]
        gradient = gradients[index].at_readers(rows, 0 if narrowed else change.since)
        yield Reading(mixer.readers, before, gradient, narrowed)
    last = gradients[-1].ports[0].readers
    yield Reading(last, change.last, gradients[-1].at_readers(rows), True)
