"""The training benchmark: what is compiled by itself, and what is kept where one case does not fit."""

import importlib
import json
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig

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


@pytest.mark.parametrize(("shape", "rows"), [("33m", 1024), ("124m", 1024), ("0.5b", 512), ("1.2b", 256)])
def test_many_rows_in_four_pieces_are_measured_last_and_alone(
    shape: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, dict[str, int]]] = []
    monkeypatch.setattr(
        train, "our_step", lambda _, batches, **options: asked.append((len(batches[0].ids), options))
    )
    in_turns, last = train.groups(shape)
    assert [label for label, _ in last] == [train.IN_PIECES]
    assert [label for label, _ in in_turns][:2] == ["bare", "ours"]
    last[0][1]()
    assert asked == [(rows, {"accumulate": 4})]


def test_a_step_in_pieces_splits_its_rows_and_counts_all_their_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split, parts = train.Batch.split, []
    monkeypatch.setattr(train.Batch, "split", lambda batch, n: parts.append(n) or split(batch, n))
    monkeypatch.setattr("torch.nn.Module.cuda", lambda model: model)
    model = ModelConfig(pattern="*-", d_model=16, n_heads=2, d_vocab=train.VOCABULARY, n_ctx=train.SEQUENCE)
    step, _ = train.our_step(model, [train.full_batch(8)], accumulate=4)
    assert step() == 8 * train.SEQUENCE
    assert parts == [4]


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, lambda: InputError("32 rows do not fit")])
def test_a_case_that_does_not_fit_is_left_out_and_the_others_are_measured(
    error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_large() -> int:
        raise error()

    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    monkeypatch.setattr(train, "measure", lambda step, _seconds: 1000.0 * step())
    group = [
        ("small", lambda: (lambda: 2, 1.0)),
        ("large", lambda: (too_large, 1.0)),
        ("last", lambda: (lambda: 3, 1.0)),
    ]

    rows = train.in_turns("1.2b", group, 1.0)

    assert [(row["what"], row["tokens_per_second"]) for row in rows] == [("small", 2000), ("last", 3000)]
    assert "large" in capsys.readouterr().out


def test_what_a_case_held_that_does_not_fit_is_gone_before_the_next_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[weakref.ref[torch.nn.Linear]] = []

    def large() -> tuple[Callable[[], int], float]:
        model = torch.nn.Linear(2, 2)
        model.register_forward_hook(lambda module, *_: model)  # as hooked models: a cycle
        held.append(weakref.ref(model))

        def step() -> int:
            assert model is not None
            raise torch.cuda.OutOfMemoryError

        return step, 1.0

    def last() -> tuple[Callable[[], int], float]:
        assert [model() for model in held] == [None]
        return (lambda: 3), 1.0

    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    monkeypatch.setattr(train, "measure", lambda step, _seconds: 1000.0 * step())
    assert [row["what"] for row in train.in_turns("1.2b", [("large", large), ("last", last)], 1.0)] == [
        "last"
    ]
