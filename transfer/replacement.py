"""Map + both models -> the full-replacement test: what is left of the target when it runs on mapped activations.

At every matched position of the target's hook its activation is replaced, by the mapped one of the source or, for
comparison, by the target's mean over those positions (mean ablation). Unmatched positions stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from saes.activations import HookedModel, capture, check_hook
from transfer.alignment import Matches
from transfer.maps.activation_map import ActivationMap
from transfer.pairing import Side, record_pairs
from transfer.points import ActivationPairs


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """Means over the real tokens of the target's texts, in nats per token."""

    tokens: int
    kl: float
    """KL(target || target on mapped activations)."""
    kl_ablated: float
    """The same under mean ablation."""
    loss: float
    """Cross-entropy of the next token on mapped activations."""
    loss_ablated: float
    loss_clean: float
    """Of the target as it is."""
    agreement: float
    """Share of tokens whose likeliest next token is that of the target as it is."""
    agreement_ablated: float

    @property
    def kl_recovered(self) -> float:
        """1 - kl / kl_ablated: 1 when the map loses nothing, 0 when it is no better than the mean."""
        return 1 - self.kl / self.kl_ablated

    @property
    def loss_recovered(self) -> float:
        """(loss_ablated - loss) / (loss_ablated - loss_clean)."""
        return (self.loss_ablated - self.loss) / (self.loss_ablated - self.loss_clean)


@contextmanager
def replacing(
    model: HookedModel,
    hook: str,
    values: Float[Tensor, "batch seq d_model"],
    where: Bool[Tensor, "batch seq"],
) -> Iterator[None]:
    """Within it, the hook carries `values` at the positions `where`, with gradients."""
    check_hook(model, hook)

    def put(value: Tensor, hook: HookPoint) -> Tensor:
        new = values.to(value).reshape(value.shape)
        chosen = where.to(value.device).reshape(*where.shape, *[1] * (value.ndim - 2))
        return torch.where(chosen, new, value)

    with model.hooks(fwd_hooks=[(hook, put)]):
        yield


@torch.no_grad()
def replace_fully(
    fitted: ActivationMap, source: Side, target: Side, matches: Matches, *, batch_size: int = 32
) -> Replacement:
    """Run the target on the source's mapped activations, on its own mean, and as it is.

    Give texts the map was not fitted on. Raises `InputError` for a map of other widths.
    """
    pairs = record_pairs(source, target, matches, batch_size=batch_size)
    images = fitted.map_points(pairs.source)
    if images.shape != pairs.target.values.shape:
        raise InputError(
            f"the map's images are {images.shape[1]} wide, `{target.hook}` is {pairs.target.values.shape[1]}",
            hint="use the target model and hook that the map was fitted on",
        )
    mean = pairs.target.values.mean(0).expand_as(images)
    sums = dict.fromkeys(("tokens", "nexts", "kl", "kl_0", "ce", "ce_0", "ce_clean", "agree", "agree_0"), 0.0)
    for batch in _batches(target, pairs, matches, images, mean, batch_size):
        _score(target, batch, sums)
    tokens, nexts = sums["tokens"], sums["nexts"]
    return Replacement(
        tokens=int(tokens),
        kl=sums["kl"] / tokens,
        kl_ablated=sums["kl_0"] / tokens,
        loss=sums["ce"] / nexts,
        loss_ablated=sums["ce_0"] / nexts,
        loss_clean=sums["ce_clean"] / nexts,
        agreement=sums["agree"] / tokens,
        agreement_ablated=sums["agree_0"] / tokens,
    )


@dataclass(frozen=True)
class _Batch:
    ids: Tensor
    mask: Tensor
    where: Tensor
    mapped: Tensor
    mean: Tensor


def _batches(
    target: Side, pairs: ActivationPairs, matches: Matches, images: Tensor, mean: Tensor, size: int
) -> Iterator[_Batch]:
    tokens, device = target.reading.tokens, images.device
    for start in range(0, len(target.reading), size):
        part = tokens[start : start + size]
        width = int(part.mask.sum(1).max())
        ids, mask = part.ids[:, :width].to(device), part.mask[:, :width].to(device)
        here = (matches.example >= start) & (matches.example < start + size) & (matches.target < width)
        at = ((matches.example[here] - start).to(device), matches.target[here].to(device))
        where = torch.zeros_like(mask)
        where[at] = True
        filled = []
        for rows in (images, mean):
            values = rows.new_zeros(*ids.shape, rows.shape[1])
            values[at] = rows[here.to(device)]
            filled.append(values)
        yield _Batch(ids, mask, where, *filled)


def _score(target: Side, batch: _Batch, sums: dict[str, float]) -> None:
    real, nexts = batch.mask, batch.mask[:, 1:]
    clean = target.model(batch.ids).log_softmax(-1)
    sums["tokens"] += int(real.sum())
    sums["nexts"] += int(nexts.sum())
    sums["ce_clean"] += float(_loss(clean, batch.ids)[nexts].sum())
    for values, end in ((batch.mapped, ""), (batch.mean, "_0")):
        with replacing(target.model, target.hook, values, batch.where):
            found = target.model(batch.ids).log_softmax(-1)
        sums["kl" + end] += float(divergence(clean, found)[real].sum())
        sums["ce" + end] += float(_loss(found, batch.ids)[nexts].sum())
        sums["agree" + end] += float((clean.argmax(-1) == found.argmax(-1))[real].sum())


def divergence(
    clean: Float[Tensor, "*batch d_vocab"], found: Float[Tensor, "*batch d_vocab"]
) -> Float[Tensor, "*batch"]:
    """KL(clean || found) of two sets of log-probabilities, in nats."""
    return (clean.exp() * (clean - found)).sum(-1)


def _loss(logs: Tensor, ids: Int[Tensor, "batch seq"]) -> Tensor:
    return F.nll_loss(logs[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").reshape(
        len(ids), -1
    )


@dataclass(frozen=True, kw_only=True)
class KLGuide:
    """The further loss of `autoencoder-kl`: KL(target || target on mapped activations), on a few texts a step."""

    source: Side
    target: Side
    matches: Matches
    texts: int = 4
    """Texts per step: each costs two passes through the target, and one through the source."""

    def __call__(self, fitted: Callable[[Tensor], Tensor], generator: torch.Generator) -> Tensor:
        rows = torch.randperm(len(self.target.reading), generator=generator)[: self.texts]
        inside = torch.isin(self.matches.example, rows)
        if not bool(inside.any()):
            return next(self.target.model.parameters()).new_zeros(())
        place = torch.full((len(self.target.reading),), -1)
        place[rows] = torch.arange(len(rows))
        example = place[self.matches.example[inside]]
        device = next(self.target.model.parameters()).device
        read = [side.reading.tokens.ids[rows].to(device) for side in (self.source, self.target)]
        at = [
            (example.to(device), where[inside].to(device))
            for where in (self.matches.source, self.matches.target)
        ]
        images = fitted(capture(self.source.model, read[0], self.source.hook)[at[0]].float())
        where = torch.zeros_like(read[1], dtype=torch.bool)
        where[at[1]] = True
        values = images.new_zeros(*where.shape, images.shape[1]).index_put(at[1], images)
        with torch.no_grad():
            clean = self.target.model(read[1]).log_softmax(-1)
        with replacing(self.target.model, self.target.hook, values, where):
            found = self.target.model(read[1]).log_softmax(-1)
        real = self.target.reading.tokens.mask[rows].to(device)
        return divergence(clean, found)[real].mean()
