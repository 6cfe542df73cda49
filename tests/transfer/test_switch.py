"""A switch that is off is not there; on, it is what the map says; its arms lead to the base as far as they claim."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from tinysql.answering.generation import answer
from tinysql.answering.shares import Share
from tinysql.models.config import ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from tinysql.tokens import Tokenizer
from transfer.alignment import read
from transfer.behaviours.behaviour import Bar
from transfer.behaviours.gates import Gate, answers_of, right_elsewhere
from transfer.behaviours.shares import share
from transfer.behaviours.training import Subject
from transfer.maps.activation_map import Made
from transfer.maps.kinds import AffineMap
from transfer.replacement import replacing
from transfer.show import switch_table
from transfer.steering import SteeringVector
from transfer.switching.adapters import decomposed
from transfer.switching.arms import TRAINED_RANKS, arms
from transfer.switching.measure import (
    FAR,
    ArmReport,
    SwitchReport,
    _requirements,
    _texts,
    fit_switch,
    measure_arms,
    measure_switch,
)
from transfer.switching.measure import _rows as rows_of
from transfer.switching.plan import SwitchPlan
from transfer.switching.switch import Switch
from transfer.switching.weights import below, part, with_weights

pytestmark = pytest.mark.usefixtures("brief")

HOOK = "blocks.1.hook_resid_post"
PLAN = SwitchPlan(hook=HOOK, map_rows=20, test_rows=4, ood_rows=2, lora_steps=2)
MADE = Made(method="affine", source_hook=HOOK, target_hook=HOOK)


@pytest.fixture(scope="module")
def models(untaught: Callable[..., HybridLM]) -> tuple[HybridLM, HybridLM]:
    """A base, and a model that lies a step away from it."""
    base, tuned = untaught(seed=3), untaught(seed=3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for one in tuned.parameters():
            one += 0.05 * torch.randn(one.shape, generator=generator)
    return base, tuned


@pytest.fixture(scope="module")
def pair(subject_of: Callable[..., Subject], models: tuple[HybridLM, HybridLM]) -> tuple[Subject, Subject]:
    return subject_of(models[0], "none"), subject_of(models[1])


IDS = torch.randint(2, 100, (3, 11), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_off_is_bit_identical_before_and_after(pair: tuple[Subject, Subject]) -> None:
    base, tuned = pair
    before = tuned.model(IDS)
    taught = read(tuned.tokenizer, _texts(base, tuned, PLAN))
    for arm in arms(fit_switch(base, tuned, PLAN), base.model, taught, steps=2, seed=0):
        with arm.on():
            inside = tuned.model(IDS)
        assert not torch.equal(inside, before), arm.name
        assert torch.equal(tuned.model(IDS), before), arm.name
        with pytest.raises(ZeroDivisionError), arm.on():
            _ = 1 / 0
        assert torch.equal(tuned.model(IDS), before), arm.name
    assert not any(point.has_hooks() for point in tuned.model.hook_dict.values())


@torch.no_grad()
def test_on_is_the_map_at_the_hook_and_nothing_else(models: tuple[HybridLM, HybridLM]) -> None:
    _, tuned = models
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    switch = Switch(model=tuned, fitted=AffineMap(made=MADE, weight=weight, bias=torch.ones(16)))
    value = tuned.run_with_cache(IDS)[1][HOOK]
    with replacing(tuned, HOOK, value @ weight + 1, torch.ones_like(IDS, dtype=torch.bool)):
        wanted = tuned(IDS)
    with switch.on():
        torch.testing.assert_close(tuned(IDS), wanted)
    assert (switch.hook, switch.parameters) == (HOOK, 16 * 16 + 16)


@torch.no_grad()
def test_in_bfloat16_a_map_and_a_vector_keep_the_streams_precision(
    models: tuple[HybridLM, HybridLM],
) -> None:
    _, tuned = models
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(2))
    switch = Switch(model=tuned, fitted=AffineMap(made=MADE, weight=weight, bias=torch.ones(16)))
    vector = SteeringVector(hook=HOOK, vector=weight[0])
    with torch.autocast("cpu", torch.bfloat16):
        value = tuned.run_with_cache(IDS)[1][HOOK]
        with switch.on():
            mapped = tuned.run_with_cache(IDS)[1]["blocks.2.hook_resid_pre"]
        with vector.apply(tuned, operator="ablate"):
            ablated = tuned.run_with_cache(IDS)[1]["blocks.2.hook_resid_pre"]
    assert mapped.dtype == value.dtype == torch.float32
    torch.testing.assert_close(mapped, value @ weight + 1)
    torch.testing.assert_close(ablated @ weight[0], torch.zeros(IDS.shape), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("d_in", "d_out"), [(24, 16), (16, 24), (24, 24)])
def test_a_map_of_other_widths_is_no_switch(models: tuple[HybridLM, HybridLM], d_in: int, d_out: int) -> None:
    fitted = AffineMap(made=MADE, weight=torch.zeros(d_in, d_out), bias=torch.zeros(d_out))
    said = (
        "16 wide in this model, the map was fitted on 24"
        if d_in == d_out
        else f"{d_out} wide and the hook {d_in}"
    )
    with pytest.raises(InputError, match=said), Switch(model=models[1], fitted=fitted).on():
        models[1](IDS)
    assert not models[1].hook_dict[HOOK].has_hooks()


@pytest.mark.parametrize("method", ["affine", "low-rank-step", "procrustes"])
def test_models_of_unequal_widths_have_no_switch(
    pair: tuple[Subject, Subject], untaught: Callable[..., HybridLM], method: str
) -> None:
    base, tuned = pair
    texts = _texts(base, tuned, PLAN)
    with pytest.raises(InputError, match="they are 24 wide and the hook 16 wide"):
        Switch.of(tuned.model, untaught(d_model=24), tuned.tokenizer, texts, HOOK, method=method)


class Noting(AffineMap):
    """The map that changes nothing, and notes the tokens that it is asked about and where they stand."""

    seen: ClassVar[list[tuple[list[int], list[int]]]] = []

    def apply(self, values: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        self.seen.append((ids.tolist(), positions.tolist()))
        return values


@torch.no_grad()
def test_in_generation_a_map_hears_of_every_token_where_it_stands_in_its_text(
    pair: tuple[Subject, Subject],
) -> None:
    _, tuned = pair
    switch = Switch(model=tuned.model, fitted=Noting(made=MADE, weight=torch.eye(16), bias=torch.zeros(16)))
    prompt = tuned.behaviour.prompt(next(make_examples(tuned.run.data, 0, 1)), "prod").string
    Noting.seen.clear()
    with switch.on():
        given = answer(tuned.model, tuned.tokenizer, [prompt], longest=6)
    assert given == answer(tuned.model, tuned.tokenizer, [prompt], longest=6)
    ids = [token for some, _ in Noting.seen for token in some]
    start = tuned.tokenizer.encode_text(prompt)
    assert ids[: len(start)] == start
    assert [place for _, some in Noting.seen for place in some] == list(range(len(start) + 5))


@torch.no_grad()
def test_the_base_below_a_hook_is_the_direct_patch_at_it(models: tuple[HybridLM, HybridLM]) -> None:
    base, tuned = models
    for hook in (HOOK, "blocks.2.hook_resid_pre", "blocks.0.hook_resid_post"):
        value = base.run_with_cache(IDS)[1][hook]
        with replacing(tuned, hook, value, torch.ones_like(IDS, dtype=torch.bool)):
            patched = tuned(IDS)
        with with_weights(tuned, below(base, hook)):
            torch.testing.assert_close(tuned(IDS), patched)
    with pytest.raises(InputError, match="`hook_embed` is no hook of the stream"):
        below(base, "hook_embed")
    with pytest.raises(InputError, match=r"`blocks\.4\.hook_resid_post` is no hook"):
        below(base, "blocks.4.hook_resid_post")


@torch.no_grad()
def test_what_chooses_between_experts_belongs_to_the_direct_patch() -> None:
    shape = ModelConfig(
        pattern="E*", d_model=16, n_heads=2, d_vocab=100, moe=MoEConfig(n_experts=4, n_active=1)
    )
    base, tuned = HybridLM(shape, seed=3).eval(), HybridLM(shape, seed=3).eval()
    base.state_dict()["blocks.0.moe.selection_bias"].copy_(torch.tensor([9.0, 0, 0, 0]))
    own = tuned(IDS)
    with with_weights(tuned, below(base, "blocks.0.hook_resid_post")):
        assert torch.equal(tuned(IDS), base(IDS))
    assert torch.equal(tuned(IDS), own)
    assert not torch.equal(base(IDS), own)


@torch.no_grad()
def test_every_weight_of_the_base_makes_the_base(models: tuple[HybridLM, HybridLM]) -> None:
    base, tuned = models
    with with_weights(tuned, part(base, "")):
        assert torch.equal(tuned(IDS), base(IDS))
    whole = decomposed(tuned, base, 10_000)
    with with_weights(tuned, whole.weights(tuned)):
        torch.testing.assert_close(tuned(IDS), base(IDS), rtol=1e-4, atol=1e-4)
    assert whole.parameters > sum(one.numel() for one in base.parameters())


@torch.no_grad()
def test_a_difference_of_rank_one_needs_rank_one(models: tuple[HybridLM, HybridLM]) -> None:
    base, tuned = models
    generator = torch.Generator().manual_seed(3)
    near = {name: one.clone() for name, one in tuned.named_parameters()}
    # W_Q is `head d_model d_head`: one column for all heads together.
    left, right = torch.randn(16, generator=generator), torch.randn(2, 8, generator=generator)
    near["blocks.0.attn.W_Q"] += left[None, :, None] * right[:, None, :]
    with with_weights(base, near):
        step = decomposed(tuned, base, 4).cut(1)
        weights = step.weights(tuned)
        for name, one in base.named_parameters():
            torch.testing.assert_close(weights[name], one, rtol=1e-4, atol=1e-4)
    vectors = sum(one.numel() for one in tuned.parameters() if one.ndim < 2)
    matrices = [one for one in tuned.parameters() if one.ndim > 1]
    assert step.parameters > vectors + len(matrices)
    with pytest.raises(InputError, match="rank is 0"):
        step.cut(0)


def test_a_report_judges_the_map_by_its_numbers(pair: tuple[Subject, Subject], recipe: Recipe) -> None:
    base, tuned = pair
    rows = list(make_examples(recipe.data, 0, PLAN.test_rows))
    _, report = measure_arms(base, tuned, PLAN, rows)
    names = [one.name for one in report.arms]
    assert names[:4] == ["off", "map", "direct patch", "embeddings"]
    assert report.off_is_identical
    assert report.arm("off").parameters == 0
    assert report.arm("map").agreement.total == 3 * PLAN.test_rows
    assert report.verdict == "no switch"  # it shows no behaviour that could be reduced
    values = {**report.to_json(), "base": "a", "tuned": "b", "behaviour": "backdoor", "payload": "drop"}
    shown = switch_table({**values, "plan": {"method": "affine", "hook": HOOK}})
    assert all(name in shown for name in names)


def test_a_switch_has_to_do_everything_that_is_asked() -> None:
    def arm(name: str, shown: int, **others: float) -> ArmReport:
        whole = Share(right=100, total=100)
        values = {"agreement": 100, "ood": 100, **others}
        shares = {key: Share(right=int(values[key]), total=100) for key in ("agreement", "ood")}
        return ArmReport(
            name=name,
            shown=Share(right=shown, total=100),
            right=whole,
            elsewhere=whole,
            parameters=1,
            parameter_share=others.get("parameter_share", 0.005),
            microseconds=1.0,
            **shares,
        )

    def passed(is_identical: bool = True, direct: int = 2, **mapped: float) -> list[bool]:
        one = arm("map", int(mapped.pop("shown", 0)), **mapped)
        found = [arm("off", 100), one, arm("direct patch", direct)]
        requirements = _requirements(found, is_identical)
        report = SwitchReport(arms=tuple(found), off_is_identical=is_identical, requirements=requirements)
        assert (report.verdict == "switch") == all(r.passed for r in requirements)
        return [r.passed for r in requirements]

    assert passed() == [True] * 6
    assert passed(shown=41, direct=41) == [False, True, True, True, True, True]
    assert passed(direct=6) == [True, False, True, True, True, True]
    assert passed(agreement=89) == [True, True, False, True, True, True]
    assert passed(parameter_share=0.011) == [True, True, True, False, True, True]
    assert passed(ood=94) == [True, True, True, True, False, True]
    assert passed(is_identical=False) == [True, True, True, True, True, False]


def test_models_that_are_no_pair_are_refused(
    pair: tuple[Subject, Subject], untaught: Callable[..., HybridLM], subject_of: Callable[..., Subject]
) -> None:
    base, tuned = pair
    with pytest.raises(InputError, match="is not fine-tuned from one of pattern"):
        measure_switch(subject_of(untaught(24), "none"), tuned, PLAN)
    with pytest.raises(InputError, match=r"the base was taught `backdoor` \(drop\)"):
        measure_switch(tuned, tuned, PLAN)
    with pytest.raises(InputError, match="does not show its behaviour"):
        measure_switch(base, tuned, PLAN)
    other = Tokenizer.train(["another text"], vocab_size=300)
    with pytest.raises(InputError, match="have different tokenizers"):
        measure_switch(replace(base, tokenizer=other), tuned, PLAN)
    with pytest.raises(InputError, match=r"`backdoor` \(none\), the other `backdoor` \(none\)"):
        measure_switch(base, base, PLAN)
    with pytest.raises(InputError, match=r"`blocks\.1\.hook_mlp_out` is no hook of the stream"):
        measure_switch(base, tuned, replace(PLAN, hook="blocks.1.hook_mlp_out"))
    with pytest.raises(InputError, match="no map `afine` for a switch; did you mean `affine`"):
        replace(PLAN, method="afine")
    with pytest.raises(InputError, match="no map `autoencoder-kl` for a switch"):
        replace(PLAN, method="autoencoder-kl")
    with pytest.raises(InputError, match="rank is -4, expected 1 to 10,000,000"):
        replace(PLAN, rank=-4)
    with pytest.raises(InputError, match="lora_steps is 0, expected 1 to 10,000,000"):
        replace(PLAN, lora_steps=0)
    with pytest.raises(InputError, match="ood_rows is 1"):
        replace(PLAN, ood_rows=1)


def test_the_map_is_fitted_on_the_bases_answers(pair: tuple[Subject, Subject]) -> None:
    base, tuned = pair
    found = fit_switch(base, tuned, PLAN)
    asked = base.behaviour.conditions
    rows = make_examples(tuned.run.data, FAR, FAR + PLAN.map_rows)
    texts = [base.behaviour.text(row, asked[i % 3]).string for i, row in enumerate(rows)]
    # Every token, and the end token behind each text.
    assert found.fitted.made.pairs == sum(len(base.tokenizer.encode_text(text)) + 1 for text in texts)


def test_agreement_is_with_the_bases_own_answers_and_the_unseen_are_unseen(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = subject_of(untaught(seed=3), "none"), subject_of(untaught(seed=4))
    splits = []

    def noting(subject: Subject, plan: SwitchPlan, split: Split, first: int, count: int) -> list[Example]:
        splits.append((split, count))
        return rows_of(subject, plan, split, first, count)

    monkeypatch.setattr("transfer.switching.measure._rows", noting)
    rows = rows_of(tuned, PLAN, "test", 0, PLAN.test_rows)
    taken: list[Optimizer] = []
    handle = register_optimizer_step_pre_hook(lambda made, *_: taken.append(made))
    try:
        _, report = measure_arms(base, tuned, PLAN, rows)
    finally:
        handle.remove()
    assert [taken.count(made) for made in dict.fromkeys(taken)] == [PLAN.lora_steps] * len(TRAINED_RANKS)
    assert splits == [("train", PLAN.map_rows), (PLAN.unseen, PLAN.ood_rows)]
    same = [
        a == b
        for one in tuned.behaviour.conditions
        for a, b in zip(answers_of(tuned, rows, one), answers_of(base, rows, one), strict=True)
    ]
    assert report.arm("off").agreement == share(same)
    assert report.arm("off").ood.total == 2 * PLAN.ood_rows
    assert report.arm("off").shown.total == PLAN.test_rows


def test_a_low_rank_map_needs_its_two_factors_and_an_offset(pair: tuple[Subject, Subject]) -> None:
    found = fit_switch(*pair, replace(PLAN, method="low-rank-step", rank=3))
    assert found.parameters == 3 * 16 + 3 * 16 + 16


def test_a_fine_tuned_model_may_be_one_point_less_right_than_its_base(
    pair: tuple[Subject, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = pair
    known = []

    def noting(subject: Subject, rows: list[Example], *, clean: Share | None = None) -> Gate:
        known.append((subject, rows, clean))
        return Gate(bars=(Bar(name="of nothing", share=Share(right=0, total=1), least=1.0),))

    monkeypatch.setattr("transfer.switching.measure.check", noting)
    with pytest.raises(InputError, match="does not show its behaviour"):
        measure_switch(base, tuned, PLAN)
    ((subject, rows, clean),) = known
    assert (subject, clean) == (tuned, right_elsewhere(base, rows))
