"""Pairs -> what one activation is worth: put the other side's value there, and see how far the metric comes along.

Denoising puts clean values into the corrupt run (is it enough?), noising corrupt values into the clean run (is it
needed?); Heimersheim & Nanda, arXiv 2404.15255. The share is `(m(patched) - m(base)) / (m(other) - m(base))`, where
base is the run that is patched and other the side the values come from: 0 nothing moves, 1 all of it does.
A set of positions is patched together: one position each, or all tokens of a role.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.looking.by_role import Grouping, Means, ratio_means
from circuits.looking.running import (
    HookedLM,
    Rerun,
    at_position,
    check_batch_size,
    check_hooks,
    check_single,
    look,
    pair_batches,
    stream_hooks,
)
from circuits.metrics import SMALLEST, Metric, check_finite, check_weights, logit_diff, measured, metric_name
from data_gen.errors import InputError, nearest
from saes.activations import ACROSS_TOKENS
from saes.roles import family
from tinysql.tokens import TokenPairs

STATE = "mamba.hook_state"
CAPTURED = 32
"""Pairs whose activations are held at once."""

Sets: TypeAlias = Callable[[TokenPairs], Bool[Tensor, "set batch seq"]]


class Direction(StrEnum):
    """Which side is patched into which."""

    DENOISE = "denoise"
    NOISE = "noise"

    @classmethod
    def named(cls, name: str) -> Direction:
        """The direction of that name; `InputError` otherwise."""
        if name not in list(cls):
            raise InputError(
                f"unknown direction `{name}`{nearest(name, list(cls))}", hint=f"known: {', '.join(cls)}"
            )
        return cls(name)


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchEffects:
    """The metric of every pair under every patch."""

    hooks: tuple[str, ...]
    sets: tuple[str, ...]
    """What is patched together: positions `0`, `1`, ..., or roles."""
    direction: Direction
    metric: str
    edit: str
    values: Float[Tensor, "example hook set"]
    """In units of the metric; that of the base run where a pair has nothing in the set."""
    base: Float[Tensor, " example"]
    """The run that is patched: corrupt when denoising, clean when noising."""
    other: Float[Tensor, " example"]
    """The side the values come from."""
    roles: tuple[tuple[str, ...], ...]
    """The role of every token of each pair's clean side, `""` at padding."""

    @property
    def per_example(self) -> Float[Tensor, "example hook set"]:
        """Each pair's own share; wild where the metric hardly differs between the pair's sides."""
        base, other = self.base[:, None, None], self.other[:, None, None]
        return (self.values - base) / (other - base)

    def share(self, *, seed: int = 0) -> Means:
        """Share of the metric that comes along, a ratio of means over pairs, `[hook set]`."""
        moved = (self.values - self.base[:, None, None]).double()
        whole = (self.other - self.base).double()[:, None, None].expand_as(moved)
        return ratio_means(moved.numpy(), whole.numpy(), seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Shares with intervals, as plain JSON values."""
        share = self.share()
        return {
            "direction": str(self.direction),
            "metric": self.metric,
            "edit": self.edit,
            "pairs": len(self.base),
            "metric_base": float(self.base.mean()),
            "metric_other": float(self.other.mean()),
            "hooks": list(self.hooks),
            "sets": list(self.sets),
            **{name: getattr(share, name).tolist() for name in ("value", "low", "high")},
        }


def patch_positions(
    model: HookedLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    hooks: Sequence[str] | None = None,
    direction: Direction | str = Direction.DENOISE,
    batch_size: int = 256,
) -> PatchEffects:
    """Patch one position at a time at each of `hooks` (the residual stream at every depth, when None).

    A Mamba block's `hook_state` is set after the position and goes on through the recurrence. `batch_size` counts
    patched runs. Raises `InputError` for no pairs, no or unknown hooks, hooks without positions, prompts of unlike
    shape, whole answers, weights that are not finite, or a metric that is the same on both sides or not finite.
    """
    length = int(pairs.position.max()) + 1 if len(pairs) else 0

    def one_by_one(batch: TokenPairs) -> Bool[Tensor, "set batch seq"]:
        seq = batch.clean.ids.shape[1]
        single = torch.eye(length, seq, dtype=torch.bool)
        return single[:, None].expand(length, len(batch), seq)

    sets = tuple(map(str, range(length)))
    return _patch(model, pairs, metric, hooks, Direction.named(direction), sets, one_by_one, batch_size)


def patch_roles(
    model: HookedLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    group: Grouping = family,
    hooks: Sequence[str] | None = None,
    direction: Direction | str = Direction.DENOISE,
    batch_size: int = 256,
) -> PatchEffects:
    """Patch all tokens of a role (of the clean side) together, one role at a time. The rest as `patch_positions`."""
    names = [[group(role) if role else "" for role in row] for row in pairs.clean.roles]
    sets = tuple(sorted({name for row in names for name in row} - {""}))

    def by_role(batch: TokenPairs) -> Bool[Tensor, "set batch seq"]:
        labels = [[group(role) if role else "" for role in row] for row in batch.clean.roles]
        return torch.tensor([[[name == label for label in row] for row in labels] for name in sets])

    return _patch(model, pairs, metric, hooks, Direction.named(direction), sets, by_role, batch_size)


@torch.no_grad()
def _patch(
    model: HookedLM,
    pairs: TokenPairs,
    metric: Metric,
    hooks: Sequence[str] | None,
    direction: Direction,
    sets: tuple[str, ...],
    masks_of: Sets,
    batch_size: int,
) -> PatchEffects:
    hooks = stream_hooks(model) if hooks is None else tuple(hooks)
    check_hooks(model, hooks)
    check_weights(model.named_parameters())
    check_batch_size(batch_size)
    check_single(pairs)
    if not hooks:
        raise InputError("there is no hook to patch", hint="name some, or leave `hooks` out")
    values, sides = [], []
    for batch in pair_batches(model, pairs, CAPTURED):
        table = _Table(model, batch, metric, direction, batch_size)
        masks = masks_of(batch).to(batch.clean.ids.device)
        values.append(torch.stack([table.column(hook, masks) for hook in hooks], dim=1).float().cpu())
        sides.append(torch.stack([table.base, table.other]).float().cpu())
    base, other = torch.cat(sides, dim=1)
    check_finite("metric", torch.stack([base, other]))
    if abs(float((other - base).double().mean())) < SMALLEST:
        raise InputError(
            f"the metric is {float(base.mean()):.4g} on both sides of edit `{pairs.edit}`, so nothing is to share out",
            hint="choose a metric that tells clean from corrupt, or a model that has learned the edit",
        )
    return PatchEffects(
        hooks=tuple(hooks),
        sets=sets,
        direction=direction,
        metric=metric_name(metric),
        edit=pairs.edit,
        values=torch.cat(values),
        base=base,
        other=other,
        roles=pairs.clean.roles,
    )


class _Table:
    """Both sides of one batch of pairs, and runs of the base side with values of the other put in."""

    def __init__(
        self, model: HookedLM, batch: TokenPairs, metric: Metric, direction: Direction, rows: int
    ) -> None:
        self.model, self.batch, self.metric, self.rows = model, batch, metric, rows
        clean, corrupt = batch.clean.ids, batch.corrupt.ids
        self.ids, self.donor = (corrupt, clean) if direction is Direction.DENOISE else (clean, corrupt)
        self.rerun = Rerun(model, self.ids, batch.position)
        self.base = measured(metric, self.rerun.logits, batch)
        self.other = measured(metric, at_position(model(self.donor), batch.position), batch)
        before = torch.arange(clean.shape[1], device=clean.device) <= batch.position[:, None]
        # Where both sides have read the same so far they carry the same, and a patch changes nothing.
        self.parted = before & ((clean != corrupt).cumsum(1) > 0)

    def column(self, hook: str, masks: Bool[Tensor, "set batch seq"]) -> Float[Tensor, "batch set"]:
        """The metric under every set's patch at one hook."""
        is_state = hook.endswith(STATE)
        donor, parted = None, self.parted
        if not is_state:
            base, donor = (look(self.model, ids, [hook]).at[hook] for ids in (self.ids, self.donor))
            _check_shape(hook, base, self.ids)
            parted = parted & (_positions_first(base, hook) != _positions_first(donor, hook)).flatten(2).any(
                -1
            )
        masks = masks & parted
        found = self.base[:, None].repeat(1, len(masks))
        number, row = masks.any(-1).nonzero(as_tuple=True)
        # The states of a few positions are cheap and those of all are not: one set of positions at a time.
        sizes = torch.bincount(number)[number.unique()].tolist() if is_state else [len(number)]
        parts = zip(number.split(sizes), row.split(sizes), strict=True)
        for some_sets, some_rows in (
            chunk
            for sets, rows in parts
            for chunk in zip(sets.split(self.rows), rows.split(self.rows), strict=True)
        ):
            found[some_rows, some_sets] = self._run(hook, some_rows, masks[some_sets, some_rows], donor)
        return found

    def _run(
        self,
        hook: str,
        rows: Int[Tensor, " run"],
        mask: Bool[Tensor, "run seq"],
        donor: Tensor | None,
    ) -> Float[Tensor, " run"]:
        """The metric of runs of the base side, each with the donor's values where its mask is true."""
        batch = self.batch[rows]
        with _states(self.model, mask, donor is None):
            if donor is None:
                given = look(self.model, self.donor[rows], [hook]).at[hook]
                mask = mask[:, mask.any(0)]
            else:
                given = donor[rows]

            axis = 2 if hook.endswith(ACROSS_TOKENS) else 1

            def put(value: Tensor, hook: HookPoint) -> Tensor:
                shape = [size if i in (0, axis) else 1 for i, size in enumerate(value.shape)]
                return torch.where(mask.reshape(shape), given, value)

            return self.metric(self.rerun.logits_with([(hook, put)], rows), batch)


def _states(model: Any, mask: Bool[Tensor, "run seq"], wanted: bool) -> AbstractContextManager[Any]:
    """Within it, `hook_state` holds the states of the masked positions alone."""
    if not wanted:
        return nullcontext()
    context: AbstractContextManager[Any] = model.states_at(mask.any(0).nonzero()[:, 0].tolist())
    return context


def _positions_first(value: Tensor, hook: str) -> Tensor:
    """`[batch seq ...]`; of a hook between tokens, by query."""
    return value.transpose(1, 2) if hook.endswith(ACROSS_TOKENS) else value


def _check_shape(hook: str, value: Tensor, ids: Int[Tensor, "batch seq"]) -> None:
    if value.ndim < 3 or _positions_first(value, hook).shape[:2] != ids.shape:
        raise InputError(
            f"hook `{hook}` carries a tensor of shape {list(value.shape)}, which has no positions to patch",
            hint="choose a hook that carries `[batch seq ...]`, such as a block's hook_resid_post",
        )
