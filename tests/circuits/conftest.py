"""Pairs and models for the tests: random ones for laws, and a hand-wired one whose circuit is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from circuits.graph import Edge
from circuits.metrics import logit_diff
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


@dataclass(frozen=True)
class Planted:
    """A model wired by hand, pairs, and the edges that carry the answer."""

    model: HybridLM
    pairs: TokenPairs
    edges: frozenset[Edge]


VOCABULARY, LENGTH, WIDTH, D_HEAD = 14, 16, 80, 16
TABLE, COLUMN = 1, 2  # ids; names are 8 and up, filler in between
SPACES = {
    "token": (0, 14),
    "position": (14, 16),
    "previous": (30, 14),
    "output": (44, 14),
    "unread": (58, 22),
}
"""Start and width of the orthogonal parts of the residual stream."""


def basis(name: str) -> Tensor:
    """`[width, d_model]`: the axes of one part of the stream."""
    start, width = SPACES[name]
    return torch.eye(WIDTH)[start : start + width]


def wired_model() -> HybridLM:
    """Copies the name behind `TABLE`: a previous-token head, then an induction head, among decoys.

    Head 0 of block 0 attends one position back and writes which token stands there; head 1 of block 2 looks for
    the position whose previous token is the current one and copies its token to the output. Every other head
    and both MLPs read all of the stream with random weights and write, as strongly, where nobody reads. At the
    end the stream is turned by a random rotation, so that no axis means anything.
    """
    config = ModelConfig(
        pattern="*-*-",
        d_model=WIDTH,
        n_heads=3,
        d_head=D_HEAD,
        d_mlp=24,
        d_vocab=VOCABULARY,
        n_ctx=LENGTH,
        positions="learned",
    )
    model = HybridLM(config, seed=0)
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    token, position, previous, output, unread = (basis(name) for name in SPACES)
    first, second = model.blocks[0].attn, model.blocks[2].attn
    for attention in (first, second):
        for weight in (attention.W_Q, attention.W_K, attention.W_V):
            weight.copy_(0.15 * noise(*weight.shape))
        attention.W_O.copy_(0.1 * noise(3, D_HEAD, 22) @ unread)
    for mlp in (model.blocks[1].mlp, model.blocks[3].mlp):
        mlp.W_in.copy_(0.15 * noise(WIDTH, 24))
        mlp.W_out.copy_(0.1 * noise(24, 22) @ unread)
    model.embed.W_E.copy_(token)
    model.pos_embed.W_pos.copy_(position)
    slots = torch.eye(D_HEAD)
    # Position j offers itself under the number j + 1, which is what position j + 1 asks for.
    first.W_Q[0] = position.T @ slots
    first.W_K[0] = position.T @ slots.roll(1, dims=1)
    first.W_V[0] = token.T @ slots[:VOCABULARY]
    first.W_O[0] = slots[:, :VOCABULARY] @ previous / 6
    second.W_Q[1] = token.T @ slots[:VOCABULARY]
    second.W_K[1] = previous.T @ slots[:VOCABULARY]
    second.W_V[1] = token.T @ slots[:VOCABULARY]
    second.W_O[1] = slots[:, :VOCABULARY] @ output / 2
    model.unembed.W_U.copy_(output.T)
    turn(model, torch.linalg.qr(noise(WIDTH, WIDTH)).Q)
    return model


def turn(model: HybridLM, rotation: Tensor) -> None:
    """Express the stream in other axes; RMSNorm with unit weights does not notice."""
    for embedding in (model.embed.W_E, model.pos_embed.W_pos):
        embedding.copy_(embedding @ rotation)
    for block in model.blocks:
        if block.kind == "*":
            for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
                weight.copy_(rotation.T @ weight)
            block.attn.W_O.copy_(block.attn.W_O @ rotation)
        else:
            block.mlp.W_in.copy_(rotation.T @ block.mlp.W_in)
            block.mlp.W_out.copy_(block.mlp.W_out @ rotation)
    model.unembed.W_U.copy_(rotation.T @ model.unembed.W_U)


def prompts(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """`filler.. TABLE name filler.. COLUMN name filler.. TABLE`: ids, and where TABLE and COLUMN stand."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, 8, (n, 12), generator=generator)
    table = torch.randint(0, 3, (n,), generator=generator)
    column = torch.randint(5, 8, (n,), generator=generator)
    rows, names = torch.arange(n), torch.rand(n, 6, generator=generator).argsort(-1)[:, :2] + 8
    for start, marker, name in ((table, TABLE, names[:, 0]), (column, COLUMN, names[:, 1])):
        ids[rows, start], ids[rows, start + 1] = marker, name
    ids[:, -1] = TABLE
    return ids, table, column


@pytest.fixture(scope="session", params=["renamed table", "other table"])
def planted(request: pytest.FixtureRequest) -> Planted:
    """Two behaviours of the wired model: the name itself changes, or which of two names stands behind TABLE."""
    ids, table, column = prompts(n=24)
    rows, corrupt = torch.arange(24), ids.clone()
    answer, other = ids[rows, table + 1], ids[rows, column + 1]
    output = Edge("blocks.2.attn.head.1", "logits")
    if request.param == "renamed table":
        corrupt_answer = (answer - 8 + 1) % 6 + 8
        corrupt[rows, table + 1] = corrupt_answer
        edges = {Edge("embed", "blocks.2.attn.v.1"), output}
    else:
        corrupt_answer = other
        corrupt[rows, table], corrupt[rows, column] = COLUMN, TABLE
        edges = {
            Edge("embed", "blocks.0.attn.v.0"),
            Edge("blocks.0.attn.head.0", "blocks.2.attn.k.1"),
            output,
        }
    with torch.no_grad():
        model = wired_model()
    pairs = token_pairs(ids, corrupt, torch.full((24,), 11), answer, corrupt_answer)
    with torch.no_grad():
        assert (logit_diff(model(ids)[:, -1], pairs) > 0).all(), "the wired model answers right"
        assert (logit_diff(model(corrupt)[:, -1], pairs) < 0).all(), "and follows the edit"
    return Planted(model, pairs, frozenset(edges))
