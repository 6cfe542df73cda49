"""Pairs and models for the tests: random ones for laws, and wired ones whose circuit is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from circuits.planted.cases import planted as plant
from circuits.planted.draft import Planted
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs, Tokens


def tokens(ids: Tensor, position: Tensor) -> Tokens:
    """Ids up to each row's `position`, padding behind it."""
    mask = torch.arange(ids.shape[1]) <= position[:, None]
    return Tokens(
        ids=ids * mask,
        mask=mask,
        roles=tuple(tuple("prompt.markup" if real else "" for real in row) for row in mask.tolist()),
        answer_start=position + 1,
    )


def token_pairs(
    clean: Tensor, corrupt: Tensor, position: Tensor, clean_answer: Tensor, corrupt_answer: Tensor
) -> TokenPairs:
    return TokenPairs(
        edit="schema.table",
        clean=tokens(clean, position),
        corrupt=tokens(corrupt, position),
        position=position,
        clean_answer=clean_answer,
        corrupt_answer=corrupt_answer,
    )


@dataclass(frozen=True)
class Case:
    """A model and pairs it tells apart."""

    model: HybridLM
    pairs: TokenPairs


SHAPES: dict[str, dict[str, object]] = {
    "attention and MLP": {"pattern": "*-*-"},
    "attention alone": {"pattern": "**"},
    "MLP before attention": {"pattern": "-*-"},
    "MLP alone": {"pattern": "-"},
    "one attention block": {"pattern": "*"},
    "shared keys, gates and biases": {
        "pattern": "*-*-",
        "n_heads": 4,
        "n_kv_heads": 2,
        "gated": True,
        "activation": "silu",
        "norm": "layer",
        "biases": ("norm", "qkv", "attention_out", "mlp"),
    },
    "windows and learned positions": {
        "pattern": "*-*",
        "positions": "learned",
        "window": 4,
        "windowed_blocks": (0,),
        "norm": "layer",
    },
    "Mamba": {"pattern": "MM", "mamba": MambaConfig(n_heads=4, d_head=4, d_state=5, n_groups=2, chunk=4)},
    "one Mamba group per head": {
        "pattern": "M-",
        "mamba": MambaConfig(n_heads=3, d_head=4, d_state=5, n_groups=3, chunk=4),
    },
    "experts": {
        "pattern": "*E",
        "moe": MoEConfig(n_experts=4, n_active=2, d_expert=8, d_shared=8),
    },
    "hybrid with latent experts": {
        "pattern": "ME*E",
        "n_kv_heads": 1,
        "positions": "none",
        "mamba": MambaConfig(n_heads=2, d_head=6, d_state=5, chunk=4),
        "moe": MoEConfig(n_experts=3, n_active=2, d_expert=8, d_shared=8, d_latent=10),
    },
}
"""Every kind of block and every option that the residual graph has to know."""


@pytest.fixture
def pairs_of() -> Callable[..., TokenPairs]:
    """`token_pairs`, for tests that bring their own ids."""
    return token_pairs


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> dict[str, object]:
    return SHAPES[request.param]


@pytest.fixture
def random_case() -> Callable[..., Case]:
    """A random double-precision model, and pairs of unlike length with a few changed tokens each."""

    def make(pattern: str = "*-*-", n: int = 5, **settings: object) -> Case:
        options = {
            "d_model": 24,
            "n_heads": 3,
            "d_head": 8,
            "d_mlp": 32,
            "d_vocab": 20,
            "n_ctx": 16,
            **settings,
        }
        model = HybridLM(ModelConfig(pattern=pattern, **options), seed=3).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            # As drawn, the heads look everywhere alike and hardly anything moves from one position to another.
            gain = {"W_E": 50.0, "W_Q": 2.0, "W_K": 2.0, "W_O": 4.0, "W_out": 4.0, "W_up": 4.0, "W_R": 3.0}
            for name, weight in model.named_parameters():
                kind = name.rsplit(".", 1)[-1]
                # Norm weights that scale every coordinate differently, biases that are not zero.
                if kind in ("w", "norm_weight", "D"):
                    weight.copy_(0.5 + torch.rand(weight.shape, generator=generator))
                elif kind.startswith("b") or kind == "conv_bias":
                    weight.copy_(torch.rand(weight.shape, generator=generator) - 0.5)
                else:
                    weight.mul_(gain.get(kind, 1))
        clean = torch.randint(1, 20, (n, 11), generator=generator)
        corrupt = clean.clone()
        corrupt[:, 2:4] = torch.randint(1, 20, (n, 2), generator=generator)
        position = torch.randint(6, 11, (n,), generator=generator)
        # In some pairs the last token differs too, which is all that a model without attention can see.
        corrupt[torch.arange(0, n, 2), position[::2]] = torch.randint(
            1, 20, (len(position[::2]),), generator=generator
        )
        # The answers the two sides differ in most, so that the metric moves.
        rows = torch.arange(n)
        with torch.no_grad():
            gap = model(clean)[rows, position] - model(corrupt)[rows, position]
        return Case(model, token_pairs(clean, corrupt, position, gap.argmax(-1), gap.argmin(-1)))

    return make


@pytest.fixture(scope="session", params=["copy-attention-name", "copy-attention-place"])
def planted(request: pytest.FixtureRequest) -> Planted:
    """Two behaviours of a wired model: the name itself changes, or which of two names stands behind `table`."""
    return plant(request.param, seed=0)


@pytest.fixture
def with_roles() -> Callable[[TokenPairs, Callable[[int, int], str]], TokenPairs]:
    """`with_roles(pairs, name)`: both sides with the role `name(row, column)` for every token; padding has none."""

    def side(tokens: Tokens, name: Callable[[int, int], str]) -> Tokens:
        roles = tuple(
            tuple(name(row, column) if real else "" for column, real in enumerate(mask))
            for row, mask in enumerate(tokens.mask.tolist())
        )
        return replace(tokens, roles=roles)

    return lambda pairs, name: replace(
        pairs, clean=side(pairs.clean, name), corrupt=side(pairs.corrupt, name)
    )


@pytest.fixture
def copied_name(
    with_roles: Callable[[TokenPairs, Callable[[int, int], str]], TokenPairs],
) -> Callable[[str], tuple[Planted, TokenPairs]]:
    """`copied_name(case)`: a planted copy, and its pairs by role: `name` differs, `question`, `other`."""

    def made(case: str) -> tuple[Planted, TokenPairs]:
        found = plant(case, seed=0)
        pairs = found.pairs

        def role(row: int, column: int) -> str:
            if pairs.clean.ids[row, column] != pairs.corrupt.ids[row, column]:
                return "name"
            return "question" if column == int(pairs.position[row]) else "other"

        return found, with_roles(pairs, role)

    return made
