"""Every form of dictionary is trained by its recipe on the command line, goes on after a kill, and loads again."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.example import make_example
from saes.activations import capture, capture_many, record, record_many
from saes.disk import load, stock
from saes.pages import role_figure
from saes.recipes import default_hooks
from saes.training.cross_layer import load_cross_layer
from saes.training.crosscoders import specificity
from saes.training.loop import Loop
from saes.truth.artefacts import read_truth
from tinysql.cli import main
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import tiny
from tinysql.tokens import Tokenizer

TINY = ["--rows", "30", "--set", "steps=20", "--set", "batch_size=128", "--set", "d_sae=48"]
SMALL = [*TINY, "--set", "k=4"]
RECIPES = ["transcoder", "skip_transcoder", "crosscoder", "cross_layer_transcoder"]
MLPS = ["blocks.1.ln1.hook_normalized", "blocks.3.ln1.hook_normalized"]
HOOKS = {
    "transcoder": [MLPS[0], "blocks.1.hook_mlp_out"],
    "skip_transcoder": [MLPS[0], "blocks.1.hook_mlp_out"],
    "crosscoder": [f"blocks.{block}.hook_resid_post" for block in range(4)],
    "cross_layer_transcoder": [*MLPS, "blocks.1.hook_mlp_out", "blocks.3.hook_mlp_out"],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_goes_on_after_a_kill_and_says_what_made_it(
    recipe: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sae", "train", str(run), "--recipe", recipe, *SMALL]) == 0
    advance = Loop.advance

    def until(loop: Loop, *batch: Tensor) -> Any:
        if loop.step == 13:
            raise KeyboardInterrupt
        return advance(loop, *batch)

    cut = ["sae", "train", str(run), "--recipe", recipe, "--name", f"{recipe}-cut", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with suppress(KeyboardInterrupt):
            main(cut)
    assert main([*cut, "--resume"]) == 0
    whole, resumed = run / "saes" / recipe, run / "saes" / f"{recipe}-cut"
    for name in ("sae_weights.safetensors", "metrics.json", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name
    config = json.loads((whole / "config.json").read_text())
    assert config["hooks"] == HOOKS[recipe]
    assert config["sae"]["form"] == recipe
    assert config["made_by"]["versions"]["torch"] == torch.__version__


def test_what_was_written_loads_again(run: Path) -> None:
    for recipe in RECIPES:
        if not (run / "saes" / recipe).is_dir():
            assert main(["sae", "train", str(run), "--recipe", recipe, *SMALL]) == 0
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    for recipe in ("transcoder", "skip_transcoder"):
        transcoder: Any = load(run / "saes" / recipe)
        stocks = stock().SAE.load_from_disk(run / "saes" / recipe)
        assert torch.equal(transcoder(x), stocks(x))
        assert transcoder.cfg.metadata.hook_name_out == "blocks.1.hook_mlp_out"
    crosscoder = load(run / "saes" / "crosscoder")
    assert specificity(crosscoder).hooks == tuple(HOOKS["crosscoder"])
    assert crosscoder.encode(torch.cat([x] * 4, dim=1)).shape == (5, 48)
    layers = load_cross_layer(run / "saes" / "cross_layer_transcoder")
    assert [one.shape for one in layers.decode(layers.encode([x, x]))] == [(5, 32)] * 2
    with pytest.raises(InputError, match="holds a cross-layer transcoder"):
        load(run / "saes" / "cross_layer_transcoder")
    with pytest.raises(InputError, match="not a cross-layer transcoder"):
        load_cross_layer(run / "saes" / "crosscoder")


def test_activations_on_disk_serve_the_resumed_training_and_go_when_it_is_done(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sae", "train", str(run), "--name", "mapped", "--on-disk", *SMALL]
    advance = Loop.advance

    def until(loop: Loop, *batch: Tensor) -> Any:
        if loop.step == 13:
            raise KeyboardInterrupt
        return advance(loop, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with suppress(KeyboardInterrupt):
            main(words)
    kept = run / "saes" / ".mapped.activations" / "values-0.bin"
    before = kept.stat().st_mtime_ns
    monkeypatch.setattr("saes.asked.record_to", None)
    assert before == kept.stat().st_mtime_ns
    for change, sentence in (
        (["--validation", "30"], "had other settings: validation was 200, not 30"),
        ([], "had other settings: weights was "),
    ):
        model = run / "model.safetensors"
        whole = model.read_bytes()
        if not change:  # what was recorded before is of another model
            model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert main([*words, *change, "--resume"]) == 2
        assert sentence in capsys.readouterr().err
        model.write_bytes(whole)
    assert main([*words, "--resume"]) == 0
    assert not kept.parent.exists()
    assert (run / "saes" / "mapped" / "sae_weights.safetensors").is_file()
    assert "mapped" not in "".join(path.name for path in (run / "saes").glob(".*"))


def test_a_grid_is_written_as_its_members(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sae", "train", str(run), "--name", "many", "--grid", "k=2,4", "--grid", "seed=0,1", *TINY]
    assert main(words) == 0
    names = [f"many,k={k},seed={seed}" for k in (2, 4) for seed in (0, 1)]
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(run))] == [
        str(run / "saes" / name) for name in names
    ]
    for name in names:
        config = json.loads((run / "saes" / name / "config.json").read_text())
        assert f"k={config['sae']['k']},seed={config['sae']['seed']}" in name
        assert load(run / "saes" / name).cfg.k == config["sae"]["k"]
    assert not (run / "saes" / ".many.training").exists()
    # A member is the SAE that is trained alone with its settings.
    alone = ["--name", "alone", "--seed", "1", "--set", "order_seed=0", *TINY, "--set", "k=2"]
    assert main(["sae", "train", str(run), *alone]) == 0
    weights = [run / "saes" / name / "sae_weights.safetensors" for name in ("alone", "many,k=2,seed=1")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert main(words) == 2
    assert "already\nhint: choose another --name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--grid", "k"], "--grid `k` is not a field and its values"),
        (["--grid", "kk=1,2"], "unknown key `kk`; did you mean `k`"),
        (["--grid", "k=2,2"], "k of the grid is [2, 2]"),
        (
            ["--recipe", "crosscoder", "--grid", "k=2,4"],
            "--grid trains SAEs, and the recipe `crosscoder`",
        ),
        (["--recipe", "topk", "--hook", MLPS[0], "--hook", MLPS[1]], "2 hooks are given, an SAE has 1"),
        (["--recipe", "transcoder", "--hook", MLPS[0]], "1 hooks are given, a transcoder has 2"),
        (["--recipe", "crosscoder", "--hook", MLPS[0]], "a crosscoder has 2 or more"),
        (["--recipe", "transcoder", "--set", "architecture=topk"], "of architecture `topk` cannot be saved"),
        (["--recipe", "transcoder", "--hook", MLPS[0], "--hook", "blocks.1.hook_mlp_uot"], "did you mean"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["sae", "train", str(run), "--name", "x", *SMALL, *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (run / "saes" / "x").exists()


@pytest.mark.parametrize("recipe", ["skip_transcoder", "crosscoder", "cross_layer_transcoder"])
def test_every_form_is_scored_and_has_no_page(
    run: Path, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (run / "saes" / recipe).is_dir():
        assert main(["sae", "train", str(run), "--recipe", recipe, *SMALL]) == 0
    assert main(["sae", "eval", str(run), "--name", recipe, "--rows", "16", "--untrained"]) == 0
    form = recipe.replace("_", " ").replace("cross layer", "cross-layer")
    found = read_truth(run / "saes" / recipe)
    assert found.form == found.sae.name == form
    assert [found.controls[0].name, found.controls[-1].name] == [
        f"random {form}",
        f"{form} of untrained model",
    ]
    # The model is as drawn, and so is the one before training: latents, seed and rows are the same.
    assert found.controls[-1].coverage == found.sae.coverage
    assert {trace.name for trace in role_figure(found).data} >= {form, f"random {form}"}
    for verb in ("show", "effects"):
        capsys.readouterr()
        assert main(["sae", verb, str(run), "--name", recipe]) == 2
        assert f"is a {form}, and effects and pages are of SAEs of one hook" in capsys.readouterr().err


def test_hooks_recorded_together_are_those_recorded_alone() -> None:
    data = tiny().data
    examples = [make_example(data, index) for index in range(12)]
    tokenizer = Tokenizer.train([example.text.string for example in examples], vocab_size=300)
    model = HybridLM(
        ModelConfig(pattern="*-*-", d_model=24, n_heads=2, n_ctx=256, d_vocab=tokenizer.vocab_size)
    )
    tokens = tokenizer.encode(examples)
    hooks = ["blocks.3.hook_resid_post", "blocks.0.attn.hook_z", "blocks.1.hook_mlp_out"]
    for together, hook in zip(record_many(model, tokens, hooks, batch_size=5), hooks, strict=True):
        alone = record(model, tokens, hook)
        assert together.hook == hook
        torch.testing.assert_close(together.values, alone.values, atol=1e-6, rtol=1e-5)
        assert torch.equal(together.position, alone.position)
    late = capture_many(model, tokens.ids[:2], hooks[1:])
    assert torch.equal(late[hooks[2]], capture(model, tokens.ids[:2], hooks[2]))
    # Nothing behind the last of them runs.
    ran: list[str] = []
    with model.hooks(fwd_hooks=[("blocks.2.hook_resid_pre", lambda value, hook: ran.append(hook.name))]):
        capture_many(model, tokens.ids[:2], hooks[1:])
    assert ran == []


@pytest.mark.parametrize(
    ("pattern", "form", "expected"),
    [
        ("*-*-*-", "transcoder", ["blocks.3.ln1.hook_normalized", "blocks.3.hook_mlp_out"]),
        ("M*ME", "transcoder", ["blocks.3.ln1.hook_normalized", "blocks.3.hook_moe_out"]),
        ("*M", "crosscoder", ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]),
    ],
)
def test_default_hooks(pattern: str, form: Any, expected: list[str]) -> None:
    assert list(default_hooks(ModelConfig(pattern=pattern), form)) == expected


def test_a_model_without_mlps_has_no_default() -> None:
    with pytest.raises(InputError, match="has 0 MLPs, a transcoder needs 1"):
        default_hooks(ModelConfig(pattern="*"), "transcoder")
