"""Circuit -> logits: run only the circuit's edges, with every other edge carrying the corrupt value.

A reader's input is what it reads in the corrupt run plus `Σ (writer now - writer in the corrupt run)` over
the circuit's edges into it; each q, k and v of each head has an input of its own. With every edge this is
the clean run of the whole model, with none it is the corrupt run. An edge may also be kept at the tokens of some roles
alone, and carry the corrupt value at all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits.circuit import Circuit
from circuits.engine.attribution import parts_of
from circuits.engine.batching import by_length, parting
from circuits.engine.ports import Parts, Slots, WriterPort, at, frozen
from circuits.engine.recording import Logits, Machine, Position, Room, normed, prompts
from circuits.engine.roles import member_of, random_tokens
from circuits.graph import Graph
from circuits.metrics import Metric, measured
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

ROOM_BYTES = (512 * 2**20, 4 * 2**30)
"""What all writers of a piece of a batch may take, on a CPU and on a GPU."""


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
        machine, room = Machine(model), Room()
        batches = by_length(model, pairs, batch_size)
        pieces = fitting(machine, batches.batches)
        work = [(place, mask) for place in range(len(pieces)) for mask in distinct.values()]
        for place, steps in groupby(track(work), key=itemgetter(0)):
            batch = pieces[place]
            stage = Stage(machine, batch, room=room)
            found.append(torch.stack([measured(metric, stage.logits(mask), batch) for _, mask in steps]))
            del stage  # or it would live until the next one stands
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
    Raises `InputError` for masks or edges of another shape, no pairs, or hooks on the model.
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
        if one.edges.shape != graph.mask.shape:
            raise InputError(
                f"the edges at random tokens have shape {one.edges.shape}, expected {graph.mask.shape}:"
                " writers and readers",
                hint="give a bool matrix such as `Graph.of(model).mask`",
            )
        live = np.flatnonzero(one.mask & graph.live((one.mask & graph.mask).any(0)))
        places.append((live, one.edges if one.edges.any() else None, one.seed))
    found = []
    with frozen(model), torch.no_grad():
        machine, room = Machine(model), Room()
        batches = by_length(model, pairs, batch_size)
        pieces = fitting(machine, batches.batches)
        work = [(place, one) for place in range(len(pieces)) for one in places]
        for place, steps in groupby(track(work), key=itemgetter(0)):
            batch = pieces[place]
            stage = Stage(machine, batch, member_of(batch, roles), room=room)
            values = []
            for _, (live, scattered, seed) in steps:
                mask = np.zeros(expected, bool)
                mask.flat[live] = True
                rng = np.random.default_rng((seed, place))
                values.append(measured(metric, stage.logits(mask, scattered, rng), batch))
            found.append(torch.stack(values))
            del stage
    return batches.restored(found, dim=1).float().cpu()


def run_circuit(model: HybridLM, circuit: Circuit, pairs: TokenPairs) -> Logits:
    """Logits at each pair's position when only the circuit's edges carry clean values.

    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    mask = live_mask(model, circuit)
    with frozen(model), torch.no_grad():
        machine, batches = Machine(model), by_length(model, pairs, None)
        pieces = fitting(machine, batches.batches)
        return batches.restored([Stage(machine, batch).logits(mask) for batch in pieces])


def live_mask(model: HybridLM, circuit: Circuit) -> np.ndarray:
    """The circuit's edges that can matter. Raises `InputError` for a circuit of another graph."""
    circuit.check_belongs(Graph.of(model))
    return circuit.graph.live(circuit.mask)


def fitting(machine: Machine, batches: Sequence[TokenPairs]) -> list[TokenPairs]:
    """Batches in pieces whose writers fit into `ROOM_BYTES`, in order."""
    return [batch[rows] for batch in batches for rows in parts_of(machine, batch, ROOM_BYTES)]


class Stage:
    """The corrupt run of one batch, on which circuits of clean values are played."""

    def __init__(
        self,
        machine: Machine,
        batch: TokenPairs,
        member: Int[Tensor, "batch seq role"] | None = None,
        room: Room | None = None,
    ) -> None:
        """`member` says which token has which role, where edges are kept by role; `room` is used again, if given."""
        self.machine, self.position, self.room = machine, batch.position, room
        clean, corrupt = (machine.embedding(ids) for ids in prompts(batch))
        corrupt_run = machine.record(corrupt, batch.position)
        # A block of one reader has no other slots, whose reads would be wanted.
        self.reads = [
            mixer.dense(through) if mixer.readers.stop - mixer.readers.start > 1 else ()
            for mixer, through in zip(machine.mixers, corrupt_run.through, strict=True)
        ]
        written = tuple(replace(through, reads=()) for through in corrupt_run.through)
        self.corrupt = replace(corrupt_run, through=written)
        self.embedding, self.reached = clean - corrupt, Reached.of(batch)
        self.member = None if member is None else member.to(self.embedding)
        last = self.position if self.position.ndim == 1 else self.position.amax(1)
        places = torch.arange(self.embedding.shape[1], device=last.device)
        self.real = (places <= last[:, None]).to(self.embedding)
        """1 at the tokens of the prompt: `[batch seq]`."""
        looks = self.position if self.position.ndim == 2 else self.position[:, None]
        again = looks == F.pad(looks[:, :-1], (1, 0), value=-1)
        self.first = (~again).to(self.embedding)
        """0 where the position before is looked at again: `[batch answer]`."""

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
        machine, reached = self.machine, self.reached
        embedding = reached.take(self.embedding) if machine.tail else at(self.embedding, self.position)
        # A writer that no live edge leaves has no row.
        said = np.flatnonzero(mask.any(-1).reshape(-1, mask.shape[-2]).any(0))
        mask, scattered = mask[..., said, :], None if scattered is None else scattered[said]
        starts = np.searchsorted(said, [mixer.writers.start for mixer in machine.mixers]).tolist()
        # Writer now - writer in the corrupt run; from the last block that mixes positions on, at the metric's alone.
        room = self.room if self.room is not None else Room()
        change = room.rows(starts[machine.tail - 1] if machine.tail else len(said), embedding)
        change[0] = embedding

        def into(edges: np.ndarray, readers: Any, index: int) -> Float[Tensor, "reader batch seq d_model"]:
            at_random = None if scattered is None else scattered[: edges.shape[-2], readers]
            return self.heard(edges, change[: edges.shape[-2]], index, at_random, rng)

        for index, (mixer, before) in enumerate(zip(machine.mixers, starts, strict=True)):
            here = mask[..., mixer.readers]
            moved = np.flatnonzero(here.any(tuple(range(mask.ndim - 1)))).tolist()
            played = []
            if moved:
                said_here = into(here[..., :before, moved], np.add(moved, mixer.readers.start), index)
                played = self.play(index, moved, said_here, reached=reached if index < machine.tail else None)
            if index == machine.tail - 1:
                early = reached.at_each(change, self.position)
                change = early.new_empty(len(said), *early.shape[1:])
                change[:before] = early
            for port, slots, by in played:
                first, last = np.searchsorted(said, (port.writers.start, port.writers.stop)).tolist()
                wanted = (said[first:last] - port.writers.start).tolist()
                some = _some(by, [slots.index(slot) for slot in wanted])
                port.written(some, wanted, out=change[first:last])
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
        whole = index < self.machine.tail

        def here(x: Tensor) -> Tensor:
            return self.reached.take(x) if whole else x

        member = self.member if whole else at(self.member, self.position)
        found, at_role = change.new_zeros(edges.shape[-1], *change.shape[1:]), here(member)
        placed = edges if scattered is None else edges & ~scattered
        for role in np.flatnonzero(placed.any((1, 2))).tolist():
            found += heard(placed[role], change) * at_role[..., role, None]
        if scattered is None:
            return found
        assert rng is not None
        real = self.real if whole else at(self.real, self.position) * self.first
        parts = np.argwhere(edges & scattered)
        for some in (parts[start : start + PARTS] for start in range(0, len(parts), PARTS)):
            kept = random_tokens(member, real, some[:, 0], rng)
            for (_, writer, reader), tokens in zip(some.tolist(), kept, strict=True):
                found[reader] += change[writer] * here(tokens)[..., None]
        return found

    def play(
        self,
        index: int,
        readers: Sequence[int],
        change: Float[Tensor, "reader rows seq d_model"],
        reads: Parts | None = None,
        reached: Reached | None = None,
    ) -> list[tuple[WriterPort, list[int], Float[Tensor, "_ _ _ _"]]]:
        """How a block's latents move off the corrupt run's, by writer port: slots and the change of each.

        `readers`, counted within the block and rising, read the corrupt stream plus `change`, which is taken over;
        every other slot reads what `reads` says, the corrupt run's by default. Only lanes with one of `readers` are
        computed. `change` may hold the batch several times over, and so do the latents then; or only the positions
        that are `reached`, in one row.
        """
        mixer, reads = self.machine.mixers[index], self.reads[index] if reads is None else reads
        apart = reached if reached is not None and not mixer.mixes else None
        resid = self.corrupt.resid[index] if reached is None else reached.take(self.corrupt.resid[index])
        times = change.shape[1] // len(resid)
        streams = change.unflatten(1, (-1, len(resid))).add_(resid).flatten(1, 2)
        streams = normed(self.machine.norms[index], streams)
        lanes, found, start, done = mixer.lanes_of(readers), [], 0, 0
        for place, port in enumerate(mixer.reads):
            here = [slot - start for slot in readers if start <= slot < start + port.slots]
            some = mixer.slots_of(lanes, port.slots)
            own = streams[done : done + len(here)]
            new = port.read_each(own, here) if here else None
            if reached is not None and mixer.mixes and new is not None:
                read = reached.put(_some(reads[place], some), [some.index(slot) for slot in here], new)
            elif new is not None and here == some:
                read = new
            else:
                old = _some(reads[place], some)
                read = _times(old if apart is None else apart.take(old), times)
                if new is not None:
                    read = read.clone()
                    read[:, :, [some.index(slot) for slot in here]] = new
            found.append(read)
            start, done = start + port.slots, done + len(here)
        position = _times(self.position, times)
        latents = zip(
            mixer.writes, mixer.latents(tuple(found)), self.corrupt.through[index].latents, strict=True
        )
        moved = []
        for write, new, old in latents:
            slots = mixer.slots_of(lanes, write.slots)
            old = _some(old, slots)
            by = new - _times(old if apart is None else apart.take(old), times)
            by = self.machine.narrow(index + 1, by, position)
            if reached is not None and mixer.mixes and index + 1 < self.machine.tail:
                by = reached.take(by)
            moved.append((write, slots, by))
        return moved


class Reached:
    """The positions of a batch that anything clean can reach: from where prompts part to the last that is looked at.

    They are kept in one row, `[1 token ...]`, whatever their prompts.
    """

    def __init__(self, mask: Bool[Tensor, "batch seq"]) -> None:
        self.shape, flat = mask.shape, mask.flatten()
        self.places = None if bool(flat.all()) else flat.nonzero()[:, 0]
        self.number = (flat.cumsum(0) - 1).view(mask.shape)

    @classmethod
    def of(cls, batch: TokenPairs) -> Reached:
        last = batch.position if batch.position.ndim == 1 else batch.position.amax(1)
        columns = torch.arange(int(last.max()) + 1, device=last.device)
        return cls((columns >= parting(batch)[:, None]) & (columns <= last[:, None]))

    def take(self, x: Float[Tensor, "batch seq *rest"]) -> Float[Tensor, "1 token *rest"]:
        """These positions of a tensor."""
        flat = x.flatten(0, 1)
        return (flat if self.places is None else flat[self.places])[None]

    def put(self, x: Slots, slots: list[int], new: Float[Tensor, "1 token some width"]) -> Slots:
        """A tensor with other values at these positions of the given slots."""
        if self.places is None and len(slots) == x.shape[2]:
            return new.view(x.shape)
        flat = x.flatten(0, 1).clone()
        places = torch.arange(len(flat), device=flat.device) if self.places is None else self.places
        flat[places[:, None], torch.tensor(slots, device=flat.device)] = new[0]
        return flat.view(x.shape)

    def at_each(
        self, x: Float[Tensor, "node 1 token d_model"], position: Position
    ) -> Float[Tensor, "node batch answer d_model"]:
        """The metric's positions of many nodes."""
        columns = position if position.ndim == 2 else position[:, None]
        return x[:, 0, self.number.gather(1, columns)]


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
        readers, writers = found.unbind(), change.unbind()
        for writer, reader in np.argwhere(edges).tolist():
            readers[reader].add_(writers[writer])
        return found
    # Rows without an edge are multiplied by 0: to leave them out would be to copy all others.
    chosen = torch.from_numpy(edges.T).to(change)
    return torch.mm(chosen, change.flatten(1)).unflatten(1, change.shape[1:])
