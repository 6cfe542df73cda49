"""Fine-tuned model + base + switch -> every way of making the one act as the other, each with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from tinysql.models.hybrid import HybridLM
from transfer.switching.adapters import Adapters, decomposed
from transfer.switching.switch import Switch
from transfer.switching.weights import Weights, below, part, with_weights

RANKS = (1, 4, 16)
"""Of the low-rank arms."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to act as the base."""

    name: str
    on: Callable[[], AbstractContextManager[None]]
    parameters: int
    """Numbers that are needed beside the fine-tuned model's own."""


def arms(switch: Switch, base: HybridLM) -> Iterator[Arm]:
    """The map, the direct patch at its hook, the base's weights in parts, and low-rank steps back to the base."""
    model = switch.model
    yield Arm(name="map", on=switch.on, parameters=switch.parameters)
    yield _weights(model, "direct patch", below(base, switch.hook))
    yield _weights(model, "embeddings", part(base, "embed.", "pos_embed."))
    for index in range(len(base.cfg.pattern)):
        yield _weights(model, f"block {index}", part(base, f"blocks.{index}."))
    yield _weights(model, "all blocks", part(base, "blocks."))
    steps = decomposed(model, base, max(RANKS))
    for rank in RANKS:
        yield _adapted(model, f"low rank {rank}", steps.cut(rank))


def _adapted(model: HybridLM, name: str, adapters: Adapters) -> Arm:
    on = partial(with_weights, model, adapters.weights(model))
    return Arm(name=name, on=on, parameters=adapters.parameters)


def _weights(model: HybridLM, name: str, weights: Weights) -> Arm:
    numbers = sum(one.numel() for one in weights.values())
    return Arm(name=name, on=partial(with_weights, model, weights), parameters=numbers)
