"""Model and pairs -> EdgeScores by learning a mask over all edges: which few of them can stand for the whole model?

Edge pruning (Bhaskar et al., arXiv 2406.16778). Every reader hears `Σ z (writer now - writer in the corrupt run)` with
one mask z in [0, 1] per edge; all z = 1 is the clean run, all z = 0 the corrupt one, and z of 0 and 1 alone a circuit
as `forward` runs it. z is hard-concrete (Louizos et al., arXiv 1712.01312):

    u ~ U(0, 1);   s = sigmoid((log u - log(1 - u) + a) / β);   z = clamp(s (r - l) + l, 0, 1)

with β = 2/3, l = -0.1, r = 1.1, so that z is often exactly 0 or 1, and `P(z > 0) = sigmoid(a - β log(-l / r))` can be
differentiated. What is minimised over the log-odds a is the circuit's loss plus `λ1 g + λ2 g²`, where g is how far the
expected share of edges is above the wanted one; λ1 and λ2 go up the gradient, `g` and `g²`, until g is nothing. (UGS,
Li & Janson, arXiv 2409.09951, draws masks much the same way, and puts a constant in an edge's place, not the corrupt
value.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.engine.batching import batched
from circuits.engine.forward import Stage
from circuits.engine.ports import at, at_each, frozen
from circuits.engine.recording import Logits, Machine
from circuits.graph import Graph
from circuits.losses import Loss, loss_of, name_of
from circuits.metrics import check_finite
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""β, l and r of the hard-concrete distribution, as both papers have them."""
START = 2.0
"""Log-odds at the start: nearly every edge is there."""
RATE, MULTIPLIER_RATE, DAMPING = 0.1, 1.0, 50.0
"""Learning rates of the log-odds and of λ1 and λ2."""
WARMUP = 0.5
"""Share of the steps during which the wanted number of edges falls from all to what is asked for."""


def edge_masks(
    model: HybridLM,
    pairs: TokenPairs,
    loss: Loss = "kl",
    *,
    share: float | None = None,
    updates: int = 200,
    seed: int = 0,
    batch_size: int = 32,
    track: Callable[[range], Iterable[int]] = iter,
) -> EdgeScores:
    """Learn which `share` of all edges does best alone; an edge's score is the probability that its mask is not 0.

    `None` is a twentieth of the edges, but one at least.

    Scores are one row for all pairs, from 0 to 1 and without a sign: an edge that works against the answer is kept as
    one that works for it. They have neither intervals nor significance. Which experts a router chooses is not
    differentiated, so edges that act through that choice alone may be missed. The loss is the divergence from the whole
    model's answer (`"kl"`), or how far a metric is off the model's, above or below, each divided by the corrupt run's.
    An update costs one forward and one backward pass of a batch in which every reader has a stream of its own;
    before that every batch is run clean and corrupt, and kept in memory. `seed` draws masks and batches; `track`
    may wrap the updates in a progress bar. Raises `InputError` for a share that is not of at least one edge and
    less than all, for no updates, where the corrupt run loses nothing, and as `metric_of` does.
    """
    graph, name = Graph.of(model), name_of(loss)
    share = max(0.05, 1 / len(graph.edges)) if share is None else share
    _check(graph, share, updates)
    generator = torch.Generator().manual_seed(seed)
    with frozen(model):
        machine = Machine(model)
        scenes = [_Scene(machine, batch, loss) for batch in batched(model, pairs, batch_size)]
        scale = _scale(scenes, pairs, name)
        learner = _Learner(graph, share, updates, model.device)
        _learn(learner, scenes, scale, track(range(updates)), generator)
    kept = HardConcrete.kept(learner.odds.detach())
    per_example = torch.zeros(graph.mask.shape)
    per_example[torch.from_numpy(graph.mask)] = kept.float().cpu()
    return EdgeScores(
        graph=graph,
        per_example=per_example[None],
        method="masks",
        metric=name,
        edit=pairs.edit,
        metadata={
            "share": share,
            "updates": updates,
            "seed": seed,
            "pairs": len(pairs),
            "expected_edges": kept.sum().item(),
            "multipliers": learner.multipliers.tolist(),
        },
    )


def _scale(scenes: Sequence[_Scene], pairs: TokenPairs, name: str) -> float:
    """The corrupt run's mean loss. Raises `InputError` where it is nothing."""
    scale = sum(scene.corrupt_loss * scene.n for scene in scenes) / len(pairs)
    if not scale > 1e-9:
        raise InputError(
            f"on edit `{pairs.edit}` the corrupt run loses {scale:.2g} by `{name}`: there is nothing to keep",
            hint="choose an edit that the model has learned",
        )
    return scale


def _learn(
    learner: _Learner,
    scenes: Sequence[_Scene],
    scale: float,
    updates: Iterable[int],
    generator: torch.Generator,
) -> None:
    """One update per batch; every batch once before any comes again."""
    left: list[int] = []
    for update in updates:
        left = left or torch.randperm(len(scenes), generator=generator).tolist()
        scene = scenes[left.pop()]
        with torch.enable_grad():
            lost = scene.lost(learner.mask(generator)) / scale
            learner.step(lost, update)


def _check(graph: Graph, share: float, updates: int) -> None:
    if not 1 <= share * len(graph.edges) < len(graph.edges):
        raise InputError(
            f"share is {share}, which of {len(graph.edges)} edges is not at least one and less than all",
            hint="0.05 keeps a twentieth of them",
        )
    if updates < 1:
        raise InputError(f"updates is {updates}, expected at least 1", hint="200 are usual")


class HardConcrete:
    """Masks of many edges, from the log-odds of each."""

    @staticmethod
    def draw(odds: Float[Tensor, " edge"], generator: torch.Generator) -> Float[Tensor, " edge"]:
        """One mask per edge, from 0 to 1; gradients reach the log-odds where it is neither."""
        uniform = torch.rand(len(odds), dtype=torch.float64, generator=generator)
        noise = uniform.clamp(1e-6, 1 - 1e-6).logit().to(odds)
        soft = ((noise + odds) / TEMPERATURE).sigmoid()
        return (soft * (HIGH - LOW) + LOW).clamp(0, 1)

    @staticmethod
    def kept(odds: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
        """The probability that a mask is not 0."""
        return (odds - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()


class _Learner:
    """The log-odds of all edges in `graph.edges`' order, and the multipliers of the constraint."""

    def __init__(self, graph: Graph, share: float, steps: int, device: torch.device) -> None:
        self.share, self.warmup = share, WARMUP * steps
        self.where = torch.from_numpy(graph.mask).to(device)
        start = torch.full((len(graph.edges),), START, dtype=torch.float64, device=device)
        self.odds = start.requires_grad_()
        self.start = HardConcrete.kept(start.detach()).mean()
        self.multipliers = torch.tensor([0.0, DAMPING], dtype=torch.float64, device=device)
        self.optimizer = torch.optim.Adam([self.odds], lr=RATE)

    def mask(self, generator: torch.Generator) -> Float[Tensor, "writer reader"]:
        """A draw of all masks, 0 where there is no edge."""
        drawn = HardConcrete.draw(self.odds, generator)
        empty = torch.zeros(self.where.shape, dtype=drawn.dtype, device=drawn.device)
        return empty.masked_scatter(self.where, drawn)

    def step(self, lost: Float[Tensor, ""], done: int) -> None:
        """One step down in the log-odds and up in the multipliers, after `done` others."""
        progress = min(1.0, (done + 1) / self.warmup)
        excess = HardConcrete.kept(self.odds).mean() - torch.lerp(
            self.start, self.start.new_tensor(self.share), progress
        )
        (lost + (self.multipliers * torch.stack([excess, excess**2])).sum()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        over = excess.detach()
        self.multipliers += MULTIPLIER_RATE * torch.stack([over, over**2])


class _Scene:
    """One batch: its clean logits, and the corrupt run on which masks are played."""

    def __init__(self, machine: Machine, batch: TokenPairs, loss: Loss) -> None:
        self.batch, self.measure, self.n = batch, loss, len(batch)
        with torch.no_grad():
            self.stage = Stage(machine, batch)
            graph = Graph.of(machine.model)
            self.whole = self.stage.logits(graph.mask)
            check_finite("model's logits", torch.stack([self.whole, self.stage.corrupt.logits]))
            self.corrupt_loss = self._mean(self.stage.corrupt.logits).item()

    def lost(self, mask: Float[Tensor, "writer reader"]) -> Float[Tensor, ""]:
        return self._mean(masked_logits(self.stage, mask))

    def _mean(self, logits: Logits) -> Float[Tensor, ""]:
        return loss_of(self.measure, logits, self.whole, self.batch).abs().mean()


def masked_logits(stage: Stage, mask: Float[Tensor, "writer reader"]) -> Logits:
    """Logits when every reader hears `Σ mask * (writer now - writer in the corrupt run)`; gradients reach the mask.

    With a mask of 0 and 1 alone it is `stage.logits` of these edges, at the price of all.
    """
    machine, embedding = stage.machine, stage.embedding
    mask = mask.to(embedding)
    # One part per block, so that nothing is copied when a block has written.
    parts = [(embedding if machine.tail else at(embedding, stage.position))[None]]

    def heard(readers: slice) -> Float[Tensor, "reader batch seq d_model"]:
        sizes = [len(part) for part in parts]
        weights = mask[: sum(sizes), readers].split(sizes)
        said = [weight.T @ part.flatten(1) for weight, part in zip(weights, parts, strict=True)]
        return torch.stack(said).sum(0).unflatten(1, parts[0].shape[1:])

    for index, mixer in enumerate(machine.mixers):
        every = range(mixer.readers.stop - mixer.readers.start)
        played = stage.play(index, every, heard(mixer.readers))
        if index == machine.tail - 1:
            parts = [at_each(part, stage.position) for part in parts]
        parts += [port.written(by) for port, _, by in played]
    stream = stage.corrupt.resid[-1] + heard(slice(mask.shape[1] - 1, None))[0]
    return machine.logits(stream, stage.position)
