"""Batch -> loss: cross-entropy on the scored tokens alone, and what the routers decided."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tinysql.models.hybrid import HybridLM
from tinysql.models.moe import Routing, load, sequence_balance_loss
from tinysql.training.batches import Batch


class Losses(NamedTuple):
    """Sums over the scored tokens, weighted as the batch says."""

    total: Float[Tensor, ""]
    """What is minimised."""
    cross_entropy: Float[Tensor, ""]
    """Nats per scored token; its part in the total."""
    loads: list[Int[Tensor, " expert"]]
    """Per `E` block: how many tokens, padding not counted, chose each expert."""


def losses(
    model: HybridLM, batch: Batch, *, balance_loss: float = 0.0, share: float = 1.0, recompute: bool = False
) -> Losses:
    """The losses of a batch; logits are computed for the scored places alone.

    `share` is the part that a piece of a batch has in the balance loss of the whole.
    """
    routing: list[Routing] | None = [] if "E" in model.cfg.pattern else None
    logits = model(
        batch.ids, packing=batch.packing, places=batch.places, routing=routing, recompute=recompute
    )
    each = F.cross_entropy(logits.float(), batch.targets, reduction="none")
    cross_entropy = (each * batch.weights).sum()
    total = cross_entropy
    for decided in routing or ():
        total = total + balance_loss * share * sequence_balance_loss(decided, batch.real)
    return Losses(total, cross_entropy.detach(), [load(decided, batch.real) for decided in routing or ()])


@torch.no_grad()
def rows_right(model: HybridLM, batch: Batch) -> int:
    """How many rows greedy decoding would reproduce whole: those whose every teacher-forced arg-max is right."""
    wrong = model(batch.ids, places=batch.places).argmax(-1) != batch.targets
    rows = batch.places // batch.ids.shape[1]
    return len(batch.ids) - len(rows[wrong].unique())
