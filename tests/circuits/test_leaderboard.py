"""The leaderboard scores planted models and runs, keeps what is finished, and says what made it."""

from __future__ import annotations

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from circuits.bench.leaderboard import (
    RANDOM_CIRCUITS,
    LeaderboardSettings,
    Subject,
    _control,
    _of_run,
    _planted_subjects,
    _rows,
    _run_subjects,
    _start,
    leaderboard,
)
from circuits.bench.standings import CONTROL, MEASURES, read_rows
from circuits.finding import draw, unseen
from circuits.judging.curves import faithfulness_curve
from circuits.judging.recovery import recovery
from circuits.methods.table import METHODS
from circuits.planted.cases import planted
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.pairs.counterfactual import counterfactuals
from data_gen.pairs.edits import edit_named
from tinysql.cli import main
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.runs import open_run, record_model, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.checkpoints import save_tensors

SMALL = LeaderboardSettings(methods=("eap",), planted=("copy-attention-name",), seeds=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained run: agreement of methods needs no knowledge."""
    path, recipe = tmp_path_factory.mktemp("runs") / "tiny", tiny()
    texts = [make_example(recipe.data, index).text.string for index in range(60)]
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    model = HybridLM(
        ModelConfig(pattern="*-", d_model=16, n_heads=2, n_ctx=256, d_vocab=tokenizer.vocab_size)
    )
    record_model(start_run(path, recipe), model.cfg)
    tokenizer.save(path / "tokenizer.json")
    save_tensors(path / "model.safetensors", model.state_dict())
    return path


def test_the_command_fills_both_parts_and_prints_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["eap", "exact", "relp"]
    arguments = ["--planted", "copy-attention-name", "--seeds", "2", "--edits", "select.0.column"]
    arguments += ["--methods", ",".join(methods)]
    out = tmp_path / "board"
    assert main(["bench", "circuits", str(run), "--out", str(out), *arguments, "--pairs", "6"]) == 0
    printed = capsys.readouterr().out
    assert printed == (out / "leaderboard.md").read_text()
    assert "## Planted circuits, seeds 0 to 1" in printed
    assert "| copy-attention-name | 2 | 110 | 1.000 (1.000 to 1.000) |" in printed
    assert f"| {run} | `select.0.column` | 6 + " in printed
    written = json.loads((out / "leaderboard.json").read_text())
    assert {"command", "commit", "date", "device", "versions"} <= set(written["made_by"])
    rows = read_rows(out)
    assert [row.method for row in rows] == [*methods, "random"] * 3
    assert [row.seed for row in rows[:: len(methods) + 1]] == [0, 1, 0]
    assert LeaderboardSettings().methods == tuple(METHODS)
    for row in rows:
        assert (row.recovery is None) == (row.edit is not None)
        assert (row.agreement is None) == (row.method == "exact")


def test_a_leaderboard_that_was_stopped_keeps_its_finished_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def stopped(model, pairs):
        calls.append(model)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return METHODS["eap-ig"](model, pairs)

    with monkeypatch.context() as patch:
        patch.setitem(METHODS, "eap", stopped)
        with pytest.raises(KeyboardInterrupt):
            leaderboard(SMALL, tmp_path / "board")
    kept = read_rows(tmp_path / "board")
    assert {row.seed for row in kept} == {0}
    with pytest.raises(InputError, match=r"a leaderboard is there\nhint: pass --resume"):
        leaderboard(SMALL, tmp_path / "board")
    rows = leaderboard(SMALL, tmp_path / "board", resume=True)
    assert rows[: len(kept)] == kept
    assert [row.seed for row in rows] == [0, 0, 1, 1]
    assert read_rows(tmp_path / "board") == rows


def test_going_on_with_other_settings_is_refused(tmp_path: Path) -> None:
    leaderboard(SMALL, tmp_path)
    before = (tmp_path / "leaderboard.json").read_bytes()
    other = LeaderboardSettings(methods=("eap",), planted=("copy-attention-name",), seeds=3)
    with pytest.raises(InputError, match=r"other settings \(seeds differ\)"):
        leaderboard(other, tmp_path, resume=True)
    assert (tmp_path / "leaderboard.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"methods": ("eap-gi",)}, "no method `eap-gi`; did you mean `eap-ig`"),
        ({"planted": ("copy-mamba",)}, "no planted model `copy-mamba`"),
        ({"edits": ("schema.tabel",)}, "no edit `schema.tabel`"),
        ({"seeds": 0}, "seeds is 0"),
        ({"pairs": 0}, "pairs is 0"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        LeaderboardSettings(**settings)


def test_a_run_without_any_of_the_edits_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path
) -> None:
    settings = LeaderboardSettings(planted=(), runs=(str(run),), edits=("join.0.kind",))
    with pytest.raises(InputError, match="have none of the slots"):
        leaderboard(settings, tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_nothing_to_score_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to score"):
        leaderboard(LeaderboardSettings(planted=()), tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_circuits_are_found_on_one_half_and_run_on_the_other(tmp_path: Path) -> None:
    rows = leaderboard(SMALL, tmp_path)
    case = planted("copy-attention-name", 1)
    half = len(case.pairs) // 2
    curve = faithfulness_curve(
        case.model,
        METHODS["eap"](case.model, case.pairs[:half]),
        case.pairs[half:],
        random_circuits=RANDOM_CIRCUITS,
        seed=1,
    )
    [row] = [row for row in rows if row.seed == 1 and row.method == "eap"]
    assert (row.n_pairs, row.n_held_out) == (half, half)
    for found, area in ((row.cmd, curve.areas.cmd), (row.cpr, curve.areas.cpr)):
        for part in ("value", "random", "matched"):
            numbers, expected = (astuple(getattr(one, part)) for one in (found, area))
            assert numbers == pytest.approx(expected, abs=1e-6)
    assert row.cpr.value != curve.areas.cpr_log.value
    [control] = [row for row in rows if row.seed == 1 and row.method == "random"]
    assert control.cmd.value.value > 3 * row.cmd.value.value


def test_pairs_of_a_run_are_held_out_from_scoring(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the second seed draws pairs of the first again, either way round; one that does not align is left."""

    def overlapping(run, edit, n, seed, tokenizer):
        drawn = draw(run, edit, n, seed, tokenizer)
        if seed == 0:
            return drawn
        first = draw(run, edit, n, 0, tokenizer)
        turned = replace(first[1], clean=first[1].corrupt, corrupt=first[1].clean)
        odd = replace(drawn[0], corrupt=drawn[1].clean)
        return [first[0], turned, odd, *drawn]

    monkeypatch.setattr("circuits.bench.leaderboard.draw", overlapping)
    subject = Subject(str(run), "select.0.column", 0)
    _, pairs, held_out = _of_run(subject, 24, "cpu")
    assert len(held_out) > 12
    pad = open_run(run).load()[1].pad_id
    scored, others = (
        {tuple(row[row != pad].tolist()) for side in (some.clean, some.corrupt) for row in side.ids}
        for some in (pairs, held_out)
    )
    assert not scored & others


def test_a_method_that_refuses_a_subject_has_a_row_that_says_why(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model, pairs):
        raise InputError("no MLP to score", hint="take another model")

    monkeypatch.setitem(METHODS, "relp", refuse)
    settings = replace(
        SMALL, methods=("relp", "eap"), seeds=1, runs=(str(run),), edits=("select.0.column",), pairs=4
    )
    rows = leaderboard(settings, tmp_path)
    assert [(row.method, row.refused) for row in rows] == [
        ("relp", "no MLP to score"),
        ("eap", None),
        ("random", None),
    ] * 2
    assert (rows[0].recovery, rows[0].agreement, rows[0].cmd, rows[0].seconds) == (None, None, None, 0.0)
    assert read_rows(tmp_path) == rows
    text = (tmp_path / "leaderboard.md").read_text()
    assert "- `relp` on copy-attention-name: no MLP to score" in text
    assert f"| `relp` |{'  |' * len(MEASURES)}" in text
    assert f"- `relp` on {run}: no MLP to score" in text
    assert "`relp`" not in text.partition("## Trained runs")[2].partition("Refused")[0]


def test_a_model_that_cannot_tell_the_sides_apart_has_a_row_that_says_so(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mute"
    shutil.copytree(run, path)
    weights = load_file(path / "model.safetensors")
    weights["unembed.W_U"] *= 1e-9
    save_tensors(path / "model.safetensors", weights)
    settings = LeaderboardSettings(
        methods=("eap",), planted=(), runs=(str(path),), edits=("select.0.column",), pairs=4
    )
    rows = leaderboard(settings, tmp_path / "board")
    assert [(row.method, row.cmd, row.cpr) for row in rows] == [("eap", None, None), ("random", None, None)]
    assert all("on both sides of every pair" in (row.refused or "") for row in rows)
    assert read_rows(tmp_path / "board") == rows


def test_rows_older_than_the_areas_are_read(tmp_path: Path) -> None:
    leaderboard(SMALL, tmp_path)
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    for row in found["rows"]:
        for name in ("n_held_out", "cmd", "cpr"):
            del row[name]
    (tmp_path / "leaderboard.json").write_text(json.dumps(found))
    assert [row.cmd for row in read_rows(tmp_path)] == [None] * 4


def test_the_control_knows_nothing_and_exact_does(tmp_path: Path) -> None:
    settings = LeaderboardSettings(methods=("exact",), planted=("direction-attention",), seeds=6)
    rows = leaderboard(settings, tmp_path)
    areas = {
        method: [MEASURES["AUROC"](row) for row in rows if row.method == method]
        for method in ("exact", "random")
    }
    assert min(areas["exact"]) == 1
    assert 0.3 < np.mean(areas["random"]) < 0.7


def test_planted_models_come_seed_by_seed() -> None:
    settings = LeaderboardSettings(planted=("copy-attention-name", "copy-mamba-name"), seeds=2)
    assert [(one.name, one.seed) for one in _planted_subjects(settings)] == [
        ("copy-attention-name", 0),
        ("copy-mamba-name", 0),
        ("copy-attention-name", 1),
        ("copy-mamba-name", 1),
    ]


def test_scores_without_a_sign_have_no_signed_correlation(tmp_path: Path) -> None:
    settings = replace(SMALL, methods=("acdc", "eap"), seeds=1)
    unsigned, signed, _ = leaderboard(settings, tmp_path / "board")
    assert MEASURES["Pearson with `exact`"](unsigned) is None
    assert MEASURES["Spearman"](unsigned) is not None
    assert MEASURES["Pearson with `exact`"](signed) == pytest.approx(1, abs=0.01)


def test_neither_prompt_of_a_held_out_pair_is_one_that_was_scored() -> None:
    data = DataConfig(command_sets=("cs1",), lexicon="demo")
    a, b, c, d, e = counterfactuals(data, edit="schema.table", n=5, seed=0)
    drawn = [a, b]
    turned = replace(a, clean=a.corrupt, corrupt=a.clean)
    others = [
        a,
        turned,
        c,
        replace(d, clean=a.corrupt),
        replace(d, clean=a.clean),
        replace(e, corrupt=b.clean),
        replace(e, corrupt=b.corrupt),
        d,
    ]
    assert unseen(others, drawn) == [c, d]


def test_the_control_is_drawn_by_its_seed_for_the_same_edges_and_pairs() -> None:
    case = planted("copy-attention-name", 0)
    oracle = METHODS["eap"](case.model, case.pairs)
    first, again, other = (_control(oracle, seed) for seed in (0, 0, 1))
    assert torch.equal(first.per_example, again.per_example)
    assert not torch.equal(first.per_example, other.per_example)
    assert first.per_example.shape == oracle.per_example.shape
    assert first.per_example[:, ~torch.from_numpy(oracle.graph.mask)].abs().sum() == 0
    assert first.of_edges().abs().min() > 0
    assert (first.method, first.metadata) == (CONTROL, {})


def test_exact_is_run_once_and_ambiguous_edges_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, calls = METHODS["exact"], []

    def counted(model, pairs):
        calls.append(len(pairs))
        return exact(model, pairs)

    monkeypatch.setitem(METHODS, "exact", counted)
    settings = replace(SMALL, methods=("exact", "eap"))
    case = planted("redundant-attention", 1)
    assert case.ambiguous
    rows = _rows(Subject("redundant-attention", None, 1), settings, "cpu")
    assert calls == [len(case.pairs) // 2]
    assert [row.method for row in rows] == ["exact", "eap", CONTROL]
    assert {row.recovery.n_edges for row in rows} == {rows[0].n_edges - len(case.ambiguous)}
    assert {(row.n_pairs, row.n_held_out) for row in rows} == {
        (len(case.pairs) // 2, len(case.pairs) - len(case.pairs) // 2)
    }
    assert [row.seconds > 0 for row in rows] == [True, True, False]
    assert (rows[1].agreement.method, rows[1].agreement.oracle) == ("eap", "exact")
    control = _control(METHODS["eap"](case.model, case.pairs[: calls[0]]), seed=1)
    assert rows[2].recovery == recovery(control, case.edges, case.ambiguous)


def test_edits_of_a_run_are_those_that_one_of_its_command_sets_has(run: Path) -> None:
    """Of the tiny recipe's sets some have an order and some have not; none has a join."""
    sets = open_run(run).data.command_sets
    edits = ("schema.table", "order_by.0.direction", "join.0.kind")
    kept = [edit for edit in edits if any(edit_named(edit).suits(name) for name in sets)]
    settings = LeaderboardSettings(runs=(str(run),), edits=edits, seed=5)
    assert list(_run_subjects(settings)) == [Subject(str(run), edit, 5) for edit in kept]
    assert 0 < len(kept) < len(edits)


def test_a_row_of_a_run_counts_the_pairs_that_were_scored_and_those_held_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fewer(run, edit, n, seed, tokenizer):
        return draw(run, edit, n, seed, tokenizer)[: n if seed == 0 else 2]

    monkeypatch.setattr("circuits.bench.leaderboard.draw", fewer)
    subject = Subject(str(run), "select.0.column", 0)
    _, pairs, held_out = _of_run(subject, 5, "cpu")
    rows = _rows(subject, replace(SMALL, pairs=5), "cpu")
    assert {(row.n_pairs, row.n_held_out) for row in rows} == {(len(pairs), len(held_out))}
    assert len(pairs) != len(held_out)


def test_what_stands_in_the_directory_is_kept_and_no_option_promised_that_is_not_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "thesis.txt").write_text("four years")
    with pytest.raises(InputError, match="is not empty") as refused:
        _start(SMALL, tmp_path, resume=False)
    assert refused.value.hint == "choose another --out"
    assert (tmp_path / "thesis.txt").read_text() == "four years"


@pytest.mark.parametrize("resume", [True, False])
def test_no_leaderboard_is_written_into_a_run(run: Path, resume: bool) -> None:
    with pytest.raises(InputError, match="holds something else than a leaderboard"):
        _start(replace(SMALL), run, resume=resume)
