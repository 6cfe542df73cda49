"""Circuit -> logits: run only the circuit's edges, with every other edge carrying the corrupt value.

A reader's input is what it reads in the corrupt run plus `Σ (writer now - writer in the corrupt run)` over
the circuit's edges into it; each q, k and v of each head has an input of its own. With every edge this is
the clean run of the whole model, with none it is the corrupt run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.metrics import Metric
from circuits.mixers import Mixer
from circuits.ports import at, batched, frozen
from circuits.recording import Machine, normed, prompts
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def metric_of(
    model: HybridLM, circuits: Iterable[Circuit], pairs: TokenPairs, metric: Metric, *, batch_size: int = 64
) -> Float[Tensor, "circuit example"]:
    """The metric of each pair when only one circuit's edges carry clean values, for many circuits.

    The corrupt run is made once per batch for all circuits; a circuit costs what its live edges cost.
    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    masks = [live_mask(model, circuit) for circuit in circuits]
    # Circuits with the same live edges, above all those with none, are run once.
    distinct = {mask.tobytes(): mask for mask in masks}
    places = [list(distinct).index(mask.tobytes()) for mask in masks]
    found = []
    with frozen(model), torch.no_grad():
        machine = Machine(model)
        for batch in batched(model, pairs, batch_size):
            stage = Stage(machine, batch)
            found.append(torch.stack([metric(stage.logits(mask), batch) for mask in distinct.values()]))
    return torch.cat(found, dim=1)[places].float().cpu()


def run_circuit(model: HybridLM, circuit: Circuit, pairs: TokenPairs) -> Float[Tensor, "example d_vocab"]:
    """Logits at each pair's position when only the circuit's edges carry clean values.

    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    mask = live_mask(model, circuit)
    with frozen(model), torch.no_grad():
        machine, batches = Machine(model), batched(model, pairs, batch_size=64)
        return torch.cat([Stage(machine, batch).logits(mask) for batch in batches])


def live_mask(model: HybridLM, circuit: Circuit) -> np.ndarray:
    """The circuit's edges that can matter. Raises `InputError` for a circuit of another graph."""
    if circuit.graph != Graph.of(model):
        raise InputError(
            f"the circuit belongs to a model of {circuit.graph}, this one has {Graph.of(model)}",
            hint="find the circuit again on this model",
        )
    return circuit.graph.live(circuit.mask)


class Stage:
    """The corrupt run of one batch, on which circuits of clean values are played."""

    def __init__(self, machine: Machine, batch: TokenPairs) -> None:
        self.machine, self.position = machine, batch.position
        clean, corrupt = (machine.embedding(ids) for ids in prompts(batch))
        self.corrupt = machine.record(corrupt, batch.position)
        self.reads = [
            mixer.dense(through) for mixer, through in zip(machine.mixers, self.corrupt.through, strict=True)
        ]
        self.embedding = clean - corrupt

    def logits(self, mask: np.ndarray) -> Float[Tensor, "batch d_vocab"]:
        """Logits with the edges of a live `mask` `[writer, reader]` carrying clean values."""
        if not mask[:, -1].any():
            return self.corrupt.logits
        machine, embedding = self.machine, self.embedding
        batch, seq, width = embedding.shape
        # Writer now - writer in the corrupt run; what nobody plays stays zero.
        change = embedding.new_zeros(len(mask), batch, seq if machine.tail else 1, width)
        change[0] = embedding if machine.tail else at(embedding, self.position)
        for index, mixer in enumerate(machine.mixers):
            played = self._play(index, mixer, mask, change) if mask[:, mixer.readers].any() else None
            if index == machine.tail - 1:
                change = torch.stack([at(one, self.position) for one in change])
            if played is not None:
                change[played.rows] = played.written
        stream = self.corrupt.resid[-1] + _heard(mask[:, -1:], change)[0]
        return machine.logits(stream)

    def _play(
        self, index: int, mixer: Mixer, mask: np.ndarray, change: Float[Tensor, "writer batch seq d_model"]
    ) -> Played:
        """Change of every writer of a block that has a live reader, at the positions still needed."""
        norm, resid, before = self.machine.norms[index], self.corrupt.resid[index], mixer.writers.start
        incoming = mask[:before, mixer.readers]
        moved = np.flatnonzero(incoming.any(0)).tolist()
        normalized = normed(norm, resid + _heard(incoming[:, moved], change[:before]))
        lanes = mixer.lanes_of(moved)
        reads, start, done = [], 0, 0
        for port, corrupt in zip(mixer.reads, self.reads[index], strict=True):
            slots = [slot - start for slot in moved if start <= slot < start + port.slots]
            some = mixer.slots_of(lanes, port.slots)
            read = corrupt[:, :, some]
            if slots:
                read = read.clone() if len(slots) < len(some) else torch.empty_like(read)
                places = [some.index(slot) for slot in slots]
                read[:, :, places] = port.read_each(normalized[done : done + len(slots)], slots)
            reads.append(read)
            start, done = start + port.slots, done + len(slots)
        rows, written = [], []
        corrupt_latents = self.corrupt.through[index].latents
        for write, new, old in zip(mixer.writes, mixer.latents(tuple(reads)), corrupt_latents, strict=True):
            some = mixer.slots_of(lanes, write.slots)
            moved_latent = self.machine.narrow(index + 1, new - old[:, :, some], self.position)
            rows += [write.writers.start + slot for slot in some]
            written.append(write.written(moved_latent, some))
        return Played(rows, torch.cat(written))


class Played(NamedTuple):
    """What writers of one block write more than in the corrupt run."""

    rows: list[int]
    written: Float[Tensor, "row batch left d_model"]


def _heard(
    edges: np.ndarray, change: Float[Tensor, "writer batch seq d_model"]
) -> Float[Tensor, "reader batch seq d_model"]:
    """`Σ change of the writers with an edge into a reader`, for each column of `edges` `[writer, reader]`."""
    chosen = torch.from_numpy(edges.T).to(change)
    # Few edges are added row by row, many by one dense product: on a CPU that is what costs least.
    if not change.is_cuda and edges.mean() < 0.3:
        chosen = chosen.to_sparse()
    return torch.mm(chosen, change.flatten(1)).unflatten(1, change.shape[1:])
