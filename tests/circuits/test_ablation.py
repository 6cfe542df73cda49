"""Ablation, against models whose weights are taken away and against plain hooks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from circuits.looking import optimal
from circuits.looking.ablation import Ablation, AblationEffects, ablate
from circuits.looking.reference import Reference
from circuits.looking.running import Rerun, pair_batches
from circuits.looking.units import find_units, units_of
from circuits.metrics import logit_diff
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, MoEConfig
from tinysql.tokens import TokenPairs, Tokens

HYBRID = {
    "pattern": "M*E-",
    "n_heads": 4,
    "mamba": MambaConfig(d_head=8, d_state=4, n_groups=2),
    "moe": MoEConfig(n_experts=4, d_expert=8, d_shared=8, d_latent=12),
}
WORDS = ("english.template", "schema.columns.0.name", "schema.columns.1.name")


def with_roles(pairs: TokenPairs) -> TokenPairs:
    def side(tokens: Tokens) -> Tokens:
        roles = tuple(
            tuple(WORDS[j % 3] if role else "" for j, role in enumerate(row)) for row in tokens.roles
        )
        return replace(tokens, roles=roles)

    return replace(pairs, clean=side(pairs.clean), corrupt=side(pairs.corrupt))


@pytest.fixture
def case(random_case):
    made = random_case(n=6, **HYBRID)
    return replace(made, pairs=with_roles(made.pairs))


def metric_of(case, hooks=()) -> torch.Tensor:
    logits = case.model.run_with_hooks(case.pairs.clean.ids, fwd_hooks=list(hooks)).detach()
    return logit_diff(logits[torch.arange(len(case.pairs)), case.pairs.position], case.pairs).float()


def test_every_unit_has_its_writers_name(case) -> None:
    names = [unit.name for unit in units_of(case.model)]
    mamba, heads, experts = (
        [f"{where}.{i}" for i in range(n)]
        for where, n in (("blocks.0.mamba.head", 6), ("blocks.1.attn.head", 4), ("blocks.2.moe.expert", 4))
    )
    assert names == [
        *mamba,
        "blocks.0.mamba",
        *heads,
        "blocks.1.attn",
        *experts,
        "blocks.2.moe.shared",
        "blocks.2.moe",
        "blocks.3.mlp",
    ]


WEIGHTS = {
    "blocks.0.mamba.head.1": lambda model: model.blocks[0].mamba.W_out[1],
    "blocks.0.mamba": lambda model: model.blocks[0].mamba.W_out,
    "blocks.1.attn.head.2": lambda model: model.blocks[1].attn.W_O[2],
    "blocks.2.moe.expert.3": lambda model: model.blocks[2].moe.W_out[3],
    "blocks.2.moe.shared": lambda model: model.blocks[2].moe.W_out_shared,
    "blocks.3.mlp": lambda model: model.blocks[3].mlp.W_out,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_zero_is_the_model_without_the_units_output_weights(case, name: str) -> None:
    found = ablate(case.model, case.pairs, "zero", units=(name,), batch_size=4)
    torch.testing.assert_close(found.clean, metric_of(case))
    with torch.no_grad():
        WEIGHTS[name](case.model).zero_()
    expected = metric_of(case)
    torch.testing.assert_close(found.values[:, 0], expected)
    assert (found.drops.abs() > 1e-3).any()


def real_values(case, hook: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the hook carries on the clean side, and where there are tokens up to the position."""
    _, cache = case.model.run_with_cache(case.pairs.clean.ids)
    real = torch.arange(case.pairs.clean.ids.shape[1]) <= case.pairs.position[:, None]
    return cache[hook], real


def putting(head: int, new: torch.Tensor):
    def put(value, hook):
        value = value.clone()
        value[:, :, head] = new
        return value

    return put


def test_mean_is_over_all_tokens_of_the_reference(case) -> None:
    hook = "blocks.1.attn.hook_z"
    z, real = real_values(case, hook)
    expected = metric_of(case, [(hook, putting(2, z[:, :, 2][real].mean(0)))])
    found = ablate(case.model, case.pairs, Ablation.MEAN, units=("blocks.1.attn.head.2",), batch_size=4)
    torch.testing.assert_close(found.values[:, 0], expected)


def test_role_mean_is_over_tokens_of_the_same_family(case) -> None:
    hook = "blocks.0.mamba.hook_gated"
    gated, real = real_values(case, hook)
    is_template = torch.arange(real.shape[1]) % 3 == 0
    new = torch.zeros_like(gated[:, :, 0])
    for where in (is_template, ~is_template):
        new[:, where] = gated[:, :, 3][real & where].mean(0)
    expected = metric_of(case, [(hook, putting(3, new))])
    found = ablate(case.model, case.pairs, "role-mean", units=("blocks.0.mamba.head.3",), batch_size=4)
    torch.testing.assert_close(found.values[:, 0], expected)


def test_counterfactual_is_the_corrupt_sides_value(case) -> None:
    hook = "blocks.1.attn.hook_z"
    _, cache = case.model.run_with_cache(case.pairs.corrupt.ids)
    expected = metric_of(case, [(hook, putting(1, cache[hook][:, :, 1]))])
    found = ablate(case.model, case.pairs, "counterfactual", units=("blocks.1.attn.head.1",), batch_size=4)
    torch.testing.assert_close(found.values[:, 0], expected)


def test_the_mean_of_an_expert_counts_the_tokens_that_did_not_choose_it(case) -> None:
    moe = "blocks.2.moe"
    _, cache = case.model.run_with_cache(case.pairs.clean.ids)
    weights = cache[f"{moe}.hook_weights"] * (cache[f"{moe}.hook_chosen"] == 1)
    value = (cache[f"{moe}.hook_expert_out"] * weights[..., None]).sum(2)
    _, real = real_values(case, f"{moe}.hook_routed_out")
    moved = (value[real].mean(0) - value) @ case.model.blocks[2].moe.W_up
    expected = metric_of(case, [(f"{moe}.hook_routed_out", lambda routed, hook: routed + moved)])
    found = ablate(case.model, case.pairs, "mean", units=(f"{moe}.expert.1",))
    torch.testing.assert_close(found.values[:, 0], expected)


def test_resampled_values_are_drawn_from_the_same_role_whatever_the_batch(case) -> None:
    """Where all reference tokens of a role carry the same, resampling them is their mean."""
    tokens = case.pairs.clean.ids.clone()
    tokens[:] = torch.tensor([1, 2, 2]).repeat(4)[: tokens.shape[1]]
    reference = replace(case.pairs, clean=replace(case.pairs.clean, ids=tokens))
    units = ("blocks.0.mamba", "blocks.3.mlp")
    with torch.no_grad():
        # No block before the first looks back, so its inputs depend on the token alone; state and window are emptied.
        case.model.blocks[0].mamba.A_log.fill_(12.0)
        case.model.blocks[0].mamba.conv_weight[:, :-1] = 0
    drawn = ablate(case.model, case.pairs, "resample", units=units[:1], reference=reference)
    mean = ablate(case.model, case.pairs, "role-mean", units=units[:1], reference=reference)
    torch.testing.assert_close(drawn.values, mean.values, rtol=1e-3, atol=1e-3)
    assert (drawn.drops.abs() > 1e-2).any()
    whole, pieces = (ablate(case.model, case.pairs, "resample", units=units, batch_size=n) for n in (64, 2))
    torch.testing.assert_close(whole.values, pieces.values)
    other = ablate(case.model, case.pairs, "resample", units=units, seed=1)
    assert not torch.allclose(other.values, whole.values)


@pytest.mark.parametrize(
    "unit", ["blocks.0.mamba.head.0", "blocks.1.attn", "blocks.2.moe.expert.2", "blocks.3.mlp"]
)
def test_the_optimal_constant_is_better_than_mean_and_zero(case, unit: str) -> None:
    kl = {
        kind: ablate(case.model, case.pairs, kind, units=(unit,)).kl.mean()
        for kind in (Ablation.OPTIMAL, Ablation.MEAN, Ablation.ZERO)
    }
    assert 0 < kl[Ablation.OPTIMAL] < 0.99 * min(kl[Ablation.MEAN], kl[Ablation.ZERO])


def test_a_unit_that_always_writes_the_same_loses_nothing_but_by_zero(case) -> None:
    with torch.no_grad():
        case.model.blocks[3].mlp.W_in.zero_()
        case.model.blocks[3].mlp.W_out.normal_(generator=torch.Generator().manual_seed(0))
    hook = "blocks.3.hook_mlp_out"
    constant = torch.randn(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    case.model.blocks[3].mlp.b_out = torch.nn.Parameter(5 * constant)
    for kind in (
        Ablation.MEAN,
        Ablation.ROLE_MEAN,
        Ablation.RESAMPLE,
        Ablation.COUNTERFACTUAL,
        Ablation.OPTIMAL,
    ):
        found = ablate(case.model, case.pairs, kind, units=("blocks.3.mlp",))
        torch.testing.assert_close(found.drops, torch.zeros_like(found.drops), atol=1e-5, rtol=0)
    zero = ablate(case.model, case.pairs, Ablation.ZERO, units=("blocks.3.mlp",))
    torch.testing.assert_close(zero.values[:, 0], metric_of(case, [(hook, lambda out, hook: out * 0)]))
    assert (zero.drops.abs() > 1e-2).any()


def test_the_kl_is_from_the_whole_model_to_the_ablated_one(case) -> None:
    found = ablate(case.model, case.pairs, "zero", units=("blocks.3.mlp",))
    at = torch.arange(6), case.pairs.position
    with torch.no_grad():
        whole = case.model(case.pairs.clean.ids)[at].log_softmax(-1)
        hooks = [("blocks.3.hook_mlp_out", lambda out, hook: out * 0)]
        ablated = case.model.run_with_hooks(case.pairs.clean.ids, fwd_hooks=hooks)[at].log_softmax(-1)
    expected = torch.nn.functional.kl_div(ablated, whole, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(found.kl[:, 0], expected.float())


def test_a_bridge_is_ablated_alike() -> None:
    shape = {"d_model": 24, "n_heads": 3, "d_head": 8, "n_layers": 2, "n_ctx": 16, "d_vocab": 20, "d_mlp": 32}
    bridge = TransformerBridge.boot_native({**shape, "act_fn": "gelu", "seed": 0})
    ids = torch.randint(0, 20, (2, 6), generator=torch.Generator().manual_seed(0))
    tokens = Tokens(
        ids=ids,
        mask=torch.ones_like(ids, dtype=torch.bool),
        roles=(("schema.table",) * 6,) * 2,
        answer_start=torch.tensor([6, 6]),
    )
    answer = torch.tensor([1, 2])
    pairs = TokenPairs(
        edit="schema.table",
        clean=tokens,
        corrupt=tokens,
        position=torch.tensor([5, 5]),
        clean_answer=answer,
        corrupt_answer=answer + 1,
    )
    found = ablate(bridge, pairs, "zero")
    assert found.units[:4] == (*(f"blocks.0.attn.head.{i}" for i in range(3)), "blocks.0.attn")
    hook = "blocks.1.attn.hook_z"
    logits = bridge.run_with_hooks(ids, fwd_hooks=[(hook, putting(2, torch.zeros(8)))]).detach()[:, -1]
    column = found.units.index("blocks.1.attn.head.2")
    torch.testing.assert_close(found.values[:, column], logit_diff(logits, pairs))


def test_bad_input_is_one_sentence(case) -> None:
    with pytest.raises(InputError, match="unknown ablation `men`; did you mean `mean`"):
        ablate(case.model, case.pairs, "men")
    with pytest.raises(InputError, match=r"no unit `blocks.1.attn.head.9`; did you mean `blocks.1.attn.head"):
        ablate(case.model, case.pairs, "zero", units=("blocks.1.attn.head.9",))
    with pytest.raises(InputError, match="no pairs"):
        ablate(case.model, case.pairs[:0], "zero")


def test_what_is_lost_is_positive_where_a_head_carries_the_answer(planted) -> None:
    heads = sorted({edge.writer for edge in planted.edges if ".head." in edge.writer})
    found = ablate(planted.model, planted.pairs, "zero", units=heads)
    lost = (found.clean[:, None] - found.values).mean(0)
    assert (lost > 1).all()
    assert found.drop().value == pytest.approx(lost.numpy(), rel=1e-5)
    assert [unit["drop"] for unit in found.to_json()["units"]] == pytest.approx(lost.tolist(), rel=1e-5)


def test_what_is_written_of_the_effects_by_hand() -> None:
    found = AblationEffects(
        kind=Ablation.ZERO,
        units=("a", "b"),
        metric="m",
        edit="e",
        values=torch.tensor([[1.0, 5.0], [2.0, 3.0], [9.0, 12.0], [0.0, 16.0]]),
        kl=torch.tensor([[1.0, 0.5], [2.0, 0.5], [3.0, 0.5], [4.0, 0.5]]),
        clean=torch.tensor([4.0, 4.0, 8.0, 4.0]),
    )
    assert found.drops.tolist() == [[3.0, -1.0], [2.0, 1.0], [-1.0, -4.0], [4.0, -12.0]]
    written = found.to_json()
    assert (written["pairs"], written["metric_clean"]) == (4, 5.0)
    first, second = written["units"]
    names = ("unit", "drop", "same_sign", "kl")
    assert [first[name] for name in names] == ["a", 2.0, 0.75, 2.5]
    assert [second[name] for name in names] == ["b", -4.0, 0.75, 0.5]
    assert first["low"] < 2 < first["high"] <= 4
    assert 1 <= first["kl_low"] < 2.5 < first["kl_high"] <= 4


def test_the_reference_gives_the_mean_and_not_the_pairs(case) -> None:
    hook = "blocks.1.attn.hook_z"
    reference = case.pairs[:2]
    z, real = real_values(case, hook)
    expected = metric_of(case, [(hook, putting(2, z[:2, :, 2][real[:2]].mean(0)))])
    found = ablate(case.model, case.pairs, "mean", units=("blocks.1.attn.head.2",), reference=reference)
    torch.testing.assert_close(found.values[:, 0], expected)


@pytest.fixture
def known(case) -> Reference:
    """Values of one head at tokens of two families of roles."""
    batches = pair_batches(case.model, case.pairs, 4)
    return Reference(case.model, batches, find_units(case.model, ("blocks.1.attn.head.2",)))


def strangers(n: int, role: str) -> Tokens:
    ids = torch.ones(4, n, dtype=torch.long)
    return Tokens(ids=ids, mask=ids.bool(), roles=((role,) * n,) * 4, answer_start=torch.full((4,), n))


def distinct(values: torch.Tensor) -> set[tuple[float, ...]]:
    """The rows of `[... width]`, each once: the first tokens of two prompts may write the same."""
    return {tuple(row) for row in values.flatten(0, -2).tolist()}


def test_a_role_that_the_reference_lacks_gets_the_mean_of_all_and_a_draw_of_all(case, known) -> None:
    (unit,), values = find_units(case.model, ("blocks.1.attn.head.2",)), known.values["blocks.1.attn.head.2"]
    mean = known.role_means(unit, strangers(3, "sql.where"))
    torch.testing.assert_close(mean, values.mean(0).expand(4, 3, -1))
    drawn = known.drawn(unit, strangers(200, "sql.where"), seed=0, row=0)
    assert distinct(drawn) == distinct(values)


@pytest.mark.parametrize("role", ["english.template", "schema.columns.7.name"])
def test_every_token_of_the_role_is_drawn_and_none_of_another(case, known, role: str) -> None:
    (unit,), values = find_units(case.model, ("blocks.1.attn.head.2",)), known.values["blocks.1.attn.head.2"]
    batch = case.pairs.clean
    is_role = [
        (role == "english.template") == (batch.roles[i][j] == "english.template")
        for i in range(6)
        for j in range(int(case.pairs.position[i]) + 1)
    ]
    drawn = known.drawn(unit, strangers(200, role), seed=0, row=0)
    assert distinct(drawn) == distinct(values[torch.tensor(is_role)])


def fitting_of(case, *rows: slice) -> tuple:
    """A head, base runs of some rows each, and its values at real tokens."""
    name = "blocks.1.attn.head.2"
    (unit,), z = find_units(case.model, (name,)), real_values(case, "blocks.1.attn.hook_z")
    runs = [Rerun(case.model, case.pairs.clean.ids[some], case.pairs.position[some]) for some in rows]
    return case.model, unit, runs, z[0][:, :, 2][z[1]].detach()


def test_an_optimal_constant_starts_from_the_better_of_mean_and_zero(case, monkeypatch) -> None:
    monkeypatch.setattr(optimal, "RATE", 0.0)
    model, unit, runs, values = fitting_of(case, slice(0, 6))
    far = 1e3 + values
    assert optimal.optimal_constant(model, unit, runs, far).abs().max() < 1e-6
    # Of a unit that writes a constant, that constant is the mean, and takes nothing away.
    with torch.no_grad():
        case.model.blocks[1].attn.W_V.zero_()
    case.model.blocks[1].attn.b_V = torch.nn.Parameter(torch.full((4, 8), 2.0, dtype=torch.float64))
    model, unit, runs, values = fitting_of(case, slice(0, 6))
    found = optimal.optimal_constant(model, unit, runs, values)
    torch.testing.assert_close(found, torch.full_like(found, 2.0), atol=1e-6, rtol=0)


def test_an_optimal_constant_that_training_makes_worse_is_its_start(case, monkeypatch) -> None:
    monkeypatch.setattr(optimal, "RATE", 1e4)
    model, unit, runs, values = fitting_of(case, slice(0, 6))
    found = optimal.optimal_constant(model, unit, runs, values)
    assert min((found - start).abs().max() for start in (values.mean(0), torch.zeros(8))) == 0


def test_an_optimal_constant_is_trained_on_every_run_in_turns(case, monkeypatch) -> None:
    model, unit, runs, values = fitting_of(case, slice(0, 3), slice(3, 6))
    asked, plain = [], optimal._gradient

    def noted(model, unit, run, point):
        asked.append(runs.index(run))
        return plain(model, unit, run, point)

    monkeypatch.setattr(optimal, "_gradient", noted)
    optimal.optimal_constant(model, unit, runs, values)
    assert asked == [0, 1] * (optimal.STEPS // 2)
