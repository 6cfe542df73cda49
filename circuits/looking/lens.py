"""Residual stream at each depth -> the next token as the model would say it there: logit lens and tuned lens.

Logit lens (nostalgebraist, 2020): `unembed(ln_final(stream))`, *with* the final norm; without it a stream before the
last block is read at a scale that the unembedding never sees. Tuned lens: `unembed(ln_final(translator(stream)))`
with an affine translator per depth (`circuits/looking/translators.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits.looking.by_role import Grouping, RoleMeans, Targets, role_means, targets_of
from circuits.looking.running import HookedLM, look, pair_batches, row_batches, stream_hooks
from circuits.looking.translators import TunedLens
from circuits.metrics import check_finite, check_weights
from saes.roles import family
from tinysql.tokens import TokenPairs, Tokens

Translator: TypeAlias = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class LensReading:
    """What a lens says about every target at every depth; depth 0 is the embedding, depth *d* is behind block d-1."""

    lens: Literal["logit", "tuned"]
    depths: tuple[str, ...]
    """`embed`, `blocks.0`, ...: whose output the stream is."""
    targets: Targets
    rank: Int[Tensor, "target depth"]
    """Rank of the right token; 1 is on top. Equal logits share the better rank."""
    log_prob: Float[Tensor, "target depth"]
    """Log-probability of the right token, in nats."""
    kl: Float[Tensor, "target depth"]
    """KL divergence from the model's own prediction to the lens', in nats."""

    @property
    def first_on_top(self) -> Int[Tensor, " target"]:
        """The first depth at which the right token is on top; `len(depths)` where it never is."""
        return _first(self.rank == 1)

    @property
    def settled(self) -> Int[Tensor, " target"]:
        """The first depth from which on the right token stays on top; `len(depths)` where it is not at the end."""
        return _first((self.rank == 1).flip(1).cummin(1).values.flip(1))

    def probability(self, *, seed: int = 0) -> RoleMeans:
        """Mean probability of the right token, `[role depth]`."""
        return role_means(self.log_prob.exp(), self.targets, seed=seed)

    def on_top(self, *, seed: int = 0) -> RoleMeans:
        """Share of targets whose right token is on top, `[role depth]`."""
        return role_means((self.rank == 1).float(), self.targets, seed=seed)

    def log2_rank(self, *, seed: int = 0) -> RoleMeans:
        """Mean of log2 rank, `[role depth]`: 0 on top. A mean of ranks would be that of the worst few."""
        return role_means(self.rank.float().log2(), self.targets, seed=seed)

    def divergence(self, *, seed: int = 0) -> RoleMeans:
        """Mean KL divergence from the model's own prediction, nats, `[role depth]`."""
        return role_means(self.kl, self.targets, seed=seed)

    def first_depths(self, *, seed: int = 0) -> RoleMeans:
        """Share of targets first on top at each depth, `[role depth+1]`; the last column is "never"."""
        one_hot = torch.nn.functional.one_hot(self.first_on_top, len(self.depths) + 1)
        return role_means(one_hot.float(), self.targets, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Every mean by role and depth, as plain JSON values."""
        return {
            "lens": self.lens,
            "depths": list(self.depths),
            "targets": len(self.targets),
            "rows": len(self.targets.row.unique()),
            "probability": self.probability().table(self.depths),
            "on_top": self.on_top().table(self.depths),
            "log2_rank": self.log2_rank().table(self.depths),
            "kl": self.divergence().table(self.depths),
            "first_on_top": self.first_depths().table((*self.depths, "never")),
        }


def logit_lens(
    model: HookedLM, examples: Tokens | TokenPairs, *, group: Grouping = family, batch_size: int = 64
) -> LensReading:
    """Read every answer token (of pairs: the token in which the answers part) off the stream at every depth.

    Raises `InputError` for no examples, a batch size below 1, rows longer than the model's context, or a model
    whose weights or readings are not finite.
    """
    return _read(model, examples, group, batch_size, lens="logit", translate=lambda stream, depth: stream)


def tuned_lens(
    model: HookedLM,
    examples: Tokens | TokenPairs,
    translators: TunedLens,
    *,
    group: Grouping = family,
    batch_size: int = 64,
) -> LensReading:
    """The same through the translators, on rows that they were not fitted on.

    Raises `InputError` as `logit_lens`, for translators of another model, and for rows they were fitted on.
    """
    translators.check(model)
    translators.check_unseen(examples.clean if isinstance(examples, TokenPairs) else examples)
    return _read(model, examples, group, batch_size, lens="tuned", translate=translators)


@torch.no_grad()
def _read(
    model: HookedLM,
    examples: Tokens | TokenPairs,
    group: Grouping,
    batch_size: int,
    *,
    lens: Literal["logit", "tuned"],
    translate: Translator,
) -> LensReading:
    check_weights(model.named_parameters())
    hooks, found, done = stream_hooks(model), [], 0
    if isinstance(examples, TokenPairs):
        batches = [batch.clean for batch in pair_batches(model, examples, batch_size)]
    else:
        batches = row_batches(model, examples, batch_size)
    targets = targets_of(examples, group)
    for batch in batches:
        here = targets.of_rows(done, done + len(batch))
        rows, positions = targets.row[here] - done, targets.position[here]
        seen, done = look(model, batch.ids, hooks), done + len(batch)
        token = targets.token[here].to(batch.ids.device)
        final = seen.logits[rows, positions].log_softmax(-1)
        streams = enumerate(seen.at[hook][rows, positions] for hook in hooks)
        found.append([_scored(model, translate(stream, depth), token, final) for depth, stream in streams])
    rank, log_prob, kl = (
        torch.cat([torch.stack([depth[i] for depth in batch], dim=1) for batch in found]).cpu()
        for i in range(3)
    )
    check_finite(f"{lens} lens", torch.stack([log_prob, kl]))
    depths = ("embed", *(f"blocks.{index}" for index in range(len(model.blocks))))
    return LensReading(
        lens=lens, depths=depths, targets=targets, rank=rank.long(), log_prob=log_prob.float(), kl=kl.float()
    )


def _scored(
    model: HookedLM,
    stream: Float[Tensor, "target d_model"],
    token: Int[Tensor, " target"],
    final: Float[Tensor, "target d_vocab"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Rank and log-probability of the right token, and KL from the final prediction."""
    log_probs = said(model, stream).log_softmax(-1)
    own = log_probs.gather(-1, token[:, None])
    return (log_probs > own).sum(-1) + 1, own[:, 0], (final.exp() * (final - log_probs)).sum(-1)


def said(model: HookedLM, stream: Float[Tensor, "target d_model"]) -> Float[Tensor, "target d_vocab"]:
    """Logits of a stream: the final norm, then the unembedding."""
    logits: Tensor = model.unembed(model.ln_final(stream[None]))
    return logits[0]


def _first(true: Tensor) -> Int[Tensor, " target"]:
    """Index of the first true entry of each line; the line's length where there is none."""
    behind = torch.cat([true, torch.ones_like(true[:, :1])], dim=1)
    return behind.int().argmax(1)
