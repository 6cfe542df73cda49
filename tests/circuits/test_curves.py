"""CMD and CPR by hand, and curves whose ends are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from circuits.judging.curves import FRACTIONS, Curve, cmd, cpr, faithfulness_curve, mib_sizes
from circuits.judging.faithfulness import evaluate
from circuits.methods.eap import eap
from circuits.metrics import answer_log_prob
from circuits.select import top_edges
from data_gen.errors import InputError


def test_a_faithful_curve_has_no_distance_and_the_area_of_its_width() -> None:
    ones = np.ones(len(FRACTIONS))
    assert (cmd(ones), cpr(ones)) == pytest.approx((0, 0.999))
    assert (cmd(ones, log=True), cpr(ones, log=True)) == pytest.approx((0, 1))


def test_a_curve_that_restores_half_everywhere() -> None:
    half = np.full(len(FRACTIONS), 0.5)
    assert (cmd(half), cpr(half)) == pytest.approx((0.4995, 0.4995))
    assert (cmd(half, log=True), cpr(half, log=True)) == pytest.approx((0.5, 0.5))


def test_distance_counts_what_is_above_one_and_ratio_adds_it() -> None:
    over = np.full(len(FRACTIONS), 3.0)
    assert (cmd(over), cpr(over)) == pytest.approx((2 * 0.999, 3 * 0.999))


def test_one_point_by_hand() -> None:
    # Only the point at 50 % is faithful: two triangles, on .2 to .5 and on .5 to 1, of height 1.
    f = np.array([0.0] * 8 + [1.0, 0.0])
    assert cpr(f) == pytest.approx(0.3 / 2 + 0.5 / 2)
    assert cmd(f) == pytest.approx(0.999 - (0.3 / 2 + 0.5 / 2))
    assert cpr(f, log=True) == pytest.approx((np.log(2.5) + np.log(2)) / 2 / np.log(1000))


def test_the_trapezoid_rule_is_exact_on_a_line() -> None:
    x = np.array(FRACTIONS)
    assert cpr(x) == pytest.approx((1 - 0.001**2) / 2)
    many = np.stack([x, 1 - x])
    assert cpr(many) == pytest.approx([float(cpr(x)), float(cpr(1 - x))])


def test_sizes_are_rounded_down_and_empty_ones_left_out() -> None:
    assert mib_sizes(998) == (1, 4, 9, 19, 49, 99, 199, 499, 998)
    assert mib_sizes(1000) == (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    assert mib_sizes(5) == (1, 2, 5)


def test_a_product_of_a_fraction_and_a_number_of_edges_is_never_just_below_a_whole_one() -> None:
    """As .29 * 100 = 28.999... would be: the sizes are those of exact thousandths."""
    thousandths = [round(1000 * fraction) for fraction in FRACTIONS]
    for n in range(1, 20_000):
        exact = (n * part // 1000 for part in thousandths)
        assert mib_sizes(n) == tuple(dict.fromkeys(size for size in exact if size))


@pytest.fixture
def curve(random_case) -> Curve:
    case = random_case(n=12)
    return faithfulness_curve(case.model, eap(case.model, case.pairs), case.pairs, random_circuits=3)


def test_the_curve_ends_at_one_and_agrees_with_evaluate(random_case, curve: Curve) -> None:
    case = random_case(n=12)
    scores = eap(case.model, case.pairs)
    assert [point.n_edges for point in curve.points] == list(mib_sizes(len(scores.graph.edges)))
    last = curve.points[-1]
    assert last.faithfulness.value == pytest.approx(1)
    assert (last.random.low, last.matched.low) == pytest.approx((1, 1))
    point = curve.points[-2]
    report = evaluate(case.model, top_edges(scores, point.n_edges), case.pairs, random_circuits=3)
    assert point.faithfulness.value == pytest.approx(report.faithfulness.value)
    assert (point.random.mean, point.matched.mean) == pytest.approx(
        (report.random.mean, report.matched.mean), abs=1e-6
    )


def test_areas_are_those_of_the_points(curve: Curve) -> None:
    by_size = {0: 0.0} | {point.n_edges: point.faithfulness.value for point in curve.points}
    randoms = {0: 0.0} | {point.n_edges: point.random.mean for point in curve.points}
    likes = {0: 0.0} | {point.n_edges: point.matched.mean for point in curve.points}
    f, r, m = (
        np.array([values[int(x * curve.n_edges_model)] for x in FRACTIONS])
        for values in (by_size, randoms, likes)
    )
    for name, kind in (("cmd", cmd), ("cpr", cpr)):
        for suffix, log in (("", False), ("_log", True)):
            area = getattr(curve.areas, name + suffix)
            assert area.value.value == pytest.approx(float(kind(f, log=log)))
            assert area.value.low < area.value.high
    # CPR is linear in f, so the mean over random circuits is that of their mean curve.
    assert curve.areas.cpr.random.mean == pytest.approx(float(cpr(r)))
    assert curve.areas.cpr_log.random.mean == pytest.approx(float(cpr(r, log=True)))
    assert curve.areas.cpr.matched.mean == pytest.approx(float(cpr(m)))
    assert curve.areas.cpr_log.matched.mean == pytest.approx(float(cpr(m, log=True)))
    assert curve.areas.cpr.value.low < curve.areas.cpr.value.value < curve.areas.cpr.value.high


def test_a_curve_reads_back_from_json_and_an_older_one_without_areas_too(curve: Curve) -> None:
    written = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert Curve.from_json(written) == curve
    old = {name: value for name, value in written.items() if name != "areas"}
    old["points"] = [
        {name: value for name, value in point.items() if name != "matched"} for point in old["points"]
    ]
    assert Curve.from_json(old).areas is None
    with pytest.raises(InputError, match="not a faithfulness curve"):
        Curve.from_json({**written, "points": [{"n_edges": 1}]})


def test_no_size_at_all_is_refused(random_case) -> None:
    case = random_case()
    with pytest.raises(InputError, match="no size to run circuits of"):
        faithfulness_curve(case.model, eap(case.model, case.pairs), case.pairs, [])


def test_chosen_sizes_give_no_areas_and_impossible_ones_are_refused(random_case) -> None:
    case = random_case(n=12)
    scores = eap(case.model, case.pairs)
    chosen = faithfulness_curve(case.model, scores, case.pairs, [3, 8], random_circuits=2)
    assert [point.n_edges for point in chosen.points] == [3, 8]
    assert chosen.areas is None
    with pytest.raises(InputError, match="n is 100000"):
        faithfulness_curve(case.model, scores, case.pairs, [100_000])


def test_an_area_over_one_pair_has_no_interval(random_case) -> None:
    case = random_case(n=12)
    scores = eap(case.model, case.pairs)
    area = faithfulness_curve(case.model, scores, case.pairs[:1], random_circuits=1).areas.cmd.value
    assert np.isfinite(area.value)
    assert np.isnan([area.low, area.high]).all()


def test_a_curve_is_of_the_metric_it_is_asked_for_and_of_its_seed(random_case) -> None:
    case = random_case(n=12)
    scores = eap(case.model, case.pairs)
    how = {"metric": answer_log_prob, "random_circuits": 3}
    first, again, other = (
        faithfulness_curve(case.model, scores, case.pairs, [9, 30], **how, seed=seed) for seed in (0, 0, 1)
    )
    assert (first.metric, first.method, first.seed, other.seed) == ("answer_log_prob", "eap", 0, 1)
    assert first.points == again.points
    for point, others in zip(first.points, other.points, strict=True):
        circuit = top_edges(scores, point.n_edges)
        report = evaluate(case.model, circuit, case.pairs, **how, minimality=False)
        assert point.faithfulness.value == pytest.approx(report.faithfulness.value, rel=1e-6)
        assert point.faithfulness.value == pytest.approx(others.faithfulness.value)
        assert point.faithfulness.low != others.faithfulness.low
        assert point.random.mean != others.random.mean


def test_what_a_curve_runs_passes_the_tracker(random_case) -> None:
    case, seen = random_case(n=12), []

    def track(circuits):
        seen.extend(circuits)
        return circuits

    faithfulness_curve(
        case.model, eap(case.model, case.pairs), case.pairs, [5], random_circuits=2, track=track
    )
    assert seen
