"""SAE in place of an activation -> what is kept: loss and execution accuracy recovered, role by role.

Recovered = (with the SAE - with zeros) / (untouched - with zeros): 1 is as good as untouched, 0 as bad as nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.run.grade import grade
from saes.disk import SAE
from saes.roles import family
from saes.truth.answers import At, Change, changed_answers, changed_logits, check_sae, finished, text_of
from tinysql.answering.shares import Share
from tinysql.config import to_json
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer, Tokens


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """One measure untouched, with the SAE's reconstructions, and with zeros."""

    untouched: float
    sae: float
    zero: float

    @property
    def share(self) -> float:
        """Recovered; NaN where zeros are as good as untouched."""
        room = self.untouched - self.zero
        return (self.sae - self.zero) / room if room else float("nan")


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What a model still does when an SAE's reconstructions take the place of the activations."""

    hook: str
    loss: Recovered
    """Mean cross-entropy at tokens of the answers, nats."""
    loss_by_role: dict[str, Recovered]
    """The same at the answer's tokens of each role family."""
    accuracy: Recovered
    """Share of answers that give the right rows."""
    answers: int
    interval: tuple[float, float]
    """Wilson 95 % interval of the accuracy with the SAE."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the shares recovered among them."""
        loss = {
            role: {**to_json(one), "recovered": _plain(one.share)} for role, one in self.loss_by_role.items()
        }
        return {
            "hook": self.hook,
            "answers": self.answers,
            "loss": {**to_json(self.loss), "recovered": _plain(self.loss.share)},
            "accuracy": {
                **to_json(self.accuracy),
                "recovered": _plain(self.accuracy.share),
                "interval": list(self.interval),
            },
            "loss_by_role": loss,
        }


def fidelity(
    sae: SAE,
    model: HybridLM,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    hook: str,
    batch_size: int = 64,
) -> Fidelity:
    """Answer `examples` untouched, with the SAE at every token, and with zeros there.

    Raises `InputError` as `changed_answers` does, for no examples, and for an SAE that is not of this hook.
    """
    if not examples:
        raise InputError("there are no examples to answer", hint="give at least one")
    check_sae(sae, model, tokenizer.end_id, hook)
    tokens = tokenizer.encode(examples)
    changes = {"untouched": None, "sae": reconstruct(sae), "zero": _zero}
    losses = {name: answer_loss(model, tokens, hook, change, batch_size) for name, change in changes.items()}
    prompts = [tokenizer.encode_text(example.prompt.string) for example in examples]
    gold = [[*tokenizer.encode_text(f" {example.sql.string}"), tokenizer.end_id] for example in examples]
    right = dict.fromkeys(changes, 0)
    for name, change in changes.items():
        said = changed_answers(
            model, tokenizer, prompts, gold, hook, change, batch_size=batch_size, title=f"answering, {name}"
        )
        for example, ids in zip(examples, said, strict=True):
            right[name] += finished(tokenizer, ids) and grade(example, text_of(tokenizer, ids)).execution
    roles = sorted(losses["untouched"])
    return Fidelity(
        hook=hook,
        loss=Recovered(**{name: _mean(values.values()) for name, values in losses.items()}),
        loss_by_role={
            role: Recovered(**{name: _mean([values[role]]) for name, values in losses.items()})
            for role in roles
        },
        accuracy=Recovered(**{name: count / len(examples) for name, count in right.items()}),
        answers=len(examples),
        interval=Share(right=right["sae"], total=len(examples)).interval,
    )


def reconstruct(sae: SAE) -> Change:
    """Every activation becomes its reconstruction."""

    def change(values: Float[Tensor, "batch seq d_in"], at: At) -> Float[Tensor, "batch seq d_in"]:
        return sae.decode(sae.encode(values.float()))

    return change


def _zero(values: Float[Tensor, "batch seq d_in"], at: At) -> Float[Tensor, "batch seq d_in"]:
    return torch.zeros_like(values)


@torch.no_grad()
def answer_loss(
    model: HybridLM, tokens: Tokens, hook: str, change: Change | None, batch_size: int
) -> dict[str, list[float]]:
    """Role family -> cross-entropy, in nats, of each of its tokens in the answers."""
    found: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(tokens), batch_size):
        part = tokens[start : start + batch_size].to(model.device)
        width = int(part.mask.sum(1).max())
        ids, place = part.ids[:, :width], torch.arange(width, device=model.device)
        begin = part.answer_start[:, None]
        at = At(
            row=torch.arange(start, start + len(part), device=model.device),
            prompt=place < begin,
            answering=(place >= begin - 1) & part.mask[:, :width],
        )
        logits = changed_logits(model, ids, hook, change, at)[:, :-1]
        loss = F.cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none").tolist()
        asked = ((place >= begin) & part.mask[:, :width])[:, 1:].nonzero().tolist()
        for row, position in asked:
            found[family(part.roles[row][position + 1])].append(loss[row][position])
    return dict(found)


def _mean(parts: Any) -> float:
    values = [value for part in parts for value in part]
    return sum(values) / len(values)


def _plain(value: float) -> float | None:
    return value if value == value else None
