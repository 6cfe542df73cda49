"""Whole runs: fresh rows, dataset directories, checkpoints to begin with, grades on the way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.files import beside
from data_gen.store.dataset import read_dataset, write_dataset
from tinysql.cli import main
from tinysql.config import override
from tinysql.models.config import ModelConfig
from tinysql.models.huggingface import to_hf
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe, find_recipe
from tinysql.runs import holding, load, open_run, start_run
from tinysql.tokens import Tokenizer
from tinysql.training.batches import Batch
from tinysql.training.checkpoints import load_tensors, save_tensors
from tinysql.training.datasets import on_dataset
from tinysql.training.distributed import World
from tinysql.training.fit import _check_memory, fit
from tinysql.training.loop import Trainer, read_log
from tinysql.training.tracking import tensorboard

Killer = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def recipe() -> Recipe:
    return override(find_recipe("tiny"), ["train.hold_steps=15", "train.decay_steps=5", "rows=200"])


def fresh(recipe: Recipe) -> Recipe:
    train = replace(recipe.train, pack=300, batch_size=4)
    return replace(recipe, rows=None, variants=("base", "syn"), train=train)


def test_fresh_rows_resume_to_the_same_bits(
    recipe: Recipe, tmp_path: Path, killed_at: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinysql.training.feed.BLOCK", 150)
    monkeypatch.setattr("tinysql.training.feed.spare_cores", lambda: 0)
    recipe = fresh(recipe)
    whole = fit(recipe, tmp_path / "whole").path
    with killed_at(13):
        fit(recipe, tmp_path / "run")
    run = fit(recipe, tmp_path / "run", resume=True).path
    expected, found = (load_tensors(path / "model.safetensors") for path in (whole, run))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (run / "data").exists()


def test_the_rows_of_a_dataset_are_trained_on(recipe: Recipe, tmp_path: Path) -> None:
    config = DataConfig(command_sets=("cs3",), lexicon="demo", max_columns=3, seed=5)
    write_dataset(config, 120, tmp_path / "rows")
    run = fit(recipe, tmp_path / "run", dataset=tmp_path / "rows")
    assert run.data == config
    rows = list(read_dataset(run.path / "data" / "train", columns=("sql_statement",)))
    assert rows == list(read_dataset(tmp_path / "rows", columns=("sql_statement",)))


def test_a_directory_that_is_no_dataset_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no dataset: it has no config.json"):
        on_dataset(recipe, tmp_path)


def test_a_dataset_that_cannot_be_trained_on_costs_no_older_run(recipe: Recipe, tmp_path: Path) -> None:
    path = fit(recipe, str(tmp_path / "run")).path
    weights = (path / "model.safetensors").read_bytes()
    write_dataset(DataConfig(command_sets=("cs1",)), 40, tmp_path / "rows")
    [shard] = (tmp_path / "rows").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:500])
    pairs = [
        "data",
        "pairs",
        "cs1",
        "--edit",
        "select.0.column",
        "--rows",
        "20",
        "--out",
        str(tmp_path / "pairs"),
    ]
    assert main(pairs) == 0
    with pytest.raises(InputError, match="is cut short or changed"):
        fit(recipe, path, overwrite=True, dataset=str(tmp_path / "rows"))
    with pytest.raises(InputError, match="pairs` have no `prompt`, so they are no training rows"):
        fit(recipe, path, overwrite=True, dataset=tmp_path / "pairs")
    assert (path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("tokenizer.json", lambda data: b"{", "is not a whole tokenizer file"),
        ("config.json", lambda data: data.replace(b'"n_heads": 2', b'"n_heads": 4'), "n_heads 4, not 2"),
        ("model.safetensors", lambda data: data[:-8] + b"\xff" * 8, "is not finite"),
    ],
)
def test_what_is_damaged_beside_whole_weights_costs_no_weights(
    recipe: Recipe, tmp_path: Path, name: str, change: Callable[[bytes], bytes], said: str
) -> None:
    path = fit(recipe, tmp_path / "run").path
    before = (path / name).read_bytes()
    (path / name).write_bytes(change(before))
    assert (path / name).read_bytes() != before
    weights = (path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=said):
        fit(recipe, path, resume=True)
    assert (path / "model.safetensors").read_bytes() == weights


def test_weights_that_are_cut_short_are_trained_again_and_stay_until_then(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    path = fit(recipe, tmp_path / "run").path
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[:-100])
    with killed_at(13), pytest.warns(UserWarning, match="no checkpoint is left: training begins at step 0"):
        fit(recipe, path, resume=True)
    assert (path / "model.safetensors").read_bytes() == weights[:-100]
    assert (fit(recipe, path, resume=True).path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"d_model": 10**9}, "is smaller than the"),
        ({"n_ctx": 10**11}, "n_ctx is 100000000000, expected at most"),
    ],
)
def test_absurd_sizes_in_a_config_ask_for_no_memory(
    recipe: Recipe, tmp_path: Path, changes: dict[str, int], said: str
) -> None:
    path = fit(recipe, tmp_path / "run").path
    config = json.loads((path / "config.json").read_text())
    config["model"] |= changes
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        open_run(path).load()


def test_a_tokenizer_of_another_run_is_refused_though_it_has_as_many_tokens(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    with killed_at(13):
        fit(recipe, tmp_path / "run")
    file = tmp_path / "run" / "tokenizer.json"
    own = file.read_bytes()
    data = json.loads(own)
    data["model"]["merges"] = data["model"]["merges"][::-1]
    file.write_text(json.dumps(data))  # as many tokens, joined in another order
    with pytest.raises(InputError, match="is not the tokenizer that the run began with"):
        fit(recipe, tmp_path / "run", resume=True)
    file.write_bytes(own)
    run = fit(recipe, tmp_path / "run", resume=True)
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="is not the tokenizer that the run began with"):
        load(run.path)


def test_a_tokenizer_with_fewer_tokens_is_another_s(recipe: Recipe, tmp_path: Path) -> None:
    path = fit(recipe, tmp_path / "run").path
    few = open_run(path).shape.d_vocab - 20
    texts = [f"a{i} b{i * i} c{i**3}" for i in range(2000)]
    Tokenizer.train(texts, vocab_size=few).save(path / "tokenizer.json")
    with pytest.raises(InputError, match=f"has {few} tokens and the model knows {few + 20}"):
        open_run(path).load()


def test_a_checkpoint_of_another_shape_is_refused_and_nothing_is_lost(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    path = tmp_path / "run"
    with killed_at(13):
        fit(recipe, path)
    file = path / "checkpoints" / "step-00000010" / "model.safetensors"
    save_tensors(file, {name: tensor[:1] for name, tensor in load_tensors(file).items()})
    before = {place: place.read_bytes() for place in (path / "checkpoints").rglob("*") if place.is_file()}
    with pytest.raises(
        InputError, match="step-00000010/model.safetensors: weight .* the configuration expects"
    ):
        fit(recipe, path, resume=True)
    assert {place: place.read_bytes() for place in before} == before


def test_what_was_cut_off_says_how_it_goes_on(recipe: Recipe, tmp_path: Path) -> None:
    path = fit(recipe, tmp_path / "run").path
    with pytest.raises(InputError, match="is not empty") as refused:
        fit(recipe, path)
    assert refused.value.hint.endswith("--overwrite to replace what is there or --resume to go on with it")


def test_one_process_at_a_time_trains_in_a_directory(recipe: Recipe, tmp_path: Path) -> None:
    path = fit(recipe, tmp_path / "run").path
    weights = (path / "model.safetensors").read_bytes()
    for settings in ({"resume": True}, {"overwrite": True}):
        with holding(path), pytest.raises(InputError, match="another process is at work in .*run`"):
            fit(recipe, path, **settings)
    assert (path / "model.safetensors").read_bytes() == weights
    inside = []

    def meanwhile(step: int, values: object) -> None:
        with pytest.raises(InputError, match="another process is at work"):
            fit(recipe, tmp_path / "new", resume=True)
        inside.append(step)

    fit(recipe, tmp_path / "new", trackers=[meanwhile])
    assert inside


@pytest.mark.parametrize(
    "command",
    [
        "--data rows --set data.command_sets=cs4",
        "--data rows --set rows=10",
        "--init llama --set train.model.d_model=64",
        "--init llama --set train.vocab_size=300",
        "--init llama --set train.model={}",
    ],
)
def test_a_setting_that_would_have_no_effect_is_refused(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny", *command.split()]) == 2
    name = command.rsplit(" ", 1)[1].partition("=")[0]
    option = " ".join(command.split()[:2])
    assert f"--set {name} has no effect beside {option}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--data", "--init"])
def test_an_empty_path_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny", option, ""]) == 2
    assert "the path is empty" in capsys.readouterr().err


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, HybridLM]:
    """A small Llama of another width than the recipe's, as transformers would save it."""
    texts = ["SELECT a FROM b", "show the a of b", "CREATE TABLE b ( a TEXT )"] * 20
    tokenizer = Tokenizer.train(texts, vocab_size=300)
    shape = ModelConfig(
        pattern="*-",
        d_model=24,
        n_heads=2,
        d_vocab=tokenizer.vocab_size + 5,
        n_ctx=512,
        activation="silu",
        gated=True,
    )
    model = HybridLM(shape, seed=4)
    to_hf(model, tmp_path / "llama", tokenizer)
    return tmp_path / "llama", model


def test_training_begins_with_a_checkpoint_and_keeps_its_tokenizer(
    recipe: Recipe, checkpoint: tuple[Path, HybridLM], tmp_path: Path
) -> None:
    folder, model = checkpoint
    long = override(recipe, ["train.model.n_ctx=500", "train.lr=1e-9"])
    run = fit(long, tmp_path / "run", init=str(folder))
    tuned, tokenizer = load(run.path)
    assert tuned.cfg.d_model == 24
    assert tokenizer.encode_text("SELECT a") == Tokenizer.load(folder / "tokenizer.json").encode_text(
        "SELECT a"
    )
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tuned.state_dict()[name], tensor, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="was started with --init .*llama, not None"):
        fit(long, run.path, resume=True)


def test_the_command_line_fine_tunes(checkpoint: tuple[Path, HybridLM], tmp_path: Path) -> None:
    settings = [
        "train.model.n_ctx=500",
        "train.hold_steps=4",
        "train.decay_steps=2",
        "rows=100",
        "probe_rows=4",
    ]
    arguments = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "run"
    assert main(["train", "tiny", "--out", str(out), "--init", str(checkpoint[0]), *arguments]) == 0
    assert json.loads((out / "config.json").read_text())["init"] == str(checkpoint[0])


FEW = ("train.hold_steps=4", "train.decay_steps=2", "rows=100", "probe_rows=4")


def train_tiny(out: Path, *options: str, settings: Sequence[str] = FEW) -> int:
    return main(["train", "tiny", "--out", str(out), *options, *(f"--set={setting}" for setting in settings)])


def test_a_checkpoint_brings_its_own_context(checkpoint: tuple[Path, HybridLM], tmp_path: Path) -> None:
    # Its tokenizer needs more tokens for a row than the recipe's context has.
    assert train_tiny(tmp_path / "run", "--init", str(checkpoint[0])) == 0
    run = open_run(tmp_path / "run")
    assert run.shape.n_ctx == run.recipe.train.model.n_ctx == 512


def test_training_begins_with_a_run_of_ours(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(
        override(recipe, ["train.model.positions=learned", "train.model.n_ctx=150"]), tmp_path / "first"
    )
    still = (*FEW, "train.lr=1e-9")
    for n_ctx, settings in ((150, still), (140, (*still, "train.model.n_ctx=140"))):
        out = tmp_path / f"run-{n_ctx}"
        assert train_tiny(out, "--init", str(first.path), settings=settings) == 0
        tuned, tokenizer = load(out)
        assert tuned.cfg.n_ctx == n_ctx
        assert tokenizer.backend.to_str() == Tokenizer.load(first.path / "tokenizer.json").backend.to_str()
        for name, tensor in load_tensors(first.path / "model.safetensors").items():
            torch.testing.assert_close(
                tuned.state_dict()[name], tensor[:n_ctx] if "W_pos" in name else tensor, atol=1e-6, rtol=0
            )
    more = (*FEW, "train.model.n_ctx=151")
    assert train_tiny(tmp_path / "more", "--init", str(first.path), settings=more) == 2
    assert f"n_ctx is 151, more than the 150 positions of `{first.path}`" in capsys.readouterr().err


@pytest.mark.parametrize("begins", ["new", "empty"])
def test_a_refusal_before_the_first_step_leaves_no_directory(
    begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    if begins == "empty":
        out.mkdir()
    assert train_tiny(out, settings=(*FEW, "train.model.n_ctx=20")) == 2
    assert "tokens and the model's context is 20" in capsys.readouterr().err
    assert (list(out.iterdir()) if out.exists() else "gone") == ("gone" if begins == "new" else [])
    assert train_tiny(out) == 0


def test_what_a_refusal_could_go_on_with_is_kept(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(step: int, values: object) -> None:
        raise InputError("no tracker answers")

    def full(*_: object) -> None:
        raise InputError("cannot write: no space left") from OSError(28, "no space left")

    with pytest.raises(InputError, match="no tracker"):
        fit(recipe, tmp_path / "stepped", trackers=[refuse])
    assert (tmp_path / "stepped" / "config.json").exists()
    monkeypatch.setattr("tinysql.training.fit.record_model", full)
    with pytest.raises(InputError, match="no space"):
        fit(recipe, tmp_path / "full")
    assert (tmp_path / "full" / "tokenizer.json").exists()


def test_a_checkpoint_is_kept_where_nothing_was_logged_yet(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer.step

    def refuse(self: Trainer, batch: Batch) -> dict[str, object]:
        if self.state.step == 5:
            raise InputError("this batch does not fit")
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", refuse)
    with pytest.raises(InputError, match="does not fit"):
        fit(override(recipe, ["train.checkpoint_every=4"]), tmp_path / "run")
    assert not read_log(tmp_path / "run" / "metrics.jsonl")
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").exists()


def test_a_run_that_is_half_deleted_is_not_gone_on_with(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "link"  # which is emptied as it stands, and not moved
    out.symlink_to(fit(recipe, tmp_path / "run").path, target_is_directory=True)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_gen.outputs.shutil.rmtree", killed)
        assert train_tiny(out, "--overwrite") == 130
    # The older run's settings, which --resume would take, are those that were to be replaced.
    assert train_tiny(out, "--resume", settings=()) == 2
    assert capsys.readouterr().err.endswith("or pass --overwrite to replace what is there\n")
    assert train_tiny(out, "--overwrite") == 0


def test_a_config_that_is_lost_beside_checkpoints_is_asked_for(
    recipe: Recipe, tmp_path: Path, killed_at: Killer, capsys: pytest.CaptureFixture[str]
) -> None:
    for out, step in (("run", 22), ("another", 1)):
        with killed_at(step):
            train_tiny(tmp_path / out, settings=(*FEW, "train.hold_steps=30", "train.checkpoint_every=10"))
    (tmp_path / "run" / "config.json").unlink()
    capsys.readouterr()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"tinysql: {tmp_path / 'run' / 'config.json'} is missing, and {tmp_path / 'run'} holds 2 checkpoints\n"
    )
    # However the run is asked for, what is said is the same, and loses nothing.
    for option in ((), ("--overwrite",)):
        assert train_tiny(tmp_path / "run", *option, settings=()) == 2
        assert capsys.readouterr().err == said
    assert "--overwrite" not in said
    assert f"move {tmp_path / 'run'} away, or choose another --out" in said
    for resume, overwrite in ((True, False), (False, False), (False, True)):
        with pytest.raises(InputError, match="is missing, and .* holds 2 checkpoints"):
            fit(recipe, tmp_path / "run", resume=resume, overwrite=overwrite)
    assert {path: path.read_bytes() for path in before} == before
    # The hint leads on: the same command began another run with the same settings.
    shutil.copy(tmp_path / "another" / "config.json", tmp_path / "run")
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 0
    assert "going on from the checkpoint of step 20" in capsys.readouterr().err
    (tmp_path / "run" / "config.json").unlink()
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 2
    assert "holds a finished model" in capsys.readouterr().err


def test_what_cannot_be_taken_back_hides_no_refusal(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: Path) -> None:
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(Path, "rmdir", busy)
    with pytest.raises(InputError, match="tokens and the model's context is 20"):
        fit(override(recipe, ["train.model.n_ctx=20"]), tmp_path / "run")


def test_checkpoints_that_a_kill_behind_the_weights_left_go_when_the_run_is_resumed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        save_tensors(path, tensors)
        raise KeyboardInterrupt

    monkeypatch.setattr("tinysql.training.fit.save_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    fit(recipe, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / "checkpoints").exists()


def half_written(path: Path) -> Path:
    """What a killed writer of `path` left."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    half = beside(path)
    half = half.with_name(half.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    half.write_text("{")
    return half


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_run_that_was_killed_before_its_first_file_was_whole_begins(option: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    half_written(tmp_path / "run" / "config.json")
    assert train_tiny(tmp_path / "run", option) == 0
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_what_a_killed_writer_left_in_a_run_goes_when_it_is_resumed(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    with killed_at(13):
        fit(recipe, tmp_path / "run")
    half = half_written(tmp_path / "run" / "metrics.jsonl")
    fit(recipe, tmp_path / "run", resume=True)
    assert not half.exists()


def test_a_run_that_was_killed_before_its_link_to_the_rows_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(
        DataConfig(command_sets=("cs1",), lexicon="demo", max_columns=3, seed=5), 60, tmp_path / "rows"
    )
    few = [setting for setting in FEW if not setting.startswith("rows")]

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tinysql.training.fit.finished", killed)
        assert train_tiny(tmp_path / "run", "--data", str(tmp_path / "rows"), settings=few) == 130
    assert not (tmp_path / "run" / "data").exists()
    # Its rows are those of the dataset, so another number of them is refused as beside --data.
    assert train_tiny(tmp_path / "run", "--resume", settings=["rows=9"]) == 2
    assert "--set rows has no effect beside --data" in capsys.readouterr().err
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 0
    assert (tmp_path / "run" / "data" / "train").resolve() == (tmp_path / "rows").resolve()


def test_a_checkpoint_without_its_tokenizer_is_told_how_to_get_it(
    checkpoint: tuple[Path, HybridLM], recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = checkpoint
    own = Tokenizer.load(folder / "tokenizer.json")
    to_hf(model, tmp_path / "bare")
    assert train_tiny(tmp_path / "run", "--init", str(tmp_path / "bare")) == 2
    assert "of a run of tinysql, give `to_hf` the tokenizer beside the model" in capsys.readouterr().err
    shutil.copy(folder / "tokenizer.json", tmp_path / "bare")
    assert train_tiny(tmp_path / "run", "--init", str(tmp_path / "bare")) == 2
    said = capsys.readouterr().err
    assert "copy tokenizer_config.json or special_tokens_map.json there too" in said
    named = own.backend.id_to_token(own.end_id)
    assert said.strip().endswith(named)
    # The hint leads to a training.
    (tmp_path / "bare" / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
    assert train_tiny(tmp_path / "run", "--init", str(tmp_path / "bare")) == 0


def test_a_run_goes_on_with_its_own_settings(
    checkpoint: tuple[Path, HybridLM],
    tmp_path: Path,
    killed_at: Killer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(
        DataConfig(command_sets=("cs1",), lexicon="demo", max_columns=3, seed=5), 60, tmp_path / "rows"
    )
    own = ("--seed", "3", "--init", str(checkpoint[0]), "--data", str(tmp_path / "rows"))
    few = [setting for setting in FEW if not setting.startswith("rows")]
    for out in ("whole", "run"):
        with killed_at(2) if out == "run" else nullcontext():
            train_tiny(tmp_path / out, *own, settings=[*few, "train.checkpoint_every=1"])
    config = (tmp_path / "run" / "config.json").read_bytes()
    for options, settings, said in (
        (
            (),
            ["train.lr=0.5", "train.model.n_ctx=9"],
            "train.model.n_ctx 512, not 9; train.lr 0.003, not 0.5\n"
            "hint: leave out --set train.model.n_ctx, --set train.lr: the run's own hold; or choose another --out",
        ),
        (("--seed", "4"), [], "train.seed 3, not 4\nhint: leave out --seed: the run's own hold"),
        (("--init", "elsewhere"), [], f"was started with --init {checkpoint[0]}, not elsewhere"),
    ):
        assert train_tiny(tmp_path / "run", "--resume", *options, settings=settings) == 2
        assert said in capsys.readouterr().err
    assert main(["train", "nano", "--out", str(tmp_path / "run"), "--resume"]) == 2
    assert "was started with the recipe tiny, not nano" in capsys.readouterr().err
    (tmp_path / "rows").rename(tmp_path / "moved")
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 2
    assert "is not there\nhint: say where it is with --data" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    (tmp_path / "moved").rename(tmp_path / "rows")
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 0
    expected, found = (load_tensors(tmp_path / out / "model.safetensors") for out in ("whole", "run"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("given", "said", "leave_out"),
    [
        (["--seed", "2"], "--seed 0, not 2", "--seed"),
        (["--set", "train.seed=2"], "train.seed 0, not 2", "--set train.seed"),
        (
            ["--set", "train.seed=2", "--set", "data.seed=2"],
            "--seed 0, not 2",
            "--set data.seed, --set train.seed",
        ),
        (["--set", "train.lr=0.5"], "train.lr 0.003, not 0.5", "--set train.lr"),
        (["--set", "train.model={}"], "train.model.pattern ", "--set train.model"),
        (
            ["--set", "data.command_sets=cs3"],
            "data.command_sets cs1,cs2, not cs3",
            "--set data.command_sets",
        ),
    ],
)
def test_a_setting_that_is_not_the_run_s_own_is_named_with_both_values(
    given: list[str], said: str, leave_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_run(tmp_path / "run", find_recipe("tiny"))
    assert train_tiny(tmp_path / "run", "--resume", *given, settings=()) == 2
    printed = capsys.readouterr().err
    assert f"{tmp_path / 'run'} was started with {said}" in printed
    assert f"hint: leave out {leave_out}: the run's own hold; or choose another --out" in printed


def test_a_run_that_does_not_name_its_recipe_is_compared_with_all_that_is_given(
    recipe: Recipe, tmp_path: Path, killed_at: Killer, capsys: pytest.CaptureFixture[str]
) -> None:
    with killed_at(2):
        fit(replace(recipe, name=""), tmp_path / "run")
    assert train_tiny(tmp_path / "run", "--resume", settings=()) == 2
    assert (
        "rows 200, not 400; train.hold_steps 15, not 60; train.decay_steps 5, not 20\nhint: repeat"
        in capsys.readouterr().err
    )
    given = ("rows=200", "train.hold_steps=15", "train.decay_steps=5")
    assert train_tiny(tmp_path / "run", "--resume", settings=given) == 0
    assert "holds no checkpoint yet: training begins at step 0" in capsys.readouterr().err


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["train", "tiny", "--out", str(tmp_path / "run"), "--init", str(tmp_path / "empty")]) == 2
    assert "is no checkpoint of transformers: it has no config.json" in capsys.readouterr().err


def test_a_tokenizer_that_is_not_the_model_s_is_refused(
    recipe: Recipe, checkpoint: tuple[Path, HybridLM], tmp_path: Path
) -> None:
    folder, model = checkpoint
    to_hf(HybridLM(replace(model.cfg, d_vocab=200)), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    shutil.copy(tmp_path / "other" / "config.json", folder)
    with pytest.raises(InputError, match="has .* tokens and its model knows 200"):
        fit(override(recipe, ["train.model.n_ctx=500"]), tmp_path / "run", init=str(folder))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_begun_with_costs_no_older_run(
    recipe: Recipe, checkpoint: tuple[Path, HybridLM], tmp_path: Path
) -> None:
    path = fit(recipe, tmp_path / "run").path
    rows, weights = path / "data" / "train", (path / "model.safetensors").read_bytes()
    shutil.copytree(checkpoint[0], path / "llama")
    with pytest.raises(InputError, match="there is no directory"):
        fit(recipe, path, overwrite=True, init=str(tmp_path / "none"))
    (checkpoint[0] / "model.safetensors").unlink()
    with pytest.raises(InputError, match="model.safetensors"):
        fit(recipe, path, overwrite=True, init=str(checkpoint[0]))
    with pytest.raises(InputError, match="the checkpoint .*llama` lies in the run directory"):
        fit(recipe, path, overwrite=True, init=str(path / "llama"))
    with pytest.raises(InputError, match="the dataset .*train` lies in the run directory"):
        fit(recipe, path, overwrite=True, dataset=rows)
    assert len(list(read_dataset(rows, columns=("prompt",)))) == 200
    assert (path / "model.safetensors").read_bytes() == weights


def test_a_run_goes_on_with_a_dataset_that_was_moved(
    recipe: Recipe, tmp_path: Path, killed_at: Killer
) -> None:
    write_dataset(DataConfig(command_sets=("cs1",), lexicon="demo", max_columns=3), 60, tmp_path / "rows")

    with killed_at(0):
        fit(recipe, tmp_path / "run", dataset=tmp_path / "rows")
    (tmp_path / "rows").rename(tmp_path / "moved")
    fit(recipe, tmp_path / "run", resume=True, dataset=tmp_path / "moved")
    assert (tmp_path / "run" / "data" / "train").resolve() == tmp_path / "moved"


def test_grades_on_the_way_are_logged_and_the_best_weights_kept(recipe: Recipe, tmp_path: Path) -> None:
    graded = override(recipe, ["train.grade_every=10", "grade_rows=3"])
    run = fit(graded, tmp_path / "run")
    grades = {
        record["step"]: record["grade"]
        for record in read_log(run.path / "metrics.jsonl")
        if "grade" in record
    }
    assert list(grades) == [9, 19]
    best = load_tensors(run.path / "best.safetensors")
    last = load_tensors(run.path / "model.safetensors")
    # A model this young is never right, so the first grade stays the best.
    assert set(grades.values()) == {0.0}
    assert not torch.equal(best["embed.W_E"], last["embed.W_E"])
    for weights, expected in (("best", best), ("final", last)):
        model, _ = load(run.path, weights=weights)
        assert torch.equal(model.embed.W_E, expected["embed.W_E"])
    assert torch.equal(load(run.path)[0].embed.W_E, last["embed.W_E"])
    with pytest.raises(InputError, match="no weights `bset`; did you mean `best`"):
        load(run.path, weights="bset")
    (run.path / "model.safetensors").unlink()  # as while it still trains
    assert torch.equal(load(run.path, weights="best")[0].embed.W_E, best["embed.W_E"])
    with pytest.raises(InputError, match="holds no finished model"):
        load(run.path)


def test_a_run_without_grades_has_no_best_weights(recipe: Recipe, tmp_path: Path) -> None:
    run = fit(recipe, tmp_path / "run")
    with pytest.raises(InputError, match="holds no best.safetensors: no grade has been taken"):
        load(run.path, weights="best")


def test_a_recipe_that_needs_a_gpu_says_what_to_do_without_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "bm1", "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert "34 M weights" in message
    assert "nano or micro" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["meta", "toaster", "cuda:99"])
def test_a_device_that_cannot_train_is_refused(
    device: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["train", "tiny", "--device", device, "--out", str(tmp_path / "run")]) == 2
    assert f"device `{device}` cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_fresh_rows_have_to_be_packed(recipe: Recipe) -> None:
    with pytest.raises(InputError, match="rows is None.*packed"):
        replace(recipe, rows=None)


def test_rows_on_disk_are_of_one_variant(recipe: Recipe) -> None:
    with pytest.raises(InputError, match="rows is 200 and variants base,syn"):
        replace(recipe, variants=("base", "syn"))


def test_a_tracker_hears_what_the_log_holds(recipe: Recipe, tmp_path: Path) -> None:
    heard = []
    run = fit(recipe, tmp_path / "run", trackers=[lambda step, values: heard.append((step, dict(values)))])
    logged = read_log(run.path / "metrics.jsonl")
    assert [step for step, _ in heard] == [record["step"] for record in logged]
    assert [values["loss"] for _, values in heard] == [record["loss"] for record in logged]


@pytest.mark.parametrize(("option", "package"), [("--tensorboard", "tensorboard"), ("--wandb=x", "wandb")])
def test_a_tracker_that_is_not_installed_is_named(option: str, package: str, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from tinysql.cli import main
sys.exit(main(["train", "tiny", "--out", {str(tmp_path / "run")!r}, {option!r}]))"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert f"pip install {package}" in done.stderr


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_weights_and_biases_keeps_a_run_or_says_what_it_lacks(mode: str, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    program = f"""
import sys
from pathlib import Path
from data_gen.errors import InputError
from tinysql.training.tracking import weights_and_biases
track = weights_and_biases(Path({str(tmp_path)!r}), "a project")
try:
    track(0, {{"loss": 1.0}})
    track(5, {{"loss": 0.5}})
except InputError as error:
    sys.exit(str(error))"""
    private = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    private |= {
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "none"),
        "WANDB_MODE": mode,
        "WANDB_SILENT": "true",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=private, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if mode == "offline":
        assert done.returncode == 0, done.stderr
        assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    else:
        assert done.returncode == 1
        assert done.stderr.startswith("Weights & Biases began no run of the project 'a project': No API key")


def test_a_model_beyond_the_memory_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ["--set", "train.model.d_mlp=1000000000000"]
    assert main(["train", "tiny", "--out", str(tmp_path / "run"), *huge]) == 2
    [sentence, hint] = capsys.readouterr().err.splitlines()
    assert "weights takes at least" in sentence
    assert "`cpu` has" in sentence
    assert "model.d_mlp" in hint
    assert not (tmp_path / "run").exists()


def test_tensorboard_reads_what_the_log_holds(recipe: Recipe, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = fit(recipe, tmp_path / "run", trackers=[tensorboard(tmp_path / "run")])
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    logged = read_log(run.path / "metrics.jsonl")
    assert set(events.Tags()["scalars"]) == {name for record in logged for name in record} - {"step"}
    for name in ("loss", "probe"):
        expected = [(record["step"], record[name]) for record in logged if name in record]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(step, pytest.approx(value)) for step, value in expected]


@pytest.mark.parametrize(("optimizer", "bytes_each"), [("adamw", 16), ("muon", 12)])
def test_weights_gradients_and_moments_have_to_fit(
    recipe: Recipe, optimizer: str, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(recipe, [f"train.optimizer={optimizer}"])
    needed = bytes_each * recipe.train.model.num_parameters()
    monkeypatch.setattr(sys.modules["tinysql.training.fit"], "memory_of", lambda device: needed)
    _check_memory(recipe, torch.device("cpu"), World())
    _check_memory(recipe, torch.device("cuda"), World())
    monkeypatch.setattr(sys.modules["tinysql.training.fit"], "memory_of", lambda device: needed - 1)
    _check_memory(recipe, torch.device("cuda"), World(0, 2))
    with pytest.raises(InputError, match="weights takes at least"):
        _check_memory(recipe, torch.device("cpu"), World(0, 2))
