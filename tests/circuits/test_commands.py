"""`tinysql circuit find`, `eval` and `show` write whole artefacts, refuse bad input, and feed the report."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from circuits import artefacts
from circuits.artefacts import draw, eval_on_run
from circuits.circuit import Circuit
from circuits.pages import sections, sentence
from circuits.scores import EdgeScores
from data_gen.example import make_example
from data_gen.pairs.counterfactual import CounterfactualPair
from tinysql.checkpoints import save_tensors
from tinysql.cli import main
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.runs import Run, open_run, record_model, start_run
from tinysql.tokens import Tokenizer

EDIT = "select.0.column"


def counting_model(d_vocab: int) -> HybridLM:
    """Says what its prompt says most often: uniform attention that copies, and an unembedding that is the embedding.

    The column asked for stands in the English and in the schema, so the model tells clean from corrupt.
    """
    model = HybridLM(ModelConfig(pattern="*-", d_model=64, n_heads=2, n_ctx=256, d_vocab=d_vocab))
    attention, eye = model.blocks[0].attn, torch.eye(64).reshape(64, 2, 32).movedim(1, 0)
    with torch.no_grad():
        model.embed.W_E.mul_(5)
        attention.W_Q.zero_()
        attention.W_V.copy_(eye)
        attention.W_O.copy_(5 * eye.mT)
        model.unembed.W_U.copy_(model.embed.W_E.T)
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory in which one circuit was found and evaluated through the command line."""
    path, recipe = tmp_path_factory.mktemp("runs") / "tiny", tiny()
    texts = [make_example(recipe.data, index).text.string for index in range(100)]
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    model = counting_model(tokenizer.vocab_size)
    record_model(start_run(path, recipe), model.cfg)
    tokenizer.save(path / "tokenizer.json")
    save_tensors(path / "model.safetensors", model.state_dict())
    assert (
        main(["circuit", "find", str(path), "--edit", EDIT, "--pairs", "12", "--edges", "6", "--seed", "3"])
        == 0
    )
    assert main(["circuit", "eval", str(path), "--edit", EDIT, "--pairs", "24", "--random", "4"]) == 0
    return path


def test_the_artefacts_are_there_and_say_what_made_them(run: Path) -> None:
    folder = run / "circuits" / EDIT
    names = ["circuit.json", "config.json", "report.json", "scores.json", "scores.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    config = json.loads((folder / "config.json").read_text())
    assert (config["settings"]["seed"], config["settings"]["method"]) == (3, "eap-ig")
    assert config["made_by"]["versions"]["torch"] == torch.__version__
    assert len(Circuit.load(folder / "circuit.json")) == 6
    assert EdgeScores.load(folder).edit == EDIT


def test_evaluation_draws_other_pairs_than_finding(run: Path) -> None:
    report = json.loads((run / "circuits" / EDIT / "report.json").read_text())
    assert report["report"]["seed"] == 4
    assert report["report"]["n_pairs"] == 24 - report["seen_in_finding"] - len(report["refused"])


def test_a_pair_that_finding_saw_is_left_out_of_the_evaluation(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overlapping(run: Run, edit: str, n: int, seed: int, tokenizer: Tokenizer) -> list[CounterfactualPair]:
        # Whatever the seed, the first pairs are those that finding drew with seed 3.
        return draw(run, edit, n, 3, tokenizer)

    monkeypatch.setattr(artefacts, "draw", overlapping)
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    evaluated = eval_on_run(open_run(copy), EDIT, pairs=20, random_circuits=2, oracle_pairs=2, seed=9)
    refused = json.loads((copy / "circuits" / EDIT / "report.json").read_text())["refused"]
    assert evaluated.report.n_pairs == 20 - 12 - len(refused)


def test_the_report_is_a_sentence_with_its_numbers_a_graph_and_a_curve(run: Path) -> None:
    (section,) = sections(run)
    written = json.loads((run / "circuits" / EDIT / "report.json").read_text())
    assert section.title == f"Circuit: {EDIT}"
    assert f"faithfulness of {written['report']['faithfulness']['value']:.3f}" in sentence(written)
    assert f"is {written['agreement']['pearson']['value']:.3f}" in sentence(written)
    assert sentence(written) in section.html
    assert section.html.count("Plotly.newPlot") == 2
    HTMLParser().feed(section.html)


def test_a_half_written_directory_is_not_reported(run: Path, tmp_path: Path) -> None:
    leftover = tmp_path / "circuits" / f".{EDIT}.1.tmp"
    shutil.copytree(run / "circuits" / EDIT, leftover)
    assert sections(tmp_path) == []


def test_finding_prints_the_directory_and_the_edges_to_stdout(run: Path, capsys) -> None:
    arguments = ["circuit", "find", str(run), "--edit", "schema.table", "--pairs", "4", "--method", "exact"]
    assert main(arguments) == 0
    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first == str(run / "circuits" / "schema.table")
    assert header.split()[:2] == ["edge", "score"]
    assert all(" -> " in row for row in rows)
    shutil.rmtree(run / "circuits" / "schema.table")


def test_showing_writes_a_page_that_needs_no_network(run: Path, tmp_path: Path, capsys) -> None:
    page = tmp_path / "graph.html"
    assert main(["circuit", "show", str(run), "--edit", EDIT, "--out", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "blocks.0.attn.head.1" in page.read_text()
    assert "<script src=" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["find", "RUN", "--edit", "select.0.colum"], f"did you mean `{EDIT}`"),
        (["find", "RUN", "--edit", EDIT], "is not empty"),
        (["find", "RUN", "--edit", "schema.table", "--method", "epa"], "did you mean `eap`"),
        (["find", "RUN", "--edit", "schema.table", "--pairs", "0"], "pairs is 0"),
        (["find", "nowhere", "--edit", EDIT], "is not a run directory"),
        (["eval", "RUN", "--edit", "schema.table"], "holds no circuit of edit `schema.table`"),
        (["eval", "RUN", "--edit", EDIT, "--seed", "3"], "drew the pairs on which the circuit"),
        (["eval", "RUN", "--edit", EDIT, "--random", "0"], "random_circuits is 0"),
        (["show", "RUN", "--edit", "schema.table"], "holds no circuit"),
    ],
)
def test_bad_input_ends_with_two_and_one_sentence(
    run: Path, arguments: list[str], reason: str, capsys
) -> None:
    assert main(["circuit", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert reason in capsys.readouterr().err
    assert json.loads((run / "circuits" / EDIT / "config.json").read_text())["settings"]["seed"] == 3


def test_overwriting_replaces_everything_that_was_found(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    arguments = [
        "circuit",
        "find",
        str(copy),
        "--edit",
        EDIT,
        "--pairs",
        "4",
        "--method",
        "eap",
        "--overwrite",
    ]
    assert main(arguments) == 0
    folder = copy / "circuits" / EDIT
    assert EdgeScores.load(folder).method == "eap"
    assert not (folder / "report.json").exists(), "a report of another circuit does not stay"


def test_scores_cut_short_are_refused_in_a_sentence(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    tensors = copy / "circuits" / EDIT / "scores.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    assert main(["circuit", "eval", str(copy), "--edit", EDIT]) == 2
    assert "holds no whole edge scores" in capsys.readouterr().err
