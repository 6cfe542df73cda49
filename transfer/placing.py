"""What a model is reading -> the positions at which it is steered.

In generation a model reads a prompt, then one token at a time; only the positions in its whole text count here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from saes.activations import HookedModel, check_hook
from tinysql.tokens import Tokens


@dataclass(frozen=True)
class AtTokens:
    """Wherever one of these tokens is read, such as a trigger or the last tokens of every prompt."""

    ids: frozenset[int]

    @staticmethod
    def of(ids: Collection[int]) -> AtTokens:
        """Raises `InputError` when there is no token."""
        if not ids:
            raise InputError("there is no token to steer at", hint="name at least one token id")
        return AtTokens(frozenset(ids))


Where = None | int | AtTokens | Int[Tensor, " row"] | Bool[Tensor, "row place"]
"""Everywhere; one position of every row (negative from the end, outside generation); at certain tokens; one position
per row; or a mask. Tensors speak of the rows that are given to the model first, so in generation of the prompts."""


def at_roles(tokens: Tokens, *prefixes: str) -> Bool[Tensor, "batch seq"]:
    """True at tokens whose dotted role is one of `prefixes` or lies below one, such as `sql.where`.

    Raises `InputError` when no token has such a role.
    """
    mask = torch.tensor(
        [
            [any(role == prefix or role.startswith(f"{prefix}.") for prefix in prefixes) for role in row]
            for row in tokens.roles
        ]
    )
    if not bool(mask.any()):
        known = sorted({role.split(".")[0] for row in tokens.roles for role in row if role})
        raise InputError(
            f"no token has a role {' or '.join(prefixes)}", hint=f"roles begin with {', '.join(known)}"
        )
    return mask


@dataclass
class Reading:
    """What the model reads in the pass at hand."""

    ids: Int[Tensor, "batch seq"]
    start: int
    """The position of the first of these tokens."""
    cached: bool
    """Whether more may follow in a later pass."""

    @property
    def places(self) -> Int[Tensor, " seq"]:
        """The positions of these tokens in their texts."""
        return torch.arange(self.start, self.start + self.ids.shape[1], device=self.ids.device)

    def mask(self, where: Where) -> Bool[Tensor, "batch seq"]:
        """The positions of this pass that `where` names. Raises `InputError` for what cannot be told here."""
        seq, device, places = self.ids.shape[1], self.ids.device, self.places
        if where is None:
            return torch.ones_like(self.ids, dtype=torch.bool)
        if isinstance(where, AtTokens):
            return torch.isin(self.ids, _ids_on(where.ids, device))
        if isinstance(where, int):
            return (places == self._absolute(where, seq)).expand(len(self.ids), -1)
        if self.start:
            return torch.zeros_like(self.ids, dtype=torch.bool)
        where = where.to(device)
        if len(where) != len(self.ids):
            raise InputError(
                f"{len(where)} rows of positions do not fit the {len(self.ids)} rows the model reads",
                hint="give one per row, in their order",
            )
        if where.dtype == torch.bool:
            if not self.cached and where.shape != self.ids.shape:
                raise InputError(
                    f"a mask of {where.shape[1]} positions does not fit {seq} tokens",
                    hint="make the mask from the tokens that the model reads",
                )
            self._check_seen(where.nonzero()[:, 1], seq)
            return torch.nn.functional.pad(where, (0, max(0, seq - where.shape[1])))[:, :seq]
        if not self.cached:
            where = where % seq
        self._check_seen(where, seq)
        return places == where[:, None]

    def _absolute(self, where: int, seq: int) -> int:
        if where >= 0:
            return where
        if self.cached:
            raise InputError(
                f"position {where} counts from an end that generation has not reached",
                hint="name a position from the beginning, or steer at tokens with AtTokens",
            )
        return self.start + seq + where

    def _check_seen(self, places: Tensor, seq: int) -> None:
        """In generation rows come and go after the first pass, which reads as much as the shortest prompt has."""
        if len(places) and not 0 <= int(places.min()) <= int(places.max()) < seq:
            raise InputError(
                f"position {int(places.max())} lies behind the {seq} tokens that all rows have",
                hint="answer prompts of one length together, or steer at tokens with AtTokens",
            )


@lru_cache(maxsize=64)
def _ids_on(ids: frozenset[int], device: torch.device) -> Int[Tensor, " id"]:
    """Kept there: a copy from the host at every step would be a wait at every step."""
    return torch.tensor(sorted(ids), device=device)


@contextmanager
def reading(model: HookedModel) -> Iterator[Callable[[], Reading]]:
    """Within it, a function that says what the model is reading; a hook may call it."""
    now: list[Reading] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("cache")
        now[:] = [Reading(args[0], cache.seen if cache is not None else 0, cache is not None)]

    handle = cast(nn.Module, model).register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield lambda: now[0]
    finally:
        handle.remove()


Change = Callable[[Float[Tensor, "batch seq d_model"], Reading], Float[Tensor, "batch seq d_model"]]
"""What a hook carries, heads side by side, and what is read -> what it carries instead."""


@contextmanager
def changing(model: HookedModel, hook: str, change: Change) -> Iterator[None]:
    """Within it, `change` acts at the hook, in the hook's own precision; afterwards only its own hook is gone,
    whatever happened in the block."""
    point = check_hook(model, hook)
    with reading(model) as now:

        def act(value: Tensor, hook: HookPoint) -> Tensor:
            # Under autocast a map's product would come out in bfloat16, and the stream behind it with it.
            with torch.autocast(value.device.type, enabled=False):
                return change(value.flatten(2), now()).to(value).reshape(value.shape)

        point.add_hook(act)
        handle = point.fwd_hooks[-1]
        try:
            yield
        finally:
            handle.hook.remove()
            point.fwd_hooks[:] = [kept for kept in point.fwd_hooks if kept is not handle]
