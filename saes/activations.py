"""Tokens -> activations: what one hook carries at every real token, with that token's role.

Padding never enters: there is no row for it. Everything above (SAE training, scoring, steering vectors)
reads a model through `capture`, which runs it only as far as the hook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float, Int
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
    """What the hook carried, float32; heads are laid side by side."""
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


class _Reached(Exception):
    """Thrown by the hook to end the forward pass; never leaves `capture`."""


def check_hook(model: HookedModel, hook: str) -> HookPoint:
    """The hook point of that name; `InputError` with the nearest name when the model has no such hook."""
    points = model.hook_dict
    if hook not in points:
        raise InputError(
            f"the model has no hook `{hook}`{nearest(hook, list(points))}",
            hint="`model.hook_dict` lists the hooks",
        )
    return points[hook]


def capture(model: HookedModel, ids: Int[Tensor, "batch seq"], hook: str) -> Float[Tensor, "batch seq d_in"]:
    """What `hook` carries for these ids, heads side by side; nothing behind the hook is computed.

    Raises `InputError` for an unknown hook, one that the model has switched off, and one that has no single value
    per token.
    """
    return capture_many(model, ids, [hook])[hook]


@torch.no_grad()
def capture_many(
    model: HookedModel, ids: Int[Tensor, "batch seq"], hooks: Sequence[str]
) -> dict[str, Float[Tensor, "batch seq _width"]]:
    """What several hooks carry, from one pass that ends at the last of them; errors as `capture`."""
    for hook in hooks:
        check_hook(model, hook)
    caught: dict[str, Tensor] = {}

    # A bridge knows one point by several names, so the point's own name does not say which was asked for.
    def keep(value: Tensor, hook: HookPoint, *, name: str) -> None:
        caught.setdefault(name, value)
        if len(caught) == len(set(hooks)):
            raise _Reached

    with ExitStack() as hooked:
        for hook in dict.fromkeys(hooks):
            try:
                hooked.enter_context(model.hooks(fwd_hooks=[(hook, partial(keep, name=hook))]))
            except ValueError as error:  # so the bridge refuses hooks that are to be asked for first
                raise InputError(
                    f"hook `{hook}` is switched off: {error}", hint="switch it on, or choose another hook"
                ) from error
        with suppress(_Reached):
            model(ids)
    return {hook: _rows(hook, caught.get(hook), ids) for hook in hooks}


def _rows(hook: str, value: Tensor | None, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_in"]:
    if value is None:
        raise InputError(f"hook `{hook}` is never reached in a forward pass", hint="choose a hook that is")
    if hook.endswith(ACROSS_TOKENS) or value.ndim < 3 or value.shape[:2] != ids.shape:
        raise InputError(
            f"hook `{hook}` carries a tensor of shape {list(value.shape)}, not one row per token",
            hint="choose a residual, MLP or `hook_z` hook",
        )
    return rearrange(value, "batch seq ... -> batch seq (...)")


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
    for hook in hooks:
        check_hook(model, hook)
    if not bool(tokens.mask.any()):
        raise InputError("there is no token to record", hint="encode at least one example")
    device = next(model.parameters()).device
    starts = range(0, len(tokens), batch_size)
    title = f"recording {hooks[0] if len(hooks) == 1 else f'{len(hooks)} hooks'}"
    steps = progress(starts, total=len(starts), title=title) if show_progress else starts
    values: dict[str, list[Tensor]] = {hook: [] for hook in hooks}
    for start in steps:
        part = tokens[start : start + batch_size]
        width = int(part.mask.sum(1).max())
        mask = part.mask[:, :width].to(device)
        for hook, carried in capture_many(model, part.ids[:, :width].to(device), hooks).items():
            values[hook].append(carried[mask].float())
    example, position = tokens.mask.nonzero(as_tuple=True)
    first = Activations(
        hook=hooks[0],
        values=torch.cat(values[hooks[0]]),
        ids=tokens.ids[tokens.mask],
        roles=tuple(tokens.roles[i][j] for i, j in zip(example.tolist(), position.tolist(), strict=True)),
        example=example,
        position=position,
    )
    others = [replace(first, hook=hook, values=torch.cat(values[hook])) for hook in hooks[1:]]
    return first, *others
