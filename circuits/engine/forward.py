"""Circuit -> logits: run only the circuit's edges, with every other edge carrying the corrupt value.

A reader's input is what it reads in the corrupt run plus `Σ (writer now - writer in the corrupt run)` over
the circuit's edges into it; each q, k and v of each head has an input of its own. With every edge this is
the clean run of the whole model, with none it is the corrupt run. An edge may also be kept at the tokens of some roles
alone, and carry the corrupt value at all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.circuit import Circuit
from circuits.engine.batching import by_length
from circuits.engine.mixers import Parts
from circuits.engine.ports import Slots, WriterPort, at, at_each, frozen
from circuits.engine.recording import Logits, Machine, normed, prompts
from circuits.engine.roles import member_of, random_tokens
from circuits.graph import Graph
from circuits.metrics import Metric, measured
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def metric_of(
    model: HybridLM,
    circuits: Iterable[Circuit],
    pairs: TokenPairs,
    metric: Metric,
    *,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Float[Tensor, "circuit example"]:
    """The metric of each pair when only one circuit's edges carry clean values, for many circuits.

    The corrupt run is made once per batch for all circuits; a circuit costs what its live edges cost. `None` batches as
    `by_length` does. `track` passes all runs of a circuit on a batch through, for a progress bar.
    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    masks = [live_mask(model, circuit) for circuit in circuits]
    # Circuits with the same live edges, above all those with none, are run once.
    distinct = {mask.tobytes(): mask for mask in masks}
    places = [list(distinct).index(mask.tobytes()) for mask in masks]
    found = []
    with frozen(model), torch.no_grad():
        machine = Machine(model)
        batches = by_length(model, pairs, batch_size)
        work = [(place, mask) for place in range(len(batches.batches)) for mask in distinct.values()]
        for place, steps in groupby(track(work), key=itemgetter(0)):
            batch = batches.batches[place]
            stage = Stage(machine, batch)
            found.append(torch.stack([measured(metric, stage.logits(mask), batch) for _, mask in steps]))
    return batches.restored(found, dim=1)[places].float().cpu()


PARTS = 256
"""Role-aware edges whose random tokens are drawn together."""


class Scattered(NamedTuple):
    """Role-aware edges, some of which are kept at random tokens instead: as many of each prompt as have their role."""

    mask: np.ndarray
    """Bool `[role writer reader]`: true at all of them."""
    edges: np.ndarray
    """Bool `[writer reader]`: true at the edges that are kept at random tokens, each at its own."""
    seed: int
    """Draws the tokens, among those of the prompt at which the reader is computed."""


def metric_by_role(
    model: HybridLM,
    kept: Iterable[np.ndarray | Scattered],
    roles: Sequence[str],
    pairs: TokenPairs,
    metric: Metric,
    *,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Float[Tensor, "circuit example"]:
    """`metric_of` when edges are `kept`, bool `[role writer reader]` of each circuit, at the tokens of roles alone.

    `roles` are families (`saes.roles.family`). Of all circuits together only the places of their live edges are held.
    Raises `InputError` for masks of another shape, no pairs, or hooks on the model.
    """
    graph = Graph.of(model)
    expected = (len(roles), *graph.mask.shape)
    places: list[tuple[np.ndarray, np.ndarray | None, int]] = []
    for circuit in kept:
        one = circuit if isinstance(circuit, Scattered) else Scattered(circuit, graph.mask & False, 0)
        if one.mask.shape != expected:
            raise InputError(
                f"a mask has shape {one.mask.shape}, expected {expected}: roles, writers and readers"
            )
        live = np.flatnonzero(one.mask & graph.live((one.mask & graph.mask).any(0)))
        places.append((live, one.edges if one.edges.any() else None, one.seed))
    found = []
    with frozen(model), torch.no_grad():
        machine = Machine(model)
        batches = by_length(model, pairs, batch_size)
        work = [(place, one) for place in range(len(batches.batches)) for one in places]
        for place, steps in groupby(track(work), key=itemgetter(0)):
            batch = batches.batches[place]
            stage = Stage(machine, batch, member_of(batch, roles))
            values = []
            for _, (live, scattered, seed) in steps:
                mask = np.zeros(expected, bool)
                mask.flat[live] = True
                rng = np.random.default_rng((seed, place))
                values.append(measured(metric, stage.logits(mask, scattered, rng), batch))
            found.append(torch.stack(values))
    return batches.restored(found, dim=1).float().cpu()


def run_circuit(model: HybridLM, circuit: Circuit, pairs: TokenPairs) -> Logits:
    """Logits at each pair's position when only the circuit's edges carry clean values.

    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    mask = live_mask(model, circuit)
    with frozen(model), torch.no_grad():
        machine, batches = Machine(model), by_length(model, pairs, None)
        return batches.restored([Stage(machine, batch).logits(mask) for batch in batches.batches])


def live_mask(model: HybridLM, circuit: Circuit) -> np.ndarray:
    """The circuit's edges that can matter. Raises `InputError` for a circuit of another graph."""
    circuit.check_belongs(Graph.of(model))
    return circuit.graph.live(circuit.mask)


class Stage:
    """The corrupt run of one batch, on which circuits of clean values are played."""

    def __init__(
        self, machine: Machine, batch: TokenPairs, member: Int[Tensor, "batch seq role"] | None = None
    ) -> None:
        """`member` says which token has which role, where edges are kept by role."""
        self.machine, self.position = machine, batch.position
        clean, corrupt = (machine.embedding(ids) for ids in prompts(batch))
        self.corrupt = machine.record(corrupt, batch.position)
        self.reads = [
            mixer.dense(through) for mixer, through in zip(machine.mixers, self.corrupt.through, strict=True)
        ]
        self.embedding = clean - corrupt
        self.member = None if member is None else member.to(self.embedding)
        last = self.position if self.position.ndim == 1 else self.position.amax(1)
        places = torch.arange(self.embedding.shape[1], device=last.device)
        self.real = (places <= last[:, None]).to(self.embedding)
        """1 at the tokens of the prompt: `[batch seq]`."""

    def logits(
        self,
        mask: np.ndarray,
        scattered: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> Logits:
        """Logits with a live `mask` of edges carrying clean values: `[writer, reader]`, or `[role, writer, reader]`.

        `scattered` `[writer, reader]` edges are kept at tokens that `rng` draws (`Scattered`).
        """
        if not mask[..., -1].any():
            return self.corrupt.logits
        machine, embedding = self.machine, self.embedding

        def into(edges: np.ndarray, readers: Any, index: int) -> Float[Tensor, "reader batch seq d_model"]:
            at_random = None if scattered is None else scattered[: edges.shape[-2], readers]
            return self.heard(edges, change[: edges.shape[-2]], index, at_random, rng)

        batch, seq, width = embedding.shape
        # Writer now - writer in the corrupt run; rows that no live edge leaves are never read.
        change = embedding.new_empty(
            mask.shape[-2], batch, seq if machine.tail else self.position[0].numel(), width
        )
        change[0] = embedding if machine.tail else at(embedding, self.position)
        for index, mixer in enumerate(machine.mixers):
            before, here = mixer.writers.start, mask[..., mixer.readers]
            moved = np.flatnonzero(here.any(tuple(range(mask.ndim - 1)))).tolist()
            played = (
                self.play(
                    index, moved, into(here[..., :before, moved], np.add(moved, mixer.readers.start), index)
                )
                if moved
                else []
            )
            if index == machine.tail - 1:
                change = at_each(change, self.position)
            for port, slots, by in played:
                if len(slots) == port.slots:
                    port.written(by, out=change[port.writers])
                else:
                    change[[port.writers.start + slot for slot in slots]] = port.written(by, slots)
        stream = self.corrupt.resid[-1] + into(mask[..., -1:], slice(-1, None), machine.tail)[0]
        return machine.logits(stream, self.position)

    def heard(
        self,
        edges: np.ndarray,
        change: Float[Tensor, "writer batch seq d_model"],
        index: int,
        scattered: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> Float[Tensor, "reader batch seq d_model"]:
        """What readers of block `index` hear over `edges` `[writer, reader]`; with a role in front, at its tokens.

        `scattered` edges `[writer, reader]` are heard at tokens that `rng` draws, as many.
        """
        if edges.ndim == 2:
            return heard(edges, change)
        assert self.member is not None
        member = self.member if index < self.machine.tail else at(self.member, self.position)
        found = change.new_zeros(edges.shape[-1], *change.shape[1:])
        placed = edges if scattered is None else edges & ~scattered
        for role in np.flatnonzero(placed.any((1, 2))).tolist():
            found += heard(placed[role], change) * member[..., role, None]
        if scattered is None:
            return found
        assert rng is not None
        real = self.real if index < self.machine.tail else at(self.real, self.position)
        parts = np.argwhere(edges & scattered)
        for some in (parts[start : start + PARTS] for start in range(0, len(parts), PARTS)):
            kept = random_tokens(member, real, some[:, 0], rng)
            for (_, writer, reader), tokens in zip(some.tolist(), kept, strict=True):
                found[reader] += change[writer] * tokens[..., None]
        return found

    def play(
        self,
        index: int,
        readers: Sequence[int],
        change: Float[Tensor, "reader rows seq d_model"],
        reads: Parts | None = None,
    ) -> list[tuple[WriterPort, list[int], Float[Tensor, "rows _ _ _"]]]:
        """How a block's latents move off the corrupt run's, by writer port: slots and the change of each.

        `readers`, counted within the block and rising, read the corrupt stream plus `change`, which is taken over;
        every other slot reads what `reads` says, the corrupt run's by default. Only lanes with one of `readers` are
        computed. `change` may hold the batch several times over, and so do the latents then.
        """
        mixer, batch = self.machine.mixers[index], len(self.embedding)
        streams = change.unflatten(1, (-1, batch)).add_(self.corrupt.resid[index]).flatten(1, 2)
        streams = normed(self.machine.norms[index], streams)
        times = streams.shape[1] // batch
        lanes, found, start, done = mixer.lanes_of(readers), [], 0, 0
        for port, others in zip(mixer.reads, self.reads[index] if reads is None else reads, strict=True):
            here = [slot - start for slot in readers if start <= slot < start + port.slots]
            some = mixer.slots_of(lanes, port.slots)
            own = streams[done : done + len(here)]
            if here == some:
                read = port.read_each(own, here)
            else:
                read = _times(_some(others, some), times)
                if here:
                    read = read.clone()
                    read[:, :, [some.index(slot) for slot in here]] = port.read_each(own, here)
            found.append(read)
            start, done = start + port.slots, done + len(here)
        position = _times(self.position, times)
        latents = zip(
            mixer.writes, mixer.latents(tuple(found)), self.corrupt.through[index].latents, strict=True
        )
        moved = []
        for write, new, old in latents:
            slots = mixer.slots_of(lanes, write.slots)
            by = new - _times(_some(old, slots), times)
            moved.append((write, slots, self.machine.narrow(index + 1, by, position)))
        return moved


def _some(x: Slots, slots: list[int]) -> Slots:
    """Some slots; all of them without a copy."""
    return x if len(slots) == x.shape[2] else x[:, :, slots]


def _times(x: Tensor, times: int) -> Tensor:
    """A batch several times over; once without a copy."""
    return x if times == 1 else x.repeat(times, *[1] * (x.ndim - 1))


def heard(
    edges: np.ndarray, change: Float[Tensor, "writer batch seq d_model"]
) -> Float[Tensor, "reader batch seq d_model"]:
    """`Σ change of the writers with an edge into a reader`, for each column of `edges` `[writer, reader]`."""
    # Few edges are added row by row, many by one dense product: on a CPU that is what costs least.
    if not change.is_cuda and edges.sum() < 0.3 * edges.size:
        found = change.new_zeros(edges.shape[1], *change.shape[1:])
        for writer, reader in np.argwhere(edges).tolist():
            found[reader] += change[writer]
        return found
    rows = np.flatnonzero(edges.any(1))
    chosen = torch.from_numpy(edges[rows].T).to(change)
    return torch.mm(chosen, change[rows].flatten(1)).unflatten(1, change.shape[1:])
