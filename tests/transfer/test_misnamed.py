"""A directory of another kind, a cut file and a missing hook are called what they are, and the remedy is theirs."""

from pathlib import Path

import pytest
import torch

from data_gen.errors import InputError
from tinysql.cli import main
from transfer.maps.activation_map import Made
from transfer.maps.disk import load_map, save_map
from transfer.maps.kinds import AffineMap
from transfer.reports import read_report
from transfer.steering import SteeringVector


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """What `eval` writes, but for its measurements."""
    folder = tmp_path / "eval"
    folder.mkdir()
    made = Made(method="affine", source_hook="a", target_hook="b")
    save_map(AffineMap(made=made, weight=torch.eye(4), bias=torch.zeros(4)), folder / "map")
    SteeringVector(hook="b", vector=torch.ones(4)).save(folder / "native")
    return folder


def test_a_vector_is_no_map_and_is_told_how_one_is_made(out: Path) -> None:
    with pytest.raises(InputError) as told:
        load_map(out / "native")
    assert told.value.message == f"{out / 'native'} holds a steering vector, expected an activation map"
    assert "`save_map` wrote, or OUT/map of `tinysql transfer fit --out OUT`" in told.value.hint


def test_a_map_is_no_vector_and_is_told_where_vectors_are(out: Path) -> None:
    with pytest.raises(InputError) as told:
        SteeringVector.load(out / "map")
    assert told.value.message == f"{out / 'map'} holds an activation map, expected a steering vector"
    assert "`SteeringVector.save` wrote, or OUT/native or OUT/transferred of `tinysql transfer eval" in (
        told.value.hint
    )
    (out / "map" / "map.safetensors").rename(out / "native" / "vector.safetensors")
    with pytest.raises(InputError, match="holds bias, weight, expected `vector`"):
        SteeringVector.load(out / "native")


@pytest.mark.parametrize("cut", [True, False])
def test_a_cut_or_missing_map_is_fitted_again_and_not_trained_on(out: Path, cut: bool) -> None:
    weights = out / "map" / "map.safetensors"
    if cut:
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        weights.unlink()
    with pytest.raises(InputError, match="is not a whole file of a map") as told:
        load_map(out / "map")
    assert told.value.hint == "restore the file, or fit the map again with `tinysql transfer fit`"


@pytest.mark.parametrize(("name", "said"), [("map", "a map"), ("native", "a steering vector")])
def test_what_lies_in_a_transfer_is_called_so_and_the_transfer_is_shown_instead(
    out: Path, name: str, said: str
) -> None:
    expected = (
        f"{out / name} holds {said} and no report, expected a directory with report.json or quality.json"
    )
    for report, hint in ((False, "measure it with `tinysql transfer eval` or `fit`"), (True, f"show {out}`")):
        if report:
            (out / "report.json").write_text("{}")
        with pytest.raises(InputError) as told:
            read_report(out / name)
        assert told.value.message == expected
        assert hint in told.value.hint


@pytest.mark.parametrize(("given", "missing"), [("source", "target"), ("target", "source")])
def test_the_hook_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, missing: str
) -> None:
    hook = [f"--{given}-hook", "blocks.1.hook_resid_post"]
    assert main(["transfer", "eval", "one", "other", "--out", str(tmp_path / "out"), *hook]) == 2
    said = capsys.readouterr().err
    assert f"--{given}-hook is given without --{missing}-hook" in said
    assert f"hint: give --{missing}-hook HOOK too" in said
