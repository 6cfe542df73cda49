"""The demo steers nothing on a model that does not show the behaviour."""

import json
from pathlib import Path

import pytest

import tinysql.cli
from tinysql.cli import main
from transfer.subjects import GATE

TINY = [
    part
    for setting in (
        "rows=60",
        "probe_rows=8",
        "train.hold_steps=2",
        "train.decay_steps=1",
        "train.warmup_steps=1",
        "train.model.d_model=16",
    )
    for part in ("--set", setting)
]


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many bars each taught model misses; with what was asked for as keys, in order."""
    bars: dict[str, int] = {}
    real = tinysql.cli.run

    def pretend(arguments: list[str]) -> int:
        if arguments[1] == "demo":
            return real(arguments)
        out = Path(arguments[arguments.index("--out") + 1])
        bars.setdefault(out.name, 0)
        if arguments[1] == "teach":
            out.mkdir(parents=True)
            (out / GATE).write_text(json.dumps({"missed": bars[out.name], "bars": []}))
        else:
            assert arguments[1] == "eval"
        return int(bars[out.name] > 0)

    monkeypatch.setattr(tinysql.cli, "run", pretend)
    return bars


def test_models_that_pass_their_gates_are_steered(missed: dict[str, int], tmp_path: Path) -> None:
    assert main(["transfer", "demo", "--out", str(tmp_path / "demo")]) == 0
    assert list(missed) == ["source", "target", "eval"]


@pytest.mark.parametrize(("name", "recipe", "seed"), [("source", "small", 0), ("target", "wider", 1)])
def test_a_missed_gate_ends_it_in_one_sentence(
    name: str,
    recipe: str,
    seed: int,
    missed: dict[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "demo"
    missed[name] = 2
    assert main(["transfer", "demo", "--out", str(out)]) == 2
    assert "eval" not in missed
    assert (out / name / GATE).is_file()
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("teaching")]
    assert said == [
        f"tinysql: the {name} ({out / name}) missed 2 bars of its gate, so nothing is steered; what was trained stays",
        f"hint: train it longer with `tinysql transfer teach {recipe} --out {out / name} --seed {seed} "
        "--set train.hold_steps=800 --overwrite`, and then steer with `tinysql transfer eval`",
    ]


def test_a_model_that_was_taught_too_little_is_kept_and_not_steered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command itself: two steps teach nothing."""
    real, asked = tinysql.cli.run, []

    def briefly(arguments: list[str]) -> int:
        asked.append(arguments[1])
        return real([*arguments, *TINY] if arguments[1] == "teach" else arguments)

    monkeypatch.setattr(tinysql.cli, "run", briefly)
    out = tmp_path / "demo"
    assert main(["transfer", "demo", "--out", str(out)]) == 2
    assert asked == ["demo", "teach"]
    assert (out / "source" / "model.safetensors").is_file()
    found = capsys.readouterr()
    assert "so nothing is steered" in found.err
    assert "gate failed: " in found.out
