"""Fine-tuned model + base + switch -> every way of making the one act as the other, each with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tinysql.models.hybrid import HybridLM
from transfer.alignment import Reading
from transfer.switching.adapters import Adapters, decomposed
from transfer.switching.lora import train_adapters
from transfer.switching.switch import Switch
from transfer.switching.weights import Weights, below, part, with_weights

RANKS = (1, 4, 16)
"""Of the low-rank arms."""
TRAINED_RANKS = (1, 4)
"""Of those that are trained."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to act as the base."""

    name: str
    on: Callable[[], AbstractContextManager[None]]
    parameters: int
    """Numbers that are needed beside the fine-tuned model's own."""


def arms(switch: Switch, base: HybridLM, taught: Reading, *, steps: int, seed: int) -> Iterator[Arm]:
    """The map, the direct patch at its hook, the base's weights in parts, and low-rank steps back to the base.

    The last are adapters trained for `steps` on `taught`, the texts that the map was fitted on.
    """
    model = switch.model
    yield Arm(name="map", on=switch.on, parameters=switch.parameters)
    yield _weights(model, "direct patch", below(base, switch.hook))
    yield _weights(model, "embeddings", part(base, "embed.", "pos_embed."))
    for index in range(len(base.cfg.pattern)):
        yield _weights(model, f"block {index}", part(base, f"blocks.{index}."))
    yield _weights(model, "all blocks", part(base, "blocks."))
    nearest = decomposed(model, base, max(RANKS))
    for rank in RANKS:
        yield _adapted(model, f"low rank {rank}", nearest.cut(rank))
    for rank in TRAINED_RANKS:
        yield _adapted(
            model, f"trained rank {rank}", train_adapters(model, taught, rank=rank, steps=steps, seed=seed)
        )


def count_of(model: HybridLM) -> int:
    """How many arms there are."""
    return 4 + len(model.cfg.pattern) + len(RANKS) + len(TRAINED_RANKS)


def _adapted(model: HybridLM, name: str, adapters: Adapters) -> Arm:
    on = partial(with_weights, model, adapters.weights(model))
    return Arm(name=name, on=on, parameters=adapters.parameters)


def _weights(model: HybridLM, name: str, weights: Weights) -> Arm:
    numbers = sum(one.numel() for one in weights.values())
    return Arm(name=name, on=partial(with_weights, model, weights), parameters=numbers)
