"""A transcoder learns a map between two hooks, folds exactly, and a stock sae-lens loads it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.dictionaries.parameters import first_parameters
from saes.disk import load, save, stock
from saes.training.config import SAEConfig
from saes.training.loop import Loop
from saes.training.transcoders import _fold, train_transcoder

D_IN, D_OUT, D_SAE, N = 16, 24, 64, 8192


def pair() -> tuple[Activations, Activations]:
    """Inputs of three of 32 directions; outputs a ReLU layer of them plus a linear part."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.randn(32, D_IN, generator=rng)
    strength = torch.zeros(N, 32).scatter_(1, torch.rand(N, 32, generator=rng).topk(3).indices, 1.0)
    x = 0.5 * strength @ directions + 3
    hidden = ((x - 3) @ torch.randn(D_IN, 40, generator=rng) - 1).relu()
    y = 0.1 * hidden @ torch.randn(40, D_OUT, generator=rng) + 0.3 * x @ torch.randn(
        D_IN, D_OUT, generator=rng
    )
    zeros = torch.zeros(N, dtype=torch.long)
    one = Activations(
        hook="blocks.1.ln2.hook_normalized",
        values=x,
        ids=zeros,
        roles=("r",) * N,
        example=zeros,
        position=torch.arange(N),
    )
    return one, replace(one, hook="blocks.1.hook_mlp_out", values=y)


def config(architecture: Any = "batchtopk", **settings: Any) -> SAEConfig:
    base = {
        "form": "transcoder",
        "d_sae": D_SAE,
        "k": 8,
        "steps": 200,
        "batch_size": 256,
        "lr": 1e-2,
        "sparsity": 0.1,
    }
    return SAEConfig(architecture=architecture, **{**base, **settings})


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "batchtopk"])
def test_folding_is_exact(architecture: Any, skip: bool, tmp_path: Path) -> None:
    values = first_parameters(architecture, d_in=D_IN, d_sae=D_SAE, d_out=D_OUT, skip=skip)
    rng = torch.Generator().manual_seed(5)
    values = {name: t + 0.1 * torch.rand(t.shape, generator=rng) for name, t in values.items()}
    x = 2 * torch.randn(100, D_IN, generator=rng)
    (mx, sx), (my, sy) = (torch.rand(D_IN, generator=rng), 0.7), (torch.rand(D_OUT, generator=rng), 2.5)
    made = _fold(values, config(architecture), (mx, sx), (my, sy), {"hook_name": "a", "hook_name_out": "b"})
    save(made, tmp_path)
    z = (x - mx) * sx
    pre = z @ values["encoder"].T + values["encoder_bias"]
    latents = pre.relu() * (pre > values["threshold"]) if architecture == "jumprelu" else pre.relu()
    out = latents @ values["decoder"] + values["decoder_bias"]
    expected: Tensor = (out + z @ values["skip"].T if skip else out) / sy + my
    loaded = stock().SAE.load_from_disk(tmp_path)
    assert type(loaded) is type(made)
    assert float((loaded(x).detach() - expected).norm() / expected.norm()) < 1e-6
    assert loaded.cfg.metadata.hook_name_out == "b"


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "batchtopk", "matryoshka"])
def test_a_map_between_two_hooks_is_learned(architecture: Any) -> None:
    inputs, outputs = pair()
    trained = train_transcoder(inputs, outputs, config(architecture))
    assert trained.record.loss[-1] < 0.5 * trained.record.loss[0]
    assert trained.record.fvu < 0.5
    if trained.record.threshold is not None:
        assert trained.record.l0 == pytest.approx(8, rel=0.05)


@pytest.mark.parametrize("form", ["transcoder", "skip_transcoder"])
def test_a_cut_off_training_goes_on_to_the_same_bits_and_loads_again(
    form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, outputs = pair()
    settings = config(form=form, steps=40)
    whole = train_transcoder(inputs, outputs, settings)
    advance = Loop.advance

    def until(loop: Loop, x: Tensor, y: Tensor) -> Any:
        if loop.step == 23:
            raise KeyboardInterrupt
        return advance(loop, x, y)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            train_transcoder(inputs, outputs, settings, directory=tmp_path)
    with pytest.raises(InputError, match="other activations"):
        train_transcoder(inputs, replace(outputs, values=outputs.values + 1), settings, directory=tmp_path)
    other = "skip_transcoder" if form == "transcoder" else "transcoder"
    with pytest.raises(InputError, match=f"form was {form}, not {other}"):
        train_transcoder(inputs, outputs, config(form=other, steps=40), directory=tmp_path)
    resumed = train_transcoder(inputs, outputs, settings, directory=tmp_path)
    assert resumed.record == whole.record
    save(resumed.sae, tmp_path)
    loaded = load(tmp_path)
    for name, value in whole.sae.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert loaded.cfg.metadata.hook_name_out == outputs.hook
    assert loaded.cfg.metadata.training_architecture == "batchtopk"


def test_a_skip_takes_the_linear_part() -> None:
    inputs, outputs = pair()
    rotation = torch.linalg.qr(torch.randn(D_OUT, D_IN, generator=torch.Generator().manual_seed(3)))[0]
    linear = replace(outputs, values=inputs.values @ rotation.T)
    few = config(k=1, steps=300, d_sae=16)
    with_skip, without = (
        train_transcoder(inputs, linear, replace(few, form=form)).record.fvu
        for form in ("skip_transcoder", "transcoder")
    )
    assert with_skip < 0.1 < without


def test_different_tokens_and_kinds_without_a_class_are_refused() -> None:
    inputs, outputs = pair()
    with pytest.raises(InputError, match="were recorded at different tokens"):
        train_transcoder(inputs, replace(outputs, position=outputs.position + 1), config())
    with pytest.raises(InputError, match="a transcoder of architecture `topk` cannot be saved"):
        config("topk")
    with pytest.raises(InputError, match="SAE form is `sae`, expected `transcoder` or `skip_transcoder`"):
        train_transcoder(inputs, outputs, config(form="sae"))
