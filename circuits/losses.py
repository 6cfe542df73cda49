"""Logits of a circuit and of the whole model -> what the circuit loses, one number per pair."""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from circuits.metrics import Logits, Metric, measured, metric_name
from data_gen.errors import InputError
from tinysql.tokens import TokenPairs

Loss: TypeAlias = Metric | str
"""`"kl"` for the divergence of the answers' distributions, or the metric whose fall is the loss."""


def loss_of(measure: Loss, logits: Logits, whole: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """What a circuit with `logits` loses against the whole model's `whole`, in nats or units of the metric.

    `"kl"` is `KL(model || circuit) = Σ_token p_model (log p_model - log p_circuit)` at the pair's position, never
    negative; over whole answers it is summed over the tokens in which they differ. Of a metric it is
    `metric(model) - metric(circuit)`, which is negative where the circuit has more of it than the model.
    """
    if not isinstance(measure, str):
        return measured(measure, whole, pairs) - measured(measure, logits, pairs)
    theirs, own = whole.log_softmax(-1), logits.log_softmax(-1)
    divergence = (theirs.exp() * (theirs - own)).sum(-1)
    if divergence.ndim == 1:
        return divergence
    # A repeated position asks for the same token on both sides.
    return (divergence * (pairs.clean_answer != pairs.corrupt_answer)).sum(-1)


def name_of(measure: Loss) -> str:
    """Its name in metadata. Raises `InputError` for a text other than `kl`."""
    if isinstance(measure, str) and measure != "kl":
        raise InputError(
            f"the loss is {measure!r}, expected 'kl' or a metric",
            hint="pass the function: circuits.logit_diff",
        )
    return measure if isinstance(measure, str) else metric_name(measure)
