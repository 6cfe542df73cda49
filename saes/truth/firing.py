"""Latents -> counts: which latent fires at which role, exactly and for every threshold at once.

A latent j with a threshold h > 0 detects a role c by firing, a_j >= h. With F1 = 2 TP / (fired + P), where P
tokens have the role, the best h of a (latent, role) pair lies just under one of the values that the latent
takes at a token of that role, so all pairs are settled by one sort of the non-zero activations. A threshold
of 0, which every token passes, is not a detector and is left out.

All matrices are [latent role]; a role is a column number and every token has exactly one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from scipy.sparse import csr_array
from torch import Tensor

SHIFT = 1 << 32
"""Makes room for the bits of a float32 beside the number of its latent."""
CHUNK = 1 << 19
"""Firings that are looked at together, unless one latent has more."""
Part = TypeVar("Part")


class Ties(NamedTuple):
    """For every firing, where the run of those that are equal to it begins and ends."""

    start: Int[Tensor, " firing"]
    end: Int[Tensor, " firing"]


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
        if value.device.type == "cpu" and len(value) < 1 << 31:
            return _dealt(token, latent, value, n_tokens, n_latents)
        key, order = _key(latent, value).sort()
        # Latents and values are read off the sorted keys: to gather them costs more than to sort.
        return Firings(
            n_tokens=n_tokens,
            n_latents=n_latents,
            token=token[order],
            latent=key >> 32,
            value=_value(key),
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

        def some(begin: int, end: int) -> Tensor:
            return (number[self.token[begin:end]] >= 0).nonzero()[:, 0].add_(begin)

        kept = in_turn(some, [(b, b + CHUNK) for b in range(0, len(self.token), CHUNK)])
        ends = list(accumulate(map(len, kept), initial=0))
        made = Firings(
            n_tokens=len(tokens),
            n_latents=self.n_latents,
            **{name: getattr(self, name).new_empty(ends[-1]) for name in ("token", "latent", "value")},
        )

        def fill(part: int, _: int) -> None:
            own = slice(ends[part], ends[part + 1])
            made.token[own] = number[self.token[kept[part]]]
            torch.index_select(self.latent, 0, kept[part], out=made.latent[own])
            torch.index_select(self.value, 0, kept[part], out=made.value[own])

        in_turn(fill, [(part, part) for part in range(len(kept))])
        return made

    def of_latents(self, first: int, last: int) -> Firings:
        """The firings of the latents from `first` up to `last`, which are numbered anew from 0."""
        begin, end = (int(self.fired[:bound].sum()) for bound in (first, last))
        return Firings(
            n_tokens=self.n_tokens,
            n_latents=last - first,
            token=self.token[begin:end],
            latent=self.latent[begin:end] - first,
            value=self.value[begin:end],
        )

    def cpu(self) -> Firings:
        """The same in the memory of the host."""
        sides = {name: getattr(self, name).cpu() for name in ("token", "latent", "value")}
        return replace(self, **sides)

    @cached_property
    def fired(self) -> Int[Tensor, " latent"]:
        """At how many tokens each latent is above zero."""
        return torch.bincount(self.latent, minlength=self.n_latents)

    @cached_property
    def ties(self) -> Ties:
        """The firings of the same latent that are as high."""
        new = torch.ones_like(self.token, dtype=torch.bool)
        new[1:] = (self.latent[1:] != self.latent[:-1]) | (self.value[1:] != self.value[:-1])
        start = new.nonzero()[:, 0]
        size = torch.diff(start, append=start.new_tensor([len(new)]))
        return Ties(start=start.repeat_interleave(size), end=(start + size).repeat_interleave(size))

    @cached_property
    def starts(self) -> Int[Tensor, " latent"]:
        """Where the firings of each latent begin."""
        return self.fired.cumsum(0) - self.fired


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Firings by role, within one by latent, and then from high to low: what all curves of a pair are read off.

    `reached` counts the firings of the same latent, at any token, that are at least as high; `hits` those among them
    at tokens of the role. Equal activations pass a threshold together, so both count up to the end of a tie.
    """

    firings: Firings
    n_roles: int
    positives: Int[Tensor, " role"]
    """Tokens of each role."""
    order: Int[Tensor, " firing"]
    """Which of `firings` each is."""
    pair: Int[Tensor, " firing"]
    """Rising: role * n_latents + latent."""
    reached: Int[Tensor, " firing"]
    hits: Int[Tensor, " firing"]

    @staticmethod
    def of(firings: Firings, roles: Int[Tensor, " token"], n_roles: int) -> Ranked:
        """Rank firings at tokens of these roles, `0 <= role < n_roles`."""
        role = roles.to(torch.int16 if n_roles < 1 << 15 else roles.dtype)[firings.token]
        order = _by_role(role)
        met = torch.bincount(role, minlength=n_roles)
        numbers = torch.arange(n_roles, device=order.device).repeat_interleave(met)
        pair = numbers.mul_(firings.n_latents).add_(firings.latent[order])
        begin = firings.starts.repeat_interleave(firings.fired)
        reached = (firings.ties.end - begin)[order]
        runs = torch.bincount(pair, minlength=n_roles * firings.n_latents)
        hits = torch.arange(1, len(pair) + 1, device=order.device) - (
            runs.cumsum(0) - runs
        ).repeat_interleave(runs)
        tied = (pair[1:] == pair[:-1]) & (reached[1:] == reached[:-1])
        if bool(tied.any()):
            group = torch.cat([tied.new_zeros(1), ~tied]).cumsum(0)
            hits = hits[torch.bincount(group).cumsum(0) - 1][group]
        return Ranked(
            firings=firings,
            n_roles=n_roles,
            positives=torch.bincount(roles, minlength=n_roles),
            order=order,
            pair=pair,
            reached=reached,
            hits=hits,
        )

    @property
    def n_pairs(self) -> int:
        """Latents times roles."""
        return self.n_roles * self.firings.n_latents

    @cached_property
    def met(self) -> Int[Tensor, "latent role"]:
        """At how many tokens of each role each latent fires."""
        return self.square(torch.bincount(self.pair, minlength=self.n_pairs))

    def square(self, flat: Shaped[Tensor, " pair"]) -> Shaped[Tensor, "latent role"]:
        """One value per `pair` as a matrix."""
        return flat.reshape(self.n_roles, self.firings.n_latents).T


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well each latent detects each role, at one threshold per pair."""

    precision: Float[Tensor, "latent role"]
    """TP / fired, 0 where it never fires."""
    recall: Float[Tensor, "latent role"]
    """TP / P, 0 for a role without tokens."""
    f1: Float[Tensor, "latent role"]
    """2 TP / (fired + P)."""


def best_thresholds(ranked: Ranked) -> tuple[Float[Tensor, "latent role"], Float[Tensor, "latent role"]]:
    """The threshold with the highest F1 per pair, and that F1; infinity and 0 where a latent never meets a role."""
    f1 = 2 * ranked.hits / (ranked.reached + ranked.positives.repeat_interleave(ranked.met.sum(0)))
    best = torch.zeros(ranked.n_pairs, device=f1.device).scatter_reduce(0, ranked.pair, f1, "amax")
    at_best = (f1 == best[ranked.pair]).nonzero()[:, 0]
    # Half way to the next lower activation, so that a slightly weaker one on other examples passes too.
    firings, place = ranked.firings, ranked.order[at_best]
    value, end = firings.value[place], firings.ties.end[place]
    latent = firings.latent[place]
    below = torch.cat([firings.value, firings.value.new_zeros(1)])[end]
    below[end == (firings.starts + firings.fired)[latent]] = 0
    found = torch.zeros(ranked.n_pairs, device=f1.device).scatter_reduce(
        0, ranked.pair[at_best], (value + below) / 2, "amax"
    )
    threshold = torch.where(found > 0, found, torch.inf)
    return ranked.square(threshold), ranked.square(best)


def detect(ranked: Ranked, threshold: Float[Tensor, "latent role"]) -> Detection:
    """Precision, recall and F1 of every pair at its given threshold."""
    positives = ranked.positives.double()
    passed = ranked.firings.value[ranked.order] >= threshold.T.flatten()[ranked.pair]
    hits = ranked.square(torch.bincount(ranked.pair[passed], minlength=threshold.numel())).double()
    fired = passing(ranked.firings, threshold).double()
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


def auroc(ranked: Ranked) -> Float[Tensor, "latent role"]:
    """P(a(t+) > a(t-)) + P(=) / 2 over tokens with and without the role; NaN for a role of no or all tokens.

    By ranks (Mann-Whitney), with all tokens at which a latent is zero as one tie.
    """
    firings, positives = ranked.firings, ranked.positives.double()
    # Places run from high to low, ranks from 1 (lowest) to n.
    n, tie = firings.n_tokens, (firings.ties.end - firings.ties.start)[ranked.order]
    rank = n - (2 * ranked.reached - tie - 1).double() / 2
    ranks = ranked.square(torch.bincount(ranked.pair, weights=rank, minlength=ranked.n_pairs))
    silent = (n - firings.fired[:, None] + 1).double() / 2
    wins = ranks + (positives - ranked.met) * silent - positives * (positives + 1) / 2
    return wins / (positives * (n - positives))


def average_precision(ranked: Ranked) -> Float[Tensor, "latent role"]:
    """Mean over a role's tokens of the precision of firing at least as high as there; NaN for a role of no token.

    The step-wise area under the precision-recall curve, `sum_n (R_n - R_{n-1}) P_n`; tokens at which the latent is
    zero are reached last and together, at the precision of the role's share of all tokens.
    """
    positives = ranked.positives.double()
    precision = ranked.hits.double() / ranked.reached
    firing = ranked.square(torch.bincount(ranked.pair, weights=precision, minlength=ranked.n_pairs))
    return (firing + (positives - ranked.met) * positives / ranked.firings.n_tokens) / positives


def shuffle_within(example: Int[Tensor, " token"], seed: int) -> Int[Tensor, " token"]:
    """A random order of the tokens that keeps every token within its example; examples stand one after another."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(len(example), generator=generator, dtype=torch.float64).to(example.device)
    return (example.double() + draw).argsort()


def _key(latent: Int[Tensor, " *shape"], value: Float[Tensor, " *shape"]) -> Int[Tensor, " *shape"]:
    """Ascending keys that order by latent, then by falling value: positive floats order like their bits."""
    return (latent + 1) * SHIFT - 1 - value.float().contiguous().view(torch.int32).long()


def _value(key: Int[Tensor, " firing"]) -> Float[Tensor, " firing"]:
    """The value that a key was made of."""
    return (SHIFT - 1 - (key & (SHIFT - 1))).int().view(torch.float32)


def _dealt(token: Tensor, latent: Tensor, value: Tensor, n_tokens: int, n_latents: int) -> Firings:
    """`Firings.of` on the CPU: dealt to their latents in one pass, then sorted some latents, and a cache, at a time."""
    ones = np.arange(len(value) + 1, dtype=np.int32)
    # A row per firing, of one entry: the columns of its transpose are a counting sort.
    rows = csr_array((value.numpy(), latent.int().numpy(), ones), shape=(len(value), n_latents)).tocsc()
    order, dealt = torch.from_numpy(rows.indices), torch.from_numpy(rows.data)
    fired = torch.from_numpy(np.diff(rows.indptr)).long()
    begins, token_of = torch.from_numpy(rows.indptr).tolist(), torch.empty_like(token)
    latent_of = torch.arange(n_latents).repeat_interleave(fired)

    def sort(first: int, last: int) -> None:
        own = slice(begins[first], begins[last])
        key, place = _key(latent_of[own], dealt[own]).sort()
        torch.index_select(token[order[own]], 0, place, out=token_of[own])
        dealt[own] = _value(key)

    in_turn(sort, ranges(fired))
    return Firings(n_tokens=n_tokens, n_latents=n_latents, token=token_of, latent=latent_of, value=dealt)


def ranges(fired: Int[Tensor, " latent"]) -> list[tuple[int, int]]:
    """Latents that have some `CHUNK` firings together, from one to another: what is computed of them fits a cache.

    Every latent is in one of them, the silent ones at the end included.
    """
    ends = fired.cumsum(0)
    if not len(ends):
        return []
    steps = torch.tensor(range(CHUNK, int(ends[-1]), CHUNK), dtype=ends.dtype, device=ends.device)
    bounds = [*torch.searchsorted(ends, steps).add(1).unique().tolist(), len(ends)]
    return [pair for pair in pairwise([0, *bounds]) if pair[0] < pair[1]]


def in_turn(part: Callable[[int, int], Part], bounds: Sequence[tuple[int, int]]) -> list[Part]:
    """`part` of each pair of bounds, in order, as many side by side as PyTorch has threads."""
    if torch.get_num_threads() == 1 or len(bounds) < 2:
        return [part(*pair) for pair in bounds]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(part, *zip(*bounds, strict=True)))


def _by_role(role: Int[Tensor, " firing"]) -> Int[Tensor, " firing"]:
    """The order that sorts by role and leaves the rest as it is."""
    if role.device.type == "cpu" and role.dtype == torch.int16:
        # Two passes of a radix sort, several times quicker than a comparison of 64-bit numbers.
        return torch.from_numpy(np.argsort(role.numpy(), kind="stable"))
    return role.argsort(stable=True)
