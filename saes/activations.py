"""Tokens -> activations: what one hook carries at every real token, with that token's role.

Padding never enters: there is no row for it, nor for what a tokenizer puts in front of a text, which the model reads
and which has no role. Everything above (SAE training, scoring, steering vectors)
reads a model through `capture`, which runs it only as far as the hook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError, nearest
from tinysql.progress import progress
from tinysql.tokens import Tokens

ACROSS_TOKENS = ("hook_attn_scores", "hook_pattern")
"""Hooks that hold a value per pair of tokens, so that no row of them belongs to one token."""


@runtime_checkable
class HookedModel(Protocol):
    """What this package asks of a model: TransformerLens' hooks. A `HybridLM` and a `TransformerBridge` have them."""

    @property
    def hook_dict(self) -> Mapping[str, HookPoint]:
        """Every hook by its name."""
        ...

    def hooks(self, fwd_hooks: Any = ...) -> AbstractContextManager[Any]:
        """Within it, functions are called at hooks."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """The weights, whose device is the model's."""
        ...

    def __call__(self, ids: Tensor) -> Any:
        """Token ids `[batch seq]` -> logits."""
        ...


@dataclass(frozen=True, kw_only=True)
class Activations:
    """One row per real token, in the order of the examples."""

    hook: str
    """Name of the hook the rows were read at."""
    values: Float[Tensor, "token d_in"]
    """What the hook carried, float32 (on disk as it was stored); heads are laid side by side."""
    ids: Int[Tensor, " token"]
    """Token ids."""
    roles: tuple[str, ...]
    """The dotted role of each token."""
    example: Int[Tensor, " token"]
    """Which row of the tokens each token comes from."""
    position: Int[Tensor, " token"]
    """Where in its row each token stands."""

    def __len__(self) -> int:
        return len(self.values)


def check_recorded(*given: object) -> None:
    """`InputError` for what is neither an `Activations` nor a sequence of them, such as a bare tensor."""
    for one in given:
        if isinstance(one, Sequence) and not isinstance(one, str):
            check_recorded(*one)
        elif not isinstance(one, Activations):
            raise InputError(
                f"activations are {described(one)}, expected saes.Activations",
                hint="record them with `saes.record(model, tokens, hook)`",
            )


def check_several_recorded(*given: object) -> None:
    """`InputError` for what is no sequence of `Activations`, such as one of them."""
    for several in given:
        if isinstance(several, Activations):
            raise InputError(
                f"activations are one recording, of `{several.hook}`, expected a list with one for each hook",
                hint="record every hook with `saes.record(model, tokens, hook)` and give all of them: [one, other]",
            )
        check_recorded(several)


def described(value: object) -> str:
    """What a value is, in a sentence: its type, and a tensor's shape."""
    if isinstance(value, Tensor):
        return f"a Tensor of shape {list(value.shape)}"
    return f"of type {type(value).__name__}"


class _Reached(Exception):
    """Thrown by the hook to end the forward pass; never leaves `capture`."""


def check_hook(model: HookedModel, hook: str, *, whose: str = "the model") -> HookPoint:
    """The hook point of that name; `InputError` with the nearest name when the model, called `whose`, has none such."""
    points = model.hook_dict
    if hook not in points:
        raise InputError(
            f"{whose} has no hook `{hook}`{nearest(hook, list(points))}",
            hint="`model.hook_dict` lists the hooks",
        )
    return points[hook]


def locate(model: HookedModel, hook: str) -> tuple[str, int | None]:
    """The hook point that `hook` names, and the head behind its last dot if there is one; `InputError` as `check_hook`.

    Example:
        >>> locate(model, "blocks.0.mamba.hook_state.2")
        ('blocks.0.mamba.hook_state', 2)
    """
    point, _, head = hook.rpartition(".")
    # Each head has one name: `.02` would be a second one of head 2.
    if hook not in model.hook_dict and re.fullmatch("0|[1-9][0-9]*", head) and point in model.hook_dict:
        return point, int(head)
    check_hook(model, hook)
    return hook, None


def capture(model: HookedModel, ids: Int[Tensor, "batch seq"], hook: str) -> Float[Tensor, "batch seq d_in"]:
    """What `hook` carries for these ids, heads side by side, or what its head h does for `hook` with `.h` behind it.

    Nothing behind the hook is computed. Raises `InputError` for an unknown hook or head, a hook that the model has
    switched off, and one that has no single value per token.
    """
    return capture_many(model, ids, [hook])[hook]


@torch.no_grad()
def capture_many(
    model: HookedModel, ids: Int[Tensor, "batch seq"], hooks: Sequence[str]
) -> dict[str, Float[Tensor, "batch seq _width"]]:
    """What several hooks carry, from one pass that ends at the last of them; errors as `capture`."""
    places = {hook: locate(model, hook) for hook in hooks}
    caught: dict[str, Tensor] = {}

    # A bridge knows one point by several names, so the point's own name does not say which was asked for.
    def keep(value: Tensor, hook: HookPoint, *, name: str) -> None:
        caught.setdefault(name, value)
        if len(caught) == len(places):
            raise _Reached

    with ExitStack() as hooked:
        for hook, (point, _) in places.items():
            try:
                hooked.enter_context(model.hooks(fwd_hooks=[(point, partial(keep, name=hook))]))
            except ValueError as error:  # so the bridge refuses hooks that are to be asked for first
                raise InputError(
                    f"hook `{hook}` is switched off: {error}", hint="switch it on, or choose another hook"
                ) from error
        with suppress(_Reached):
            model(ids)
    return {hook: _rows(hook, head, caught.get(hook), ids) for hook, (_, head) in places.items()}


def of_head(hook: str, head: int, value: Float[Tensor, "batch seq ..."]) -> Float[Tensor, "batch seq ..."]:
    """What one head has of the value of a hook, as a view; `InputError` for a head that is not there."""
    n = value.shape[2] if value.ndim > 3 else 0
    if head >= n:
        has = f"has heads 0 to {n - 1}" if n else "has no heads side by side"
        raise InputError(
            f"hook `{hook}` names head {head}, but `{hook.rpartition('.')[0]}` {has}",
            hint="name a head that is there, or the hook without a number",
        )
    return value[:, :, head]


def _rows(
    hook: str, head: int | None, value: Tensor | None, ids: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq d_in"]:
    if value is None:
        raise InputError(f"hook `{hook}` is never reached in a forward pass", hint="choose a hook that is")
    point = hook if head is None else hook.rpartition(".")[0]
    if point.endswith(ACROSS_TOKENS) or value.ndim < 3 or value.shape[:2] != ids.shape:
        raise InputError(
            f"hook `{hook}` carries a tensor of shape {list(value.shape)}, not one row per token",
            hint="choose a residual, MLP or `hook_z` hook",
        )
    own = value if head is None else of_head(hook, head, value)
    return rearrange(own, "batch seq ... -> batch seq (...)")


def record(
    model: HookedModel, tokens: Tokens, hook: str, *, batch_size: int = 64, show_progress: bool = False
) -> Activations:
    """Run `model` over `tokens` and keep what `hook` carries at real tokens.

    `batch_size` counts examples. The rows stay on the model's device. Raises `InputError` as `capture` does,
    and when there is no token.

    Example:
        >>> record(model, tokens, "blocks.1.hook_resid_post").values.shape
        torch.Size([1234, 128])
    """
    return record_many(model, tokens, [hook], batch_size=batch_size, show_progress=show_progress)[0]


def record_many(
    model: HookedModel,
    tokens: Tokens,
    hooks: Sequence[str],
    *,
    batch_size: int = 64,
    show_progress: bool = False,
) -> tuple[Activations, ...]:
    """`record` at several hooks, in their order, from one pass over the tokens."""
    values: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    for carried in passes(model, tokens, hooks, batch_size=batch_size, show_progress=show_progress):
        for hook, rows in carried.items():
            values[hook].append(rows)
    first = labelled(tokens, hooks[0], torch.cat(values[hooks[0]]))
    others = [replace(first, hook=hook, values=torch.cat(values[hook])) for hook in hooks[1:]]
    return first, *others


def passes(
    model: HookedModel, tokens: Tokens, hooks: Sequence[str], *, batch_size: int, show_progress: bool
) -> Iterator[dict[str, Float[Tensor, "token _width"]]]:
    """What the hooks carry at the recorded tokens, some examples at a time, float32; `InputError` as `record`."""
    if not hooks:
        raise InputError("there is no hook to record", hint="`model.hook_dict` lists the hooks")
    for hook in hooks:
        locate(model, hook)
    kept = has_role(tokens)
    if not bool(kept.any()):
        raise InputError("there is no token to record", hint="encode at least one example")
    device = next(model.parameters()).device
    starts = range(0, len(tokens), batch_size)
    title = f"recording {hooks[0] if len(hooks) == 1 else f'{len(hooks)} hooks'}"
    for start in progress(starts, total=len(starts), title=title) if show_progress else starts:
        rows = slice(start, start + batch_size)
        width = int(tokens.mask[rows].sum(1).max())
        mask = kept[rows, :width].to(device)
        carried = capture_many(model, tokens.ids[rows, :width].to(device), hooks)
        yield {hook: value[mask].float() for hook, value in carried.items()}


def has_role(tokens: Tokens) -> Bool[Tensor, "batch seq"]:
    """The tokens that are recorded: neither padding nor without characters, as what stands before a text is."""
    named = [role != "" for row in tokens.roles for role in row]
    return tokens.mask & torch.tensor(named, dtype=torch.bool, device=tokens.mask.device).reshape(
        tokens.mask.shape
    )


def labelled(tokens: Tokens, hook: str, values: Float[Tensor, "token d_in"]) -> Activations:
    """Rows in the order of the recorded tokens, with what each token is."""
    kept = has_role(tokens)
    example, position = kept.nonzero(as_tuple=True)
    return Activations(
        hook=hook,
        values=values,
        ids=tokens.ids[kept],
        roles=tuple(tokens.roles[i][j] for i, j in zip(example.tolist(), position.tolist(), strict=True)),
        example=example,
        position=position,
    )
