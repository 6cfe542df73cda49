"""Curves over layers and ranks say of known pairs of models what is known of them."""

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import islice

import pytest

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from transfer.asked import layer_pairs
from transfer.behaviours.training import Subject
from transfer.choosing import Choice, Setting, Trial
from transfer.evaluation.bench import Bench
from transfer.evaluation.curves import layer_curve, rank_curve
from transfer.evaluation.plan import Plan
from transfer.evaluation.scales import choose_scale, setting_of
from transfer.planted import wider_twin
from transfer.show import curve_table

pytestmark = pytest.mark.usefixtures("brief")

HOOK = "blocks.1.hook_resid_post"
PLAN = Plan(
    source_hook=HOOK,
    target_hook=HOOK,
    operator="add",
    scales=(4.0,),
    map_rows=30,
    vector_rows=8,
    choose_rows=2,
    test_rows=3,
)


@pytest.fixture(scope="module")
def bench(subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]) -> Bench:
    source = untaught()
    twin = wider_twin(source, 24, seed=1).model
    return Bench(source=subject_of(source), target=subject_of(twin), plan=PLAN)


def test_between_twins_the_two_curves_are_one(bench: Bench) -> None:
    nothing, *points = layer_curve(bench)
    assert (nothing.vector, nothing.setting) == ("none", None)
    assert len(points) == 2 * 4
    for native, transferred in zip(points[::2], points[1::2], strict=True):
        assert (native.vector, transferred.vector) == ("native", "transferred")
        assert transferred.cosine == pytest.approx(1, abs=1e-3)
        assert (native.right, native.shown, native.kept) == (
            transferred.right,
            transferred.shown,
            transferred.kept,
        )
    assert [one.target_hook for one in points[::2]] == [f"blocks.{i}.hook_resid_post" for i in range(4)]


def test_depths_are_matched_from_the_end_of_the_first_block_to_the_end_of_the_last(
    bench: Bench, untaught: Callable[..., HybridLM]
) -> None:
    shallow = replace(bench.source, model=HybridLM(replace(bench.source.model.cfg, pattern="*-")))
    pairs = layer_pairs(shallow.taught, bench.target.taught)
    assert [(a.split(".")[1], b.split(".")[1]) for a, b in pairs] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "2"),
        ("1", "3"),
    ]


def test_a_map_of_full_rank_carries_the_whole_vector_and_a_lower_one_less(bench: Bench) -> None:
    one, full = rank_curve(bench, (1, 16))
    assert (one.rank, full.rank) == (1, 16)
    assert full.cosine == pytest.approx(1, abs=1e-3)
    assert one.cosine is not None
    assert one.cosine < 0.99
    with pytest.raises(InputError, match="rank is 17, expected 1 to 16"):
        list(rank_curve(bench, (17,)))


def test_the_scale_of_a_vector_that_may_do_nothing_is_the_first(bench: Bench) -> None:
    choice = choose_scale(bench, bench.native())
    assert setting_of(choice).scale == 4.0
    assert [trial.setting.scale for trial in choice.trials] == [4.0]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_point_says_whether_the_guard_allowed_its_scale(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    trial = Trial(setting=Setting(hook=HOOK, scale=4.0), effect=1.0, damage=0.0)
    choice = Choice(trials=(trial,), most_damage=0.02, best=trial if allowed else None)
    monkeypatch.setattr("transfer.evaluation.curves.choose_scale", lambda *_: choice)
    nothing, native = islice(layer_curve(bench), 2)
    assert nothing.allowed is None
    assert (native.setting, native.allowed) == (trial.setting, allowed)


def test_a_curve_is_shown_point_by_point(bench: Bench) -> None:
    points = list(rank_curve(bench, (1, 2)))
    report = {
        "source": "a",
        "target": "b",
        "behaviour": "backdoor",
        "payload": "drop",
        "aim": asdict(bench.aim),
        "plan": asdict(bench.plan),
        "points": [one.to_json() for one in points],
    }
    assert [one.allowed for one in points] == [False, False]  # a model that was taught nothing
    *lines, note = curve_table(report).splitlines()
    assert len(lines) == 3 + len(points)
    assert lines[-1].split()[:4] == [HOOK, "2", "transferred", "4*"]
    assert note.startswith("* no scale has an effect")
    unsteered = replace(points[0], vector="none", rank=None, setting=None, allowed=None)
    report["points"] = [one.to_json() for one in (unsteered, replace(points[1], allowed=True))]
    *_, bare, last = curve_table(report).splitlines()
    assert (bare.split()[:2], last.split()[:4]) == ([HOOK, "none"], [HOOK, "2", "transferred", "4"])
