"""Shares right: intervals by hand, clauses counted where they apply, leakage counted where it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.draw.splits import SPLITS
from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from data_gen.pairs.shortcuts import make_shortcuts
from data_gen.run.grade import grade
from data_gen.store.dataset import write_dataset
from tinysql.answering.grading import _seen, summarise, with_rows
from tinysql.answering.shares import Share
from tinysql.cli import main
from tinysql.recipes import find_recipe
from tinysql.runs import Run
from tinysql.training.fit import fit

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=4)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    # By hand from Wilson's formula, z = 1.96.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (950, 1000, 0.9347, 0.9619)],
)
def test_wilson_intervals_by_hand(right: int, total: int, low: float, high: float) -> None:
    assert Share(right=right, total=total).interval == pytest.approx((low, high), abs=2e-4)


@pytest.mark.parametrize("total", [10, 200, 1000])
def test_intervals_of_none_and_of_all_end_there_exactly(total: int) -> None:
    assert Share(right=0, total=total).interval[0] == 0
    assert Share(right=total, total=total).interval[1] == 1


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
    assert report["answered"] == {"precision": "float32", "batch_size": 128}
    assert main(["eval", str(run), "--rows", "1", "--precision", "bfloat16"]) == 0
    report = json.loads((run / "eval" / "test.json").read_text())
    assert report["answered"]["precision"] == "bfloat16"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two command sets, of which one has no pair of clauses to hold out."""
    tiny = find_recipe("tiny")
    recipe = replace(
        tiny,
        data=replace(tiny.data, command_sets=("cs1", "cs3")),
        # An answer of a model that learned nothing ends with its context, so that is kept short.
        train=replace(
            tiny.train, hold_steps=2, decay_steps=2, model=replace(tiny.train.model, pattern="*-", n_ctx=180)
        ),
    )
    return fit(recipe, tmp_path_factory.mktemp("graded") / "run").path


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "train"])
def test_every_held_out_split_is_graded(split: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--rows", "2", "--split", split]) == 0
    report = json.loads((run / "eval" / f"{split}.json").read_text())
    expected = {"cs3"} if split == "clauses" else {"cs1", "cs3"}
    assert set(report["sets"]) == expected
    assert report["without_rows"] == (["cs1"] if split == "clauses" else [])
    printed = capsys.readouterr()
    assert ("no such rows of cs1, which are left out" in printed.err) == (split == "clauses")
    config = replace(find_recipe("tiny").data, command_sets=tuple(sorted(expected)), split=split)
    answers = [json.loads(line) for line in (run / "eval" / f"{split}.jsonl").read_text().splitlines()]
    assert [answer["gold"] for answer in answers] == [make_example(config, i).sql.string for i in range(2)]


def test_shortcuts_are_scored_on_other_splits(run: Path) -> None:
    assert main(["eval", str(run), "--rows", "1", "--split", "names", "--shortcuts"]) == 0
    assert json.loads((run / "eval" / "shortcuts.json").read_text())["split"] == "names"


def test_a_split_that_no_set_of_the_run_has_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run), "--split", "tabels"]) == 2
    assert "no held-out split `tabels`; did you mean `tables`?" in capsys.readouterr().err
    assert main(["eval", str(run), "--split", "train"]) == 2
    assert (
        "splits: test, tables, columns, names, recombined, invented, templates, clauses, novel"
        in capsys.readouterr().err
    )


def test_only_the_sets_that_have_rows_are_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_gen.pairs.shortcuts.ATTEMPTS", 100)
    config = DataConfig(command_sets=("cs1", "cs3", "cs2", "cs6"), split="clauses")
    assert with_rows(config) == replace(config, command_sets=("cs3", "cs6"))
    assert with_rows(replace(config, split="test")) == replace(config, split="test")
    with pytest.raises(InputError, match=r"split `clauses` has no such rows of cs1, cs2: no query of `cs1`"):
        with_rows(replace(config, command_sets=("cs1", "cs2")))
    # A row of CS5 with two tables has no name to swap.
    simple = DataConfig(command_sets=("cs4", "cs5"), split="clauses", max_columns=5)
    assert with_rows(simple) == simple
    with pytest.raises(InputError, match="no such rows of cs5"):
        with_rows(replace(simple, command_sets=("cs5",)), make_shortcuts)


def test_the_report_shows_every_split_that_was_graded(run: Path) -> None:
    from tinysql.pages import sections

    for split in ("tables", "clauses"):
        assert main(["eval", str(run), "--rows", "1", "--split", split]) == 0
    titles = [section.title for section in sections(run)]
    assert "Accuracy on unseen table names" in titles
    assert "Accuracy on unseen pairs of clauses" in titles


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (["eval", "--rows", "1"], "eval/test.json"),
        (["eval", "--rows", "1", "--shortcuts"], "eval/shortcuts.json"),
        (["report"], "report.html"),
    ],
)
def test_what_could_not_be_written_is_refused_before_the_work(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    file: str,
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work was begun")

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "eval", ignore_errors=True)
    (copy / file).mkdir(parents=True)
    monkeypatch.setattr(Run, "load", work)
    monkeypatch.setattr("tinysql.pages.sections", work)
    assert main([command[0], str(copy), *command[1:]]) == 2
    assert f"output `{copy / file}` is a directory, expected a file" in capsys.readouterr().err
