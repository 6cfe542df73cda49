"""Attention by role: by hand, against the scan, and whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from einops import einsum

from circuits.looking.patterns import RolePatterns, attention_by_role, effective_attention, mamba_pattern
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokens

MAMBA = MambaConfig(d_head=8, d_state=4, n_groups=2)
WORDS = (
    "schema.table",
    "english.table",
    "schema.columns.0.name",
    "english.template",
    "schema.columns.1.name",
)


def with_roles(tokens: Tokens) -> Tokens:
    roles = tuple(
        tuple(WORDS[(i + 2 * j) % 5] if role else "" for j, role in enumerate(row))
        for i, row in enumerate(tokens.roles)
    )
    return replace(tokens, roles=roles)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_effective_attention_is_the_scan(random_case, groups: int) -> None:
    """M @ (dt x) + D x is y, of every head, also where decays vanish."""
    case = random_case("M", mamba=MambaConfig(d_head=8, d_state=4, n_groups=groups, chunk=4))
    mixer = case.model.blocks[0].mamba
    with torch.no_grad():
        mixer.A_log[0] = 6.0
    _, cache = case.model.run_with_cache(case.pairs.clean.ids)
    dt, decay, b, c, x, y = (
        cache[f"blocks.0.mamba.hook_{name}"] for name in ("dt", "decay", "B", "C", "x", "y")
    )
    mixing = effective_attention(b, c, decay)
    again = einsum(mixing, dt[..., None] * x, "batch head q k, batch k head d -> batch q head d")
    torch.testing.assert_close(again + mixer.D[:, None] * x, y)
    pattern = mamba_pattern(dt, decay, b, c)
    torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
    assert pattern.triu(1).abs().max() == 0


def test_a_mamba_heads_mass_is_the_size_with_which_each_x_comes_in(random_case) -> None:
    """Head 1's y at position 5, less its own `D x`, as a function of one x after another."""
    case = random_case("M", mamba=MAMBA)
    hook, mixer = "blocks.0.mamba.hook_x", case.model.blocks[0].mamba
    ids = case.pairs.clean.ids[:1]
    _, cache = case.model.run_with_cache(ids)
    sizes = []
    for s in range(6):

        def only(value, hook, s=s):
            kept = torch.zeros_like(value)
            kept[:, s, 1] = 1.0
            return kept

        with case.model.hooks(fwd_hooks=[(hook, only)]):
            _, alone = case.model.run_with_cache(ids)
        y = alone["blocks.0.mamba.hook_y"][0, 5, 1, 0]
        sizes.append((y - (mixer.D[1] if s == 5 else 0)).abs())
    expected = torch.stack(sizes) / torch.stack(sizes).sum()
    names = ("dt", "decay", "B", "C")
    pattern = mamba_pattern(*(cache[f"blocks.0.mamba.hook_{name}"] for name in names))
    torch.testing.assert_close(pattern[0, 1, 5, :6], expected.detach())


def by_hand(case, tokens: Tokens, pattern: torch.Tensor, query: str, key: str) -> torch.Tensor:
    """Mean over rows of the mean over query tokens of the sum over key tokens, per head."""
    found = []
    for row, roles in enumerate(tokens.roles):
        families = [".".join(part for part in role.split(".") if not part.isdigit()) for role in roles]
        queries = [i for i, role in enumerate(families) if role == query]
        keys = [i for i, role in enumerate(families) if role == key]
        if queries:
            found.append(pattern[row][:, queries][:, :, keys].sum(-1).mean(-1))
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_mass_by_role_by_hand(random_case, batch_size: int) -> None:
    case = random_case("*M-", n_heads=4, mamba=MAMBA)
    tokens = with_roles(case.pairs.clean)
    found = attention_by_role(case.model, tokens, batch_size=batch_size)
    _, cache = case.model.run_with_cache(tokens.ids)
    names = ("dt", "decay", "B", "C")
    patterns = {
        0: cache["blocks.0.attn.hook_pattern"],
        1: mamba_pattern(*(cache[f"blocks.1.mamba.hook_{name}"] for name in names)),
    }
    assert (found.blocks, found.kinds) == ((0, 1), ("attn", "mamba"))
    for block, pattern in patterns.items():
        for i, query in enumerate(found.roles):
            for j, key in enumerate(found.roles):
                expected = by_hand(case, tokens, pattern, query, key).float()
                torch.testing.assert_close(found.of(block)[:, i, j], expected)


def test_the_mass_of_a_query_role_sums_to_one(random_case) -> None:
    case = random_case("*M", n_heads=4, mamba=MAMBA)
    found = attention_by_role(case.model, with_roles(case.pairs.clean))
    for mass in (*found.mass, found.uniform[None]):
        torch.testing.assert_close(mass.sum(-1), torch.ones(mass.shape[:2]))


def test_a_head_that_cannot_choose_is_uniform(random_case) -> None:
    case = random_case("*")
    with torch.no_grad():
        case.model.blocks[0].attn.W_Q.zero_()
    found = attention_by_role(case.model, with_roles(case.pairs.clean))
    for head in found.of(0):
        torch.testing.assert_close(head, found.uniform)


def test_the_margin_is_that_of_a_mean_over_rows(random_case) -> None:
    case = random_case("*", n=6)
    tokens = with_roles(case.pairs.clean)
    found = attention_by_role(case.model, tokens, group=lambda role: role.split(".")[0])
    alone = [
        attention_by_role(case.model, tokens[i : i + 1], group=lambda role: role.split(".")[0]).of(0)
        for i in range(6)
    ]
    expected = 1.959964 * torch.stack(alone).std(0) / 6**0.5
    torch.testing.assert_close(found.margin[0], expected, rtol=1e-4, atol=1e-6)


def test_models_that_do_not_look_back_are_refused() -> None:
    model = HybridLM(ModelConfig(pattern="-", d_model=8, n_heads=2, d_vocab=20, n_ctx=16))
    tokens = Tokens(
        ids=torch.ones(1, 3, dtype=torch.long),
        mask=torch.ones(1, 3, dtype=torch.bool),
        roles=(("sql.table",) * 3,),
        answer_start=torch.tensor([1]),
    )
    with pytest.raises(InputError, match="no block that looks back"):
        attention_by_role(model, tokens)


def test_the_table_is_sorted_by_what_exceeds_a_uniform_head_and_leaves_out_roles_of_no_row() -> None:
    found = RolePatterns(
        roles=("a", "b"),
        blocks=(0, 3),
        kinds=("attn", "mamba"),
        mass=(
            torch.tensor([[[0.9, 0.1], [0.4, 0.6]]]),
            torch.tensor([[[0.5, 0.5], [0.0, 1.0]], [[0.75, 0.25], [1.0, 0.0]]]),
        ),
        margin=(torch.zeros(1, 2, 2), torch.full((2, 2, 2), 0.125)),
        uniform=torch.tensor([[0.8, 0.2], [0.5, 0.5]]),
        rows=torch.tensor([4, 0]),
    )
    lines = found.table(2)
    assert [(line["head"], line["query"], line["key"]) for line in lines] == [
        ("blocks.3.mamba.head.0", "a", "b"),
        ("blocks.0.attn.head.0", "a", "a"),
    ]
    first = {name: lines[0][name] for name in ("mass", "margin", "rows")}
    assert first == {"mass": 0.5, "margin": 0.125, "rows": 4}
    assert lines[0]["uniform"] == pytest.approx(0.2)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_row_counts_once_for_each_of_its_roles(random_case, batch_size: int) -> None:
    case = random_case("*")
    tokens = with_roles(case.pairs.clean)
    found = attention_by_role(case.model, tokens, group=str, batch_size=batch_size)
    assert found.rows.tolist() == [sum(role in row for row in tokens.roles) for role in found.roles]
