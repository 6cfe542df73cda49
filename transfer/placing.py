"""What a model is reading -> the positions at which it is steered.

In generation a model reads a prompt, then one token at a time; only the positions in its whole text count here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
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
    """The tokens; all -1 where the model is given embeddings instead."""
    start: int | None
    """The position of the first of these tokens; None where a cache does not say how much it has seen."""
    cached: bool
    """Whether more may follow in a later pass."""
    attended: Tensor | None = None
    """The attention mask `[batch seq]` that the model is given, 0 at padding; None where it is given none."""
    embedded: bool = False
    """Whether the model is given embeddings, so that the tokens are not known."""

    @property
    def begin(self) -> int:
        """`start`; `InputError` where that cannot be told."""
        if self.start is None:
            raise InputError(
                "the model goes on from a cache that does not say how many tokens it has seen: positions are unknown",
                hint="generate without a cache (use_past_kv_cache=False), steer everywhere, or at tokens with AtTokens",
            )
        return self.start

    @property
    def places(self) -> Int[Tensor, " seq"]:
        """The positions of these tokens in their texts; `InputError` where they cannot be told."""
        return torch.arange(self.begin, self.begin + self.ids.shape[1], device=self.ids.device)

    @staticmethod
    def of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reading:
        """What a forward pass with these arguments reads, of ours or of transformers."""
        names = ("ids", "input_ids", "inputs_embeds")
        given = args[0] if args else next(kwargs[name] for name in names if kwargs.get(name) is not None)
        embedded = given.is_floating_point()
        mask = kwargs.get("attention_mask")
        start = _seen(kwargs)
        return Reading(
            ids=given.new_full(given.shape[:2], -1, dtype=torch.long) if embedded else given,
            start=start,
            # The first pass of a generation has no cache yet and asks for one.
            cached=start != 0 or _is_caching(kwargs),
            attended=mask if isinstance(mask, Tensor) and mask.ndim == 2 else None,
            embedded=embedded,
        )

    def mask(self, where: Where) -> Bool[Tensor, "batch seq"]:
        """The positions of this pass that `where` names. Raises `InputError` for what cannot be told here."""
        seq, device = self.ids.shape[1], self.ids.device
        if where is None:
            return torch.ones_like(self.ids, dtype=torch.bool)
        if isinstance(where, AtTokens):
            if self.embedded:
                raise InputError(
                    "the model is given embeddings, in which no token can be found",
                    hint="give it token ids, or name positions",
                )
            return torch.isin(self.ids, _ids_on(where.ids, device))
        places = self.places
        if isinstance(where, int):
            return (places == self._absolute(where, seq)).expand(len(self.ids), -1)
        if self.begin:
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
        if bool((where >= 0).any()):
            self._check_unpadded()
        if not self.cached:
            for place in where.tolist():
                _check_place(place, seq)
            where = where % seq
        self._check_seen(where, seq)
        return places == where[:, None]

    def _absolute(self, where: int, seq: int) -> int:
        if where >= 0:
            self._check_unpadded()
            if not self.cached:
                _check_place(where, seq)
            return where
        if self.cached:
            raise InputError(
                f"position {where} counts from an end that generation has not reached",
                hint="name a position from the beginning, or steer at tokens with AtTokens",
            )
        _check_place(where, seq)
        return seq + where

    def _check_unpadded(self) -> None:
        """Positions from the beginning are those of the text, which has to begin where the row does."""
        if self.begin == 0 and self.attended is not None and not bool(self.attended[:, 0].all()):
            raise InputError(
                "some rows are padded on the left, so that one position is another place in each of their texts",
                hint="give prompts of one length together, steer at tokens with AtTokens, or give a mask of the places",
            )

    def _check_seen(self, places: Tensor, seq: int) -> None:
        """In generation rows come and go after the first pass, which reads as much as the shortest prompt has."""
        if len(places) and int(places.min()) < 0:
            self._absolute(int(places.min()), seq)
        if len(places) and int(places.max()) >= seq:
            raise InputError(
                f"position {int(places.max())} lies behind the {seq} tokens that all rows have",
                hint="answer prompts of one length together, or steer at tokens with AtTokens",
            )


def _check_place(place: int, seq: int) -> None:
    if not -seq <= place < seq:
        raise InputError(
            f"position {place} is not among the {seq} tokens that the model reads",
            hint=f"give 0 to {seq - 1}, or -{seq} to -1 from the end; or steer at tokens with AtTokens",
        )


@lru_cache(maxsize=64)
def _ids_on(ids: frozenset[int], device: torch.device) -> Int[Tensor, " id"]:
    """Kept there: a copy from the host at every step would be a wait at every step."""
    return torch.tensor(sorted(ids), device=device)


CACHES = ("cache", "past_key_values", "past_kv_cache", "cache_params")
"""What models call the cache that they go on from: ours, transformers' of keys and values, TransformerLens' older one,
and transformers' of states."""


def _is_caching(kwargs: Mapping[str, Any]) -> bool:
    return bool(kwargs.get("use_cache")) or any(kwargs.get(name) is not None for name in CACHES)


def _seen(kwargs: Mapping[str, Any]) -> int | None:
    """How many tokens went before this pass; None where its cache does not say."""
    if kwargs.get("cache_position") is not None:
        return int(kwargs["cache_position"][0])
    caches = {name: kwargs[name] for name in CACHES if kwargs.get(name) is not None}
    if not caches:
        return 0
    if "cache" in caches:
        return int(caches["cache"].seen)
    if "past_key_values" in caches:
        return int(caches["past_key_values"].get_seq_length())
    return None


@contextmanager
def reading(model: HookedModel) -> Iterator[Callable[[], Reading]]:
    """Within it, a function that says what the model is reading; a hook may call it.

    A bridge is listened to at transformers' model inside it: that one is given token ids and the cache in every
    pass, also where `hf_generate` goes round the bridge.
    """
    now: list[Reading] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now[:] = [Reading.of(args, kwargs)]

    inner = cast(nn.Module, getattr(model, "original_model", model))
    handle = inner.register_forward_pre_hook(note, with_kwargs=True)
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
