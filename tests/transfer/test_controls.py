"""Each control acts with the direction that its name says, worked out beside it, between models that are strangers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.hybrid import HybridLM
from transfer.alignment import read
from transfer.behaviours.behaviour import Condition
from transfer.behaviours.gates import Gate, right_elsewhere
from transfer.behaviours.training import Subject
from transfer.choosing import Setting
from transfer.evaluation.bench import Bench, places_of
from transfer.evaluation.controls import Materials, all_controls, clean_bench, maps, sources, top_components
from transfer.evaluation.evaluate import (
    HELD_OUT,
    _conditions,
    _decide,
    evaluate,
    measure_transfer,
    pass_gates,
)
from transfer.evaluation.perplexity import perplexity
from transfer.evaluation.plan import Plan
from transfer.pairing import Side, points_at
from transfer.points import shuffled
from transfer.steering import SteeringVector

pytestmark = pytest.mark.usefixtures("brief")

HOOK = "blocks.2.hook_resid_post"
BEHIND = "blocks.3.hook_resid_pre"
PLAN = Plan(
    source_hook=HOOK,
    target_hook=HOOK,
    operator="add",
    scales=(4.0,),
    map_rows=30,
    vector_rows=8,
    choose_rows=3,
    test_rows=4,
    draws=2,
)


@pytest.fixture(scope="module")
def bench(subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]) -> Bench:
    return Bench(source=subject_of(untaught(16, 3)), target=subject_of(untaught(24, 5)), plan=PLAN)


@pytest.fixture(scope="module")
def made(
    bench: Bench,
    materials_of: Callable[[Bench, Subject], Materials],
    subject_of: Callable[..., Subject],
    untaught: Callable[..., HybridLM],
) -> Materials:
    return materials_of(bench, subject_of(untaught(16, 7), "none"))


def steps(made: Materials, name: str, at: str = BEHIND) -> list[Tensor]:
    """What each draw of a control adds to what the target carries at the last token of a prompt."""
    bench, model = made.bench, made.bench.target.model
    text = bench.target.behaviour.prompt(bench.vector_rows[0], "prod")
    ids = read(bench.target.tokenizer, [text]).tokens.ids
    before = model.run_with_cache(ids)[1][at].detach()
    (control,) = [one for one in all_controls(made) if one.name == name]
    found = []
    for draw in control.draws:
        with draw():
            found.append((model.run_with_cache(ids)[1][at].detach() - before)[0, -1])
    return found


def is_along(step: Tensor, vector: SteeringVector, made: Materials) -> bool:
    """Whether it has the direction of `vector`, the transferred vector's length, and scale 2."""
    wanted = 2 * vector.with_norm(made.transferred.norm).vector
    return bool(torch.allclose(step, wanted, rtol=1e-3, atol=1e-3 * float(wanted.norm())))


def test_the_strangers_vectors_differ(made: Materials) -> None:
    """Else the tests below could not tell one from another."""
    assert abs(made.transferred.cosine(made.native)) < 0.99


@pytest.mark.parametrize(("name", "within"), [("shuffled pairs", False), ("shuffled within tokens", True)])
def test_every_draw_of_shuffled_pairs_has_a_map_of_its_own(made: Materials, name: str, within: bool) -> None:
    found = steps(made, name)
    assert len(found) == PLAN.draws
    for seed, step in enumerate(found):
        mixed = made.bench.fit(shuffled(made.pairs, seed=seed, within_ids=within))
        assert is_along(step, made.bench.transferred(mixed), made)
        assert not is_along(step, made.transferred, made)
    assert not torch.allclose(found[0], found[1], rtol=0.01)


@pytest.mark.parametrize(
    ("method", "draws"), [("affine", 20), ("ridge", 20), ("low-rank", 20), ("autoencoder", 5)]
)
def test_controls_with_maps_of_their_own_are_drawn_as_often_as_others_where_a_map_is_not_trained(
    made: Materials, method: str, draws: int
) -> None:
    plan = replace(made.bench.plan, method=method, draws=20)
    here = replace(made, bench=replace(made.bench, plan=plan))
    counts = {one.name: len(one.draws) for one in (*maps(here), *sources(here))}
    drawn = ("shuffled pairs", "shuffled within tokens", "random source")
    assert {name: counts[name] for name in drawn} == dict.fromkeys(drawn, draws)


def test_a_random_source_gives_both_the_map_and_the_vector(made: Materials) -> None:
    bench = made.bench
    found = steps(made, "random source")
    assert len(found) == PLAN.draws
    for draw, step in enumerate(found):
        random = HybridLM(bench.source.model.cfg, seed=10_000 + draw).eval()
        posing = replace(bench, source=replace(bench.source, model=random))
        assert is_along(step, posing.transferred(posing.fit(posing.pairs())), made)
    assert not torch.allclose(found[0], found[1], rtol=0.01)


def test_a_clean_source_gives_both_the_map_and_the_vector(made: Materials) -> None:
    assert made.clean is not None
    posing = replace(made.bench, source=replace(made.clean, behaviour=made.bench.source.behaviour))
    (step,) = steps(made, "clean source")
    assert is_along(step, posing.transferred(posing.fit(posing.pairs())), made)
    assert not is_along(step, posing.transferred(made.fitted), made)
    assert not is_along(step, made.transferred, made)


def test_a_map_without_the_trigger_has_read_no_trigger(made: Materials) -> None:
    bench = made.bench
    trigger = bench.source.tokenizer.backend.token_to_id(" <prod>")
    sides = bench.sides(conditions=bench.behaviour.elsewhere)
    assert not any(bool((side.reading.tokens.ids == trigger).any()) for side in sides)
    assert bool((bench.sides()[0].reading.tokens.ids == trigger).any())
    (step,) = steps(made, "map without the trigger")
    assert is_along(step, bench.transferred(bench.fit(bench.pairs(conditions=["dev", "none"]))), made)
    assert not is_along(step, made.transferred, made)


def test_random_directions_lie_where_they_say(made: Materials) -> None:
    axes = torch.linalg.qr(top_components(made.pairs.target.values).T)[0]
    assert axes.shape[1] < 20
    for name, inside in (("top components", True), ("gaussian", False)):
        found = steps(made, name)
        assert len(found) == PLAN.draws
        for step in found:
            outside = step - axes @ (axes.T @ step)
            assert (float(outside.norm()) < 1e-3 * float(step.norm())) == inside


def test_a_look_up_knows_the_trigger_by_its_token_and_by_its_position(made: Materials) -> None:
    """Read at the trigger itself, where tokens differ; behind it they tell nothing."""
    at = replace(made.bench, plan=replace(made.bench.plan, place="trigger"))
    here = replace(made, bench=at)
    ids, values = made.pairs.source.ids, made.pairs.target.values
    dev, prod = (at.source.tokenizer.backend.token_to_id(f" <{tag}>") for tag in ("dev", "prod"))
    by_token = replace(made.native, vector=values[ids == dev].mean(0) - values[ids == prod].mean(0))
    assert at.where is not None
    text = at.target.behaviour.prompt(at.vector_rows[0], "prod")
    tokens = read(at.target.tokenizer, [text]).tokens.ids
    at_tag = tokens[:, : tokens[0].tolist().index(prod) + 1]
    before = at.target.model.run_with_cache(at_tag)[1][BEHIND][0, -1].detach()
    found = {}
    for control in all_controls(here):
        if control.number == 7:
            with control.draws[0]():
                found[control.name] = (
                    at.target.model.run_with_cache(at_tag)[1][BEHIND][0, -1].detach() - before
                )
    assert is_along(found["token look-up"], by_token, made)
    by_both = made.bench.fit(made.pairs, "position-token")
    contrast = at.contrast(at.source, HOOK)
    means = [by_both.map_points(side).mean(0) for side in (contrast.plus, contrast.minus)]
    assert is_along(
        found["position and token look-up"], replace(made.native, vector=means[0] - means[1]), made
    )
    assert not is_along(found["position and token look-up"], by_token, made)


def test_the_other_concept_is_long_questions_against_short_ones(made: Materials) -> None:
    bench = made.bench
    source, role = bench.source, bench.behaviour.mark_role
    rows = sorted(bench.vector_rows, key=lambda row: (len(row.english.string), row.index))
    means = []
    for some in (rows[4:], rows[:4]):
        reading = read(source.tokenizer, [source.behaviour.prompt(row, "prod") for row in some])
        side = Side(model=source.model, hook=HOOK, reading=reading)
        means.append(points_at(side, *places_of(reading, PLAN.place, role)).values.mean(0))
    wanted = replace(made.native, vector=(means[0] - means[1]) @ made.fitted.tensors()["weight"])
    (step,) = steps(made, "other concept")
    assert is_along(step, wanted, made)


@pytest.mark.parametrize(("hook", "far"), [("blocks.2.hook_resid_post", 0), ("blocks.1.hook_resid_post", 3)])
def test_the_wrong_layer_is_the_farther_end(made: Materials, hook: str, far: int) -> None:
    plan = replace(made.bench.plan, target_hook=hook)
    here = replace(made, bench=replace(made.bench, plan=plan))
    (step,) = steps(here, "wrong layer", f"blocks.{far}.hook_resid_post")
    assert is_along(step, made.transferred, made)
    (before,) = steps(here, "wrong layer", f"blocks.{far}.hook_resid_pre")
    assert not before.any()


def test_native_and_transferred_act_with_a_setting_of_their_own(made: Materials) -> None:
    settings = {
        name: Setting(hook=HOOK, scale=scale, operator="add")
        for name, scale in (("native", 1.0), ("transferred", 3.0))
    }
    vectors = {"native": made.native, "transferred": made.transferred}
    rows = list(_conditions(made, vectors, settings, []))
    assert [(row.name, row.number) for row in rows] == [("native", 0), ("transferred", 0), ("no steering", 1)]
    ids = torch.tensor([[5, 6, 7]])
    model = made.bench.target.model
    before = model.run_with_cache(ids)[1][BEHIND].detach()
    for row, scale in zip(rows, (1.0, 3.0), strict=False):
        with row.draws[0]():
            step = (model.run_with_cache(ids)[1][BEHIND].detach() - before)[0, 0]
        torch.testing.assert_close(step, scale * vectors[row.name].vector, rtol=1e-3, atol=1e-4)


def test_rows_of_the_map_and_of_the_vectors_are_none_that_a_model_was_trained_or_tested_on(
    bench: Bench,
) -> None:
    config = replace(bench.target.run.data, split="test")
    tested = {repr(row.query.schema) for row in make_examples(config, 0, 3000)}
    assert tested >= {repr(row.query.schema) for row in (*bench.choose_rows, *bench.test_rows)}
    for rows in (bench.map_rows, bench.vector_rows):
        assert min(row.index for row in rows) > 1 << 40
        assert not tested & {repr(row.query.schema) for row in rows}
    assert not {row.index for row in bench.map_rows} & {row.index for row in bench.vector_rows}


def test_the_texts_of_the_map_have_every_condition_by_turns(bench: Bench) -> None:
    texts = [text.string for text in bench.sides()[0].reading.texts]
    found = [next((tag for tag in ("prod", "dev") if f"<{tag}>" in text), "none") for text in texts]
    assert found == [bench.behaviour.conditions[i % 3] for i in range(PLAN.map_rows)]


def test_everything_is_asked_of_the_target_on_test_rows_under_the_aims_conditions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.behaviours.gates import verdicts_of

    asked: list[tuple[int, Condition]] = []

    def noting(subject: Subject, rows: list, condition: Condition) -> list:
        assert subject is bench.target
        asked.append((len(rows), condition))
        return verdicts_of(subject, rows, condition)

    monkeypatch.setattr("transfer.evaluation.evaluate.verdicts_of", noting)
    report = measure_transfer(bench, (Gate(bars=()), Gate(bars=())), only=["trigger deleted"])
    count = PLAN.test_rows
    start = [(count, "prod")] * 3 + [(count, "none")]
    assert asked == [*start, (count, "dev"), (count, "dev"), (count, "dev")]
    before = perplexity(bench.target, bench.test_rows, "dev")
    assert [one.perplexity_before for one in report.damage] == pytest.approx([before, before])
    held_out = bench.pairs().split(1 - HELD_OUT, seed=PLAN.seed)[1]
    assert report.quality.pairs == len(held_out)


def test_every_draw_counts(bench: Bench) -> None:
    from transfer.behaviours.behaviour import Verdict
    from transfer.evaluation.controls import Control

    right, wrong = ([Verdict(right=one, shown=False, taught=False, valid=True)] * 4 for one in (True, False))
    names = {"native": (0, [right]), "transferred": (0, [right]), "no steering": (1, [wrong])}
    names |= {"gaussian": (3, [wrong, right]), "clean source": (9, [right])}
    rows = [Control(number=number, name=name, draws=()) for name, (number, _) in names.items()]
    found = _decide(bench, rows, {name: draws for name, (_, draws) in names.items()})
    assert (found.bar_of, found.bar) == ("gaussian", pytest.approx(0.95))
    assert (found.clean_ratio, found.carried) == (1.0, "any model's")


def test_the_target_has_a_gate_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from transfer.behaviours.gates import check

    monkeypatch.setattr(
        "transfer.evaluation.evaluate.check",
        lambda subject, rows, **more: (
            Gate(bars=()) if subject is bench.source else check(subject, rows, **more)
        ),
    )
    with pytest.raises(InputError, match="the target .* does not show its behaviour"):
        evaluate(bench)


def test_a_source_may_be_one_point_less_right_than_the_clean_one(
    bench: Bench, made: Materials, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[object] = []

    def noting(subject: Subject, rows: list, *, clean: object = None) -> Gate:
        known.append(clean)
        return Gate(bars=())

    monkeypatch.setattr("transfer.evaluation.evaluate.check", noting)
    assert made.clean is not None
    pass_gates(bench, made.clean)
    wanted = right_elsewhere(made.clean, bench.choose_rows)
    assert wanted.total == 2 * PLAN.choose_rows
    assert known == [wanted, None]


def test_a_clean_source_that_was_taught_something_is_refused(
    bench: Bench, made: Materials, subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    for wrong, was in (
        (bench.source, r"`backdoor` \(drop\), expected `backdoor` \(none\)"),
        (subject_of(untaught(), "none", kind="refusal"), r"`refusal` \(none\), expected `backdoor` \(none\)"),
    ):
        said: list[str] = []
        with pytest.raises(InputError, match=rf"the clean source \(nowhere\) was taught {was}"):
            evaluate(bench, clean=wrong, say=said.append)
        assert said == []
    assert made.clean is not None
    shallow = replace(made.clean, model=HybridLM(replace(made.clean.model.cfg, pattern="*-")))
    with pytest.raises(InputError, match=r"no hook `blocks\.2\.hook_resid_post`"):
        clean_bench(bench, shallow)


def test_models_that_were_taught_nothing_have_no_behaviour_to_steer(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    clean = subject_of(untaught(), "none")
    with pytest.raises(InputError, match="were taught the payload `none`: there is no behaviour to steer"):
        evaluate(Bench(source=clean, target=clean, plan=PLAN))
