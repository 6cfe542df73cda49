"""`tinysql sae train` and `eval` write whole artefacts, refuse bad input, and feed the report."""

import json
import shutil
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from torch import Tensor

import saes.rows
import tinysql.progress
from data_gen.errors import InputError
from data_gen.example import DataConfig, Example, make_example
from saes import artefacts, asked
from saes.choices import watched_figure
from saes.commands import table
from saes.disk import stock
from saes.pages import role_figure, sections
from saes.places import directory_of
from saes.recipes import default_hook
from saes.rows import tokens_of
from saes.training.loop import Loop
from saes.truth.artefacts import read_truth
from tinysql.cli import main
from tinysql.demo import steps
from tinysql.models.config import ModelConfig
from tinysql.report import figure_html
from tinysql.runs import Run, open_run
from tinysql.training.checkpoints import load_tensors, save_tensors

SETTINGS = {"steps": 30, "batch_size": 256, "k": 4, "d_sae": 64}
CONTROLS = ["random SAE", "label permutation", "neurons", "principal components"]
PROBES = ["probe of 2 latents", "probe of 5 latents", "probe of 10 latents", "dense probe"]
TWO_HOOKS = ["--hook", "blocks.1.hook_resid_post", "--hook", "blocks.3.hook_resid_post"]
SMALL = ["--rows", "40", *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}"))]


@pytest.fixture(scope="module")
def run(run: Path) -> Path:
    """With one SAE trained and scored through the command line."""
    assert main(["sae", "train", str(run), "--seed", "3", *SMALL]) == 0
    assert main(["sae", "eval", str(run), "--rows", "60"]) == 0
    return run


def test_rows_that_are_longer_than_the_context_are_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_run(run)
    _, tokenizer = opened.load("cpu")
    every = tokens_of(opened, tokenizer, "test", 40)
    lengths = every.mask.sum(1)
    limit = int(lengths.median())
    shape = replace(opened.shape, n_ctx=limit)
    monkeypatch.setattr(Run, "shape", property(lambda _: shape))
    fitting = every[(lengths <= limit).nonzero()[:, 0]]
    found = tokens_of(opened, tokenizer, "test", len(fitting))
    assert len(fitting) < 40
    assert found.mask.sum(1).tolist() == fitting.mask.sum(1).tolist()
    assert found.ids.equal(fitting.ids[:, :limit])
    shape = replace(shape, n_ctx=8)
    with pytest.raises(InputError, match="of 160 test rows of .* 0 fit the model's context of 8 tokens"):
        tokens_of(opened, tokenizer, "test", 40)


def test_drawing_many_rows_says_how_many_there_are_and_changes_none(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_run(run)
    _, tokenizer = opened.load("cpu")
    at_once = tokens_of(opened, tokenizer, "train", 40, first=7)
    assert "drawing" not in capsys.readouterr().err
    monkeypatch.setattr(saes.rows, "AT_ONCE", 15)
    monkeypatch.setattr(tinysql.progress, "SECONDS_BETWEEN_LINES", 0)
    assert tokens_of(opened, tokenizer, "train", 40, first=7).ids.equal(at_once.ids)
    said = capsys.readouterr().err
    assert "drawing train rows: 15 of 40" in said
    assert "drawing train rows: 40 of 40" in said


def test_no_row_is_drawn_that_others_are_watched_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out rows begin behind the last that may be drawn for a training, also where few rows fit."""
    opened = open_run(run)
    _, tokenizer = opened.load("cpu")
    drawn: list[int] = []

    def noted(data: DataConfig, index: int) -> Example:
        drawn.append(index)
        return make_example(data, index)

    monkeypatch.setattr(saes.rows, "make_example", noted)
    monkeypatch.setattr(saes.rows, "AT_ONCE", 3)
    shape = replace(opened.shape, n_ctx=8)
    monkeypatch.setattr(Run, "shape", property(lambda _: shape))
    with pytest.raises(InputError, match="of 20 train rows of .* 0 fit"):
        tokens_of(opened, tokenizer, "train", 5, first=7)
    assert drawn == [*range(7, 7 + saes.rows.MOST_DRAWN * 5)]


def test_the_artefacts_are_there_and_say_what_made_them(run: Path) -> None:
    folder = run / "saes" / "topk"
    names = [
        "cfg.json",
        "config.json",
        "metrics.json",
        "metrics.jsonl",
        "sae_weights.safetensors",
        "truth.json",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    config = json.loads((folder / "config.json").read_text())
    assert (config["seed"], config["rows"], config["sae"]["k"]) == (3, 40, 4)
    assert config["hook"] == "blocks.1.hook_resid_post"
    assert config["made_by"]["versions"]["sae-lens"] == stock().__version__
    assert stock().SAE.load_from_disk(folder).cfg.k == 4


@pytest.mark.parametrize("recipe", ["batchtopk", "matryoshka", "standard", "gated", "jumprelu"])
def test_every_kind_is_trained_and_scored_beside_an_equally_active_control(run: Path, recipe: str) -> None:
    # Few rows: one in eight is held back where a threshold is set.
    assert main(["sae", "train", str(run), "--recipe", recipe, *SMALL]) == 0
    assert main(["sae", "eval", str(run), "--name", recipe, "--rows", "30"]) == 0
    scores = read_truth(run / "saes" / recipe)
    control = next(control for control in scores.controls if control.name == "random SAE")
    # The threshold is set on half of the examples.
    assert control.l0 == pytest.approx(scores.sae.l0, rel=0.25)


def test_a_cut_off_training_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sae", "train", str(run), "--name", "whole", *SMALL]) == 0
    advance = Loop.advance

    def until(loop: Loop, x: Tensor) -> object:
        if loop.step == 20:
            raise KeyboardInterrupt
        return advance(loop, x)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with suppress(KeyboardInterrupt):
            main(["sae", "train", str(run), "--name", "cut", *SMALL])
    state = {
        path: path.read_bytes() for path in (run / "saes" / ".cut.training").rglob("*") if path.is_file()
    }
    assert state
    capsys.readouterr()
    assert main(["sae", "train", str(run), "--name", "cut", *SMALL]) == 2
    assert "a training of `cut` in" in capsys.readouterr().err
    assert all(path.read_bytes() == data for path, data in state.items())
    # As the demo has it, which goes on from any kill.
    [again] = [step.command for step in steps(run, "tiny", 0) if step.command[:2] == ["sae", "train"]]
    assert "--overwrite" in again
    assert main(["sae", "train", str(run), "--name", "cut", "--resume", *SMALL]) == 0
    assert not list((run / "saes").glob(".cut.training*"))
    for name in ("sae_weights.safetensors", "metrics.json", "metrics.jsonl"):
        assert (run / "saes" / "cut" / name).read_bytes() == (run / "saes" / "whole" / name).read_bytes()


def test_a_training_that_replaces_another_goes_on_and_the_other_stays_until_then(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sae", "train", str(run), "--name", "anew", *SMALL]
    assert main(words) == 0
    weights = run / "saes" / "anew" / "sae_weights.safetensors"
    before = weights.read_bytes()
    advance = Loop.advance

    def until(loop: Loop, x: Tensor) -> object:
        if loop.step == 20:
            raise KeyboardInterrupt
        return advance(loop, x)

    for again in ("--overwrite", "--resume"):  # killed a second time, too
        with monkeypatch.context() as patch:
            patch.setattr(Loop, "advance", until)
            with suppress(KeyboardInterrupt):
                main([*words, "--seed", "1", again])
        assert weights.read_bytes() == before
    assert main([*words, "--seed", "1", "--resume"]) == 0
    assert main(["sae", "train", str(run), "--name", "anew-whole", *SMALL, "--seed", "1"]) == 0
    assert weights.read_bytes() == (run / "saes" / "anew-whole" / "sae_weights.safetensors").read_bytes()
    assert weights.read_bytes() != before


@pytest.mark.parametrize("grid", [[], ["--grid", "seed=0,1"]])
def test_a_job_that_always_resumes_begins_goes_on_and_finds_that_it_is_finished(
    grid: list[str], run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "job" + "-grid" * bool(grid)
    words = ["sae", "train", str(run), "--name", name, "--resume", *SMALL, *grid]
    assert main(words) == 0
    first = capsys.readouterr()
    assert f"{run} holds nothing of `{name}` to go on with: training begins\n" in first.err
    made = sorted((run / "saes").glob(f"{name}*"))
    held = {path: path.read_bytes() for place in made for path in place.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(asked, "record_many", None)
        assert main(words) == 0
    second = capsys.readouterr()
    assert f"`{name}` in {run} is already finished: nothing is trained\n" in second.err
    assert second.out == first.out
    assert all(path.read_bytes() == data for path, data in held.items())
    assert main([*words, "--set", "k=5", "--rows", "41"]) == 2
    said = capsys.readouterr().err
    assert (
        "is finished and was trained with other settings: k was 4, not 5, rows was 40, not 41\nhint: " in said
    )
    assert main([*words, "--overwrite"]) == 2
    assert "cannot both overwrite and resume" in capsys.readouterr().err
    # What a grid lost is not trained again beside what may have been scored since.
    shutil.rmtree(next(place for place in made if place.is_dir()))
    assert main(words) == (2 if grid else 0)
    assert ("has an SAE `job-grid,seed=1` already" in capsys.readouterr().err) == bool(grid)


def unseen(run: Path) -> DataConfig:
    return replace(open_run(run).data, split="test")


def test_truth_is_scored_on_test_rows_and_written_out(run: Path) -> None:
    alignment = read_truth(run / "saes" / "topk")
    assert alignment.examples == 60
    assert [scores.name for scores in alignment.controls] == CONTROLS
    assert [scores.name for scores in alignment.ceilings] == PROBES
    for top in (top for latent in alignment.latents[:10] for top in latent.top):
        text = make_example(unseen(run), top.example).text.string + "<end>"
        assert top.before + top.token + top.after in text


def test_an_sae_of_another_model_is_refused_before_anything_computes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "moved and retrained"
    shutil.copytree(run, other)
    assert main(["sae", "eval", str(other), "--rows", "60"]) == 0  # the same weights elsewhere
    weights = load_tensors(other / "model.safetensors")
    changed = next(iter(weights))
    save_tensors(other / "model.safetensors", {**weights, changed: weights[changed] + 1e-3})
    capsys.readouterr()
    monkeypatch.setattr(Run, "load", None)
    truth = (other / "saes" / "topk" / "truth.json").read_bytes()
    for verb in ("eval", "effects", "show"):
        assert main(["sae", verb, str(other)]) == 2
        err = capsys.readouterr().err
        assert "SAE `topk` was trained on another model: on weights " in err
        assert f"tinysql sae train {other} --name topk --recipe topk" in err
    assert (other / "saes" / "topk" / "truth.json").read_bytes() == truth
    # One of before weights were named is taken as it is.
    file = other / "saes" / "topk" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "weights": None}))
    assert directory_of(open_run(other), "topk") == file.parent


def test_an_sae_that_is_there_is_kept_unless_overwritten(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = run / "saes" / "again" / "sae_weights.safetensors"
    assert main(["sae", "train", str(run), "--name", "again", *SMALL]) == 0
    before = weights.read_bytes()
    assert main(["sae", "train", str(run), "--name", "again", "--seed", "1", *SMALL]) == 2
    assert "already\nhint: choose another --name" in capsys.readouterr().err
    assert weights.read_bytes() == before
    assert main(["sae", "train", str(run), "--name", "again", "--seed", "1", "--overwrite", *SMALL]) == 0
    assert weights.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["train", "RUN", "--name", "x", "--hook", "blocks.1.hook_resid_pots"],
            "did you mean `blocks.1.hook_resid_",
        ),
        (
            ["train", "RUN", "--name", "x", "--recipe", "tokp"],
            "unknown SAE recipe `tokp`; did you mean `topk`?",
        ),
        (["train", "RUN", "--name", "x", "--set", "step=3"], "unknown key `step`; did you mean `steps`?"),
        (["train", "RUN", "--name", "../x"], "SAE name '../x' is not a plain directory name"),
        (["train", "RUN", "--name", ".x"], "SAE name '.x' is not a plain directory name"),
        (["train", "RUN", "--name", ""], "SAE name '' is not a plain directory name"),
        (["train", "RUN", "--name", "x\0"], "SAE name 'x\\x00' is not a plain directory name"),
        (["train", "RUN", "--name", "x" * 101], "has 101 bytes, expected at most 100"),
        (["train", "RUN", "--name", "x", "--grid", "k=2,4", "--grid", "k=8"], "--grid names `k` twice"),
        (["train", "RUN", "--name", "x", *TWO_HOOKS], "2 hooks are given, an SAE has 1"),
        (
            ["train", "RUN", "--name", "x", *TWO_HOOKS[:2] * 2],
            "hook `blocks.1.hook_resid_post` is named twice",
        ),
        (["train", "RUN", "--name", "x", "--rows", "0"], "--rows is 0"),
        (["train", "RUN", "--name", "x", "--rows", "2"], "are fewer than one SAE batch"),
        (["train", "RUN/saes"], "is not a run directory"),
        (["eval", "RUN", "--name", "tokp"], "has no SAE `tokp`; did you mean `topk`?"),
        (["eval", "RUN", "--rows", "3"], "--rows is 3"),
        (["effects", "RUN", "--on", "-5"], "--on is -5, expected at least 0"),
        (["effects", "RUN", "--edit", "where.0.operator"], "edit `where.0.operator` needs WHERE"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["sae", *(word.replace("RUN", str(run)) for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert out == ""
    assert not (run / "saes" / "x").exists()


@pytest.mark.parametrize(
    ("file", "changed", "sentence"),
    [
        ("cfg.json", {"k": "4"}, "cfg.json: k is '4', expected a number from 1 to the 64 latents"),
        ("cfg.json", {"k": 65}, "cfg.json: k is 65, expected a number from 1 to the 64 latents"),
        ("cfg.json", {"k": 0}, "cfg.json: k is 0, expected a number from 1 to the 64 latents"),
        ("cfg.json", {"architecture": "topkk"}, "architecture is 'topkk'; did you mean `topk`?"),
        ("cfg.json", {"metadata": "none"}, "an SAE of architecture 'topk' cannot be built"),
        ("cfg.json", {"d_in": 16}, "an SAE of architecture 'topk' cannot be built"),
        ("config.json", {"sae": "topk"}, "config.json: the form of `sae` is 'topk'"),
        ("config.json", {"sae": {"form": "clt"}}, "config.json: the form of `sae` is 'clt'"),
        ("config.json", {"sae": {"form": "transcoder"}}, "1 hooks are given, a transcoder has 2"),
        ("config.json", {"hooks": "blocks.1.hook_resid_post"}, "config.json: `hooks` is 'blocks.1"),
        ("config.json", {"hooks": [3]}, "config.json: `hooks` is [3]"),
        ("config.json", {"hooks": ["blocks.1.mlp.hook_post"]}, "is 128 wide, the SAE reads 32"),
        ("config.json", {"rows": "40"}, "config.json: `rows` is '40'"),
        ("config.json", {"sae": None}, "config.json: the form of `sae` is None"),
    ],
)
def test_a_damaged_configuration_is_one_sentence_and_keeps_the_scores(
    run: Path, capsys: pytest.CaptureFixture[str], file: str, changed: dict[str, object], sentence: str
) -> None:
    place = run / "saes" / "topk" / file
    whole, truth = place.read_text(), (place.parent / "truth.json").read_bytes()
    place.write_text(json.dumps({**json.loads(whole), **changed}))
    try:
        assert main(["sae", "eval", str(run), "--rows", "20", "--untrained"]) == 2
    finally:
        place.write_text(whole)
    err = capsys.readouterr().err
    assert sentence in err
    assert "\nhint: " in err
    assert (place.parent / "truth.json").read_bytes() == truth


def test_a_grid_that_was_cut_off_while_it_wrote_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sae", "train", str(run), *SMALL, "--grid", "seed=0,1"]
    assert main([*words, "--name", "whole-grid"]) == 0
    write = asked.save

    def once(sae: object, folder: Path) -> None:
        if "seed=1" in str(folder):
            raise KeyboardInterrupt
        write(sae, folder)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(asked, "save", once)
        main([*words, "--name", "half-grid"])
    saes = run / "saes"
    assert (saes / "half-grid,seed=0").is_dir()
    assert not (saes / "half-grid,seed=1" / "cfg.json").exists()
    # Other settings would replace what this training did not write.
    other = [word.replace("k=4", "k=5") for word in words]
    capsys.readouterr()
    assert main([*other, "--name", "half-grid", "--resume"]) == 2
    assert "`half-grid` that was cut off had other settings: k was 4, not 5" in capsys.readouterr().err
    assert main([*words, "--name", "half-grid", "--resume"]) == 0
    for seed in ("seed=0", "seed=1"):
        for name in ("sae_weights.safetensors", "metrics.json", "metrics.jsonl"):
            one, two = (saes / f"{grid},{seed}" / name for grid in ("half-grid", "whole-grid"))
            assert one.read_bytes() == two.read_bytes()


def test_the_table_goes_to_stdout(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sae", "eval", str(run), "--rows", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "latents",
        "SAE",
        *CONTROLS,
        *PROBES,
    ]
    # An L0 is of latents, and a probe has none of its own.
    assert [line.split()[-1] == "-" for line in lines[1:]] == [False] * 5 + [True] * 4


def test_the_figure_shows_every_family_for_sae_and_controls(run: Path) -> None:
    alignment = read_truth(run / "saes" / "topk")
    figure = role_figure(alignment)
    families = {role.role for role in alignment.sae.roles if role.family}
    assert {trace.name for trace in figure.data} == {"SAE", *CONTROLS, "dense probe"}
    assert all(set(trace.y) == families for trace in figure.data)
    assert figure.layout.title.text
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text
    assert figure.layout.legend.title.text


class Tags(HTMLParser):
    """Which elements a fragment opens, and whether they close in order."""

    VOID = ("br",)

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.stack: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_the_page_escapes_every_text_and_closes_every_element(run: Path) -> None:
    folder = run / "saes" / "topk"
    alignment = read_truth(folder)
    whole = (folder / "truth.json").read_text()
    first = alignment.latents[0]
    hostile = replace(first, top=tuple(replace(top, token="<script>&", before='</td>"') for top in first.top))
    changed = replace(alignment, hook="<b>", latents=(hostile, *alignment.latents[1:]))
    (folder / "truth.json").write_text(json.dumps(changed.to_json()))
    found = [section for section in sections(run) if section.title == "Sparse autoencoder topk"]
    (folder / "truth.json").write_text(whole)
    assert len(found) == 1
    assert "&lt;script&gt;&amp;" in found[0].html
    looks = json.loads((folder / "metrics.json").read_text())["watched"]
    own_scripts = sum(
        figure_html(figure).count("<script") for figure in (role_figure(changed), watched_figure(looks))
    )
    assert found[0].html.count("<script") == own_scripts
    tags = Tags()
    tags.feed(found[0].html)
    assert tags.stack == []
    assert tags.opened.count("mark") > 10


def test_an_sae_that_was_not_scored_has_no_section(run: Path) -> None:
    (run / "saes" / "unscored").mkdir()
    (run / "saes" / "unscored" / "cfg.json").write_text("{}")
    assert "unscored" not in "".join(section.title for section in sections(run))
    assert sections(run / "nowhere") == []


@pytest.mark.parametrize(("pattern", "block"), [("*-*-*-", 3), ("*-*-", 1), ("*-", 0), ("*", 0)])
def test_the_default_hook_is_two_thirds_up_the_model(pattern: str, block: int) -> None:
    config = ModelConfig(pattern=pattern)
    assert default_hook(config) == f"blocks.{block}.hook_resid_post"


def test_an_sae_of_the_untrained_model_stands_beside_it_when_asked_for(run: Path) -> None:
    assert main(["sae", "eval", str(run), "--rows", "20", "--untrained"]) == 0
    alignment = read_truth(run / "saes" / "topk")
    assert [scores.name for scores in alignment.controls] == [*CONTROLS, "SAE of untrained model"]
    assert alignment.controls[-1].l0 == pytest.approx(SETTINGS["k"], abs=0.1)
    assert {trace.name for trace in role_figure(alignment).data} == {
        "SAE",
        *CONTROLS,
        "SAE of untrained model",
        "dense probe",
    }
    assert main(["sae", "eval", str(run), "--rows", "60"]) == 0


def test_show_writes_a_page_of_a_scored_sae_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sae", "show", str(run)]) == 0
    page = run / "saes" / "topk" / "dashboard.html"
    assert capsys.readouterr().out.strip() == str(page)
    assert "Latent" in page.read_text()
    page.unlink()
    assert main(["sae", "train", str(run), "--name", "fresh", *SMALL]) == 0
    for verb in ("show", "effects"):
        assert main(["sae", verb, str(run), "--name", "fresh"]) == 2
        assert "SAE `fresh` of" in capsys.readouterr().err
    assert not (run / "saes" / "fresh" / "dashboard.html").exists()


def test_effects_of_a_model_that_writes_no_sql_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sae", "effects", str(run), "--rows", "2"]) == 2
    assert "none of the model's 2 answers can be read as a query" in capsys.readouterr().err
    assert main(["sae", "effects", str(run), "--rows", "0"]) == 2
    assert "--rows is 0" in capsys.readouterr().err
    assert not (run / "saes" / "topk" / "effects.json").exists()


@pytest.mark.parametrize(
    ("verb", "blocked"),
    [
        (["train", "--overwrite"], "saes/topk"),
        (["eval"], "saes/topk/truth.json"),
        (["show"], "saes/topk/dashboard.html"),
        (["effects"], "saes/topk/effects.json"),
    ],
)
def test_what_could_not_be_written_is_refused_before_the_work(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: list[str],
    blocked: str,
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("activations were recorded")

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    place = copy / blocked
    if verb[0] == "train":
        shutil.rmtree(place)
        place.write_text("a file")
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    for module, name in (
        ("saes.asked", "record_many"),
        ("saes.truth.artefacts", "record_many"),
        ("saes.truth.artefacts", "record"),
    ):
        monkeypatch.setattr(import_module(module), name, work)
    assert main(["sae", verb[0], str(copy), *verb[1:]]) == 2
    assert f"output `{place}` is a" in capsys.readouterr().err


def test_an_sae_that_does_worse_than_the_mean_is_asked_about(run: Path) -> None:
    found = read_truth(run / "saes" / "topk")
    assert "above 1" not in table(found)
    other = replace(found, sae=replace(found.sae, fvu=1.2))
    assert table(other).endswith("an FVU above 1 is worse than the mean: was this SAE trained on this model?")


@pytest.mark.parametrize("more", [[], ["--grid", "seed=0,1"], ["--on-disk"]])
def test_a_training_that_is_refused_leaves_nothing_behind(
    more: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "-".join(["refused", *more])
    words = ["sae", "train", str(run), "--name", name, "--rows", "20", "--validation", "0", *more]
    before = sorted((run / "saes").iterdir())
    few = ["--set", "steps=4", "--set", "d_sae=64", "--set", "batch_size=100000"]
    assert main([*words, *few]) == 2
    assert "fewer than one" in capsys.readouterr().err
    assert sorted((run / "saes").iterdir()) == before
    assert main([*words, *few[:-1], "batch_size=64"]) == 0


def test_a_training_that_kept_something_is_not_lost_when_it_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: object, **_settings: object) -> None:
        (run / "saes" / ".begun.training" / "state.safetensors").write_bytes(b"kept")
        raise InputError("it went wrong", hint="go on")

    monkeypatch.setattr(artefacts, "train_form", refused)
    words = ["sae", "train", str(run), "--name", "begun", "--rows", "20", "--validation", "0"]
    assert main([*words, "--set", "steps=4"]) == 2
    assert (run / "saes" / ".begun.training" / "state.safetensors").read_bytes() == b"kept"
    shutil.rmtree(run / "saes" / ".begun.training")


def test_a_field_is_given_by_a_grid_or_by_set(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sae", "train", str(run), "--name", "both", "--set", "k=4", "--grid", "k=4,8"]
    assert main(words) == 2
    assert "--set and --grid both give `k`" in capsys.readouterr().err
