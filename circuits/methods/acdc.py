"""Model and pairs -> Circuit by ACDC: every edge is tried once, from the logits backwards, and goes if little is lost.

Algorithm 1 of Conmy et al. (arXiv 2304.14997): the readers in reverse order, and for each of them its edges, the
latest writer first; an edge is removed for good where the circuit without it loses less than `threshold` more than
with it. An edge that is removed carries the corrupt value. While the edges into a reader are tried, all edges before
it are still there, and so

- every writer before it says what it says in the clean run: a trial starts at the reader, in the lane of its block
  that sees it, and goes on through the edges that are left behind it (`forward.Stage`);
- several trials ride on the batch axis: the next edges as if all before them fell, or as if none did, whichever
  happened last. What was guessed wrong is tried again, so the circuit is that of the plain loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.circuit import Circuit
from circuits.engine.batching import by_length
from circuits.engine.forward import Stage, heard
from circuits.engine.mixers import Mixer
from circuits.engine.ports import at_each, frozen
from circuits.engine.recording import Machine, changes, normed, prompts
from circuits.graph import Graph
from circuits.losses import Loss, loss_of, name_of
from circuits.metrics import check_finite
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

LADDER = 12
"""Thresholds of `acdc_scores`: the corrupt run's loss, halved so often."""


def acdc(
    model: HybridLM,
    pairs: TokenPairs,
    loss: Loss = "kl",
    *,
    threshold: float,
    batch_size: int | None = None,
    rows: int = 256,
) -> Circuit:
    """The circuit left when every edge that costs less than `threshold` has gone, latest edges first.

    `loss` is the paper's `"kl"` to the whole model's answer, or a metric whose fall counts. `rows` bounds how many
    sequences run at once; what every writer says on all pairs is kept in memory. `metadata` holds the circuit's `loss`
    and the number of `runs`, each a part of the model on all pairs, wrong guesses included.
    Raises `InputError` for a threshold that is not above 0, and as `metric_of` does.
    """
    _check(threshold)
    with frozen(model), torch.no_grad():
        search = Search(model, pairs, loss, batch_size, rows)
        return search.circuit(threshold)


def acdc_scores(
    model: HybridLM,
    pairs: TokenPairs,
    loss: Loss = "kl",
    *,
    thresholds: Sequence[float] | None = None,
    batch_size: int | None = None,
    rows: int = 256,
    track: Callable[[list[float]], Iterable[float]] = iter,
) -> EdgeScores:
    """The largest threshold at which ACDC keeps each edge, 0 where it never does: one row for all pairs, no sign.

    `None` takes the loss of the corrupt run, halved once to twelve times. The edges of several thresholds need not be
    nested; a larger one counts. One row has neither intervals nor significance. `track` may wrap the thresholds in a
    progress bar. Raises `InputError` as `acdc` does, for no thresholds, and where the corrupt run loses nothing.
    """
    with frozen(model), torch.no_grad():
        search = Search(model, pairs, loss, batch_size, rows)
        tried = sorted(search.ladder() if thresholds is None else thresholds)
        if not tried:
            raise InputError("there is no threshold", hint="give one or more, or leave thresholds out")
        for threshold in tried:
            _check(threshold)
        kept = torch.zeros(search.graph.mask.shape)
        sizes, runs = {}, 0
        for threshold in track(tried):
            circuit = search.circuit(threshold)
            kept[torch.from_numpy(circuit.mask)] = threshold
            sizes[f"{threshold:.6g}"] = len(circuit)
            runs += circuit.metadata["runs"]
    return EdgeScores(
        graph=search.graph,
        per_example=kept[None],
        method="acdc",
        metric=name_of(loss),
        edit=pairs.edit,
        metadata={"edges_at_threshold": sizes, "runs": runs, "pairs": len(pairs)},
    )


def _check(threshold: float) -> None:
    if not threshold > 0:
        raise InputError(
            f"threshold is {threshold}, expected more than 0",
            hint="a larger one leaves fewer edges; 0.01 nats are usual",
        )


class Search:
    """All batches of pairs, on which circuits are searched for."""

    def __init__(
        self, model: HybridLM, pairs: TokenPairs, loss: Loss, batch_size: int | None, rows: int
    ) -> None:
        self.name, self.edit, self.n = name_of(loss), pairs.edit, len(pairs)
        self.graph, machine = Graph.of(model), Machine(model)
        batches = by_length(model, pairs, batch_size).batches
        self.scenes = [_Scene(machine, batch, loss) for batch in batches]
        self.width = max(1, rows // len(batches[0]))

    def ladder(self) -> list[float]:
        """The loss of the corrupt run, halved once, twice, ... Raises `InputError` where it is nothing."""
        whole = self._mean([scene.loss(scene.stage.corrupt.logits[None]) for scene in self.scenes])[0]
        if not whole > 1e-9:
            raise InputError(
                f"on edit `{self.edit}` the corrupt run loses {whole:.2g} by `{self.name}`, so no threshold is small",
                hint="choose an edit that the model has learned, or give thresholds",
            )
        return [whole / 2**step for step in range(1, LADDER + 1)]

    def circuit(self, threshold: float) -> Circuit:
        """The circuit of one threshold."""
        mask, loss, runs = self.graph.mask.copy(), 0.0, 0
        blocks = [reader.block for reader in self.graph.readers]
        for block in reversed(range(max(blocks) + 1)):
            live = self.graph.live(mask)
            stands = [_AtBlock(scene, block, live) for scene in self.scenes]
            for column in reversed([place for place, at in enumerate(blocks) if at == block]):
                # No edge into this reader is on a path, so none of them matters.
                if not live[:, column].any():
                    mask[:, column] = False
                    continue
                loss, more = self._decide(stands, mask, column, loss, threshold)
                runs += more
        found: dict[str, Any] = {"method": "acdc", "metric": self.name, "edit": self.edit}
        found |= {"threshold": threshold, "loss": loss, "runs": runs, "pairs": self.n}
        return Circuit(self.graph, self.graph.named(mask), found)

    def _decide(
        self, stands: list[_AtBlock], mask: np.ndarray, column: int, loss: float, threshold: float
    ) -> tuple[float, int]:
        """Try the edges into one reader, and take those that go out of `mask`: the loss then, and the runs."""
        left = np.flatnonzero(mask[:, column])[::-1].tolist()
        for stand in stands:
            stand.face(column)
        falls, width, runs = True, 1, 0
        while left:
            some = left[: min(width, self.width)]
            # In each trial its own edge is gone, and where falls are expected those before it too.
            gone = np.tril(np.ones((len(some), len(some)), bool)) if falls else np.eye(len(some), dtype=bool)
            losses = self._mean([stand.tried(some, gone) for stand in stands])
            before = np.array([loss, *losses[:-1]]) if falls else np.full(len(some), loss)
            fell = losses - before < threshold
            wrong = np.flatnonzero(fell != falls)
            known = int(wrong[0]) + 1 if len(wrong) else len(some)
            dropped = [row for row, gone_ in zip(some[:known], fell[:known].tolist(), strict=True) if gone_]
            if dropped:
                loss = float(losses[int(np.flatnonzero(fell[:known])[-1])])
            mask[dropped, column] = False
            for stand in stands:
                stand.drop(dropped)
            runs, left = runs + len(some), left[known:]
            falls, width = bool(fell[known - 1]), 2 * width if not len(wrong) else max(1, known)
        for stand in stands:
            stand.settle()
        return loss, runs

    def _mean(self, losses: list[Float[Tensor, "trial _"]]) -> np.ndarray:
        """Over all pairs, per trial."""
        found: np.ndarray = torch.cat(losses, dim=1).double().mean(1).cpu().numpy()
        return found


class _Scene:
    """One batch, at one reader of one block."""

    def __init__(self, machine: Machine, batch: TokenPairs, loss: Loss) -> None:
        self.machine, self.batch, self.measure = machine, batch, loss
        self.stage = Stage(machine, batch)
        self.clean = machine.record(machine.embedding(prompts(batch)[0]), batch.position)
        check_finite("model's logits", torch.stack([self.clean.logits, self.stage.corrupt.logits]))
        self.change = changes(machine, self.clean, self.stage.corrupt, batch.position)

    def loss(self, logits: Float[Tensor, "trial batch *answer d_vocab"]) -> Float[Tensor, "trial batch"]:
        return torch.stack([loss_of(self.measure, one, self.clean.logits, self.batch) for one in logits])

    def said(self, block: int) -> Float[Tensor, "writer batch seq d_model"]:
        """The clean run minus the corrupt one, of writers before a block, at the positions it reads."""
        return self.change.last if block >= self.machine.tail else self.change.whole


class _AtBlock:
    """One batch at the edges into one block; all edges before it are there, and those behind it are decided."""

    def __init__(self, scene: _Scene, block: int, live: np.ndarray) -> None:
        machine, self.scene, self.block, self.live = scene.machine, scene, block, live
        later, self.first = machine.mixers[block + 1 :], len(live)
        self.mixer: Mixer | None = None
        if block < len(machine.mixers):
            self.mixer = machine.mixers[block]
            self.first = self.mixer.writers.start
            self.reads = [read.clone() for read in self.mixer.dense(scene.clean.through[block])]
        self.readers = [np.flatnonzero(live[:, mixer.readers].any(0)).tolist() for mixer in later]
        # What the writers before this block say to the readers behind it is the same in every trial.
        self.early = [
            heard(live[: self.first, mixer.readers][:, some], scene.said(index)[: self.first])
            for index, (mixer, some) in enumerate(zip(later, self.readers, strict=True), start=block + 1)
        ]
        self.early_last = heard(live[: self.first, -1:], scene.said(len(machine.mixers))[: self.first])[0]

    def face(self, column: int) -> None:
        """Turn to one reader of the block, which hears every writer."""
        scene, block = self.scene, self.block
        self.hears = scene.clean.resid[block] - scene.stage.corrupt.resid[block]
        if self.mixer is None:
            return
        self.reader = column - self.mixer.readers.start
        places = (place for place, port in enumerate(self.mixer.reads) if column < port.readers.stop)
        self.place = next(places)
        old = scene.stage.corrupt.through[block].latents
        moved = (new - base for new, base in zip(self.mixer.latents(tuple(self.reads)), old, strict=True))
        self.own = self.mixer.written(
            tuple(scene.machine.narrow(block + 1, one, scene.batch.position) for one in moved)
        )

    def tried(self, rows: list[int], gone: np.ndarray) -> Float[Tensor, "trial batch"]:
        """The losses of trials, in which the edges from `rows` that `gone` `[trial row]` names are not there."""
        scene = self.scene
        said = scene.said(self.block)[rows]
        hears = self.hears - torch.einsum("tr, r... -> t...", torch.from_numpy(gone).to(said), said)
        if self.mixer is None:
            return scene.loss(self._logits(hears))
        moved = scene.stage.play(
            self.block,
            [self.reader],
            rearrange(hears, "trial batch seq d -> 1 (trial batch) seq d"),
            tuple(self.reads),
        )
        own = self.own.repeat(1, len(gone), 1, 1)
        start = self.first
        for port, slots, by in moved:
            own[[port.writers.start - start + slot for slot in slots]] = port.written(by, slots)
        return scene.loss(self._finish(own, len(gone)))

    def drop(self, rows: list[int]) -> None:
        """The edges from `rows` into the reader are gone for good."""
        self.hears = self.hears - self.scene.said(self.block)[rows].sum(0)

    def settle(self) -> None:
        """The reader is decided."""
        if self.mixer is None:
            return
        scene, port = self.scene, self.mixer.reads[self.place]
        stream = normed(scene.machine.norms[self.block], scene.stage.corrupt.resid[self.block] + self.hears)
        slot = self.mixer.readers.start + self.reader - port.readers.start
        self.reads[self.place][:, :, slot] = port.read_each(stream[None], [slot])[:, :, 0]

    def _finish(
        self, own: Float[Tensor, "writer rows seq d_model"], trials: int
    ) -> Float[Tensor, "trial batch *answer d_vocab"]:
        """Logits when the block's writers say `own` more than in the corrupt run."""
        scene, first = self.scene, self.first
        machine, n = scene.machine, len(scene.batch)
        position = scene.batch.position.repeat(trials, *[1] * (scene.batch.position.ndim - 1))
        # Writer now - writer in the corrupt run; 0 of those that no live edge leaves.
        change = own.new_zeros(len(self.live) - first, *own.shape[1:])
        change[: len(own)] = own
        for place, index in enumerate(range(self.block + 1, len(machine.mixers))):
            mixer, some = machine.mixers[index], self.readers[place]
            played = []
            if some:
                before = mixer.writers.start
                late = heard(self.live[first:before, mixer.readers][:, some], change[: before - first])
                late.unflatten(1, (-1, n)).add_(self.early[place][:, None])
                played = scene.stage.play(index, some, late)
            if index == machine.tail - 1:
                change = at_each(change, position)
            for port, slots, by in played:
                change[[port.writers.start - first + slot for slot in slots]] = port.written(by, slots)
        last = heard(self.live[first:, -1:], change)[0].unflatten(0, (-1, n))
        return self._logits(self.early_last + last)

    def _logits(
        self, hears: Float[Tensor, "trial batch answer d_model"]
    ) -> Float[Tensor, "trial batch *answer d_vocab"]:
        """Logits when they hear so much more than in the corrupt run."""
        scene = self.scene
        streams = (scene.stage.corrupt.resid[-1] + hears).flatten(0, 1)
        position = scene.batch.position.repeat(len(hears), *[1] * (scene.batch.position.ndim - 1))
        return scene.machine.logits(streams, position).unflatten(0, (len(hears), -1))
