"""Shares right: intervals by hand, clauses counted where they apply, leakage counted where it is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.example import DataConfig, make_example
from data_gen.run.grade import grade
from data_gen.store.dataset import write_dataset
from tinysql.cli import main
from tinysql.grading import Share, _seen, summarise

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=4)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # By hand from Wilson's formula, z = 1.96.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (950, 1000, 0.9347, 0.9619)],
)
def test_wilson_intervals_by_hand(right: int, total: int, low: float, high: float) -> None:
    assert Share(right=right, total=total).interval == pytest.approx((low, high), abs=2e-4)


def test_right_and_wrong_answers_are_counted_by_set_and_clause() -> None:
    examples = [make_example(DATA, i) for i in range(40)]
    # Every fourth answer is wrong in its ORDER BY alone, or everywhere when there is none.
    answers = [
        e.sql.string if i % 4 else e.sql.string.partition(" ORDER BY ")[0] + " LIMIT 0"
        for i, e in enumerate(examples)
    ]
    report = summarise(examples, answers, [grade(e, sql) for e, sql in zip(examples, answers, strict=True)])
    assert {name: shares["execution"]["total"] for name, shares in report["sets"].items()} == {
        "cs1": 20,
        "cs2": 20,
    }
    assert (report["sets"]["cs1"]["execution"]["right"], report["sets"]["cs2"]["execution"]["right"]) == (
        10,
        20,
    )
    assert report["wrong_total"] == 10
    assert [row["index"] for row in report["wrong"]] == list(range(0, 40, 4))
    assert "order_by" not in report["sets"]["cs1"]["clauses"]
    assert report["sets"]["cs2"]["clauses"]["order_by"] == {**report["sets"]["cs2"]["execution"]}


def test_leakage_is_counted(tmp_path: Path) -> None:
    write_dataset(DATA, 300, tmp_path / "train")
    trained = [make_example(DATA, i) for i in range(20)]
    unseen = [make_example(replace(DATA, split="test"), i) for i in range(30)]
    novel = [make_example(replace(DATA, split="names"), i) for i in range(30)]
    assert _seen([*trained, *unseen], tmp_path / "train") == {"schema": 20, "name": 50}
    assert _seen(novel, tmp_path / "train") == {"schema": 0, "name": 0}
    assert _seen(novel, tmp_path / "gone") is None


def test_eval_writes_every_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert (
        main(
            [
                "train",
                "tiny",
                "--out",
                str(run),
                "--set",
                "train.hold_steps=5",
                "--set",
                "train.decay_steps=5",
            ]
        )
        == 0
    )
    assert main(["eval", str(run), "--rows", "12"]) == 0
    assert "execution" in capsys.readouterr().out
    answers = [json.loads(line) for line in (run / "eval" / "test.jsonl").read_text().splitlines()]
    report = json.loads((run / "eval" / "test.json").read_text())
    assert [answer["index"] for answer in answers] == list(range(12))
    assert sum(not answer["execution"] for answer in answers) == report["wrong_total"]
    assert report["seen_in_training"]["schema"] == 0
