"""Pattern and seed -> a model under construction, and the finished `Planted`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch

from circuits.graph import Edge
from circuits.planted.stream import LENGTH, WIDTH, embed_words, fill_with_decoys, rotate
from circuits.planted.words import WORDS
from tinysql.models.attention import Attention
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import MLP
from tinysql.models.mamba import Mamba
from tinysql.models.moe import MoE
from tinysql.tokens import TokenPairs

N_PAIRS = 32
"""Pairs a planted model comes with."""
EXPERTS, ACTIVE = 7, 3
"""Routed experts of a planted `E` block, one of which takes the rest, and how many a token is sent to: where the
mechanism speaks, to one expert of it and two decoys."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A model wired by hand, pairs it tells apart, and the edges that carry the answer.

    The truth is a statement about running edges with the corrupt value everywhere else, as `run_circuit` does:
    `edges`, with any one of `alternatives` where there are some, do what the model does; without any one of `edges`,
    or without all the alternatives, the behaviour is lost on some pairs.
    """

    name: str
    seed: int
    model: HybridLM
    pairs: TokenPairs
    edges: frozenset[Edge]
    """Needed, each of them."""
    alternatives: tuple[frozenset[Edge], ...] = ()
    """Redundant paths, any one of which suffices."""
    cancelling: frozenset[Edge] = frozenset()
    """Edges of two parts that undo each other: each has an effect of its own, together they have none, and no edge of
    the truth is among them."""
    decoys: tuple[str, ...] = ()
    """Experts that fire where the mechanism speaks and do nothing for the answer, by name: one whose writing nobody
    reads, then one whose writing is read off the path alone. No edge into or out of them is true."""

    @property
    def ambiguous(self) -> frozenset[Edge]:
        """Edges that are neither needed nor idle: those of redundant paths. No method is scored on them."""
        return frozenset().union(*self.alternatives)


class Draft:
    """A model of decoys alone, to be wired and then finished; all that is random follows from `seed`."""

    def __init__(
        self,
        pattern: str,
        seed: int,
        *,
        positions: Literal["learned", "none"] = "learned",
        activation: Literal["gelu", "relu"] = "gelu",
    ) -> None:
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)
        self.model = HybridLM(
            ModelConfig(
                pattern=pattern,
                d_model=WIDTH,
                n_heads=4,
                d_head=16,
                d_mlp=32,
                d_vocab=len(WORDS),
                n_ctx=LENGTH,
                positions=positions,
                activation=activation,
                mamba=MambaConfig(n_heads=4, d_head=16, d_state=16, n_groups=2),
                moe=MoEConfig(
                    n_experts=EXPERTS, n_active=ACTIVE, d_expert=16, d_shared=16, scale=float(ACTIVE)
                ),
            ),
            seed=seed,
        )
        with torch.no_grad():
            fill_with_decoys(self.model, self.generator)
            embed_words(self.model)

    def attention(self, block: int) -> Attention:
        """The mixer of a `*` block."""
        return cast(Attention, self.model.blocks[block].attn)

    def mlp(self, block: int) -> MLP:
        """The mixer of a `-` block."""
        return cast(MLP, self.model.blocks[block].mlp)

    def mamba(self, block: int) -> Mamba:
        """The mixer of an `M` block."""
        return cast(Mamba, self.model.blocks[block].mamba)

    def moe(self, block: int) -> MoE:
        """The mixer of an `E` block."""
        return cast(MoE, self.model.blocks[block].moe)

    def shuffled(self, n: int) -> list[int]:
        """0 to n - 1 in random order: which heads or experts are planted."""
        return torch.randperm(n, generator=self.generator).tolist()

    def finish(
        self,
        name: str,
        pairs: TokenPairs,
        edges: Iterable[str],
        *,
        alternatives: Iterable[Iterable[str]] = (),
        cancelling: Iterable[str] = (),
        decoys: Iterable[str] = (),
    ) -> Planted:
        """Turn the stream, and say what was planted; edges are written as `embed -> blocks.0.mlp`."""
        with torch.no_grad():
            rotate(self.model, self.generator)
        return Planted(
            name=name,
            seed=self.seed,
            model=self.model.eval(),
            pairs=pairs,
            edges=_edges(edges),
            alternatives=tuple(map(_edges, alternatives)),
            cancelling=_edges(cancelling),
            decoys=tuple(decoys),
        )


def _edges(names: Iterable[str]) -> frozenset[Edge]:
    return frozenset(map(Edge.parse, names))
