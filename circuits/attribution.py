"""Clean and corrupt prompts -> a first-order score for every edge: the engine under `eap` and `eap_ig`.

The score of an edge is `Σ_t ⟨Δ_writer[t], ∂metric/∂input_reader[t]⟩` with `Δ = corrupt - clean`: the first-order
estimate of what `exact` measures. Three things keep it near the cost of the passes alone:

- only port outputs are differentiated, parameters never are;
- a port's gradient is carried through the norm in closed form. With `x̂ = centred(x) / σ`, a port
  `q = (x̂ * w) @ W` and its gradient `g`, the gradient at the port's own input is
  `centred((g / σ) @ Wᵀ * w - x̂ (q·g) / (σ d_model))`, exact with eps because `σ` is the model's own;
- what several passes (IG steps) have in common is summed in head space, so the projection by `W` and the
  product with `Δ` are paid once per batch, not once per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from circuits.graph import Graph
from circuits.metrics import Metric
from circuits.ports import Slots, batched, blocks_of, frozen, ports_of, tail_of
from circuits.recording import Changes, Recording, changes, embedding_stream, prompts, record
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import Norm
from tinysql.tokens import TokenPairs


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
    batch_size: int,
) -> EdgeScores:
    """Scores with gradients averaged over runs whose embedding stream is `corrupt + mix * (clean - corrupt)`.

    The metadata hold the completeness gap: the scores of all edges leaving `embed` sum to the change of the
    metric from clean to corrupt if the path integral is exact, and what is missing is the integration error.
    Raises `InputError` for no pairs, prompts of unlike shape, or hooks on the model.
    """
    with frozen(model):
        found = [_score(model, batch, metric, mixes) for batch in batched(model, pairs, batch_size)]
    edges, clean, corrupt = (torch.cat(part).float().cpu() for part in zip(*found, strict=True))
    change = corrupt - clean
    gap = edges[:, 0].sum(-1) - change
    return EdgeScores(
        graph=Graph.of(model),
        per_example=edges,
        method=method,
        metric=getattr(metric, "__name__", repr(metric)),
        edit=pairs.edit,
        metadata={
            "metric_clean": clean.mean().item(),
            "metric_corrupt": corrupt.mean().item(),
            "completeness_gap": gap.mean().item(),
            "completeness_gap_relative": (gap.abs().sum() / change.abs().sum().clamp_min(1e-12)).item(),
        },
    )


def _score(model: HybridLM, batch: TokenPairs, metric: Metric, mixes: Sequence[float]) -> BatchScores:
    with torch.no_grad():
        clean_stream, corrupt_stream = (embedding_stream(model, ids) for ids in prompts(batch))
        corrupt = record(model, corrupt_stream, batch.position)
        # A mix of 1 is the clean run, which need not be run twice.
        clean = None if 1.0 in mixes else record(model, clean_stream, batch.position)
    gradients = [Gradient(norm) for norm in (*(block.ln1 for block in blocks_of(model)), model.ln_final)]
    for mix in mixes:
        stream = torch.lerp(corrupt_stream, clean_stream, mix).requires_grad_()
        with torch.enable_grad():
            run = record(model, stream, batch.position)
            value = metric(run.logits, batch).sum()
        _collect(run, value, gradients)
        clean = run if mix == 1.0 else clean
    assert clean is not None
    with torch.no_grad():
        return BatchScores(
            _contract(model, changes(model, corrupt, clean, batch.position), gradients) / len(mixes),
            metric(clean.logits.detach(), batch),
            metric(corrupt.logits, batch),
        )


@dataclass
class Gradient:
    """Gradients at the ports behind one norm, summed over runs in head space."""

    norm: Norm
    direct: Slots | None = None
    """`Σ g / σ`, one slot per reader."""
    radial: list[tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch seq reader"]]] = field(
        default_factory=list
    )
    """Per run `x̂` and `(q·g) / (σ d_model)`."""

    def add(self, resid: Tensor, scale: Tensor, reads: Slots, grads: Slots) -> None:
        """Take in one run: what the norm read, its divisor, what its ports gave out, and the gradient there."""
        direct = grads / scale[..., None]
        directions = (resid - resid.mean(-1, keepdim=True) if self.norm.centred else resid) / scale
        self.radial.append((directions, (reads * direct).sum(-1) / resid.shape[-1]))
        self.direct = direct if self.direct is None else self.direct + direct

    def scores(
        self,
        change: Float[Tensor, "writer batch seq d_model"],
        weight: Float[Tensor, "reader d_model width"],
    ) -> Float[Tensor, "batch writer reader"]:
        """`Σ_t ⟨change_writer[t], gradient at the reader's input[t]⟩`, with the gradient never written out."""
        assert self.direct is not None
        weight = weight * self.norm.w[:, None]
        if self.norm.centred:
            weight = weight - weight.mean(1, keepdim=True)
        stream = einsum(self.direct, weight, "batch seq reader width, reader d width -> reader batch seq d")
        direct = einsum(change, stream, "writer batch seq d, reader batch seq d -> batch writer reader")
        directions, along = (torch.stack(part, dim=2) for part in zip(*self.radial, strict=True))
        overlap = einsum(change, directions, "writer batch seq d, batch seq run d -> batch writer seq run")
        return direct - einsum(
            overlap, along, "batch writer seq run, batch seq run reader -> batch writer reader"
        )


def _collect(run: Recording, value: Tensor, gradients: Sequence[Gradient]) -> None:
    """Differentiate one run and add it to every norm's gradient."""
    wanted = [read for block in run.reads for read in block] + [run.normalized]
    grads = list(torch.autograd.grad(value, wanted))
    for gradient, resid, scale, reads in zip(gradients, run.resid, run.scales, run.reads, strict=False):
        here = [grads.pop(0) for _ in reads]
        gradient.add(resid.detach(), scale.detach(), torch.cat(reads, dim=2).detach(), torch.cat(here, dim=2))
    final, normalized = run.resid[-1].detach(), run.normalized.detach()[:, :, None]
    gradients[-1].add(final, run.scales[-1].detach(), normalized, grads.pop()[:, :, None])


def _contract(
    model: HybridLM, change: Changes, gradients: Sequence[Gradient]
) -> Float[Tensor, "batch writer reader"]:
    """The score of every edge on every example."""
    graph, tail, last = Graph.of(model), tail_of(model), change.last
    scores = last.new_zeros(last.shape[1], len(graph.writers), len(graph.readers))
    for index, (gradient, block) in enumerate(zip(gradients, ports_of(model), strict=False)):
        before = block.write.writers.start
        weight = torch.cat([port.weight for port in block.reads])
        here = last if index >= tail else change.whole
        scores[:, :before, block.readers] = gradient.scores(here[:before], weight)
    # The logits read the normed stream as it is.
    identity = torch.eye(last.shape[-1], dtype=last.dtype, device=last.device)[None]
    scores[:, :, -1:] = gradients[-1].scores(last, identity)
    return scores
