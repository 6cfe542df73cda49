"""Model and pairs -> EdgeScores by patching every edge, one at a time: the oracle beside `eap` and `eap_ig`.

Nothing is approximated. It is fast because a patched edge changes nothing before its reader: each patch
starts at the reader's block from the clean residual stream, all edges into a block ride on the batch axis,
what lies between a reader and its writers is recomputed for all slots that do not see each other at once, and behind
the last block that mixes positions one position is run.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.engine.batching import Track, by_length
from circuits.engine.mixers import Mixer, Moving
from circuits.engine.ports import blocks_of, frozen
from circuits.engine.recording import Machine, both_sides, changes, normed
from circuits.graph import Graph
from circuits.metrics import Metric, check_moves, logit_diff, measured, metric_name
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def exact(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    batch_size: int | None = None,
    rows: int = 256,
    track: Track = iter,
) -> EdgeScores:
    """Measure every edge's effect: `metric(this edge carries the corrupt value) - metric(clean run)`.

    All positions of the edge are patched together. `rows` bounds how many sequences run at once behind a
    patch; `track` may wrap the list of batches in a progress bar.
    Raises `InputError` for no pairs, prompts of unlike shape, hooks on the model, or as `check_moves` does.
    """
    found, clean, corrupt = [], [], []
    with frozen(model), torch.no_grad():
        machine = Machine(model)
        batches = by_length(model, pairs, batch_size)
        for batch in track(batches.batches):
            oracle = _Oracle(machine, batch, metric, rows)
            found.append(oracle.effects())
            clean.append(oracle.baseline)
            corrupt.append(measured(metric, oracle.corrupt.logits, batch))
    check_moves(torch.cat(clean), torch.cat(corrupt), pairs.edit)
    return EdgeScores(
        graph=Graph.of(model),
        per_example=batches.restored(found).float().cpu(),
        method="exact",
        metric=metric_name(metric),
        edit=pairs.edit,
        metadata={
            "metric_clean": torch.cat(clean).mean().item(),
            "metric_corrupt": torch.cat(corrupt).mean().item(),
        },
    )


class _Oracle:
    """Clean and corrupt run of one batch, and the model from any block on."""

    def __init__(self, machine: Machine, batch: TokenPairs, metric: Metric, rows: int) -> None:
        self.machine, self.batch, self.metric, self.rows = machine, batch, metric, rows
        self.clean, self.corrupt = both_sides(machine, batch)
        self.change = changes(machine, self.corrupt, self.clean, batch.position)
        self.baseline = measured(metric, self.clean.logits, batch)

    def effects(self) -> Float[Tensor, "batch writer reader"]:
        """The effect of every edge on every example."""
        machine, graph = self.machine, Graph.of(self.machine.model)
        found = self.baseline.new_zeros(len(self.batch), len(graph.writers), len(graph.readers))
        for index, mixer in enumerate(machine.mixers):
            change = self.change.last if index >= machine.tail else self.change.whole
            through = self.clean.through[index]
            moving = mixer.moving(mixer.dense(through), through.latents, partial(self._narrow, index + 1))
            for writer in range(mixer.writers.start):
                moved = self._moved(index, mixer, moving, change[writer])
                found[:, writer, mixer.readers] = self._measure(index + 1, moved)
        for writer, one in enumerate(self.change.last):
            found[:, writer, -1:] = self._measure(len(machine.mixers), one[:, None])
        return found

    def _moved(
        self, index: int, mixer: Mixer, moving: Moving, change: Float[Tensor, "batch seq d_model"]
    ) -> Float[Tensor, "batch reader left d_model"]:
        """What a block writes more when one reader at a time hears `change`, at the positions still needed."""
        normalized = normed(self.machine.norms[index], self.clean.resid[index] + change)
        moved = [moving(place, port.read(normalized)) for place, port in enumerate(mixer.reads)]
        return rearrange(torch.cat(moved), "reader batch seq d_model -> batch reader seq d_model")

    def _measure(
        self, start: int, moved: Float[Tensor, "batch edge left d_model"]
    ) -> Float[Tensor, "batch edge"]:
        """Effect of adding `moved` to the clean residual stream in front of block `start`, one edge at a time."""
        found = []
        for some in moved.split(max(1, self.rows // len(self.batch)), dim=1):
            logits = self._finish(start, some)
            found += [
                self.metric(logits[:, edge], self.batch) - self.baseline for edge in range(some.shape[1])
            ]
        return torch.stack(found, dim=1)

    def _finish(
        self, start: int, moved: Float[Tensor, "batch edge left d_model"]
    ) -> Float[Tensor, "batch edge *answer d_vocab"]:
        """Logits at the metric's positions, from block `start` on."""
        edges = moved.shape[1]
        position = self.batch.position.repeat_interleave(edges, dim=0)
        stream = rearrange(
            self.clean.resid[start][:, None] + moved, "batch edge seq d_model -> (batch edge) seq d_model"
        )
        for index, block in enumerate(blocks_of(self.machine.model)[start:], start=start):
            stream = self.machine.narrow(index + 1, block(stream), position)
        return self.machine.logits(stream, position).unflatten(0, (-1, edges))

    def _narrow(self, start: int, x: Tensor) -> Tensor:
        return self.machine.narrow(start, x, self.batch.position)
