"""Patching, against a plain loop of run_with_hooks, one place at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from circuits.looking.by_role import part
from circuits.looking.patching import Direction, PatchEffects, patch_positions, patch_roles
from circuits.looking.running import stream_hooks
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, MoEConfig
from tinysql.tokens import Tokens

HYBRID = {
    "pattern": "M*E-",
    "n_heads": 4,
    "mamba": MambaConfig(d_head=8, d_state=4, n_groups=2),
    "moe": MoEConfig(n_experts=4, d_expert=8, d_shared=8),
}
HOOKS = (
    "hook_embed",
    "blocks.0.hook_resid_pre",
    "blocks.0.mamba.hook_B",
    "blocks.0.mamba.hook_dt",
    "blocks.1.attn.hook_z",
    "blocks.1.attn.hook_k",
    "blocks.2.moe.hook_expert_out",
    "blocks.2.hook_resid_post",
    "blocks.3.mlp.hook_post",
    "ln_final.hook_normalized",
)


@pytest.fixture
def hybrid(random_case):
    """A hybrid whose Mamba heads take in much of each token."""

    def make(n: int = 2):
        case = random_case(n=n, **HYBRID)
        with torch.no_grad():
            case.model.blocks[0].mamba.dt_bias.fill_(1.0)
        return case

    return make


def sides(case, direction: str):
    clean, corrupt = case.pairs.clean.ids, case.pairs.corrupt.ids
    return (corrupt, clean) if direction == "denoise" else (clean, corrupt)


def plain_loop(case, hook: str, direction: str, axis: int = 1) -> torch.Tensor:
    """`[example position]`: one run with one hook for each position."""
    base, other = sides(case, direction)
    _, cache = case.model.run_with_cache(other, names_filter=hook)
    columns = []
    for t in range(int(case.pairs.position.max()) + 1):

        def put(value, hook, t=t):
            value = value.clone()
            value.select(axis, t).copy_(cache[hook.name].select(axis, t))
            return value

        logits = case.model.run_with_hooks(base, fwd_hooks=[(hook, put)]).detach()
        columns.append(logit_diff(logits[torch.arange(len(base)), case.pairs.position], case.pairs))
    return torch.stack(columns, dim=1).float()


@pytest.mark.parametrize(
    ("hook", "direction"), [*((hook, "denoise") for hook in HOOKS), *((hook, "noise") for hook in HOOKS[3:6])]
)
def test_patching_is_the_plain_loop(hybrid, hook: str, direction: str) -> None:
    case = hybrid()
    found = patch_positions(case.model, case.pairs, hooks=(hook,), direction=direction, batch_size=5)
    expected = plain_loop(case, hook, direction)
    inside = torch.arange(expected.shape[1]) <= case.pairs.position[:, None]
    expected = torch.where(inside, expected, found.base[:, None])
    torch.testing.assert_close(found.values[:, 0], expected)
    assert (found.values[:, 0] - found.base[:, None]).abs().max() > 1e-4


def test_a_pattern_is_patched_by_query(random_case) -> None:
    case = random_case("**", n=2)
    found = patch_positions(case.model, case.pairs, hooks=("blocks.1.attn.hook_pattern",))
    expected = plain_loop(case, "blocks.1.attn.hook_pattern", "denoise", axis=2)
    inside = torch.arange(expected.shape[1]) <= case.pairs.position[:, None]
    torch.testing.assert_close(found.values[:, 0], torch.where(inside, expected, found.base[:, None]))


def test_a_state_is_patched_where_it_stands_and_goes_on(hybrid) -> None:
    case = hybrid()
    hook = "blocks.0.mamba.hook_state"
    found = patch_positions(case.model, case.pairs, hooks=(hook,), batch_size=4)
    base, other = sides(case, "denoise")
    for i in range(2):
        for t in range(int(case.pairs.position[i]) + 1):
            with case.model.states_at((t,)):
                _, cache = case.model.run_with_cache(other[i : i + 1], names_filter=hook)
                given = cache[hook]
                logits = case.model.run_with_hooks(
                    base[i : i + 1], fwd_hooks=[(hook, lambda value, hook, given=given: given)]
                ).detach()
            expected = logit_diff(logits[:, case.pairs.position[i]], case.pairs[i : i + 1]).float()
            torch.testing.assert_close(found.values[i : i + 1, 0, t], expected)


def with_roles(tokens: Tokens) -> Tokens:
    words = ("english.template", "english.table", "schema.table", "schema.columns.0.name")
    return replace(
        tokens,
        roles=tuple(
            tuple(words[j % 4] if role else "" for j, role in enumerate(row)) for row in tokens.roles
        ),
    )


def test_all_tokens_of_a_role_are_patched_together(hybrid) -> None:
    case = hybrid(3)
    pairs = replace(case.pairs, clean=with_roles(case.pairs.clean))
    hook = "blocks.1.hook_resid_pre"
    found = patch_roles(case.model, pairs, hooks=(hook,))
    assert found.sets == ("english.table", "english.template", "schema.columns.name", "schema.table")
    _, cache = case.model.run_with_cache(pairs.clean.ids)
    for number, remainder in enumerate((1, 0, 3, 2)):

        def put(value, hook, remainder=remainder):
            value = value.clone()
            value[:, remainder::4] = cache[hook.name][:, remainder::4]
            return value

        logits = case.model.run_with_hooks(pairs.corrupt.ids, fwd_hooks=[(hook, put)]).detach()
        expected = logit_diff(logits[torch.arange(3), pairs.position], pairs).float()
        torch.testing.assert_close(found.values[:, 0, number], expected)


def test_states_of_a_role_are_each_rows_own(hybrid) -> None:
    """The role stands elsewhere in every row; a row alone, with the states at its own positions, is the same."""
    case = hybrid(3)
    words = ("english.template", "schema.table", "english.table")
    roles = tuple(
        tuple(words[(i + j) % 3] if role else "" for j, role in enumerate(row))
        for i, row in enumerate(case.pairs.clean.roles)
    )
    pairs = replace(case.pairs, clean=replace(case.pairs.clean, roles=roles))
    hook = "blocks.0.mamba.hook_state"
    found = patch_roles(case.model, pairs, hooks=(hook,))
    column = found.sets.index("schema.table")
    for i in range(3):
        places = [j for j in range(int(pairs.position[i]) + 1) if roles[i][j] == "schema.table"]
        with case.model.states_at(places):
            _, cache = case.model.run_with_cache(pairs.clean.ids[i : i + 1], names_filter=hook)
            hooks = [(hook, lambda value, hook, given=cache[hook]: given)]
            logits = case.model.run_with_hooks(pairs.corrupt.ids[i : i + 1], fwd_hooks=hooks).detach()
        expected = logit_diff(logits[:, pairs.position[i]], pairs[i : i + 1]).float()
        torch.testing.assert_close(found.values[i : i + 1, 0, column], expected)


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_whole_stream_carries_everything(random_case, direction: str) -> None:
    case = random_case(**HYBRID)
    found = patch_roles(case.model, case.pairs, group=lambda role: "all", direction=direction)
    share = found.share()
    assert found.hooks == stream_hooks(case.model)
    for bound in (share.low, share.value, share.high):
        torch.testing.assert_close(torch.from_numpy(bound), torch.ones(5, 1).double(), rtol=1e-5, atol=1e-5)


def test_the_share_is_a_ratio_of_means(random_case) -> None:
    case = random_case("*-")
    found = patch_positions(case.model, case.pairs, hooks=("blocks.0.hook_resid_post",))
    moved = found.values[:, 0].mean(0) - found.base.mean()
    expected = moved / (found.other.mean() - found.base.mean())
    torch.testing.assert_close(torch.from_numpy(found.share().value[0]).float(), expected)
    each = (found.values[1, 0] - found.base[1]) / (found.other[1] - found.base[1])
    torch.testing.assert_close(found.per_example[1, 0], each)


def test_parts_of_roles() -> None:
    assert [part(role) for role in ("english.order_by.0.direction", "schema.table", "sql.end")] == [
        "english",
        "schema",
        "sql",
    ]


def test_a_bridge_is_patched_alike() -> None:
    shape = {"d_model": 24, "n_heads": 3, "d_head": 8, "n_layers": 2, "n_ctx": 16, "d_vocab": 20, "d_mlp": 32}
    bridge = TransformerBridge.boot_native({**shape, "act_fn": "gelu", "seed": 0})
    ids = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:, 2] = (ids[:, 2] + 1) % 20
    pairs = pairs_of(bridge, ids, other)
    hook = "blocks.1.attn.hook_z"
    found = patch_positions(bridge, pairs, hooks=(hook,))
    _, cache = bridge.run_with_cache(ids)

    def put(value, hook):
        value = value.clone()
        value[:, 5] = cache["blocks.1.attn.hook_z"][:, 5]
        return value

    logits = bridge.run_with_hooks(other, fwd_hooks=[(hook, put)]).detach()[:, -1]
    torch.testing.assert_close(found.values[:, 0, 5], logit_diff(logits, pairs))


def pairs_of(model, clean: torch.Tensor, corrupt: torch.Tensor):
    from tinysql.tokens import TokenPairs

    def side(ids: torch.Tensor) -> Tokens:
        return Tokens(
            ids=ids,
            mask=torch.ones_like(ids, dtype=torch.bool),
            roles=(("schema.table",) * ids.shape[1],) * len(ids),
            answer_start=torch.full((len(ids),), ids.shape[1]),
        )

    gap = (model(clean) - model(corrupt)).detach()[:, -1]
    return TokenPairs(
        edit="schema.table",
        clean=side(clean),
        corrupt=side(corrupt),
        position=torch.full((len(clean),), clean.shape[1] - 1),
        clean_answer=gap.argmax(-1),
        corrupt_answer=gap.argmin(-1),
    )


def test_bad_input_is_one_sentence(random_case) -> None:
    case = random_case("*-")
    with pytest.raises(
        InputError, match=r"no hook `blocks.0.hook_resid_pst`; did you mean `blocks.0.hook_resid_p"
    ):
        patch_positions(case.model, case.pairs, hooks=("blocks.0.hook_resid_pst",))
    with pytest.raises(InputError, match="unknown direction `denoize`; did you mean `denoise`"):
        patch_positions(case.model, case.pairs, direction="denoize")
    with pytest.raises(InputError, match="on both sides of edit `schema.table`"):
        patch_positions(case.model, replace(case.pairs, corrupt_answer=case.pairs.clean_answer))
    with pytest.raises(InputError, match="no pairs"):
        patch_roles(case.model, case.pairs[:0])
    with pytest.raises(InputError, match="batch_size is 0"):
        patch_positions(case.model, case.pairs, batch_size=0)


def test_padding_is_no_set_whatever_a_grouping_says_of_it(random_case) -> None:
    case = random_case("*-")
    found = patch_roles(case.model, case.pairs, group=lambda role: "token" if role else "padding")
    assert found.sets == ("token",)


def test_what_is_written_of_the_effects_by_hand() -> None:
    found = PatchEffects(
        hooks=("h",),
        sets=("a", "b"),
        direction=Direction.DENOISE,
        metric="m",
        edit="e",
        values=torch.tensor([[[0.0, 3.0]], [[2.0, 3.0]]]),
        base=torch.tensor([-1.0, 1.0]),
        other=torch.tensor([3.0, 5.0]),
        roles=(("r",), ("r",)),
    )
    written = found.to_json()
    names = ("direction", "metric", "edit", "pairs", "metric_base", "metric_other", "hooks", "sets")
    assert [written[name] for name in names] == ["denoise", "m", "e", 2, 0.0, 4.0, ["h"], ["a", "b"]]
    # (1 + 1) / (4 + 4) and (4 + 2) / (4 + 4); of `a` every pair says 1/4, of `b` one says 1 and the other 1/2.
    assert written["value"] == [[0.25, 0.75]]
    assert (written["low"], written["high"]) == ([[0.25, 0.5]], [[0.25, 1.0]])
    assert found.per_example[:, 0].tolist() == [[0.25, 1.0], [0.25, 0.5]]
