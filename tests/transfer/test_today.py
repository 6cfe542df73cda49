"""A report of any age gets the verdict that its prompts would have got, by the same rule."""

import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from data_gen.errors import InputError
from tinysql.answering.shares import Share
from transfer.evaluation.today import todays_transfer
from transfer.evaluation.verdict import DECIDING, decide
from transfer.reports import kind_of

ROOT = Path(__file__).parents[2]
N = 200


def flags(right: int) -> list[bool]:
    return [i < right for i in range(N)]


def outcome(name: str, *right: int) -> dict[str, Any]:
    shares = [Share(right=one, total=N).to_json() for one in right]
    return {"name": name, "right": shares, "shown": []}


def report_of(native: int, sent: int, strongest: int, refused: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a report of these counts has kept, with the ratio's interval of its own bootstrap."""
    controls = {
        name: [flags(0), flags(strongest)] if name == "sign flip" else [flags(0)] for name in DECIDING
    }
    found = decide(flags(0), flags(native), flags(sent), controls, clean=flags(0), refused=refused)
    outcomes = [outcome("native", native), outcome("transferred", sent), outcome("no steering", 0)]
    outcomes += [outcome(name, *([0, strongest] if name == "sign flip" else [0])) for name in DECIDING]
    stored = ("native", "transferred", "ratio", "interval", "verdict", "bar", "bar_of", "missing")
    return {
        "source": "a",
        "target": "b",
        "aim": {"wanted": "right"},
        "plan": {"seed": 0},
        "outcomes": outcomes,
        "choices": {
            name: {"best": None if name in refused else {"scale": 1.0}} for name in ("native", "transferred")
        },
        "transfer": {
            name: getattr(found, name) for name in (*stored, "clean_ratio", "clean_interval", "carried")
        },
    }


@pytest.mark.parametrize(
    ("native", "sent", "strongest", "refused", "word"),
    [
        (190, 180, 20, (), "transferred"),
        (190, 180, 190, (), "not transferred"),
        (190, 80, 20, (), "not transferred"),
        (190, 180, 20, ("transferred",), "not transferred"),
        (190, 180, 20, ("native",), "transferred"),
        (5, 180, 0, (), "no native effect"),
        (100, 180, 110, (), "nothing to transfer"),
    ],
)
def test_from_its_shares_a_report_gets_the_verdict_of_its_prompts(
    native: int, sent: int, strongest: int, refused: tuple[str, ...], word: str
) -> None:
    report = report_of(native, sent, strongest, refused)
    found = todays_transfer(json.loads(json.dumps(report)))
    assert found.verdict == report["transfer"]["verdict"] == word
    for name in ("native", "transferred", "bar", "ratio", "interval", "bar_of", "missing", "carried"):
        assert getattr(found, name) == pytest.approx(report["transfer"][name]), name
    assert found.refused == refused
    assert found.margin is not None
    assert found.margin.value == pytest.approx(sent / N - found.bar)
    assert not found.margin.is_paired
    assert found.native_margin is not None
    assert found.native_margin.value == pytest.approx(native / N - found.bar)


def test_a_verdict_of_an_older_rule_is_not_kept() -> None:
    """That of its day stands in the report, and says nothing here."""
    report = report_of(5, 180, 0)
    report["transfer"] |= {"verdict": "transferred", "ratio": 36.0, "interval": [20.0, 80.0]}
    found = todays_transfer(report)
    assert (found.verdict, found.ratio, found.interval) == ("no native effect", None, ())


def test_a_report_that_has_its_margins_keeps_them() -> None:
    """They are of pairs, which shares do not know."""
    controls = {name: [flags(0)] for name in DECIDING} | {"sign flip": [flags(160)]}
    found = decide(flags(0), flags(190), flags(180), controls)
    report = report_of(190, 180, 160)
    unpaired = todays_transfer(report)
    report["transfer"] |= json.loads(json.dumps(asdict(found)))
    again = todays_transfer(report)
    assert found.margin is not None
    assert found.margin.is_paired
    assert (again.margin, again.native_margin) == (found.margin, found.native_margin)
    assert unpaired.margin != again.margin


def test_what_a_report_does_not_keep_is_not_made_up() -> None:
    steered = report_of(190, 180, 20)
    lacking = deepcopy(steered)
    lacking["outcomes"][2] = outcome("no steering", 3)
    with pytest.raises(
        InputError, match="3 of 200 prompts need no steering, and the report does not say which"
    ):
        todays_transfer(lacking)
    steered["transfer"] |= {"ratio": None, "interval": []}
    with pytest.raises(InputError, match="the report has no ratio to native"):
        todays_transfer(steered)


def test_with_a_control_missing_nothing_is_decided() -> None:
    report = report_of(190, 180, 20)
    report["outcomes"] = [one for one in report["outcomes"] if one["name"] != "random source"]
    found = todays_transfer(report)
    assert (found.verdict, found.missing) == ("not decided", ("random source",))


def test_reports_of_another_kind_have_no_verdict() -> None:
    curve = next(one for one in PUBLISHED.values() if kind_of(one) == "curves")
    with pytest.raises(InputError, match="a verdict is of a transfer, and this report is of curves"):
        todays_transfer(curve)
    with pytest.raises(InputError, match="this report is of nothing known"):
        todays_transfer({})


PUBLISHED = json.loads((ROOT / "docs" / "results" / "transfer.json").read_text())


def test_every_published_transfer_has_todays_verdict_beside_its_own() -> None:
    """What `benchmarks/transfer_verdicts.py` writes."""
    named = {name: one for name, one in PUBLISHED.items() if kind_of(one) == "transfer"}
    assert len(named) > 90
    assert [name for name, one in PUBLISHED.items() if ("today" in one) != (name in named)] == []
    for name, one in named.items():
        found = json.loads(json.dumps(asdict(todays_transfer(one))))
        assert set(found) == set(one["today"]), name
        for field, value in found.items():
            told = one["today"][field]
            if isinstance(value, dict):  # a margin
                assert set(value) == set(told), (name, field)
                assert value.pop("interval") == pytest.approx(told["interval"]), (name, field)
                told = {part: number for part, number in told.items() if part != "interval"}
            assert value == told or value == pytest.approx(told), (name, field)
