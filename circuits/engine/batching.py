"""Pairs -> batches of like length: how many fit into memory, and how their results go back into the pairs' order.

Prompts are padded to the longest of their batch, and a batch is cut behind its last position. Sorted by length, sixteen
at a time, a batch holds little padding; on a CPU larger ones save nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from data_gen.errors import InputError
from tinysql.context import check_lengths
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

MOST = (16, 64)
"""Pairs that are run together, on a CPU and on a GPU."""

Track: TypeAlias = Callable[[list[TokenPairs]], Iterable[TokenPairs]]
"""Passes the batches through, and may show how many are done."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Pairs in batches of like length, the shortest first; in each, prompts that part early stand first."""

    batches: list[TokenPairs]
    order: Int[Tensor, " pair"]
    """Which of the pairs stands at each place of the batches."""

    def restored(self, found: Sequence[Tensor], dim: int = 0) -> Tensor:
        """The results of all batches in the pairs' own order; `dim` is that of the pairs."""
        joined = torch.cat(list(found), dim)
        return joined.index_select(dim, self.order.argsort().to(joined.device))


def by_length(model: HybridLM, pairs: TokenPairs, batch_size: int | None) -> Batches:
    """`batched`, of the pairs sorted by where the metric looks, and within a batch by where their prompts part.

    Raises `InputError` as `batched` does.
    """
    last = pairs.position if pairs.position.ndim == 1 else pairs.position.amax(1)
    order = last.argsort(stable=True).cpu()
    batches = batched(model, pairs[order], batch_size)
    within = [parting(batch).argsort(stable=True).cpu() for batch in batches]
    sizes = [len(batch) for batch in batches]
    return Batches(
        batches=[batch[own] for batch, own in zip(batches, within, strict=True)],
        order=torch.cat([some[own] for some, own in zip(order.split(sizes), within, strict=True)]),
    )


def prompt_lengths(pairs: TokenPairs) -> list[int]:
    """Tokens of each pair's prompt, up to the last one that the metric looks at."""
    last = pairs.position if pairs.position.ndim == 1 else pairs.position.amax(1)
    return [position + 1 for position in last.tolist()]


def parting(pairs: TokenPairs) -> Int[Tensor, " pair"]:
    """The first column in which the prompts of a pair differ, at most the first one that the metric looks at."""
    apart = pairs.clean.ids != pairs.corrupt.ids
    first = pairs.position if pairs.position.ndim == 1 else pairs.position.amin(1)
    return torch.where(apart.any(1), apart.int().argmax(1), first).minimum(first)


def batched(model: HybridLM, pairs: TokenPairs, batch_size: int | None) -> list[TokenPairs]:
    """Pairs in batches on the model's device; `None` takes as many together as `fitting_batch_size` says.

    Raises `InputError` for no pairs, a batch size below 1, prompts of unlike shape or longer than the context.
    """
    if not len(pairs):
        raise InputError("there are no pairs", hint="make some with data_gen.counterfactuals")
    if batch_size is None:
        batch_size = fitting_batch_size(model, pairs)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1", hint="leave it out")
    if pairs.clean.ids.shape != pairs.corrupt.ids.shape:
        shapes = [tuple(side.ids.shape) for side in (pairs.clean, pairs.corrupt)]
        raise InputError(
            f"clean and corrupt prompts have shapes {shapes[0]} and {shapes[1]}, expected the same",
            hint="make the pairs with tokenizer.encode_pairs, which aligns them",
        )
    check_lengths(
        prompt_lengths(pairs),
        model.cfg.n_ctx,
        what="prompt",
        hint="make pairs of fewer columns, or train with an n_ctx of at least {least}",
    )
    starts = range(0, len(pairs), batch_size)
    return [pairs[start : start + batch_size].to(model.device) for start in starts]


def fitting_batch_size(model: HybridLM, pairs: TokenPairs, *, memory: float = 4.0) -> int:
    """How many pairs attribution can take together within `memory` GiB beside the weights.

    At least 1, at most 16 on a CPU and 64 on a GPU. Counts what a run keeps for its backward pass, and both sides of
    what is written, in the model's own dtype; measured peaks lie below it (see docs/results/circuits.md).
    Raises `InputError` for memory that is not positive.
    """
    if not memory > 0:
        raise InputError(f"memory is {memory:g} GiB, expected more than 0", hint="4 is the usual")
    config, width = model.cfg, model.cfg.d_model
    heads, shared, moe = config.n_heads * config.head_width, config.kv_heads * config.head_width, config.moe
    mamba = 0
    if "M" in config.pattern:
        inner = config.mamba_heads * config.mamba.d_head
        # The chunked scan keeps a chunk's decays and products, and a state per chunk.
        chunk = config.mamba_heads * (
            2 * config.mamba.chunk + config.mamba.d_head * config.mamba.d_state // 16
        )
        mamba = 12 * inner + 6 * config.mamba.n_groups * config.mamba.d_state + chunk
    experts = moe.n_active * (config.expert_width + moe.d_expert) + moe.d_shared
    inside = {
        "*": 2 * (2 * heads + 4 * shared),
        "-": (6 if config.gated else 3) * config.mlp_width,
        "M": mamba,
        "E": 4 * experts + 2 * moe.n_experts * config.expert_width,
    }
    per_token = sum(6 * width + inside[kind] for kind in config.pattern)
    length = int(pairs.position.max()) + 1
    # A third more, for what the allocator and the operations themselves need.
    each = 4 / 3 * per_token * length * model.embed.W_E.element_size()
    return int(max(1, min(MOST[model.embed.W_E.is_cuda], memory * 2**30 // each)))
