"""Latents -> counts: which latent fires at which role, exactly and for every threshold at once.

A latent j with a threshold h > 0 detects a role c by firing, a_j >= h. With F1 = 2 TP / (fired + P), where P
tokens have the role, the best h of a (latent, role) pair lies just under one of the values that the latent
takes at a token of that role, so all pairs are settled by one sort of the non-zero activations. A threshold
of 0, which every token passes, is not a detector and is left out.

All matrices are [latent role]; a role is a column number and every token has exactly one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHIFT = 1 << 32
"""Makes room for the bits of a float32 beside the number of its latent."""


@dataclass(frozen=True, kw_only=True)
class Firings:
    """The activations above zero of a [token latent] matrix, by latent and, within one, from high to low."""

    n_tokens: int
    n_latents: int
    token: Int[Tensor, " firing"]
    latent: Int[Tensor, " firing"]
    value: Float[Tensor, " firing"]

    @staticmethod
    def of(
        token: Int[Tensor, " firing"],
        latent: Int[Tensor, " firing"],
        value: Float[Tensor, " firing"],
        *,
        n_tokens: int,
        n_latents: int,
    ) -> Firings:
        """Sort firings given in any order; `value` is float32 and above zero."""
        order = _key(latent, value).argsort()
        return Firings(
            n_tokens=n_tokens,
            n_latents=n_latents,
            token=token[order],
            latent=latent[order],
            value=value[order],
        )

    @staticmethod
    def from_dense(latents: Float[Tensor, "token latent"]) -> Firings:
        """The entries above zero."""
        token, latent = (latents > 0).nonzero(as_tuple=True)
        n_tokens, n_latents = latents.shape
        return Firings.of(
            token, latent, latents[token, latent].float(), n_tokens=n_tokens, n_latents=n_latents
        )

    def among(self, tokens: Int[Tensor, " kept"]) -> Firings:
        """The firings at `tokens`, which are numbered anew from 0."""
        number = torch.full((self.n_tokens,), -1, device=self.token.device)
        number[tokens] = torch.arange(len(tokens), device=self.token.device)
        moved = number[self.token]
        kept = moved >= 0
        return Firings(
            n_tokens=len(tokens),
            n_latents=self.n_latents,
            token=moved[kept],
            latent=self.latent[kept],
            value=self.value[kept],
        )

    @property
    def fired(self) -> Int[Tensor, " latent"]:
        """At how many tokens each latent is above zero."""
        return torch.bincount(self.latent, minlength=self.n_latents)

    @property
    def starts(self) -> Int[Tensor, " latent"]:
        """Where the firings of each latent begin."""
        return self.fired.cumsum(0) - self.fired


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well each latent detects each role, at one threshold per pair."""

    precision: Float[Tensor, "latent role"]
    """TP / fired, 0 where it never fires."""
    recall: Float[Tensor, "latent role"]
    """TP / P, 0 for a role without tokens."""
    f1: Float[Tensor, "latent role"]
    """2 TP / (fired + P)."""


def best_thresholds(
    firings: Firings, roles: Int[Tensor, " token"], n_roles: int
) -> tuple[Float[Tensor, "latent role"], Float[Tensor, "latent role"]]:
    """The threshold with the highest F1 per pair, and that F1; infinity and 0 where a latent never meets a role."""
    key = _key(firings.latent, firings.value)
    pair = firings.latent * n_roles + roles[firings.token]
    # Equal values pass a threshold together, so each firing counts up to the end of its tie.
    ends = torch.unique_consecutive(key, return_counts=True)[1]
    last = ends.cumsum(0).repeat_interleave(ends)
    fired = last - firings.starts[firings.latent]
    # Within a tie, the last firing of a role has its right count; the earlier ones only fall short of it.
    f1 = 2 * _running_count(pair) / (fired + torch.bincount(roles, minlength=n_roles)[pair % n_roles])
    size = firings.n_latents * n_roles
    best = torch.zeros(size, dtype=f1.dtype, device=f1.device).scatter_reduce(0, pair, f1, "amax")
    # Half way to the next lower activation, so that a slightly weaker one on other examples passes too.
    below = torch.cat([firings.value, firings.value.new_zeros(1)])[last]
    below = torch.where(last - firings.starts[firings.latent] < firings.fired[firings.latent], below, 0)
    at_best = f1 == best[pair]
    middle = ((firings.value + below) / 2)[at_best]
    found = torch.zeros(size, device=f1.device).scatter_reduce(0, pair[at_best], middle, "amax")
    threshold = torch.where(found > 0, found, torch.inf)
    return threshold.reshape(-1, n_roles), best.reshape(-1, n_roles)


def detect(
    firings: Firings, roles: Int[Tensor, " token"], threshold: Float[Tensor, "latent role"]
) -> Detection:
    """Precision, recall and F1 of every pair at its given threshold."""
    n_latents, n_roles = threshold.shape
    positives = torch.bincount(roles, minlength=n_roles).double()
    role = roles[firings.token]
    passed = firings.value >= threshold[firings.latent, role]
    pair = (firings.latent * n_roles + role)[passed]
    hits = torch.bincount(pair, minlength=n_latents * n_roles).reshape(-1, n_roles).double()
    fired = passing(firings, threshold).double()
    return Detection(
        precision=hits / fired.clamp_min(1),
        recall=hits / positives.clamp_min(1),
        f1=2 * hits / (fired + positives).clamp_min(1),
    )


def passing(firings: Firings, threshold: Float[Tensor, "latent role"]) -> Int[Tensor, "latent role"]:
    """At how many tokens each latent reaches each of its thresholds."""
    latent = torch.arange(firings.n_latents, device=threshold.device)[:, None].expand_as(threshold)
    keys = _key(firings.latent, firings.value)
    end = torch.searchsorted(keys, _key(latent, threshold).contiguous(), right=True)
    return end - firings.starts[:, None]


def auroc(firings: Firings, roles: Int[Tensor, " token"], n_roles: int) -> Float[Tensor, "latent role"]:
    """P(a(t+) > a(t-)) + P(=) / 2 over tokens with and without the role; NaN for a role of no or all tokens.

    By ranks (Mann-Whitney), with all tokens at which a latent is zero as one tie.
    """
    n, positives = firings.n_tokens, torch.bincount(roles, minlength=n_roles).double()
    pair = firings.latent * n_roles + roles[firings.token]
    ties = torch.unique_consecutive(_key(firings.latent, firings.value), return_counts=True)[1]
    end = ties.cumsum(0).repeat_interleave(ties)
    start = end - ties.repeat_interleave(ties)
    # Positions run from high to low, ranks from 1 (lowest) to n.
    rank = n - (start + end - 1 - 2 * firings.starts[firings.latent]).double() / 2
    size = firings.n_latents * n_roles
    ranks = torch.bincount(pair, weights=rank, minlength=size).reshape(-1, n_roles)
    met = torch.bincount(pair, minlength=size).reshape(-1, n_roles).double()
    silent = (n - firings.fired[:, None] + 1).double() / 2
    wins = ranks + (positives - met) * silent - positives * (positives + 1) / 2
    return wins / (positives * (n - positives))


def detector_counts(
    firings: Firings,
    example: Int[Tensor, " token"],
    wanted: Bool[Tensor, "detector token"],
    *,
    latent: Int[Tensor, " detector"],
    threshold: Float[Tensor, " detector"],
) -> Float[Tensor, "count detector example"]:
    """Per example, how often each detector is right, fires, and has a token to find: what a bootstrap resamples.

    `wanted` is True at the tokens that a detector is to find; `example` numbers the examples of the tokens from 0.
    """
    n_examples, starts, fired = int(example.max()) + 1, firings.starts.tolist(), firings.fired.tolist()
    counts = torch.zeros(3, len(latent), n_examples, dtype=torch.float64, device=example.device)
    for i, (j, h) in enumerate(zip(latent.tolist(), threshold.tolist(), strict=True)):
        own = slice(starts[j], starts[j] + fired[j])
        where = firings.token[own][firings.value[own] >= h]
        for row, tokens in enumerate((where[wanted[i, where]], where, wanted[i].nonzero()[:, 0])):
            counts[row, i] = torch.bincount(example[tokens], minlength=n_examples)
    return counts


def shuffle_within(example: Int[Tensor, " token"], seed: int) -> Int[Tensor, " token"]:
    """A random order of the tokens that keeps every token within its example; examples stand one after another."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(len(example), generator=generator, dtype=torch.float64).to(example.device)
    return (example.double() + draw).argsort()


def _key(latent: Int[Tensor, " *shape"], value: Float[Tensor, " *shape"]) -> Int[Tensor, " *shape"]:
    """Ascending keys that order by latent, then by falling value: positive floats order like their bits."""
    return (latent + 1) * SHIFT - 1 - value.float().contiguous().view(torch.int32).long()


def _running_count(pair: Int[Tensor, " firing"]) -> Int[Tensor, " firing"]:
    """How often each entry's own value has occurred up to and including it."""
    order = pair.argsort(stable=True)
    sizes = torch.unique_consecutive(pair[order], return_counts=True)[1]
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    count = torch.empty_like(pair)
    count[order] = torch.arange(len(pair), device=pair.device) - starts + 1
    return count
