"""`effects.json` is replaced by `tinysql sae effects` where that finds anew, and only there."""

import json
from pathlib import Path
from typing import Any

import pytest

from saes.truth import artefacts
from saes.truth.causal import Effects, LatentEffect
from saes.truth.interchange import Swap
from saes.truth.recovered import Fidelity, Recovered
from tinysql.cli import main
from tinysql.runs import Run

SMALL = [
    "--rows=40",
    "--validation=0",
    *("--set=steps=30", "--set=batch_size=256", "--set=k=4", "--set=d_sae=64"),
]
FOUND = Effects(
    hook="blocks.1.hook_resid_post",
    answers=2,
    latents=(LatentEffect(latent=3, way="off", switched=2, changed={"select": 0.5}, valid=1.0),),
    alignment={"select": 0.25},
)
ONE = Recovered(untouched=1.0, sae=0.75, zero=0.5)
KEPT = Fidelity(hook=FOUND.hook, loss=ONE, loss_by_role={}, accuracy=ONE, interval=(0.5, 1.0), answers=2)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured is not: an untrained model answers nothing that could be read. Edits that were swapped."""
    swapped: list[str] = []

    def swap(*given: Any, **_: Any) -> list[Swap]:
        swapped.append(given[3][0].edit)
        return [Swap(name="latents", size=len(swapped), cause=0.5, isolation=1.0)]

    monkeypatch.setattr(artefacts, "effects", lambda *_, **__: FOUND)
    monkeypatch.setattr(artefacts, "fidelity", lambda *_, **__: KEPT)
    monkeypatch.setattr(artefacts, "interchange", swap)
    return swapped


@pytest.fixture(scope="module")
def sae(run: Path) -> Path:
    """The directory of a scored SAE."""
    assert main(["sae", "train", str(run), *SMALL]) == 0
    assert main(["sae", "eval", str(run), "--rows", "60"]) == 0
    return run / "saes" / "topk"


def swaps_in(sae: Path) -> dict[str, Any]:
    swaps: dict[str, Any] = json.loads((sae / "effects.json").read_text())["interchange"]
    return swaps


def test_swaps_of_edits_that_are_not_asked_for_again_stay(
    run: Path, sae: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sae", "effects", str(run), "--edit", "select.0.column"]) == 0
    first = swaps_in(sae)
    assert list(first) == measured == ["select.0.column"]
    assert main(["sae", "effects", str(run), "--rows", "8"]) == 0
    assert swaps_in(sae) == first
    assert main(["sae", "effects", str(run), "--edit", "schema.table"]) == 0
    assert swaps_in(sae) == first | {"schema.table": [{**first["select.0.column"][0], "size": 2}]}
    capsys.readouterr()
    # Those that are asked for are found anew; all that the file holds are said.
    assert main(["sae", "effects", str(run), "--edit", "select.0.column"]) == 0
    assert measured == ["select.0.column", "schema.table", "select.0.column"]
    said = capsys.readouterr().out
    assert "select.0.column  latents 3: cause 0.500" in said
    assert "schema.table  latents 2: cause 0.500" in said


def test_swaps_that_do_not_go_with_what_is_asked_for_are_not_lost(
    run: Path, sae: Path, measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (sae / "effects.json").unlink(missing_ok=True)
    assert main(["sae", "effects", str(run), "--edit", "select.0.column"]) == 0
    file, truth = sae / "effects.json", (sae / "truth.json").read_bytes()
    held = file.read_bytes()
    assert main(["sae", "eval", str(run), "--rows", "50"]) == 0
    assert main(["sae", "effects", str(run)]) == 2
    said = capsys.readouterr().err
    assert "has swaps on pairs of `select.0.column` that do not go with what is asked for" in said
    assert "scored_rows was 60, not 50" in said
    assert "hint: swap them again with --edit select.0.column, or" in said
    assert file.read_bytes() == held
    assert main(["sae", "effects", str(run), "--edit", "select.0.column"]) == 0
    # One of a version that did not say it.
    values = json.loads(file.read_text())
    del values["interchange_of"]
    file.write_text(json.dumps(values))
    assert main(["sae", "effects", str(run), "--edit", "schema.table"]) == 2
    assert "it does not say of what they are" in capsys.readouterr().err
    (sae / "truth.json").write_bytes(truth)
    file.unlink()


@pytest.mark.parametrize("damage", ["{}", "[]", '{"interchange": {"select.0.column": 3}}', '{"inter'])
def test_a_damaged_file_is_written_again(run: Path, sae: Path, measured: list[str], damage: str) -> None:
    (sae / "effects.json").write_text(damage)
    assert main(["sae", "effects", str(run), "--edit", "schema.table"]) == 0
    assert list(swaps_in(sae)) == ["schema.table"]


EFFECT = {"latent": 3, "way": "off", "switched": 2, "changed": {"select": 0.5}, "valid": 1.0}
WHOLE = {"hook": "blocks.1.hook_resid_post", "answers": 2, "latents": [EFFECT], "alignment": {"select": 0.25}}


def broken(**changed: Any) -> str:
    return json.dumps({"effects": WHOLE | {"latents": [EFFECT | changed]}})


@pytest.mark.parametrize(
    "damage",
    [
        "{}",
        "[]",
        '{"effects": {"hook": "blo',
        '{"effects": []}',
        broken(latent="3"),
        broken(valid=float("nan")),
        broken(changed={"select": float("inf")}),
        broken(changed=[0.5]),
        broken(way="up"),
        json.dumps({"effects": WHOLE | {"alignment": {"select": float("nan")}}}),
        json.dumps({"effects": WHOLE | {"latents": [3]}}),
    ],
)
def test_a_damaged_file_is_told_by_its_name_and_by_what_writes_it_again(
    run: Path,
    sae: Path,
    damage: str,
    measured: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (sae / "effects.json").write_text(damage)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "load", None)  # before the model is
        assert main(["sae", "show", str(run)]) == 2
    said = capsys.readouterr().err
    assert str(sae / "effects.json") in said.split("hint:")[0]
    assert f"hint: make it again with `tinysql sae effects {run} --name topk`, or remove it\n" in said
    (sae / "effects.json").unlink()


@pytest.mark.parametrize("damage", ["{}", "[]", '{"form": "SA', '{"form": NaN}'])
def test_a_damaged_truth_is_scored_again(
    run: Path, sae: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (sae / "truth.json").read_bytes()
    (sae / "truth.json").write_text(damage)
    for words in (["sae", "show", str(run)], ["sae", "effects", str(run)], ["report", str(run)]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert str(sae / "truth.json") in said.split("hint:")[0]
        assert f"hint: score it again with `tinysql sae eval {run} --name topk`\n" in said
    (sae / "truth.json").write_bytes(whole)


@pytest.mark.parametrize("damage", ["[]", '{"sae": {"k"', None])
def test_a_damaged_or_missing_config_is_told_with_a_remedy(
    run: Path, sae: Path, damage: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sae / "config.json"
    whole = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_text(damage)
    # Without one, an SAE that was scored may be of a time before it or from elsewhere, and is shown.
    for verb in ("eval", "effects", "show") if damage else ("eval",):
        assert main(["sae", verb, str(run)]) == 2
        said = capsys.readouterr().err
        assert str(file) in said.split("hint:")[0]
        assert f"hint: restore it, or remove {sae} and train it again\n" in said
    file.write_bytes(whole)


@pytest.mark.parametrize(
    "damage", ["{}", "[]", '{"chosen": "k=', '{"chosen": "k=9", "candidates": []}', '{"chosen": NaN}']
)
def test_a_damaged_choice_is_told_by_its_name_and_by_what_writes_it_again(
    run: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "saes" / "grid.choice.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(damage)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert str(file) in said.split("hint:")[0]
    assert f"with `tinysql sae train {run} --name grid --grid FIELD=VALUES --overwrite`\n" in said
    file.unlink()
