"""The scale is the strongest that spoils little, on validation prompts, of what the aim says."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import Example
from tinysql.models.hybrid import HybridLM
from transfer.alignment import read
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.gates import Gate
from transfer.behaviours.training import Subject
from transfer.choosing import Choice, Setting, Trial
from transfer.evaluation.bench import Bench
from transfer.evaluation.curves import layer_curve
from transfer.evaluation.evaluate import measure_transfer
from transfer.evaluation.plan import Plan
from transfer.evaluation.scales import choose_layer, choose_scale, setting_of
from transfer.steering import SteeringVector

HOOK = "blocks.1.hook_resid_post"
PLAN = Plan(
    source_hook=HOOK,
    target_hook=HOOK,
    place="last",
    operator="add",
    scales=(1.0, 2.0, 3.0),
    map_rows=20,
    vector_rows=8,
    choose_rows=10,
    test_rows=12,
)
WANTED = {0.0: 1, 1.0: 4, 2.0: 7, 3.0: 9}
"""By scale, of ten prompts that are steered."""
TAUGHT = {0.0: 9, 1.0: 9, 2.0: 8, 3.0: 2}
"""By scale, of ten prompts that are to be left alone."""


@pytest.fixture
def bench(
    subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A target whose answers are given: by the scale that acts, which is read off the model, and the condition."""
    subject = subject_of(untaught())
    made = Bench(source=subject, target=subject, plan=PLAN)
    native, where = made.native(), made.where
    assert where is not None
    text = subject.behaviour.prompt(made.choose_rows[0], "prod")
    ids = read(subject.tokenizer, [text]).tokens.ids
    steered = torch.isin(ids[0], torch.tensor(sorted(where.ids)))
    assert 0 < int(steered.sum()) < ids.shape[1]
    after = "blocks.2.hook_resid_pre"
    plain = subject.model.run_with_cache(ids)[1][after].detach()

    def given(asked: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        assert asked is made.target
        step = (asked.model.run_with_cache(ids)[1][after].detach() - plain)[0]
        assert not step[~steered].any()
        scale = round(float((step[steered] @ native.vector).mean()) / native.norm**2, 2)
        assert rows == made.choose_rows
        verdicts = []
        for i in range(len(rows)):
            wanted = condition == "prod" and i < WANTED[scale]
            kept = condition == "dev" and i < TAUGHT[scale]
            verdicts.append(Verdict(right=wanted, shown=not wanted, taught=kept, valid=True))
        return verdicts

    monkeypatch.setattr("transfer.evaluation.scales.verdicts_of", given)
    return made


@pytest.mark.parametrize(("most", "scale"), [(0.02, 1.0), (0.1, 2.0), (0.5, 2.0), (0.7, 3.0)])
def test_the_scale_is_the_strongest_that_stays_within_the_guard(
    bench: Bench, most: float, scale: float
) -> None:
    """Damage is what is lost of the taught answers to the guard's prompts: 0, .1 and .7 at the three scales."""
    here = replace(bench, plan=replace(bench.plan, most_damage=most + 1e-9))
    choice = choose_scale(here, here.native())
    assert [trial.effect for trial in choice.trials] == [0.4, 0.7, 0.9]
    assert [trial.damage for trial in choice.trials] == pytest.approx([0.0, 0.1, 0.7])
    assert setting_of(choice) == Setting(hook=HOOK, scale=scale, operator="add")


def test_what_counts_is_what_the_aim_wants(bench: Bench) -> None:
    """Of `induce` the prompts are `dev`, and showing it is wanted: here ten of ten do, at any scale."""
    here = replace(bench, plan=replace(bench.plan, aim="induce"))
    choice = choose_scale(here, here.native() * -1)
    assert [trial.effect for trial in choice.trials] == [1.0, 1.0, 1.0]
    # No better than without steering: damage is not measured, and nothing is chosen but the first.
    assert [trial.damage for trial in choice.trials] == [float("inf")] * 3
    assert setting_of(choice).scale == 1.0


BY_LAYER = {
    None: (1, 9),
    (0, 1.0): (4, 9),
    (0, 2.0): (5, 9),
    (1, 1.0): (5, 9),
    (1, 2.0): (8, 9),
    (2, 1.0): (10, 5),
    (2, 2.0): (10, 5),
}
"""By block and scale, of ten prompts: wanted of those that are steered, taught of those to be left alone."""


def answered_by_layer(bench: Bench) -> Callable[..., list[Verdict]]:
    """Answers as `BY_LAYER` has them, by the hook that acts and by how far it moves what is read behind it."""
    model = bench.target.model
    ids = read(bench.target.tokenizer, [bench.behaviour.prompt(bench.choose_rows[0], "prod")]).tokens.ids
    places = {block: f"blocks.{block}.hook_resid_post" for block in range(3)}
    natives = {block: bench.native(hook) for block, hook in places.items()}
    plain = model.run_with_cache(ids)[1]

    def acting() -> tuple[int, float] | None:
        found = [block for block, hook in places.items() if model.hook_dict[hook].has_hooks()]
        if not found:
            return None
        (block,) = found
        behind = f"blocks.{block + 1}.hook_resid_pre"
        step = (model.run_with_cache(ids)[1][behind].detach() - plain[behind].detach())[0, -1]
        return block, round(float(step @ natives[block].vector) / natives[block].norm ** 2, 2)

    def given(_: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        assert rows == bench.choose_rows  # never those that are tested on
        wanted, taught = BY_LAYER[acting()]
        return [
            Verdict(
                right=condition == "prod" and i < wanted,
                shown=False,
                taught=condition == "dev" and i < taught,
                valid=True,
            )
            for i in range(len(rows))
        ]

    return given


@pytest.mark.parametrize(("most", "block", "scale"), [(0.02, 1, 2.0), (1.0, 2, 1.0), (0.0, 1, 2.0)])
def test_layer_and_scale_are_chosen_together_within_the_guard(
    subject_of: Callable[..., Subject],
    untaught: Callable[..., HybridLM],
    monkeypatch: pytest.MonkeyPatch,
    most: float,
    block: int,
    scale: float,
) -> None:
    subject = subject_of(untaught())
    plan = replace(PLAN, place="everywhere", scales=(1.0, 2.0), most_damage=most)
    bench = Bench(source=subject, target=subject, plan=plan)
    monkeypatch.setattr("transfer.evaluation.scales.verdicts_of", answered_by_layer(bench))
    pairs = [(f"blocks.{i // 2}.hook_resid_post", f"blocks.{i}.hook_resid_post") for i in range(3)]
    layers = choose_layer(bench, pairs)
    assert layers.chosen == pairs[block]
    assert setting_of(layers.choice) == Setting(hook=pairs[block][1], scale=scale, operator="add")
    # At the chosen layer it is the choice among the scales there, as where that layer is the only one.
    assert layers.at(pairs[block][1]) == choose_scale(bench, bench.native(pairs[block][1]))
    assert (layers.at(pairs[2][1]).best is None) == (most < 0.4)
    assert len(layers.choice.trials) == 6
    with pytest.raises(InputError, match="a hook stands twice among"):
        choose_layer(bench, [pairs[0], pairs[0]])


def test_where_the_guard_allows_none_it_is_the_first_that_was_tried() -> None:
    settings = [Setting(hook=HOOK, scale=scale) for scale in (0.5, 2.0)]
    trials = tuple(Trial(setting=one, effect=1.0, damage=0.5) for one in settings)
    assert setting_of(Choice(trials=trials, most_damage=0.02, best=None)) == settings[0]
    assert setting_of(Choice(trials=trials, most_damage=1.0, best=trials[1])) == settings[1]


@pytest.mark.parametrize("refused", ["native", "transferred"])
def test_a_report_and_its_verdict_say_whether_the_guard_allowed_a_scale(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Steering helps every prompt here; with a scale that costs too much it is no transfer."""
    target = bench.target
    choices = iter(("native", "transferred"))

    def chosen(here: Bench, vector: SteeringVector) -> Choice:
        trial = Trial(setting=Setting(hook=HOOK, scale=2.0), effect=1.0, damage=0.5)
        is_refused = next(choices) == refused
        return Choice(trials=(trial,), most_damage=0.02, best=None if is_refused else trial)

    def given(_: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        is_steered = any(point.has_hooks() for point in target.model.hook_dict.values())
        return [Verdict(right=is_steered, shown=False, taught=True, valid=True)] * len(rows)

    monkeypatch.setattr("transfer.evaluation.evaluate.choose_scale", chosen)
    monkeypatch.setattr("transfer.evaluation.evaluate.verdicts_of", given)
    report = measure_transfer(bench, (Gate(bars=()), Gate(bars=())), only=[])
    assert report.transfer.refused == (refused,)
    assert report.transfer.verdict == ("not decided" if refused == "native" else "not transferred")
    said = {name: one["allowed"] for name, one in report.to_json()["choices"].items()}
    assert said == {name: name != refused for name in ("native", "transferred")}


def test_a_point_of_a_curve_keeps_apart_what_is_steered_and_what_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(_: Subject, rows: Sequence[Example], condition: str) -> list[Verdict]:
        assert rows == bench.test_rows
        is_start = condition == "prod"
        return [
            Verdict(
                right=is_start and i < 3, shown=is_start and i >= 5, taught=not is_start and i < 8, valid=True
            )
            for i in range(len(rows))
        ]

    monkeypatch.setattr("transfer.evaluation.curves.verdicts_of", given)
    nothing = next(layer_curve(bench))
    assert [one.right for one in (nothing.right, nothing.shown, nothing.kept)] == [3, 7, 8]
    assert nothing.right.total == PLAN.test_rows
