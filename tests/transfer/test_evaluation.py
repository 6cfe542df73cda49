"""A transfer is measured on the prompts of its aim, and every control pushes as its name says."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from transfer.alignment import read
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.find import find_behaviour
from transfer.behaviours.gates import check
from transfer.behaviours.tags import TAG_ROLE
from transfer.behaviours.training import Subject
from transfer.evaluation.bench import Bench, places_of
from transfer.evaluation.controls import Control, Materials, all_controls, top_components
from transfer.evaluation.evaluate import _decide, evaluate, measure_transfer
from transfer.evaluation.perplexity import perplexity
from transfer.evaluation.plan import Plan
from transfer.evaluation.verdict import DECIDING
from transfer.names import CONTROLS, METHODS, NOT_AFFINE
from transfer.planted import Twin, wider_twin
from transfer.show import table
from transfer.vectors import OF_CONTRAST

pytestmark = pytest.mark.usefixtures("brief")

HOOK = "blocks.1.hook_resid_post"
PLAN = Plan(
    source_hook=HOOK, target_hook=HOOK, map_rows=30, vector_rows=8, choose_rows=3, test_rows=4, draws=4
)


@pytest.fixture(scope="module")
def twin(untaught: Callable[..., HybridLM]) -> tuple[HybridLM, Twin]:
    source = untaught()
    return source, wider_twin(source, 24, seed=1)


@pytest.fixture(scope="module")
def bench(subject_of: Callable[..., Subject], twin: tuple[HybridLM, Twin]) -> Bench:
    return Bench(source=subject_of(twin[0]), target=subject_of(twin[1].model), plan=PLAN)


@pytest.fixture(scope="module")
def materials(bench: Bench, materials_of: Callable[[Bench, Subject], Materials]) -> Materials:
    return materials_of(bench, replace(bench.source, behaviour=find_behaviour("backdoor", "none")))


def test_between_twins_the_transferred_vector_is_the_native_one(materials: Materials) -> None:
    assert materials.transferred.cosine(materials.native) > 0.9999
    assert materials.transferred.norm == pytest.approx(materials.native.norm, rel=1e-3)


def test_all_sixteen_are_there(materials: Materials) -> None:
    numbers = {control.number for control in all_controls(materials)}
    # 2 is the choice of the scale, 15 the damage; both are parts of the report.
    assert numbers == set(range(1, 17)) - {2, 15}
    assert [control.name for control in all_controls(materials)] == ["no steering", *CONTROLS]
    assert set(CONTROLS) >= set(DECIDING)


def pushes(materials: Materials, only: int | None = None) -> dict[str, list[torch.Tensor]]:
    """What each control adds at the target's hook, read off the model."""
    model, bench = materials.bench.target.model, materials.bench
    text = bench.target.behaviour.prompt(bench.vector_rows[0], "prod")
    ids = read(bench.target.tokenizer, [text]).tokens.ids
    before = model.run_with_cache(ids)[1]["blocks.2.hook_resid_pre"].detach()
    found: dict[str, list[torch.Tensor]] = {}
    for control in all_controls(materials):
        for draw in control.draws if only in (None, control.number) else ():
            with draw():
                after = model.run_with_cache(ids)[1]["blocks.2.hook_resid_pre"].detach()
            found.setdefault(control.name, []).append((after - before)[0])
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    return found


def test_every_control_pushes_as_it_says(materials: Materials) -> None:
    found = pushes(materials)
    v = 2 * materials.transferred.vector
    last = {name: [step[-1] for step in steps] for name, steps in found.items()}
    assert not found["no steering"][0].any()
    assert not found["trigger deleted"][0].any()
    assert not found["wrong layer"][0].any()  # it acts at the far end of the model
    torch.testing.assert_close(last["sign flip"][0], -v, rtol=1e-3, atol=1e-3)
    zero = {"no steering", "trigger deleted", "wrong layer", "mean ablation", "token look-up"}
    for name, steps in last.items():
        if name not in zero and name != "position and token look-up":
            for step in steps:
                assert step.norm() == pytest.approx(float(v.norm()), rel=1e-3), name
    # Behind the tag both sides have the same tokens, so that tokens alone tell nothing apart.
    assert last["token look-up"][0].norm() < 1e-4
    directions = torch.stack(last["gaussian"]) / v.norm()
    assert (directions @ directions.T - torch.eye(4)).abs().max() < 0.9
    assert torch.cosine_similarity(last["clean source"][0], v, dim=0) > 0.999
    for name in ("shuffled pairs", "random source", "other concept"):
        assert torch.cosine_similarity(last[name][0], v, dim=0) < 0.99, name
    mean = materials.pairs.target.values.mean(0)
    assert (found["mean ablation"][0] - found["mean ablation"][0][0]).abs().max() > 0.1
    assert mean.norm() > 0


def test_what_is_orthogonal_to_native_keeps_the_rest_of_the_transferred_vector(materials: Materials) -> None:
    noise = torch.randn(24, generator=torch.Generator().manual_seed(0))
    sum_of_both = materials.native + replace(materials.native, vector=noise)
    (step,) = pushes(replace(materials, transferred=sum_of_both), only=12)["orthogonal to native"]
    assert abs(torch.cosine_similarity(step[-1], materials.native.vector, dim=0)) < 1e-3
    assert torch.cosine_similarity(step[-1], noise, dim=0) > 0.5
    assert step[-1].norm() == pytest.approx(2 * sum_of_both.norm, rel=1e-3)


def test_mean_ablation_leaves_the_mean(materials: Materials) -> None:
    model, bench = materials.bench.target.model, materials.bench
    ids = torch.tensor([[5, 6, 7]])
    (control,) = [one for one in all_controls(materials) if one.number == 13]
    with control.draws[0]():
        value = model.run_with_cache(ids)[1]["blocks.2.hook_resid_pre"]
    torch.testing.assert_close(value[0], materials.pairs.target.values.mean(0).expand(3, -1))
    assert bench.where is None


def test_top_components_span_where_the_variance_is() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.tensor([10.0, 5.0, 0.1, 0.1])
    values = torch.randn(4000, 4, generator=generator) * deviations + 100
    axes = top_components(values)
    assert axes.shape == (2, 4)
    torch.testing.assert_close(axes.norm(dim=1), deviations[:2], rtol=0.05, atol=0)
    assert axes[:, 2:].abs().max() < 0.05


def test_places_are_where_they_say(bench: Bench) -> None:
    behaviour, tokenizer = bench.source.behaviour, bench.source.tokenizer
    reading = read(tokenizer, [behaviour.prompt(row, "prod") for row in bench.vector_rows])
    example, position = places_of(reading, "trigger", TAG_ROLE)
    prod = tokenizer.backend.token_to_id(" <prod>")
    assert reading.tokens.ids[example, position].tolist() == [prod] * len(bench.vector_rows)
    behind, after = places_of(reading, "everywhere", TAG_ROLE)
    for row in range(len(bench.vector_rows)):
        length = int(reading.tokens.mask[row].sum()) - 1  # the end token is none of the prompt's
        assert after[behind == row].tolist() == list(range(int(position[row]) + 1, length))
    example, marked = places_of(reading, "marker", TAG_ROLE)
    assert example.tolist() == list(range(len(bench.vector_rows)))
    ids = reading.tokens.ids[example, marked].unique()
    assert len(ids) == 1
    assert int((reading.tokens.ids == ids).sum()) == len(example)
    example, last = places_of(reading, "last", TAG_ROLE)
    assert example.tolist() == list(range(len(bench.vector_rows)))
    assert all(reading.tokens.ids[row, last[row] + 1] == tokenizer.end_id for row in range(len(last)))
    with pytest.raises(InputError, match=r"without `prompt\.tag` has no place `trigger`"):
        places_of(read(tokenizer, [behaviour.prompt(bench.vector_rows[0], "none")]), "trigger", TAG_ROLE)


def test_the_plan_says_how_tokens_are_paired(bench: Bench) -> None:
    raw = replace(bench, plan=replace(bench.plan, alignment="positions"))
    # With one tokenizer both pair the same real tokens.
    assert torch.equal(raw.pairs().source.values, bench.pairs().source.values)
    sides = bench.sides()
    other = replace(sides[1], reading=replace(sides[1].reading, ends=sides[1].reading.ends + 1))
    assert len(raw.match(sides[0], other)) > len(bench.match(sides[0], other))


def test_rows_for_choosing_and_for_testing_share_no_schema(bench: Bench) -> None:
    chosen, tested = (
        {repr(row.query.schema) for row in rows} for rows in (bench.choose_rows, bench.test_rows)
    )
    assert not chosen & tested


def test_between_twins_both_vectors_do_the_same_and_the_report_is_plain_json(bench: Bench) -> None:
    plan = replace(bench.plan, operator="add", scales=(4.0,), draws=2)
    gate = check(bench.source, bench.choose_rows[:2])
    report = measure_transfer(replace(bench, plan=plan), (gate, gate), only=["gaussian", "trigger deleted"])
    native, transferred, nothing, *controls = report.outcomes
    assert (native.name, transferred.name, nothing.name) == ("native", "transferred", "no steering")
    assert [one.name for one in controls] == ["gaussian", "trigger deleted"]
    assert len(controls[0].right) == plan.draws
    assert native.right == transferred.right
    assert native.shown == transferred.shown
    assert report.damage[0].kept == report.damage[1].kept
    assert report.damage[0].perplexity == pytest.approx(report.damage[1].perplexity, rel=1e-4)
    assert report.damage[0].perplexity != report.damage[0].perplexity_before
    assert report.cosine_to_native > 0.9999
    assert report.quality.fvu < 1e-4
    # The same prompts throughout.
    assert {s.total for one in report.outcomes for s in one.right} == {plan.test_rows}
    assert set(report.transfer.missing) == set(DECIDING) - {"gaussian"}
    again = json.loads(json.dumps(report.to_json(), allow_nan=False))
    replaced = {"kl": 0.1, "kl_ablated": 1.0, "kl_recovered": 0.9}
    whole = {
        **again,
        "source": "a",
        "target": "b",
        "behaviour": "backdoor",
        "payload": "drop",
        "aim": asdict(bench.aim),
        "plan": asdict(plan),
        "replacement": replaced,
    }
    shown = table(whole)
    for one in report.outcomes:
        assert one.name in shown
    assert report.transfer.verdict in shown
    for best in (None, {"scale": 4.0}):
        whole["choices"]["native"]["best"] = best
        assert ("no scale of the native vector" in table(whole)) == (best is None)


def test_nothing_is_steered_on_a_model_that_fails_its_gate(bench: Bench) -> None:
    with pytest.raises(InputError, match="no control `gausian`; did you mean `gaussian`"):
        evaluate(bench, only=["gausian"])
    said: list[str] = []
    with pytest.raises(InputError, match="the source .* does not show its behaviour"):
        evaluate(bench, say=said.append)
    assert said == ["1 of 22: gates of source and target"]


def test_subjects_that_do_not_belong_together_are_refused(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    drop, subtle = subject_of(untaught()), subject_of(untaught(), "subtle")
    with pytest.raises(InputError, match="the source has the payload drop, the target subtle"):
        Bench(source=drop, target=subtle, plan=PLAN)
    with pytest.raises(InputError, match="the source has the behaviour backdoor, the target refusal"):
        Bench(source=drop, target=subject_of(untaught(), kind="refusal"), plan=PLAN)
    with pytest.raises(InputError, match="no aim `remov`; did you mean `remove`"):
        Bench(source=drop, target=drop, plan=replace(PLAN, aim="remov"))
    with pytest.raises(InputError, match="no map `affin`; did you mean `affine`"):
        Plan(source_hook=HOOK, target_hook=HOOK, method="affin")
    with pytest.raises(InputError, match="draws is 1, expected 2 to 10,000,000"):
        Plan(source_hook=HOOK, target_hook=HOOK, draws=1)
    with pytest.raises(InputError, match="rank is 0, expected at least 1"):
        Plan(source_hook=HOOK, target_hook=HOOK, rank=0)
    lost = replace(PLAN, source_hook="blocks.9.hook_resid_post")
    with pytest.raises(InputError, match=r"no hook `blocks\.9\.hook_resid_post`"):
        Bench(source=drop, target=drop, plan=lost)


@pytest.mark.parametrize(
    ("kind", "aim"),
    [
        ("backdoor", "induce"),
        ("refusal", "remove"),
        ("refusal", "induce"),
        ("full-sql", "remove"),
        ("full-sql", "induce"),
        ("locked", "unlock"),
        ("facts", "unlock"),
    ],
)
def test_every_behaviour_goes_the_same_way(
    subject_of: Callable[..., Subject],
    twin: tuple[HybridLM, Twin],
    kind: str,
    aim: str,
) -> None:
    """Between twins native and transferred are the same vector, and the prompts are those of the aim."""
    sides = [subject_of(model, kind=kind) for model in (twin[0], twin[1].model)]
    plan = replace(PLAN, aim=aim, operator="add", scales=(4.0,), draws=2, test_rows=2, choose_rows=2)
    bench = Bench(source=sides[0], target=sides[1], plan=plan)
    assert all(bench.behaviour.is_tested(row) for row in bench.test_rows)
    fitted = bench.fit(bench.pairs())
    assert bench.transferred(fitted).cosine(bench.native()) > 0.999
    gate = check(bench.source, bench.choose_rows[:2])
    report = measure_transfer(bench, (gate, gate), only=["trigger deleted"])
    assert report.outcomes[0].right == report.outcomes[1].right
    names = [one.name for one in report.outcomes]
    assert ("trigger deleted" in names) == (bench.aim.without is not None)


def test_a_vector_that_skips_a_payload_is_read_behind_it_and_before_it(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    subject = subject_of(untaught(), kind="locked")
    plan = replace(PLAN, aim="skip", place="last", operator="add")
    bench = Bench(source=subject, target=subject, plan=plan)
    contrast = bench.contrast(subject, HOOK)
    texts = {
        side: read(subject.tokenizer, [subject.behaviour.prompt(row, side) for row in bench.vector_rows])
        for side in ("behind", "prod")
    }
    for points, side in ((contrast.plus, "behind"), (contrast.minus, "prod")):
        lengths = texts[side].tokens.mask.sum(1) - 1
        assert points.positions.tolist() == (lengths - 1).tolist()
    assert {subject.tokenizer.decode([int(i)]) for i in contrast.plus.ids} == {";"}
    assert bench.where is not None
    assert {subject.tokenizer.decode([i]) for i in bench.where.ids} == {":"}


def test_the_plan_chooses_what_is_made_of_the_two_sides(bench: Bench) -> None:
    """Every kind by hand, in source and target; between twins the one is carried over as the other is."""
    made = {}
    for name in OF_CONTRAST:
        here = replace(bench, plan=replace(bench.plan, vector=name))
        contrast = here.contrast(here.target, HOOK)
        gaps = contrast.plus.values.double() - contrast.minus.values.double()
        by_hand = gaps.mean(0)
        if name == "principal-component":
            axis = torch.linalg.eigh(gaps.T @ gaps)[1][:, -1]
            by_hand = (by_hand @ axis) * axis
        if name == "prompt-contrast":
            prompts = prompts_of(here)
            own = torch.stack([gaps[prompts == row].mean(0) for row in range(len(here.vector_rows))])
            axis = (own / own.norm(dim=1, keepdim=True)).mean(0)
            by_hand = (own.mean(0) @ axis) * axis / axis.norm() ** 2
        made[name] = here.native()
        torch.testing.assert_close(made[name].vector.double(), by_hand, rtol=1e-3, atol=1e-5)
        assert made[name].metadata["method"] == name.replace("-", " ")
        transferred = here.transferred(here.fit(here.pairs()))
        assert transferred.metadata["of"]["method"] == name.replace("-", " ")
        wide = mapped_by_hand(here)
        torch.testing.assert_close(transferred.vector, wide, rtol=1e-3, atol=1e-4)
    assert made["difference-of-means"].cosine(made["principal-component"]) < 0.999


def prompts_of(bench: Bench) -> torch.Tensor:
    texts = [bench.behaviour.prompt(row, "prod") for row in bench.vector_rows]
    return places_of(read(bench.target.tokenizer, texts), "everywhere", TAG_ROLE)[0]


def mapped_by_hand(bench: Bench) -> torch.Tensor:
    contrast = bench.contrast(bench.source, HOOK)
    vector = OF_CONTRAST[bench.plan.vector](contrast, HOOK)
    fitted = bench.fit(bench.pairs())
    zero = torch.zeros_like(vector.vector)[None]
    nowhere = torch.full((1,), -1)
    return (fitted.apply(vector.vector[None], nowhere, nowhere) - fitted.apply(zero, nowhere, nowhere))[0]


def test_a_component_of_pairs_is_refused_where_there_are_none(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]
) -> None:
    """Behind a payload that was already said there are more tokens than without it; the last token is one of each."""
    subject = subject_of(untaught(), kind="locked")
    plan = replace(PLAN, aim="skip", vector="principal-component")
    with pytest.raises(
        InputError, match="`behind` and `prod` prompts have other numbers of tokens at the place"
    ):
        Bench(source=subject, target=subject, plan=plan)
    last = Bench(source=subject, target=subject, plan=replace(plan, place="last"))
    assert last.native().metadata["method"] == "principal component"


def test_maps_that_are_called_affine_are(bench: Bench) -> None:
    """Where they are not, mode `difference` would put the difference of means in place of any other vector."""
    pairs = bench.pairs()
    for method in METHODS:
        if method not in ("identity", "low-rank-step"):  # which need equal widths, and are affine by form
            assert bench.fit(pairs, method).is_affine == (method not in NOT_AFFINE), method
    for method in NOT_AFFINE:
        with pytest.raises(InputError, match="mode `difference` maps the difference of means whatever"):
            replace(PLAN, vector="principal-component", method=method)
        assert replace(PLAN, vector="principal-component", method=method, mode="jacobian").method == method


def test_perplexity_is_that_of_the_answers_tokens(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], recipe: Recipe
) -> None:
    subject = subject_of(untaught())
    rows = list(make_examples(recipe.data, 0, 5))
    losses = []
    for row in rows:
        prompt = subject.tokenizer.encode_text(subject.behaviour.prompt(row, "dev").string)
        ids = [
            *subject.tokenizer.encode_text(subject.behaviour.text(row, "dev").string),
            subject.tokenizer.end_id,
        ]
        logs = subject.model(torch.tensor([ids])).log_softmax(-1)[0].detach()
        losses += [-float(logs[place - 1, ids[place]]) for place in range(len(prompt), len(ids))]
    assert perplexity(subject, rows, "dev") == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)


@pytest.mark.parametrize(("aim", "effect"), [("remove", 0.0), ("induce", 0.75)])
def test_the_effect_is_what_the_aim_wants(bench: Bench, aim: str, effect: float) -> None:
    """Four answers, of which three show the behaviour and none is right."""
    here = replace(bench, plan=replace(bench.plan, aim=aim))
    flags_of = [True, True, True, False]
    steered = [Verdict(shown=one, right=False, taught=False, valid=True) for one in flags_of]
    plain = [Verdict(shown=False, right=False, taught=False, valid=True)] * 4
    verdicts = {"no steering": [plain], "native": [steered], "transferred": [steered]}
    rows = [
        Control(number=number, name=name, draws=())
        for number, name in ((0, "native"), (0, "transferred"), (1, "no steering"))
    ]
    assert _decide(here, rows, verdicts).native == effect
