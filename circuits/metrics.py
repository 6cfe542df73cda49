"""Logits at the pair's position -> one number per pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from tinysql.tokens import TokenPairs

Metric: TypeAlias = Callable[[Tensor, TokenPairs], Tensor]
"""`(logits [batch d_vocab], pairs) -> [batch]`: each pair's value from its own logits, never a mean over pairs.

For pairs of whole answers the logits are `[batch answer d_vocab]`, and the value sums over the answer's tokens.
"""

Logits = Float[Tensor, "batch d_vocab"] | Float[Tensor, "batch answer d_vocab"]


def logit_diff(logits: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Logit of the clean answer minus logit of the corrupt answer, in nats; high when the clean side is read."""
    return _summed(_picked(logits, pairs.clean_answer) - _picked(logits, pairs.corrupt_answer))


def answer_log_prob(logits: Logits, pairs: TokenPairs) -> Float[Tensor, " batch"]:
    """Log-probability of the clean answer, in nats; of a whole answer, of its tokens that the corrupt one has not."""
    differ = pairs.clean_answer != pairs.corrupt_answer
    return _summed(_picked(logits.log_softmax(-1), pairs.clean_answer) * differ)


def _picked(values: Tensor, token: Tensor) -> Tensor:
    return values.gather(-1, token[..., None]).squeeze(-1)


def _summed(values: Tensor) -> Float[Tensor, " batch"]:
    return values if values.ndim == 1 else values.sum(-1)
