"""Fine-tuned model + its base -> weights to put in place of its own: what a switch is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from transfer.asked import blocks_below

Weights = Mapping[str, Tensor]


@contextmanager
def with_weights(model: HybridLM, weights: Weights) -> Iterator[None]:
    """Within it the model has these weights; afterwards its own again, to the last bit, whatever happened."""
    own = model.state_dict()  # the very tensors, and of experts what chooses between them too
    kept = {name: own[name].clone() for name in weights}
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
    blocks = {f"blocks.{index}" for index in range(blocks_below(base.cfg, hook))}
    return {
        name: one.clone()
        for name, one in base.state_dict().items()
        if name.startswith(("embed.", "pos_embed.")) or ".".join(name.split(".")[:2]) in blocks
    }


def part(base: HybridLM, *prefixes: str) -> dict[str, Tensor]:
    """The base's weights whose names begin so, as in `blocks.2.` or `embed.`."""
    return {name: one.clone() for name, one in base.state_dict().items() if name.startswith(prefixes)}
