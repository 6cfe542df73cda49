"""Fine-tuned model + its base -> weights to put in place of its own: what a switch is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from einops import rearrange
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM

READ_BY_HEAD = ("W_Q", "W_K", "W_V")
"""Weights `[head d_model d_head]`; other weights of three axes end in the stream."""
Weights = Mapping[str, Tensor]


@contextmanager
def with_weights(model: HybridLM, weights: Weights) -> Iterator[None]:
    """Within it the model has these weights; afterwards its own again, to the last bit, whatever happened."""
    own = dict(model.named_parameters())
    kept = {name: own[name].detach().clone() for name in weights}
    try:
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                own[name].copy_(value)


def check_pair(model: HybridLM, base: HybridLM) -> None:
    """Raise `InputError` unless the two have weights of the same names and shapes."""
    shapes = [{name: one.shape for name, one in side.named_parameters()} for side in (model, base)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"a model of pattern {model.cfg.pattern!r}, width {model.cfg.d_model} and {model.cfg.d_vocab} tokens "
            f"is not fine-tuned from one of pattern {base.cfg.pattern!r}, width {base.cfg.d_model} and "
            f"{base.cfg.d_vocab} tokens",
            hint="name the run that the other one was started from",
        )


def below(base: HybridLM, hook: str) -> dict[str, Tensor]:
    """The base's weights that decide what the residual hook carries: embeddings and every block up to it.

    With these in the fine-tuned model, the hook carries the base's own activations at every position, so this *is* the
    direct activation patch. Raises `InputError` for a hook that is not the stream's, and for tied embeddings, which
    lie on both sides of it.
    """
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook)
    if found is None or int(found[1]) >= len(base.cfg.pattern):
        last = len(base.cfg.pattern) - 1
        raise InputError(
            f"`{hook}` is no hook of the stream",
            hint=f"as in blocks.{last // 2}.hook_resid_post, up to {last}",
        )
    if base.cfg.tied:
        raise InputError(
            "a model with tied embeddings has no weights below a hook alone",
            hint="set train.model.tied=False",
        )
    last = int(found[1]) - (found[2] == "pre")
    blocks = {f"blocks.{index}" for index in range(last + 1)}
    return {
        name: one.detach().clone()
        for name, one in base.named_parameters()
        if name.startswith(("embed.", "pos_embed.")) or ".".join(name.split(".")[:2]) in blocks
    }


def part(base: HybridLM, *prefixes: str) -> dict[str, Tensor]:
    """The base's weights whose names begin so, as in `blocks.2.` or `embed.`."""
    return {name: one.detach().clone() for name, one in base.named_parameters() if name.startswith(prefixes)}


def low_rank(model: HybridLM, base: HybridLM, rank: int) -> tuple[dict[str, Tensor], int]:
    """The fine-tuned weights plus the best rank-`rank` part of (base - fine-tuned), and how many numbers that takes.

    A LoRA adapter (arXiv 2106.09685) that leads back to the base, taken from the weights by a singular value
    decomposition and not trained. Heads of one matrix are laid side by side. Norms and biases are replaced as they are.
    """
    if rank < 1:
        raise InputError(f"rank is {rank}, expected at least 1", hint="give a larger rank")
    own, numbers, found = dict(model.named_parameters()), 0, {}
    for name, one in base.named_parameters():
        difference = (one - own[name]).detach().double()
        if difference.ndim < 2:
            found[name], numbers = one.detach().clone(), numbers + one.numel()
            continue
        matrix = _matrix(name, difference)
        left, scale, right = torch.linalg.svd(matrix, full_matrices=False)
        near = (left[:, :rank] * scale[:rank]) @ right[:rank]
        found[name] = own[name].detach() + _tensor(name, near, difference).to(own[name].dtype)
        numbers += min(rank, len(scale)) * sum(matrix.shape)
    return found, numbers


def _matrix(name: str, value: Tensor) -> Tensor:
    if value.ndim == 2:
        return value
    if name.endswith(READ_BY_HEAD):
        return rearrange(value, "head d k -> d (head k)")
    return rearrange(value, "head ... d -> (head ...) d")


def _tensor(name: str, matrix: Tensor, like: Tensor) -> Tensor:
    if like.ndim > 2 and name.endswith(READ_BY_HEAD):
        return rearrange(matrix, "d (head k) -> head d k", head=len(like))
    return matrix.reshape(like.shape)
