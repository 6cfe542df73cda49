"""`tinysql circuit find`, `eval`, `compare` and `export` write whole artefacts and refuse bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuits import artefacts, finding
from circuits.artefacts import eval_on_run
from circuits.circuit import Circuit
from circuits.files.exchange import read_circuit, write_circuit
from circuits.files.role_files import load_roles
from circuits.finding import draw, load_found, unseen
from circuits.graph import Edge, Graph
from circuits.judging.compare import compare
from circuits.judging.generation import circuit_accuracy
from circuits.judging.ratios import ratios_of
from circuits.judging.role_curves import ByRole
from circuits.methods.eap_ig import eap_ig, integration_error
from circuits.methods.names import UNSIGNED
from circuits.methods.table import METHODS
from circuits.metrics import logit_diff
from circuits.pages import sections, sentence
from circuits.places import load_found_by_role
from circuits.role_circuit import RoleCircuit, RoleEdge
from circuits.scores import EdgeScores
from circuits.select import greedy_edges, significant_edges
from data_gen.errors import InputError
from data_gen.example import make_example
from data_gen.pairs.counterfactual import CounterfactualPair
from tinysql.answering.shares import Share
from tinysql.cli import main
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.runs import Run, open_run, record_model, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.checkpoints import save_tensors

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


@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_that_finding_saw_is_left_out_of_the_evaluation(
    copy: Path, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    def overlapping(run: Run, edit: str, n: int, seed: int, tokenizer: Tokenizer) -> list[CounterfactualPair]:
        # Whatever the seed, the first pairs are those that finding drew with seed 3, or those turned round.
        pairs = draw(run, edit, n, 3, tokenizer)
        if seed != 3 and turned:
            return [replace(pair, clean=pair.corrupt, corrupt=pair.clean) for pair in pairs]
        return pairs

    monkeypatch.setattr(artefacts, "draw", overlapping)
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
        (["find", "RUN", "--edit", EDIT], "holds a circuit of edit `select.0.column` already"),
        (["find", "RUN", "--edit", "schema.table", "--method", "epa"], "did you mean `eap`"),
        (["find", "RUN", "--edit", "schema.table", "--pairs", "0"], "pairs is 0"),
        (
            ["find", "RUN", "--edit", "schema.table", "--pairs", "1000000"],
            "pairs is 1,000,000, expected at most",
        ),
        (["find", "nowhere", "--edit", EDIT], "is not a run directory"),
        (["eval", "RUN", "--edit", "schema.table"], "holds no circuit of edit `schema.table`"),
        (["eval", "RUN", "--edit", EDIT, "--seed", "3"], "drew the pairs on which the circuit"),
        (["eval", "RUN", "--edit", EDIT, "--random", "0"], "argument --random: 0 is too few"),
        (["eval", "RUN", "--edit", EDIT, "--oracle-pairs", "-1"], "--oracle-pairs: -1 is too few"),
        (["eval", "RUN", "--edit", EDIT, "--answers", "-1"], "argument --answers: -1 is too few"),
        (["find", "RUN", "--edit", "schema.table", "--select", "gredy"], "did you mean `greedy`"),
        (["find", "RUN", "--edit", "schema.table", "--q", "0.1"], "--q says nothing with --select top"),
        (
            ["find", "RUN", "--edit", "schema.table", "--select", "significant", "--edges", "9"],
            "--edges says nothing with --select significant",
        ),
        (
            ["find", "RUN", "--edit", "schema.table", "--select", "significant", "--q", "1"],
            "q is 1.0, expected",
        ),
        (
            ["find", "RUN", "--edit", "schema.table", "--select", "significant", "--pairs", "3"],
            "no edge can be significant at q = 0.05 on 3 pairs",
        ),
        (
            ["find", "RUN", "--edit", "schema.table", "--method", "relp", "--steps", "3"],
            "`relp` has no steps",
        ),
        (["find", "RUN", "--edit", "schema.table", "--steps", "0"], "steps is 0"),
        (["find", "RUN", "--edit", "schema.table", "--edges", "9999"], "edges is 9,999, and the graph of"),
        (["show", "RUN", "--edit", "schema.table"], "holds no circuit"),
        (["show", "RUN", "--out", "RUN"], "would replace what is read from"),
        (["show", "RUN", "--out", ""], "the path is empty"),
        (["compare", "RUN", "--edit", EDIT], "1 runs and 1 edits are no two circuits"),
        (["compare", "RUN", "RUN", "--edit", EDIT, "--edit", EDIT], "2 runs and 2 edits are no two circuits"),
        (["compare", "RUN", "RUN", "--edit", EDIT], "both circuits are"),
        (
            ["compare", "RUN", "--edit", EDIT, "--edit", "schema.table"],
            "holds no circuit of edit `schema.table`",
        ),
        (["export", "RUN", "--edit", EDIT, "--format", "gml"], "invalid choice: 'gml'"),
        (["export", "RUN", "--edit", EDIT, "--out", "RUN"], "would replace what is read from"),
    ],
)
def test_bad_input_ends_with_two_and_one_sentence(
    run: Path, arguments: list[str], reason: str, capsys
) -> None:
    assert main(["circuit", *(str(run) if word == "RUN" else word for word in arguments)]) == 2
    assert reason in capsys.readouterr().err
    assert json.loads((run / "circuits" / EDIT / "config.json").read_text())["settings"]["seed"] == 3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["--method", "masks"], "`masks` gives an edge one number for all pairs"),
        (["--method", "acdc"], "`acdc` gives an edge one number for all pairs"),
        (["--pairs", "3"], "no edge can be significant at q = 0.05 on 3 pairs"),
    ],
)
def test_what_cannot_be_significant_is_refused_before_it_is_scored(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys, settings: list[str], reason: str
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the pairs were scored")

    monkeypatch.setattr(finding, "score", work)
    arguments = ["circuit", "find", str(run), "--edit", "schema.table", "--select", "significant"]
    assert main([*arguments, *settings]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["show", "RUN"],
        ["show", "RUN", "--edit", EDIT],
        ["eval", "RUN", "--edit", EDIT],
        ["export", "RUN", "--edit", EDIT],
    ],
)
def test_a_circuit_of_another_model_is_refused(copy: Path, capsys, command: list[str]) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model"]["n_heads"] = 4
    (copy / "config.json").write_text(json.dumps(config))
    assert main(["circuit", *(str(copy) if word == "RUN" else word for word in command)]) == 2
    said = capsys.readouterr().err
    assert f"{copy / 'circuits' / EDIT} belongs to a model of pattern '*-' (2 heads), this one has" in said
    assert "(4 heads)" in said
    assert not list(copy.rglob("*.html"))


def test_finding_and_the_page_say_what_the_integration_left_out(copy: Path, capsys) -> None:
    assert main(find(copy, EDIT, "--steps", "2", "--check-steps")) == 0
    scores, out = EdgeScores.load(copy / "circuits" / EDIT), capsys.readouterr().out
    run = open_run(copy)
    model, tokenizer = run.load()
    pairs = tokenizer.encode_pairs(draw(run, EDIT, 12, 0, tokenizer), drop_misaligned=True)
    error = integration_error(model, pairs, steps=2)
    assert scores.metadata["integration_error"] == pytest.approx(error, rel=1e-3)
    gap, relative = (scores.metadata[f"completeness_gap{end}"] for end in ("", "_relative"))
    change = scores.metadata["metric_corrupt"] - scores.metadata["metric_clean"]
    assert gap == pytest.approx(float(scores.per_example[:, 0].sum(-1).mean()) - change, abs=1e-4)
    said = out.splitlines()[-1]
    assert said.startswith(f"completeness gap {gap:.2g}, where logit_diff changes by {change:.3g} ")
    assert f"{relative:.2%} of the change; twice the steps change the scores by {error:.2%}" in said
    assert f"{said[1:]}." in sections(copy)[0].html


def test_a_method_without_steps_has_none_to_check_and_leaves_nothing_out(copy: Path, capsys) -> None:
    assert main(find(copy, EDIT, "--method", "relp", "--check-steps")) == 2
    assert "`relp` has no steps\nhint: leave --check-steps out" in capsys.readouterr().err
    assert main(find(copy, EDIT, "--method", "relp")) == 0
    assert "completeness" not in capsys.readouterr().out + sections(copy)[0].html


@pytest.mark.parametrize("kind", ["json", "graphml", "dot"])
def test_an_exported_circuit_is_taken_back_in(run: Path, tmp_path: Path, capsys, kind: str) -> None:
    file, page = tmp_path / f"c.{kind}", tmp_path / "page.html"
    before = sorted(run.rglob("*"))
    of_edit = [str(run), "--edit", EDIT]
    assert main(["circuit", "export", *of_edit, "--format", kind, "--out", str(file)]) == 0
    capsys.readouterr()
    command = ["circuit", "eval", *of_edit, "--circuit", str(file), "--pairs", "24", "--random", "4"]
    assert main(command) == 0
    report = json.loads((run / "circuits" / EDIT / "report.json").read_text())["report"]
    said = capsys.readouterr().out
    assert f"on {report['n_pairs']} pairs" in said
    assert f"the circuit alone      {report['faithfulness']['value']:.3f}" in said
    assert main(["circuit", "show", str(run), "--circuit", str(file), "--out", str(page)]) == 0
    assert "blocks.0.attn.head.1" in page.read_text()
    assert (
        main(["circuit", "compare", *of_edit, "--circuit", str(file), "--out", str(page), "--overwrite"]) == 0
    )
    assert "Jaccard index  1.000" in capsys.readouterr().out
    assert sorted(run.rglob("*")) == before


def test_a_file_that_tells_nothing_of_its_pairs_is_run_on_all_and_that_is_said(
    run: Path, tmp_path: Path, capsys
) -> None:
    file = tmp_path / "c.json"
    found = load_found(run, EDIT)[0]
    Circuit(found.graph, found.edges).save(file)
    command = ["circuit", "eval", str(run), "--edit", EDIT, "--circuit", str(file), "--random", "2"]
    assert main([*command, "--pairs", "12", "--seed", "3"]) == 0
    said = capsys.readouterr()
    assert "does not say on which pairs it was found: none is left out" in said.err
    assert "on 12 pairs" in said.out


def test_a_file_of_another_metric_is_run_by_ours_and_that_is_said(run: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "c.json"
    found = load_found(run, EDIT)[0]
    Circuit(found.graph, found.edges, {**found.metadata, "metric": "kl"}).save(file)
    command = ["circuit", "eval", str(run), "--circuit", str(file), "--pairs", "8", "--random", "2"]
    assert main(command) == 0
    assert capsys.readouterr().err.startswith(f"{file} was found by kl, and is run by logit_diff\n")


def test_the_page_of_a_file_is_titled_by_what_the_file_says(run: Path, tmp_path: Path) -> None:
    file, page = tmp_path / "odd.json", tmp_path / "page.html"
    found = load_found(run, EDIT)[0]
    command = ["circuit", "show", str(run), "--circuit", str(file), "--out", str(page), "--overwrite"]
    for circuit, title in (
        (found, f"Circuit of {EDIT}: {len(found)} edges by {found.metadata['method']}, model *-"),
        (Circuit(found.graph, found.edges[:1]), "Circuit: 1 edge, model *-"),
    ):
        circuit.save(file)
        assert main(command) == 0
        text = page.read_text()
        assert f"<title>{title}</title>" in text
        assert f"<h1>{title}</h1>" in text
        assert "file: odd.json" in text


@pytest.mark.parametrize("verb", ["eval", "show", "compare"])
def test_a_file_without_an_edge_is_no_circuit_to_run(run: Path, tmp_path: Path, capsys, verb: str) -> None:
    file = tmp_path / "c.json"
    Circuit(load_found(run, EDIT)[0].graph, ()).save(file)
    more = {"show": ["--out", str(tmp_path / "p.html")], "compare": ["--edit", EDIT]}.get(
        verb, ["--edit", EDIT]
    )
    assert main(["circuit", verb, str(run), "--circuit", str(file), *more]) == 2
    assert f"the circuit in {file} has no edge, expected at least one" in capsys.readouterr().err


def test_neither_show_nor_eval_has_to_be_told_the_edit_of_a_file(run: Path, tmp_path: Path, capsys) -> None:
    file, command = tmp_path / "c.json", ["circuit", "eval", str(run), "--pairs", "8", "--random", "2"]
    found = load_found(run, EDIT)[0]
    found.save(file)
    said = []
    for options in ([], ["--edit", EDIT]):
        assert main([*command, "--circuit", str(file), *options]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].startswith(f"{EDIT}: ")
    assert main(["circuit", "show", str(run), "--circuit", str(file), "--out", str(tmp_path / "p.html")]) == 0
    capsys.readouterr()
    Circuit(found.graph, found.edges).save(file)
    assert main([*command, "--circuit", str(file)]) == 2
    assert f"{file} does not say of which edit it is, and a circuit is run on pairs of one" in (
        capsys.readouterr().err
    )
    assert main(command) == 2
    assert "eval has no --edit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "options", "reason"),
    [
        ("eval", ["--edit", EDIT, "--oracle-pairs", "4"], "--oracle-pairs says nothing with --circuit"),
        ("eval", ["--edit", EDIT, "--by-role"], "--by-role says nothing with --circuit"),
        ("eval", ["--edit", EDIT, "--answers", "4"], "--answers says nothing with --circuit"),
        ("eval", ["--edit", EDIT, "--overwrite"], "--overwrite says nothing with --circuit"),
        ("eval", ["--edit", EDIT], "belongs to a model of pattern '*' (1 heads), this one has pattern '*-'"),
        (
            "show",
            ["--out", "page.html"],
            "belongs to a model of pattern '*' (1 heads), this one has pattern '*-'",
        ),
        ("show", ["--edit", EDIT], "--edit says nothing with --circuit: it chooses among the run's own"),
        ("show", [], "no place of its own in the run"),
        (
            "compare",
            ["--edit", EDIT],
            "belongs to a model of pattern '*' (1 heads), this one has pattern '*-'",
        ),
        ("compare", ["--edit", EDIT, "--edit", "schema.table"], "1 runs and 2 edits with --circuit"),
    ],
)
def test_a_file_of_another_model_or_with_options_of_others_is_refused(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    verb: str,
    options: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Circuit(Graph("*", n_heads=1), (Edge("embed", "logits"),)).save("c.json")
    assert main(["circuit", verb, str(run), "--circuit", "c.json", *options]) == 2
    assert reason in capsys.readouterr().err


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


def test_a_process_that_ends_while_it_writes_leaves_the_old_circuit(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)

    def ends(circuit: Circuit, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Circuit, "save", ends)
        assert main(find(copy, EDIT, "--method", "eap")) == 130
    assert load_found(copy, EDIT)[1].method == "eap-ig"
    assert (copy / "circuits" / EDIT / "report.json").exists()


def test_an_edit_that_the_data_lack_leaves_no_directory(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert main(["circuit", "find", str(copy), "--edit", "having.0.operator"]) == 2
    assert not (copy / "circuits" / "having.0.operator").exists()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused_by_their_file(
    run: Path, tmp_path: Path, wrong: float, capsys
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "circuits" / EDIT / "scores.safetensors"
    found = load_file(file)
    found["per_example"][0, 0, 0] = wrong
    save_file(found, file)
    for command in (["eval", str(copy)], ["show", str(copy)], ["export", str(copy), "--format", "scores"]):
        assert main(["circuit", *command, "--edit", EDIT]) == 2
        said = capsys.readouterr().err
        assert f"{file}: the " in said
        assert "hint: make them again: tinysql circuit find" in said


def test_a_report_with_a_number_that_is_not_finite_is_refused_by_its_place(
    run: Path, tmp_path: Path, capsys
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "circuits" / EDIT / "report.json"
    file.write_text('{"report": {"faithfulness": {"value": NaN}}}')
    assert main(["circuit", "show", str(copy)]) == 2
    said = capsys.readouterr().err
    assert f"`{file}`: `report.faithfulness.value` is nan, expected a finite number" in said
    assert "hint: make it again with `tinysql circuit eval" in said


@pytest.mark.parametrize("damage", [None, "", "[]", "{}", '{"settings": {"edit": "schema.table", "pa'])
def test_a_damaged_config_of_a_circuit_is_told_what_finds_it_again(
    run: Path, tmp_path: Path, damage: str | None, capsys
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "circuits" / EDIT / "config.json"
    file.unlink() if damage is None else file.write_text(damage)
    assert main(["circuit", "eval", str(copy), "--edit", EDIT]) == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert f"hint: find it again: tinysql circuit find {copy} --edit {EDIT} --overwrite" in said


def test_scores_cut_short_are_refused_in_a_sentence(run: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    tensors = copy / "circuits" / EDIT / "scores.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    assert main(["circuit", "eval", str(copy), "--edit", EDIT]) == 2
    assert "holds no whole edge scores" in capsys.readouterr().err


def find(run: Path, edit: str, *more: str) -> list[str]:
    return ["circuit", "find", str(run), "--edit", edit, "--pairs", "12", "--overwrite", *more]


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_table_finds_a_circuit(
    copy: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(find(copy, EDIT, "--method", method))
    if method in ("acdc", "masks") and code == 2:  # a tiny model may lose nothing to the corrupt run
        assert "the corrupt run loses" in capsys.readouterr().err
        return
    assert code == 0
    assert EdgeScores.load(copy / "circuits" / EDIT).method == method


@pytest.mark.parametrize("method", [name for name in METHODS if name not in UNSIGNED])
def test_every_method_shows_how_far_it_has_come(
    copy: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, tuple[int, int]] = {}

    def counted(items: Iterable[object], *, total: int, title: str) -> Iterator[object]:
        for done, item in enumerate(items, start=1):
            yield item
            shown[title] = (done, total)

    monkeypatch.setattr(finding, "progress", counted)
    assert main(find(copy, EDIT, "--method", method, "--by-role", "--edges", "6")) == 0
    assert shown.keys() == {f"scoring by {method}", "scoring by role", "following edges between roles"}
    assert all(done == total > 0 for done, total in shown.values())


def test_a_greedy_circuit_lies_on_paths_and_a_significant_one_is_below_q(copy: Path) -> None:
    folder = copy / "circuits" / EDIT
    assert main(find(copy, EDIT, "--select", "greedy", "--edges", "5")) == 0
    circuit, scores = Circuit.load(folder / "circuit.json"), EdgeScores.load(folder)
    assert circuit.edges == greedy_edges(scores, 5).edges == circuit.connected().edges
    assert main(find(copy, EDIT, "--select", "significant", "--q", "0.2")) == 0
    circuit, scores = Circuit.load(folder / "circuit.json"), EdgeScores.load(folder)
    assert circuit.edges == significant_edges(scores, 0.2).edges
    assert circuit.edges


def test_whole_answers_are_asked_for_when_finding_and_when_evaluating(copy: Path) -> None:
    folder = copy / "circuits" / EDIT
    assert main(find(copy, EDIT, "--whole-answers")) == 0
    run = open_run(copy)
    model, tokenizer = run.load()
    pairs = tokenizer.encode_pairs(
        draw(run, EDIT, 12, 0, tokenizer), drop_misaligned=True, whole_answers=True
    )
    torch.testing.assert_close(EdgeScores.load(folder).values, eap_ig(model, pairs).values)
    seen = {pair.clean.prompt.string for pair in draw(run, EDIT, 12, 0, tokenizer)}
    fresh = [pair for pair in draw(run, EDIT, 16, 7, tokenizer) if pair.clean.prompt.string not in seen]
    held_out = tokenizer.encode_pairs(fresh, drop_misaligned=True, whole_answers=True)
    # The wired model knows the first token alone, so both refuse, with the metric of whole answers in the sentence.
    with pytest.raises(InputError) as ours:
        ratios_of(model, Graph.of(model), held_out, logit_diff, seed=7, batch_size=None)
    with pytest.raises(InputError) as theirs:
        eval_on_run(run, EDIT, pairs=16, random_circuits=2, oracle_pairs=0, seed=7)
    assert str(theirs.value) == str(ours.value)


def test_role_scores_are_kept_printed_and_read_again(copy: Path, capsys) -> None:
    assert main(find(copy, EDIT, "--by-role")) == 0
    out, folder = capsys.readouterr().out, copy / "circuits" / EDIT
    assert "read at" in out
    table = out[out.index("\nfrom ") + 1 :].splitlines()
    assert table[0].split()[:3] == ["from", "to", "edge"]
    followed = json.loads((folder / "flows.json").read_text())["edges"]
    assert {entry["edge"] for entry in followed} == set(map(str, load_found(copy, EDIT)[0].edges[:20]))
    strongest = max(
        (part for entry in followed for part in entry["flows"]), key=lambda part: abs(part["score"])
    )
    assert table[1].split()[:2] == [strongest["from"], strongest["to"]]
    roles = load_roles(folder)
    assert roles is not None
    torch.testing.assert_close(roles.values.sum(0), EdgeScores.load(folder).values, atol=1e-4, rtol=1e-3)
    (section,) = sections(copy)
    assert "read most at" in section.html
    assert f"from {strongest['from']} to {strongest['to']}: " in section.html
    (folder / "roles.safetensors").write_bytes(b"cut")
    assert main(["circuit", "show", str(copy)]) == 2
    assert "holds no whole role scores" in capsys.readouterr().err


def test_a_role_aware_circuit_is_found_run_told_and_drawn(copy: Path, capsys) -> None:
    folder = copy / "circuits" / EDIT
    assert main(find(copy, EDIT, "--by-role", "--edges", "6", "--seed", "3")) == 0
    kept = RoleCircuit.load(folder / "role_circuit.json")
    assert len(kept) == 6
    assert (kept.metadata["method"], kept.metadata["settings"]["seed"]) == ("eap-ig", 3)
    command = ["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "24", "--random", "3"]
    assert main([*command, "--oracle-pairs", "0"]) == 0
    assert json.loads((folder / "report.json").read_text())["by_role"] is None
    (without,) = sections(copy)
    capsys.readouterr()
    assert main([*command, "--oracle-pairs", "0", "--by-role"]) == 0
    said, report = capsys.readouterr().out, json.loads((folder / "report.json").read_text())
    found = ByRole.from_json(report["by_role"])
    assert json.loads(json.dumps(found.to_json())) == report["by_role"]
    assert (found.circuit.n_parts, found.curve.random_circuits, found.curve.seed) == (6, 3, 4)
    assert found.curve.n_pairs == report["report"]["n_pairs"]
    # Sizes of the plain curve, and where role-aware edges are fewer than its last, all of them.
    many, sizes = found.curve.n_parts_model, [point["n_edges"] for point in report["curve"]["points"]]
    assert [point.n_parts for point in found.curve.points] == [min(size, many) for size in sizes]
    assert f"6 role-aware edges, parts of {found.circuit.n_edges} edges" in said
    told = f"plain edges {found.reach.plain}, role-aware edges {found.reach.role_aware}"
    assert told in said
    (section,) = sections(copy)
    assert told in section.html
    by_role = [text for text in section.html.split("</p>") if told in text]
    assert len(by_role) == 1
    assert sentence(report) not in by_role[0]
    assert sentence(report) in section.html
    for name in (
        "role-aware edges: the top by eap-ig, counted in role-aware edges",
        "role-aware edges: the same edges at random roles, 3 draws, 5",
        "Plain edges: CMD",
        "plain edges: the top by eap-ig",
    ):
        assert name in section.html
        assert name not in without.html


def test_an_evaluation_by_role_is_replaced_by_one_without_when_asked_alone(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the circuit was read")

    file = copy / "circuits" / EDIT / "report.json"
    assert main(find(copy, EDIT, "--by-role", "--edges", "6")) == 0
    command = ["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "24", "--random", "2"]
    command += ["--oracle-pairs", "0"]
    assert main([*command, "--by-role"]) == 0
    before = file.read_bytes()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "eval_on_run", work)
        assert main(command) == 2
    said = capsys.readouterr().err
    assert f"{file} holds an evaluation by role, which one without roles would replace" in said
    assert "pass --by-role to make both anew, or --overwrite to lose it" in said
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "load_found", work)
        with pytest.raises(InputError, match="holds an evaluation by role"):
            eval_on_run(open_run(copy), EDIT, pairs=24, random_circuits=2)
    assert file.read_bytes() == before
    assert main([*command, "--overwrite"]) == 0
    assert json.loads(file.read_text())["by_role"] is None
    # One without roles, or one cut short, is replaced as ever.
    assert main(command) == 0
    file.write_bytes(before[:100])
    assert main(command) == 0
    assert json.loads(file.read_text())["by_role"] is None


def test_a_run_without_roles_is_refused_before_the_work_with_the_whole_command(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("a circuit was run")

    command = ["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "24", "--random", "2", "--by-role"]
    remedy = f"tinysql circuit find {copy} --edit {EDIT} --by-role --overwrite"
    nothing = ["circuit", "eval", str(copy), "--edit", "order_by.0.direction"]
    for options in ([], ["--by-role"]):
        assert main([*nothing, *options]) == 2
        whole = " ".join(["find", str(copy), "--edit", "order_by.0.direction", *options])
        assert f"hint: find it with: tinysql circuit {whole}\n" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "evaluate", work)
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "holds no role-aware circuit" in said
        assert remedy in said
        assert main(find(copy, EDIT, "--by-role")) == 0
        (copy / "circuits" / EDIT / "roles.json").unlink()
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "stands without roles.json" in said
        assert remedy in said


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("show", ["--out", "page.html"]),
        ("compare", ["--edit", EDIT, "--out", "page.html"]),
        ("eval", ["--edit", EDIT]),
    ],
)
def test_the_file_of_a_role_aware_circuit_is_refused_in_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, verb: str, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = Graph.of_config(open_run(run).shape)
    for about, edit in (({"edit": "schema.table"}, "schema.table"), ({}, "EDIT")):
        RoleCircuit(graph, (), about).save(Path("c.json"))
        assert main(["circuit", verb, str(run), "--circuit", "c.json", *options]) == 2
        said = capsys.readouterr().err
        assert (
            "c.json is a role-aware circuit, and here a circuit's edges act at the tokens of every role\n"
            in said
        )
        assert (
            f"hint: `tinysql circuit eval {run} --edit {edit} --by-role` runs the one that"
            f" `tinysql circuit find --by-role` wrote in {run}; in Python `circuits.RoleCircuit.load` reads"
            in said
        )
    assert not Path("page.html").exists()


@pytest.mark.parametrize("suffix", ["json", "graphml", "dot"])
def test_a_role_aware_circuit_of_another_model_is_named_as_such(
    run: Path, tmp_path: Path, capsys, suffix: str
) -> None:
    file, other = tmp_path / f"c.{suffix}", Graph("*-*-", n_heads=2)
    write_circuit(RoleCircuit(other, (RoleEdge(other.edges[0], "sql.from", 1.0),)), file)
    assert main(["circuit", "eval", str(run), "--edit", EDIT, "--circuit", str(file)]) == 2
    said = capsys.readouterr().err
    ours = Graph.of_config(open_run(run).shape)
    assert f"{file} is a role-aware circuit of a model of {other}, and {run} has {ours}\n" in said
    assert "tinysql circuit eval RUN --edit EDIT --by-role" in said
    # Where the file no longer says whose it is, it is refused as role-aware alone.
    file.write_text(file.read_text().replace("*-*-", "*?*-"))
    assert main(["circuit", "eval", str(run), "--edit", EDIT, "--circuit", str(file)]) == 2
    said = capsys.readouterr().err
    assert "is a role-aware circuit, and here" in said
    assert f"tinysql circuit eval {run} --edit EDIT --by-role" in said


def test_an_evaluation_prints_areas_and_stability_and_minimality_when_asked(copy: Path, capsys) -> None:
    arguments = ["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "24", "--random", "3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "CMD" in out
    assert "CPR" in out
    assert "layer-matched" in out
    assert "needed edges" not in out
    assert "mean pairwise Jaccard index" in out
    assert "the bar of 0.8" in out
    assert main([*arguments, "--minimality", "--oracle-pairs", "0"]) == 0
    out = capsys.readouterr().out
    assert "needed edges" in out
    assert "Pearson" not in out
    written = json.loads((copy / "circuits" / EDIT / "report.json").read_text())
    assert "are redundant" in sentence(written)
    assert written["agreement"] is None


def test_a_circuit_writes_whole_answers_to_held_out_rows_when_asked(copy: Path, capsys) -> None:
    arguments = ["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "8", "--random", "1"]
    assert main([*arguments, "--oracle-pairs", "0", "--answers", "5"]) == 0
    out, file = capsys.readouterr().out, copy / "circuits" / EDIT / "report.json"
    written = json.loads(file.read_text(), parse_constant=str)
    run = open_run(copy)
    model, tokenizer = run.load()
    asked = unseen(draw(run, EDIT, 5, 4, tokenizer), draw(run, EDIT, 12, 3, tokenizer))
    circuit, _ = load_found(copy, EDIT)
    alone = circuit_accuracy(model, tokenizer, circuit, asked, random_circuits=1, seed=4)
    assert str(alone) in out
    assert written["accuracy"] == json.loads(json.dumps(alone.to_json()))
    assert written["accuracy"]["random"]["low"] is None, "one random circuit has no band"
    assert main(["circuit", "show", str(copy), "--edit", EDIT]) == 0
    page = (copy / "circuits" / EDIT / "graph.html").read_text()
    assert f"whole answers to {len(asked)} held-out prompts alone, the circuit is right by execution" in page
    assert main([*arguments, "--oracle-pairs", "0"]) == 0
    assert "write is right" not in capsys.readouterr().out
    assert json.loads(file.read_text())["accuracy"] is None
    assert "whole answers to" not in sentence(json.loads(file.read_text()))


def test_the_page_tells_the_circuits_answers_from_the_models_and_those_of_no_edge(run: Path) -> None:
    written = json.loads((run / "circuits" / EDIT / "report.json").read_text())
    shares = {"clean": 6, "corrupt": 2, "model": 7, "floor": 1}
    written["accuracy"] = {name: Share(right=right, total=8).to_json() for name, right in shares.items()} | {
        "random_circuits": 3,
        "random": {"mean": 0.125, "low": 0.0, "high": 0.25},
        "matched": {"mean": 0.5, "low": 0.25, "high": 0.75},
    }
    said = sentence(written).split("Writing whole answers ")[1]
    assert said.startswith(
        "to 8 held-out prompts alone, the circuit is right by execution on a share of 0.750 (0.4"
    )
    assert "the whole model on 0.875 (0.5" in said
    assert "no edge on 0.125 (0.0" in said
    assert "3 random circuits on average on 0.125 (5-95 %: 0.000 to 0.250)" in said
    assert "layer-matched ones on 0.500 (5-95 %: 0.250 to 0.750)" in said
    assert "On 0.250 (0.0" in said.split("layer-matched")[1]


def test_two_edits_of_a_run_are_compared_and_their_difference_drawn(copy: Path, capsys) -> None:
    assert main(find(copy, "schema.table", "--edges", "6")) == 0
    capsys.readouterr()
    assert main(["circuit", "compare", str(copy), "--edit", EDIT, "--edit", "schema.table"]) == 0
    out = capsys.readouterr().out
    first, second = (
        Circuit.load(copy / "circuits" / edit / "circuit.json") for edit in (EDIT, "schema.table")
    )
    shared = compare(first, second)
    assert str(shared) in out
    assert f"only in schema.table: {len(shared.only_second)} edges" in out
    page = copy / "circuits" / f"{EDIT}--schema.table.html"
    assert out.splitlines()[-1] == str(page)
    assert f"Jaccard index of {shared.jaccard:.3f}" in page.read_text()
    assert [section.title for section in sections(copy)][-1] == "Circuits side by side"


def test_one_edit_of_two_runs_is_compared(run: Path, copy: Path, tmp_path: Path, capsys) -> None:
    page = tmp_path / "a.html"
    assert main(["circuit", "compare", str(run), str(copy), "--edit", EDIT, "--out", str(page)]) == 0
    assert "Jaccard index  1.000" in capsys.readouterr().out
    assert page.is_file()


@pytest.mark.parametrize("verb", ["show", "compare", "export"])
def test_a_file_that_is_there_is_replaced_only_where_that_is_asked_for(
    run: Path, copy: Path, tmp_path: Path, capsys, verb: str
) -> None:
    both = [str(run), str(copy)] if verb == "compare" else [str(run)]
    command, file = ["circuit", verb, *both, "--edit", EDIT, "--out"], tmp_path / "README"
    file.write_text("mine")
    assert main([*command, str(file)]) == 2
    assert "exists\nhint: choose another output, or pass --overwrite to replace it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert main([*command, str(file), "--overwrite"]) == 0
    assert file.read_text() != "mine"
    weights = run / "model.safetensors"
    before = weights.read_bytes()
    assert main([*command, str(weights), "--overwrite"]) == 2
    assert "would replace what is read from" in capsys.readouterr().err
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("verb", "blocked"),
    [("find", f"circuits/{EDIT}"), ("find", "circuits"), ("eval", f"circuits/{EDIT}/report.json")],
)
def test_what_could_not_be_written_is_refused_before_the_work(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys, verb: str, blocked: str
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    place = copy / blocked
    if verb == "find":
        shutil.rmtree(place)
        place.write_text("a file")
    else:
        place.unlink()
        place.mkdir()
    monkeypatch.setattr(Run, "load", work)
    assert main(["circuit", verb, str(copy), "--edit", EDIT, *(["--overwrite"] * (verb == "find"))]) == 2
    assert str(place) in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["json", "graphml", "dot"])
def test_an_exported_circuit_is_read_again(run: Path, tmp_path: Path, capsys, kind: str) -> None:
    assert main(["circuit", "export", str(run), "--edit", EDIT, "--format", kind]) == 0
    file = tmp_path / f"circuit.{kind}"
    file.write_text(capsys.readouterr().out)
    assert read_circuit(file).edges == Circuit.load(run / "circuits" / EDIT / "circuit.json").edges


def test_a_role_aware_circuit_goes_out_with_its_roles_and_comes_back_as_json(
    copy: Path, tmp_path: Path, capsys
) -> None:
    command = ["circuit", "export", str(copy), "--edit", EDIT, "--by-role"]
    assert main(command) == 2
    assert f"find it with: tinysql circuit find {copy} --edit {EDIT} --by-role" in capsys.readouterr().err
    assert main(find(copy, EDIT, "--by-role", "--edges", "6")) == 0
    kept = load_found_by_role(copy, EDIT)
    capsys.readouterr()
    written = {}
    for kind in ("json", "graphml", "dot"):
        file = tmp_path / f"c.{kind}"
        assert main([*command, "--format", kind, "--out", str(file)]) == 0
        assert capsys.readouterr().out.strip() == str(file)
        written[kind] = file.read_text()
        assert main(["circuit", "eval", str(copy), "--edit", EDIT, "--circuit", str(file)]) == 2
        said = capsys.readouterr().err
        assert "is a role-aware circuit, and here" in said
        assert f"tinysql circuit eval {copy} --edit {EDIT} --by-role" in said
    assert RoleCircuit.load(tmp_path / "c.json").parts == kept.parts
    for part in kept.parts:
        assert f'<data key="role">{part.role}</data>' in written["graphml"]
        assert f'role="{part.role}" label="{part.role}" score="{part.score!r}"' in written["dot"]
    assert main([*command, "--format", "mib"]) == 2
    assert "format `mib` holds no roles" in capsys.readouterr().err


def test_a_role_aware_circuit_of_another_model_is_refused(copy: Path, capsys) -> None:
    assert main(find(copy, EDIT, "--by-role", "--edges", "6")) == 0
    file = copy / "circuits" / EDIT / "role_circuit.json"
    found = RoleCircuit.load(file)
    RoleCircuit(Graph("*-*-", n_heads=2, n_kv_heads=2), found.parts, found.metadata).save(file)
    with pytest.raises(InputError, match=f"the role-aware circuit in {file.parent} belongs to a model of"):
        load_found_by_role(copy, EDIT)
    for verb in (["export"], ["eval", "--random", "2"]):
        capsys.readouterr()
        assert main(["circuit", verb[0], str(copy), "--edit", EDIT, "--by-role", *verb[1:]]) == 2
        assert "belongs to a model of" in capsys.readouterr().err


def test_exported_scores_are_those_found(run: Path, tmp_path: Path, capsys) -> None:
    found, out = EdgeScores.load(run / "circuits" / EDIT), tmp_path / "scores.json"
    command = ["circuit", "export", str(run), "--edit", EDIT, "--out", str(out)]
    assert main([*command, "--format", "scores"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    torch.testing.assert_close(EdgeScores.from_json(json.loads(out.read_text())).values, found.values)
    assert main([*command, "--format", "mib", "--overwrite"]) == 0
    written = json.loads(out.read_text())
    assert written["cfg"] == {"n_layers": 1, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 64}
    direct = found.values[found.graph.index(Edge("embed", "logits"))]
    assert written["edges"]["input->logits"]["score"] == pytest.approx(-float(direct))


def test_a_finding_killed_while_it_writes_can_be_repeated(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Circuit, "save", killed)
        assert main(["circuit", "find", str(copy), "--edit", "schema.table", "--pairs", "4"]) == 130
    assert [path.name for path in (copy / "circuits").iterdir()] == [EDIT]
    assert len(sections(copy)) == 1
    assert main(["circuit", "find", str(copy), "--edit", "schema.table", "--pairs", "4"]) == 0


def test_an_evaluation_killed_on_its_way_leaves_the_former_report(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = (copy / "circuits" / EDIT / "report.json").read_bytes()
    monkeypatch.setattr(artefacts, "resampled", killed)
    assert main(["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "24", "--random", "2"]) == 130
    assert (copy / "circuits" / EDIT / "report.json").read_bytes() == before


def test_a_circuit_of_one_pair_is_shown_without_intervals(copy: Path, capsys) -> None:
    settings = ["--pairs", "1", "--edges", "6", "--overwrite"]
    assert main(["circuit", "find", str(copy), "--edit", EDIT, *settings]) == 0
    assert main(["circuit", "eval", str(copy), "--edit", EDIT, "--pairs", "1", "--random", "1"]) == 0
    said = capsys.readouterr().out
    assert "(no interval with one pair)" in said
    assert "(one circuit alone)" in said
    assert "nan" not in said
    folder = copy / "circuits" / EDIT
    # What is no JSON, as NaN, would be read as its name.
    report, scores = (
        json.loads((folder / name).read_text(), parse_constant=str) for name in ("report.json", "scores.json")
    )
    assert report["report"]["faithfulness"]["low"] is report["curve"]["areas"]["cmd"]["value"]["low"] is None
    assert {row["low"] for row in scores["top"]} == {None}
    assert main(["circuit", "show", str(copy), "--edit", EDIT]) == 0
    page = (folder / "graph.html").read_text()
    assert "(no interval with one pair)" in page
    assert '<td class="number">none</td>' in page
