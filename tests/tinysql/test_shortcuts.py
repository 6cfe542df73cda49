"""Shortcut scores: a model whose habit is known has the score of that habit."""

import json
import re
from pathlib import Path

import pytest
import torch

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.pairs.shortcuts import SHORTCUTS, ShortcutRow, make_shortcuts
from tinysql.answering.shortcuts import score, shortcut_scores
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

DATA = DataConfig(command_sets=("cs1",), split="test", lexicon="demo", max_columns=4)
ROWS = [row for index in range(30) for row in make_shortcuts(DATA, index)]
SWAPPED = [variant for variant in SHORTCUTS if variant.endswith((".schema", ".english"))]


def copies_from_schema(row: ShortcutRow) -> str:
    """Reads CREATE TABLE and nothing else: its table, and its first column."""
    table, column = re.search(r"CREATE TABLE (\w+) \( (\w+)", row.example.prompt.string).groups()
    return f"SELECT {column} FROM {table}"


def copies_from_english(row: ShortcutRow) -> str:
    """Reads the question and nothing else."""
    words = row.example.english
    said = {role: words.string[start:end].strip() for start, end, role in words.spans}
    return f"SELECT {said['english.select.0.column']} FROM {said['english.table']}"


def test_a_model_that_copies_from_the_schema_scores_1_and_0() -> None:
    scores = score(ROWS, [copies_from_schema(row) for row in ROWS])
    for variant in ("table.schema", "table.english"):
        found = scores[variant]
        assert (found.schema.value, found.english.value, found.neither.value) == (1.0, 0.0, 0.0)
    # It takes any column of the schema, which is what the hypothesis says where the right one is missing.
    assert scores["column.missing"].schema.value == 1.0


def test_a_model_that_copies_from_the_english_scores_0_and_1() -> None:
    scores = score(ROWS, [copies_from_english(row) for row in ROWS])
    for variant in (*SWAPPED, "column.missing"):
        found = scores[variant]
        assert (found.schema.value, found.english.value, found.neither.value) == (0.0, 1.0, 0.0)


def test_a_model_that_does_one_here_and_the_other_there_is_told_apart() -> None:
    # The predecessor's finding about its smallest models: tables from the schema, columns from the English.
    answers = [
        f"{copies_from_english(r).split(' FROM ')[0]} FROM {copies_from_schema(r).split()[-1]}" for r in ROWS
    ]
    scores = score(ROWS, answers)
    for variant in SWAPPED:
        source = "schema" if variant.startswith("table") else "english"
        assert getattr(scores[variant], source).value == 1.0


def test_where_both_say_the_same_name_an_answer_follows_both_or_neither() -> None:
    half = [row.english_answer if row.example.index % 2 else "SELECT" for row in ROWS]
    for variant, found in score(ROWS, half).items():
        if variant.endswith((".clean", ".both")):
            assert found.schema == found.english
            assert found.schema.value == found.neither.value == 0.5


def test_shares_have_wilson_intervals() -> None:
    found = score(ROWS, [row.english_answer for row in ROWS])["table.schema"].to_json()["schema"]
    assert (found["right"], found["total"]) == (0, 30)
    # Wilson's upper bound for 0 of n is z^2 / (n + z^2).
    assert found["interval95"] == pytest.approx([0, 1.959964**2 / (30 + 1.959964**2)], abs=1e-6)


def test_scores_come_from_greedy_answers() -> None:
    tokenizer = Tokenizer.train((row.example.text.string for row in ROWS), vocab_size=500)
    shape = ModelConfig(pattern="*-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=120)
    model = HybridLM(shape, seed=1).eval()
    with torch.no_grad():
        scores = shortcut_scores(model, tokenizer, DATA, 3)
    assert list(scores) == list(SHORTCUTS)
    assert all(found.neither.value == 1.0 and found.neither.total == 3 for found in scores.values())
    with pytest.raises(InputError, match="n is 0"):
        shortcut_scores(model, tokenizer, DATA, 0)


def test_the_command_writes_the_shares_and_prints_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinysql.cli import main
    from tinysql.recipes import find_recipe
    from tinysql.training.fit import fit

    run = fit(find_recipe("tiny"), tmp_path / "run")
    assert main(["eval", str(run.path), "--shortcuts", "--rows", "2"]) == 0
    report = json.loads((run.path / "eval" / "shortcuts.json").read_text())
    assert list(report["variants"]) == list(SHORTCUTS)
    assert report["rows"] == 2
    assert report["made_by"]["tinysql"]
    printed = capsys.readouterr().out
    assert all(variant in printed for variant in SHORTCUTS)
