"""The command that a refusal names trains what it was, member of a grid or not."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from saes.again import options_again
from tinysql.cli import main
from tinysql.training.checkpoints import load_tensors, save_tensors

SMALL = [
    *("--rows", "40", "--validation", "0", "--set", "steps=20", "--set", "batch_size=128"),
    *("--set", "d_sae=64"),
]


def made_with(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((path / "config.json").read_text())
    return {name: made[name] for name in made if name not in ("made_by", "weights")}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("topk", []),
        ("grid,k=4,seed=1", ["--name", "grid", "--grid", "k=4", "--grid", "seed=1"]),
        ("nested", ["--name", "nested", "--recipe", "matryoshka", "--set", "widths=8,64", "--seed", "5"]),
        ("skip", ["--name", "skip", "--recipe", "skip_transcoder", "--set", "order_seed=3"]),
        ("two", ["--name", "two", "--recipe", "crosscoder", "--set", "architecture=topk"]),
        ("sparse", ["--name", "sparse", "--recipe", "standard", "--l0", "20"]),
    ],
)
def test_what_was_trained_on_other_weights_is_trained_again_by_the_command_that_is_named(
    name: str, words: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    assert main(["sae", "train", str(other), *SMALL, *words]) == 0
    before = made_with(other / "saes" / name)
    weights = load_tensors(other / "model.safetensors")
    changed = next(iter(weights))
    save_tensors(other / "model.safetensors", {**weights, changed: weights[changed] + 1e-3})
    capsys.readouterr()
    assert main(["sae", "eval", str(other), "--name", name]) == 2
    said = capsys.readouterr().err
    assert f"SAE `{name}` was trained on another model" in said
    command = shlex.split(said.split("hint: train one like it with `tinysql ")[1].rstrip("`\n"))
    assert main([*command, "--validation", "0"]) == 0
    after = made_with(other / "saes" / name)
    for made in (before, after):
        if "l0" in made:  # another weight of the penalty gives it
            made["sae"].pop("sparsity")
    assert after == before


def test_a_file_that_does_not_say_it_names_no_options() -> None:
    for made in ({}, {"sae": {"kk": 3}}, {"sae": {}, "hooks": "a", "rows": 3}, {"sae": {}, "hooks": []}):
        assert options_again(made) is None
