"""Circuit -> logits: run only the circuit's edges, with every other edge carrying the corrupt value.

A reader's input is what it reads in the corrupt run plus `Σ (writer now - writer in the corrupt run)` over
the circuit's edges into it; each q, k and v of each head has an input of its own. With every edge this is
the clean run of the whole model, with none it is the corrupt run.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuits.attribution import embedding_stream
from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.metrics import Metric
from circuits.ports import Slots, batched, blocks_of, frozen, latent, ports_of, tail_of
from circuits.recording import Recording, at, prompts, record
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs

Changes = dict[int, Tensor]
"""By row of a score matrix: writer now - writer in the corrupt run, `[batch seq d_model]`; absent when zero."""


def metric_of(
    model: HybridLM, circuits: Iterable[Circuit], pairs: TokenPairs, metric: Metric, *, batch_size: int = 64
) -> Float[Tensor, "circuit example"]:
    """The metric of each pair when only one circuit's edges carry clean values, for many circuits.

    The corrupt run is made once per batch for all circuits; a circuit costs what its live edges cost.
    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    masks = [live_mask(model, circuit) for circuit in circuits]
    found = []
    with frozen(model), torch.no_grad():
        for batch in batched(model, pairs, batch_size):
            stage = Stage(model, batch)
            found.append(torch.stack([metric(stage.logits(mask), batch) for mask in masks]))
    return torch.cat(found, dim=1).float().cpu()


def run_circuit(model: HybridLM, circuit: Circuit, pairs: TokenPairs) -> Float[Tensor, "example d_vocab"]:
    """Logits at each pair's position when only the circuit's edges carry clean values.

    Raises `InputError` for a circuit of another graph, no pairs, or hooks on the model.
    """
    mask = live_mask(model, circuit)
    with frozen(model), torch.no_grad():
        batches = batched(model, pairs, batch_size=64)
        return torch.cat([Stage(model, batch).logits(mask) for batch in batches])


def live_mask(model: HybridLM, circuit: Circuit) -> np.ndarray:
    """The circuit's edges that can matter. Raises `InputError` for a circuit of another graph."""
    if circuit.graph != Graph.of(model):
        raise InputError(
            f"the circuit belongs to a model of pattern {circuit.graph.pattern!r} with {circuit.graph.n_heads} heads,"
            f" this one has {model.cfg.pattern!r} and {model.cfg.n_heads}",
            hint="find the circuit again on this model",
        )
    return circuit.graph.live(circuit.mask)


class Stage:
    """The corrupt run of one batch, on which circuits of clean values are played.

    Behind the last attention block only the metric's position matters, and only it is computed.
    """

    def __init__(self, model: HybridLM, batch: TokenPairs) -> None:
        self.model = model
        self.position = batch.position
        self.ports = ports_of(model)
        self.tail = tail_of(model)
        clean_ids, corrupt_ids = prompts(batch)
        self.corrupt: Recording = record(model, corrupt_ids, batch.position)
        self.embedding = embedding_stream(model, clean_ids) - self.corrupt.resid[0]

    def logits(self, mask: np.ndarray) -> Float[Tensor, "batch d_vocab"]:
        """Logits with the edges of a live `mask` `[writer, reader]` carrying clean values."""
        if not mask[:, -1].any():
            return self.corrupt.logits
        changes: Changes = {0: self.embedding}
        for index, ports in enumerate(self.ports):
            if index == self.tail:
                changes = self._narrow(changes)
            if any(mask[:, port.readers].any() for port in ports.reads):
                changes |= self._play(index, mask, changes)
        if self.tail == len(self.ports):
            changes = self._narrow(changes)
        stream = self.corrupt.resid[-1] + sum(changes[row] for row in np.flatnonzero(mask[:, -1]).tolist())
        return self.model.unembed(self.model.ln_final(stream))[:, 0]

    def _narrow(self, changes: Changes) -> Changes:
        return {row: at(change, self.position) for row, change in changes.items()}

    def _play(self, index: int, mask: np.ndarray, changes: Changes) -> Changes:
        """Change of every writer of a block that has a live reader."""
        block, ports = blocks_of(self.model)[index], self.ports[index]
        fixed = [self._local(index, read) for read in self.corrupt.reads[index]]
        resid = self._local(index, self.corrupt.resid[index])
        incoming = [mask[:, port.readers] for port in ports.reads]
        active = np.flatnonzero(np.any([rows.any(0) for rows in incoming], axis=0))
        slots = torch.from_numpy(active)
        reads = [
            _reread(block.ln1, resid, read[:, :, slots], port.weight[slots], rows[:, active], changes)
            for port, read, rows in zip(ports.reads, fixed, incoming, strict=True)
        ]
        before = self._local(index, self.corrupt.latents[index])[:, :, slots]
        moved = einsum(
            latent(block, tuple(reads)) - before,
            ports.write.weight[slots],
            "batch seq slot width, slot width d_model -> slot batch seq d_model",
        )
        return {
            ports.write.writers.start + int(slot): change for slot, change in zip(active, moved, strict=True)
        }

    def _local(self, index: int, x: Tensor) -> Tensor:
        """A recorded tensor of block `index`, at the positions that block computes."""
        return at(x, self.position) if index >= self.tail else x


def _reread(
    norm: Norm,
    resid: Float[Tensor, "batch seq d_model"],
    corrupt: Slots,
    weight: Float[Tensor, "slot d_model width"],
    rows: np.ndarray,
    changes: Changes,
) -> Slots:
    """Outputs of reader ports whose incoming edges are the columns of `rows` `[writer, slot]`."""
    writers, moved = np.flatnonzero(rows.any(1)).tolist(), np.flatnonzero(rows.any(0)).tolist()
    if not len(writers):
        return corrupt
    slots = torch.tensor(moved)
    edges = torch.from_numpy(rows[np.ix_(writers, moved)]).to(resid)
    change = torch.stack([changes[row] for row in writers])
    stream = resid[:, :, None] + einsum(change, edges, "writer batch seq d, writer slot -> batch seq slot d")
    reads = corrupt.clone()
    reads[:, :, slots] = einsum(
        norm(stream), weight[slots], "batch seq slot d, slot d width -> batch seq slot width"
    )
    return reads
