"""Model and ids -> what named hooks carry; pairs -> batches of one length on the model's device.

The looking tools (lens, patterns, patching, ablation) know a model by its hook names alone, so that a `HybridLM`
and a TransformerLens bridge go through the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.engine.batching import prompt_lengths
from data_gen.errors import InputError
from saes.activations import HookedModel, check_hook
from tinysql.context import check_lengths
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs, Tokens

HookFunction = Callable[[Tensor, HookPoint], Tensor | None]


@runtime_checkable
class HookedLM(HookedModel, Protocol):
    """A language model with TransformerLens' hooks: ours, or a foreign one behind TransformerLens' bridge."""

    cfg: Any
    if TYPE_CHECKING:
        # Modules within modules are found as `saes.disk.SAE` says of parameters.
        blocks: Any
        ln_final: Any
        unembed: Any

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The weights, by name."""
        ...


class Seen(NamedTuple):
    """One run: its logits, and by name what the asked hooks carried."""

    logits: Float[Tensor, "batch seq d_vocab"]
    at: dict[str, Tensor]


def device_of(model: HookedLM) -> torch.device:
    """Where the model's weights are."""
    device: torch.device = next(iter(model.parameters())).device
    return device


def check_hooks(model: HookedLM, hooks: Iterable[str]) -> None:
    """Raises `InputError`, with the nearest name, for a hook that the model does not have."""
    for hook in hooks:
        check_hook(model, hook)


def stream_hooks(model: HookedLM) -> tuple[str, ...]:
    """The residual stream before the first block and after each: `blocks.0.hook_resid_pre`, then `hook_resid_post`."""
    posts = (f"blocks.{index}.hook_resid_post" for index in range(len(model.blocks)))
    return ("blocks.0.hook_resid_pre", *posts)


def hooked(model: HookedLM, hooks: Sequence[tuple[str, HookFunction]]) -> AbstractContextManager[Any]:
    """Within it, the functions stand on the model's hooks."""
    context: AbstractContextManager[Any] = model.hooks(fwd_hooks=list(hooks))
    return context


def look(model: HookedLM, ids: Int[Tensor, "batch seq"], hooks: Iterable[str]) -> Seen:
    """Run the model once and keep what `hooks` carry."""
    kept: dict[str, Tensor] = {}

    def keeping(name: str) -> HookFunction:
        # A bridge calls a hook by another name than it was asked for.
        def keep(value: Tensor, hook: HookPoint) -> None:
            kept[name] = value

        return keep

    with hooked(model, [(name, keeping(name)) for name in hooks]):
        logits = model(ids)
    return Seen(logits, kept)


def check_batch_size(batch_size: int) -> None:
    """Raises `InputError` for a batch of nothing."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1")


def check_pairs(model: HookedLM, pairs: TokenPairs) -> None:
    """Raises `InputError` for no pairs, and for prompts of unlike shape or longer than the context."""
    if not len(pairs):
        raise InputError("there are no pairs", hint="make some with data_gen.counterfactuals")
    if pairs.clean.ids.shape != pairs.corrupt.ids.shape:
        shapes = [tuple(side.ids.shape) for side in (pairs.clean, pairs.corrupt)]
        raise InputError(
            f"clean and corrupt prompts have shapes {shapes[0]} and {shapes[1]}, expected the same",
            hint="make pairs with tokenizer.encode_pairs, which aligns them",
        )
    check_lengths(
        prompt_lengths(pairs),
        model.cfg.n_ctx,
        what="prompt",
        hint="draw pairs with shorter prompts, or train with an n_ctx of at least {least}",
    )


def check_single(pairs: TokenPairs) -> None:
    """Raises `InputError` for pairs of whole answers, where a tool looks at one position of each."""
    if pairs.position.ndim != 1:
        raise InputError(
            f"the pairs ask for up to {pairs.position.shape[1]} tokens of each answer, expected one",
            hint="encode them without `whole_answers`",
        )


def pair_batches(model: HookedLM, pairs: TokenPairs, batch_size: int) -> list[TokenPairs]:
    """Pairs in batches on the model's device, each cut behind its last position.

    Raises `InputError` for no pairs, a batch size below 1, prompts of unlike shape or longer than the context.
    """
    check_batch_size(batch_size)
    check_pairs(model, pairs)
    starts = range(0, len(pairs), batch_size)
    return [_cut(pairs[start : start + batch_size]).to(device_of(model)) for start in starts]


def row_batches(model: HookedLM, tokens: Tokens, batch_size: int) -> list[Tokens]:
    """Rows in batches on the model's device, each cut behind its longest row.

    Raises `InputError` for no rows, a batch size below 1, and rows longer than the model's context.
    """
    check_batch_size(batch_size)
    if not bool(tokens.mask.any()):
        raise InputError("there are no tokens to look at", hint="encode at least one example")
    check_lengths(
        tokens.mask.sum(1).tolist(),
        model.cfg.n_ctx,
        what="row",
        hint="leave such rows out, or train with an n_ctx of at least {least}",
    )
    parts = (tokens[start : start + batch_size] for start in range(0, len(tokens), batch_size))
    return [_narrow(part, int(part.mask.sum(1).max())).to(device_of(model)) for part in parts]


def at_position(
    logits: Float[Tensor, "batch seq d"], position: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
) -> Float[Tensor, "batch d"] | Float[Tensor, "batch answer d"]:
    """One position of each row, or several."""
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows if position.ndim == 1 else rows[:, None], position]


class Rerun:
    """Base runs of some rows, from which changed runs go on: nothing before the changed block is computed again.

    Only a `HybridLM`, whose blocks map a stream to a stream and nothing else, can go on; a bridge starts over.
    """

    def __init__(
        self, model: HookedLM, ids: Int[Tensor, "batch seq"], position: Int[Tensor, " batch"]
    ) -> None:
        self.model, self.ids, self.position = model, ids, position
        pres = [f"blocks.{index}.hook_resid_pre" for index in range(len(model.blocks))]
        with torch.no_grad():
            seen = look(model, ids, pres if isinstance(model, HybridLM) else ())
        self.logits = at_position(seen.logits, position)
        """Of the base run, `[batch d_vocab]`."""
        self._streams = [seen.at[name] for name in pres if name in seen.at]

    def logits_with(
        self, hooks: Sequence[tuple[str, HookFunction]], rows: Int[Tensor, " run"] | None = None
    ) -> Float[Tensor, "run d_vocab"]:
        """Logits at the rows' positions with these functions on hooks of one block; rows may repeat."""
        rows = torch.arange(len(self.ids), device=self.ids.device) if rows is None else rows
        block = block_of(hooks[0][0])
        with hooked(self.model, hooks):
            if block is None or not self._streams:
                return at_position(self.model(self.ids[rows]), self.position[rows])
            stream = self._streams[block][rows]
            for one in self.model.blocks[block:]:
                stream = one(stream)
        logits: Tensor = self.model.unembed(self.model.ln_final(at_position(stream, self.position[rows])))
        return logits


def block_of(hook: str) -> int | None:
    """The block that a hook stands in; None for one outside the blocks."""
    parts = hook.split(".")
    return int(parts[1]) if parts[0] == "blocks" else None


def _cut(pairs: TokenPairs) -> TokenPairs:
    length = int(pairs.position.max()) + 1
    return replace(pairs, clean=_narrow(pairs.clean, length), corrupt=_narrow(pairs.corrupt, length))


def _narrow(tokens: Tokens, length: int) -> Tokens:
    return replace(
        tokens,
        ids=tokens.ids[:, :length],
        mask=tokens.mask[:, :length],
        roles=tuple(row[:length] for row in tokens.roles),
    )
