"""Logits at the pair's position -> one number per pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float, Int
from torch import Tensor

from tinysql.tokens import TokenPairs

Metric: TypeAlias = Callable[[Tensor, TokenPairs], Tensor]
"""`(logits [batch d_vocab], pairs) -> [batch]`: each pair's value from its own logits, never a mean over pairs."""


def logit_diff(logits: Float[Tensor, "batch d_vocab"], pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Logit of the clean answer minus logit of the corrupt answer, in nats; high when the clean side is read."""
    return _picked(logits, pairs.clean_answer) - _picked(logits, pairs.corrupt_answer)


def answer_log_prob(logits: Float[Tensor, "batch d_vocab"], pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Log-probability of the clean answer, in nats."""
    return _picked(logits.log_softmax(-1), pairs.clean_answer)


def _picked(values: Float[Tensor, "batch d_vocab"], token: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return values.gather(-1, token[:, None]).squeeze(-1)
