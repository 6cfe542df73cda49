"""Circuit -> logits: run only the circuit's edges, with every other edge carrying the corrupt value.

A reader's input is what it reads in the corrupt run plus `Σ (writer now - writer in the corrupt run)` over
the circuit's edges into it; each q, k and v of each head has an input of its own. With every edge this is
the clean run of the whole model, with none it is the corrupt run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuits.circuit import Circuit
from circuits.graph import Graph
from circuits.metrics import Metric
from circuits.ports import BlockPorts, Slots, batched, blocks_of, frozen, latent, ports_of, tail_of, written
from circuits.recording import at, embedding_stream, prompts, record
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs

ChangeByRow = dict[int, Tensor]
"""By row of a score matrix: writer now - writer in the corrupt run, `[batch seq d_model]`; absent when zero."""


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
        for batch in batched(model, pairs, batch_size):
            stage = Stage(model, batch)
            found.append(torch.stack([metric(stage.logits(mask), batch) for mask in distinct.values()]))
    return torch.cat(found, dim=1)[places].float().cpu()


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
    """The corrupt run of one batch, on which circuits of clean values are played."""

    def __init__(self, model: HybridLM, batch: TokenPairs) -> None:
        self.model = model
        self.position = batch.position
        self.tail = tail_of(model)
        clean, corrupt = (embedding_stream(model, ids) for ids in prompts(batch))
        self.corrupt = record(model, corrupt, batch.position)
        self.embedding = clean - corrupt

    def logits(self, mask: np.ndarray) -> Float[Tensor, "batch d_vocab"]:
        """Logits with the edges of a live `mask` `[writer, reader]` carrying clean values."""
        if not mask[:, -1].any():
            return self.corrupt.logits
        changes: ChangeByRow = {0: self.embedding if self.tail else at(self.embedding, self.position)}
        for index, ports in enumerate(ports_of(self.model)):
            played = self._play(index, ports, mask, changes) if mask[:, ports.readers].any() else {}
            if index == self.tail - 1:
                changes = {row: at(change, self.position) for row, change in changes.items()}
            changes |= played
        stream = self.corrupt.resid[-1] + sum(changes[row] for row in np.flatnonzero(mask[:, -1]).tolist())
        logits: Tensor = self.model.unembed(self.model.ln_final(stream))
        return logits[:, 0]

    def _play(self, index: int, ports: BlockPorts, mask: np.ndarray, changes: ChangeByRow) -> ChangeByRow:
        """Change of every writer of a block that has a live reader, at the positions still needed."""
        block, resid = blocks_of(self.model)[index], self.corrupt.resid[index]
        incoming = [mask[:, port.readers] for port in ports.reads]
        active = np.flatnonzero(np.any([rows.any(0) for rows in incoming], axis=0)).tolist()
        reads = tuple(
            _reread(block.ln1, resid, read[:, :, active], port.weight[active], rows[:, active], changes)
            for port, read, rows in zip(ports.reads, self.corrupt.reads[index], incoming, strict=True)
        )
        moved = latent(block, reads) - self.corrupt.latents[index][:, :, active]
        moved = at(moved, self.position) if index == self.tail - 1 else moved
        write = replace(ports.write, weight=ports.write.weight[active])
        return dict(
            zip((ports.write.writers.start + slot for slot in active), written(write, moved), strict=True)
        )


def _reread(
    norm: Norm,
    resid: Float[Tensor, "batch seq d_model"],
    corrupt: Slots,
    weight: Float[Tensor, "slot d_model width"],
    rows: np.ndarray,
    changes: ChangeByRow,
) -> Slots:
    """Outputs of reader ports whose incoming edges are the columns of `rows` `[writer, slot]`."""
    writers, moved = np.flatnonzero(rows.any(1)).tolist(), np.flatnonzero(rows.any(0)).tolist()
    if not len(writers):
        return corrupt
    edges = torch.from_numpy(rows[np.ix_(writers, moved)]).to(resid)
    change = torch.stack([changes[row] for row in writers])
    stream = resid[:, :, None] + einsum(change, edges, "writer batch seq d, writer slot -> batch seq slot d")
    reads = corrupt.clone()
    reads[:, :, moved] = einsum(
        norm(stream), weight[moved], "batch seq slot d, slot d width -> batch seq slot width"
    )
    return reads
