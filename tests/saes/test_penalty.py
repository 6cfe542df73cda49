"""A penalty is found by the L0 that is wanted, a search goes on where it was cut off, and controls are as active."""

import json
import math
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saes import artefacts
from saes.training import penalty
from saes.truth import artefacts as scoring
from tinysql.cli import main

SMALL = [
    "--recipe",
    "standard",
    "--rows",
    "40",
    "--set",
    "steps=60",
    "--set",
    "batch_size=256",
    "--set",
    "d_sae=64",
]


@pytest.mark.parametrize(("at_one", "power"), [(60.0, -0.5), (3.0, -1.0), (9.5, -0.3), (200.0, -1.8)])
def test_the_penalty_of_a_power_law_is_found_in_a_few_trainings(at_one: float, power: float) -> None:
    kept: list[dict[float, float]] = []
    found = penalty.search(lambda p: at_one * p**power, 8.0, keep=lambda tried: kept.append(dict(tried)))
    assert abs(at_one * found**power / 8 - 1) <= penalty.NEAR
    assert [len(tried) for tried in kept] == list(range(1, len(kept) + 1))
    assert len(kept) <= 6
    assert penalty.search(pytest.fail, 8.0, tried=kept[-1]) == found


def test_a_law_with_a_step_is_searched_between_its_sides() -> None:
    tried: dict[float, float] = {}
    for _ in range(8):
        weight = penalty.next_weight(tried, 8.0)
        assert weight not in tried
        tried[weight] = 30.0 if weight < 5 else 2.0 / math.sqrt(weight)
    assert max(p for p in tried if tried[p] > 8) < 5 <= min(p for p in tried if tried[p] < 8) < 6


def test_penalties_that_change_nothing_are_left_behind_and_the_nearest_is_taken() -> None:
    tried: dict[float, float] = {}
    for _ in range(6):
        weight = penalty.next_weight(tried, 8.0, first=2.0)
        assert weight > max(tried, default=1.9)
        tried[weight] = 80.0
    calls: list[float] = []
    found = penalty.search(lambda p: calls.append(p) or 80.0 - len(calls), 8.0)
    assert len(calls) == penalty.TRIALS
    assert found == calls[-1]


@pytest.mark.parametrize("wanted", [16.0, 1000.0])
def test_a_search_ends_where_l0_goes_the_wrong_way(wanted: float) -> None:
    """As after few steps, where a greater penalty had more latents active: no weight is tried twice."""
    calls: list[float] = []

    def l0_of(weight: float) -> float:
        calls.append(weight)
        assert len(calls) <= penalty.TRIALS
        return 200 * weight**0.1

    found = penalty.search(l0_of, wanted)
    assert len(set(calls)) == len(calls) == penalty.TRIALS
    assert found == min(calls, key=lambda weight: abs(math.log(200 * weight**0.1 / wanted)))


def test_a_search_ends_between_two_weights_that_have_no_number_between_them() -> None:
    edge = 5.0
    tried = {edge: 30.0, math.nextafter(edge, 6): 2.0}
    assert penalty.search(pytest.fail, 8.0, tried=tried) in tried


def test_an_l0_that_is_not_reached_is_refused_and_one_that_is_near_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, off = artefacts.train_form, 3.0

    def train(recordings: Any, config: Any, *rest: Any) -> Any:
        sae, record = own(recordings, replace(config, steps=2), *rest)
        return sae, replace(record, l0=off * 12)

    monkeypatch.setattr(artefacts, "train_form", train)
    words = ["sae", "train", str(run), "--l0", "12", *SMALL, "--name"]
    assert main([*words, "far"]) == 2
    nearest = rf"of {penalty.TRIALS} trainings the nearest to an L0 of 12 has 36, at a penalty of \S+"
    hint = r"hint: train for more steps, or take that one: --set sparsity=\S+ --overwrite in place of --l0"
    assert re.search(rf"tinysql: {nearest}\n{hint}\n$", capsys.readouterr().err)
    assert not (run / "saes" / "far").exists()
    off = 1.2
    assert main([*words, "near"]) == 0
    assert "trainings the nearest to an L0 of 12 has 14.4" in capsys.readouterr().err
    assert json.loads((run / "saes" / "near" / "config.json").read_text())["l0"] == 12


def test_more_active_latents_than_there_are_is_refused_where_their_number_is_derived(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in SMALL if word not in ("--set", "d_sae=64")]
    few = ["--set", "steps=60", "--set", "batch_size=256"]
    rest = [word for word in words if "=" not in word]
    assert main(["sae", "train", str(run), "--name", "many", "--l0", "5000", *rest, *few]) == 2
    assert "L0 is 5000, expected more than 0 and less than d_sae" in capsys.readouterr().err


def test_a_grid_is_gone_on_with_as_the_grid_it_was(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sae", "train", str(run), *SMALL, "--name", "grid"]
    monkeypatch.setattr(
        artefacts, "train_grid", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with suppress(KeyboardInterrupt):
        main([*words, "--grid", "seed=0,1"])
    for other, sentence in (
        ([], "grid was seed=0, seed=1, not none"),
        (["--grid", "seed=0,2"], "grid was seed=0, seed=1, not seed=0, seed=2"),
    ):
        assert main([*words, *other, "--resume"]) == 2
        assert sentence in capsys.readouterr().err
    assert (run / "saes" / ".grid.training").is_dir()


def test_an_sae_is_trained_to_the_l0_that_is_asked_for(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sae", "train", str(run), "--name", "sparse", "--l0", "12", *SMALL]) == 0
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("penalty ")]
    assert re.fullmatch(rf"{re.escape(str(run / 'saes' / 'sparse'))}\ntokens .*\ncoverage of roles .*\n", out)
    made = json.loads((run / "saes" / "sparse" / "config.json").read_text())["sae"]["sparsity"]
    assert len(said) > 1
    assert f"penalty {made:.4g}: L0 " in said[-1]
    assert json.loads((run / "saes" / "sparse" / "metrics.json").read_text())["l0"] == pytest.approx(
        12, rel=0.1
    )


def test_a_search_that_was_cut_off_goes_on_and_ends_with_the_same_sae(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sae", "train", str(run), "--l0", "12", *SMALL, "--name"]
    assert main([*words, "whole"]) == 0
    weights: list[float] = []
    own = artefacts.train_form

    def counted(stop: int) -> Callable[..., Any]:
        def train(recordings: Any, config: Any, *rest: Any) -> Any:
            if len(weights) == stop:
                raise KeyboardInterrupt
            weights.append(config.sparsity)
            return own(recordings, config, *rest)

        return train

    monkeypatch.setattr(artefacts, "train_form", counted(1))
    with suppress(KeyboardInterrupt):
        main([*words, "cut"])
    assert main([*words, "cut"]) == 2
    assert "was cut off" in capsys.readouterr().err
    for other, sentence in (
        (["--l0", "9"], "l0 was 12.0, not 9.0"),
        (["--set", "lr=0.001"], "lr was 0.004, not 0.001"),
        (["--rows", "41"], "rows was 40, not 41"),
    ):
        assert main([*words, "cut", *other, "--resume"]) == 2
        assert f"`cut` that was cut off had other settings: {sentence}\nhint: " in capsys.readouterr().err
    assert main(["sae", "train", str(run), *SMALL, "--name", "cut", "--resume"]) == 2
    assert "had other settings: l0 was 12.0, not none" in capsys.readouterr().err
    assert main(["sae", "train", str(run), *SMALL, "--recipe", "topk", "--name", "cut", "--resume"]) == 2
    assert "architecture was standard, not topk" in capsys.readouterr().err
    monkeypatch.setattr(artefacts, "train_form", counted(99))
    assert main([*words, "cut", "--resume"]) == 0
    assert main([*words, "cut", "--resume"]) == 0  # the weight that was found is no other setting
    assert (
        len(set(weights)) == len(weights) - 1
    )  # of all that were tried none twice, but for the one that is kept
    files = [run / "saes" / name / "sae_weights.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (run / "saes" / ".cut.training").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "topk", "--set", "k=4", "--l0", "12"], "an L0 of 12 is asked of `topk`, whose k is 4"),
        (["--recipe", "topk", "--l0", "nan"], "L0 is nan, expected more than 0 and less than d_sae"),
        (["--recipe", "topk", "--l0", "inf"], "L0 is inf, expected more than 0 and less than d_sae"),
        (["--l0", "0"], "L0 is 0, expected more than 0 and less than d_sae"),
        (["--l0", "64"], "L0 is 64, expected more than 0 and less than d_sae"),
        (["--l0", "nan"], "L0 is nan, expected more than 0 and less than d_sae"),
        (["--l0", "12", "--grid", "seed=0,1"], "--l0 and --grid are both given"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main(["sae", "train", str(run), "--name", "x", *SMALL, *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "hint: " in error
    assert not (run / "saes" / "x").exists()


def test_the_sae_of_the_untrained_model_is_as_active(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["sae", "train", str(run), "--name", "scored", "--set", "sparsity=3", *SMALL]) == 0
    own = json.loads((run / "saes" / "scored" / "metrics.json").read_text())["l0"]
    used: list[float] = []
    train_form = scoring.train_form

    def train(recordings: Any, config: Any, name: str) -> Any:
        used.append(config.sparsity)
        return train_form(recordings, config, name)

    def found(l0_of: Callable[[float], float], wanted: float, *, first: float) -> float:
        assert wanted == own
        assert first == 3
        assert l0_of(2.5) != l0_of(0.1)
        return 0.5

    monkeypatch.setattr(scoring, "train_form", train)
    monkeypatch.setattr(scoring, "search", found)
    assert main(["sae", "eval", str(run), "--name", "scored", "--rows", "16", "--untrained"]) == 0
    assert used == [2.5, 0.1, 0.5]
    shutil.rmtree(run / "saes" / "scored")
