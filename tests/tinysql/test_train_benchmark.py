"""The training benchmark: what is compiled by itself, and what is kept where one case does not fit."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
train = importlib.import_module("benchmarks.train")
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


@pytest.fixture
def resets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cases of every shape are `a` and `b`, of which `b` does not fit; what was measured and when all is forgotten."""
    done: list[str] = []

    def in_turns(_name: str, group: list[tuple[str, object]], _seconds: float) -> list[dict[str, str]]:
        done.extend(label for label, _ in group)
        if "b" in done:
            raise torch.cuda.OutOfMemoryError
        return [{"what": label} for label, _ in group]

    monkeypatch.setattr(train, "cases", lambda _: iter([("a", None), ("b", None)]))
    monkeypatch.setattr(train, "in_turns", in_turns)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.compiler.reset", lambda: done.append("reset"))
    return done


@pytest.mark.parametrize(
    ("shape", "order", "kept"),
    [("scans-t33", ["a", "reset", "b", "reset"], ["a"]), ("33m", ["a", "b", "reset"], [])],
)
def test_scans_are_measured_one_by_one_and_none_is_lost_with_another(
    resets: list[str],
    shape: str,
    order: list[str],
    kept: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "train.json"
    monkeypatch.setattr(sys, "argv", ["train.py", "--shapes", shape, "--json", str(path)])
    train.main()
    assert resets == order
    assert [row["what"] for row in json.loads(path.read_text())["rows"]] == kept


def test_what_was_measured_is_kept_when_a_later_case_is_cut_off(
    resets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(_name: str, group: list[tuple[str, object]], _seconds: float) -> list[dict[str, str]]:
        if group[0][0] == "b":
            raise KeyboardInterrupt
        return [{"what": label} for label, _ in group]

    monkeypatch.setattr(train, "in_turns", cut_off)
    path = tmp_path / "train.json"
    monkeypatch.setattr(sys, "argv", ["train.py", "--shapes", "scans-t200", "--json", str(path)])
    with pytest.raises(KeyboardInterrupt):
        train.main()
    assert [row["what"] for row in json.loads(path.read_text())["rows"]] == ["a"]
