"""Logits at the pair's position -> one number per pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from tinysql.tokens import TokenPairs

Metric: TypeAlias = Callable[[Tensor, TokenPairs], Tensor]
"""`(logits [batch d_vocab], pairs) -> [batch]`: each pair's value from its own logits, never a mean over pairs.

For pairs of whole answers the logits are `[batch answer d_vocab]`, and the value sums over the answer's tokens.
"""

SMALLEST = 1e-6
"""A difference of the metric below which the two sides of a pair are the same, in its units."""

Logits = Float[Tensor, "batch d_vocab"] | Float[Tensor, "batch answer d_vocab"]


def logit_diff(logits: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Logit of the clean answer minus logit of the corrupt answer, in nats; high when the clean side is read."""
    return _summed(_picked(logits, pairs.clean_answer) - _picked(logits, pairs.corrupt_answer))


def answer_log_prob(logits: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Log-probability of the clean answer, in nats; of a whole answer, of its tokens that the corrupt one has not."""
    differ = pairs.clean_answer != pairs.corrupt_answer
    return _summed(_picked(logits.log_softmax(-1), pairs.clean_answer) * differ)


def measured(metric: Metric, logits: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """`metric(logits, pairs)`. Raises `InputError` unless that is one number per pair, computed from the logits."""
    if not callable(metric):
        raise InputError(
            f"the metric is {metric!r}, expected a function of logits and pairs",
            hint="pass the function itself: circuits.logit_diff",
        )
    found = metric(logits, pairs)
    shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != [len(pairs)]:
        raise InputError(
            f"the metric gives {shape} for {len(pairs)} pairs, expected one number for each",
            hint="return each pair's own value, as circuits.logit_diff does, not a sum or a mean over pairs",
        )
    if logits.requires_grad and not found.requires_grad:
        raise InputError(
            "the metric does not depend on the logits, so there is nothing to attribute",
            hint="compute it from the logits it is given, without detaching them",
        )
    return found


def check_moves(clean: Float[Tensor, " example"], corrupt: Float[Tensor, " example"], edit: str) -> None:
    """Raises `InputError` where a metric is not finite, or the same on both sides of every pair."""
    check_finite("metric", torch.stack([clean, corrupt]))
    if float((clean - corrupt).abs().max()) < SMALLEST:
        raise InputError(
            f"the metric is {float(clean.mean()):.4g} on both sides of every pair of edit `{edit}`, so there is nothing"
            " to attribute",
            hint="give pairs whose sides differ in front of the answer, and a metric that tells them apart",
        )


def check_finite(what: str, values: Tensor) -> None:
    """Raises `InputError` where one of `values` is NaN or infinite."""
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise InputError(
            f"{broken} of {values.numel()} values of the {what} are not finite",
            hint="look for NaN in the model's weights, or run it in float32",
        )


def check_weights(weights: Iterable[tuple[str, Tensor]]) -> None:
    """Raises `InputError` where one of a model's named weights holds NaN or infinity.

    Fused attention takes a score of NaN for one that is masked, so that such a model may still say finite numbers.
    """
    named = list(weights)
    # Sums pass NaN and infinity on, cost far less than looking at each number, and are waited for together.
    sums = torch.stack([weight.detach().sum().float() for _, weight in named])
    for (name, weight), finite in zip(named, sums.isfinite().tolist(), strict=True):
        broken = 0 if finite else int((~weight.isfinite()).sum())
        if broken:
            raise InputError(
                f"weight `{name}` of the model has {broken} of {weight.numel()} numbers that are not finite,"
                " expected finite numbers alone",
                hint="load an earlier checkpoint of the model",
            )


def metric_name(metric: Metric) -> str:
    """What a metric is called in metadata: the function's name, where it has one."""
    return getattr(metric, "__name__", repr(metric))


def _picked(values: Tensor, token: Tensor) -> Tensor:
    return values.gather(-1, token[..., None]).squeeze(-1)


def _summed(values: Tensor) -> Float[Tensor, " batch"]:
    return values if values.ndim == 1 else values.sum(-1)
