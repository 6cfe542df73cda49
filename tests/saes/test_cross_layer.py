"""A cross-layer transcoder's gradients are autograd's, it folds exactly, goes on bit for bit and loads again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.dictionaries import layers, topk
from saes.dictionaries.architectures import Architecture
from saes.dictionaries.auxiliary import Dead
from saes.dictionaries.layers import first_layers, of_layer
from saes.disk import WEIGHTS, save
from saes.training.config import SAEConfig
from saes.training.cross_layer import CrossLayerConfig, _fold, load_cross_layer, train_cross_layer
from saes.training.loop import Loop
from tinysql.training.checkpoints import load_tensors, save_tensors

L, D_IN, D_OUT, D_SAE, K, N = 3, 8, 6, 24, 3, 4096
ARCHITECTURES: list[Architecture] = ["topk", "batchtopk", "standard"]


def parameters(architecture: Any, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(2)
    made = first_layers(architecture, layers=L, d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, dtype=dtype)
    return {name: t + 0.05 * torch.rand(t.shape, generator=rng, dtype=dtype) for name, t in made.items()}


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(40, L * D_IN, generator=rng, dtype=dtype), torch.randn(
        40, L * D_OUT, generator=rng, dtype=dtype
    )


def recordings() -> tuple[list[Activations], list[Activations]]:
    """Layer 0 finds ten features and writes half of each to its own output and half to the last one's."""
    rng = torch.Generator().manual_seed(1)
    zeros, roles = torch.zeros(N, dtype=torch.long), ("r",) * N
    strength = torch.where(torch.rand(N, 10, generator=rng) < 0.15, 1.0, 0.0)
    x = [strength @ torch.randn(10, D_IN, generator=rng) + 2, *torch.randn(2, N, D_IN, generator=rng)]
    written = strength @ torch.randn(10, D_OUT, generator=rng)
    y = [written, 0.1 * torch.randn(N, D_OUT, generator=rng), 20 * written.flip(1) - 7]
    made = [
        Activations(
            hook=f"{name}.{layer}",
            values=values,
            ids=zeros,
            roles=roles,
            example=zeros,
            position=torch.arange(N),
        )
        for name, of_layers in (("in", x), ("out", y))
        for layer, values in enumerate(of_layers)
    ]
    return made[:L], made[L:]


def config(architecture: Any = "topk", **settings: Any) -> SAEConfig:
    base = {"form": "cross_layer_transcoder", "d_sae": D_SAE, "k": K, "steps": 200, "batch_size": 256}
    return SAEConfig(architecture=architecture, lr=1e-2, sparsity=0.1, **{**base, **settings})


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_autograds_of_the_plain_loss(architecture: Any, dtype: torch.dtype) -> None:
    values, (x, y) = parameters(architecture, dtype), batch(dtype)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    shared: dict[str, Any] = {"layers": L, "k": K, "sparsity": 0.7}
    loss = layers.plain_loss(architecture, leaves, x, y, **shared)
    loss.backward()
    result = layers.step(architecture, values, x, y, **shared)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-6
    assert float(sum(result.losses.values())) == pytest.approx(loss.item(), rel=tolerance)
    assert set(result.of) == set(leaves)
    for name, leaf in leaves.items():
        assert relative(result.of[name], leaf.grad) < tolerance, name


def test_the_last_layer_is_a_transcoder_of_what_the_others_leave_over() -> None:
    """With all other decoders next to nothing, and some latents of the last layer dead."""
    values, (x, y) = parameters("topk"), batch()
    for layer in range(L - 1):
        values[f"decoder.{layer}"].mul_(1e-14)
    mask = torch.zeros(L, D_SAE, dtype=torch.bool)
    mask[-1, ::3] = True
    dead = Dead(mask=mask.flatten(), room=8, coefficient=0.3)
    whole = layers.step("topk", values, x, y, layers=L, k=K, sparsity=0.0, dead=dead)
    last = {**of_layer(values, L - 1), "decoder_bias": values["decoder_bias"][-D_OUT:]}
    alone = topk.step(last, x[:, -D_IN:], y[:, -D_OUT:], k=K, dead=replace(dead, mask=mask[-1]))
    for name in ("encoder", "encoder_bias", "decoder"):
        assert relative(whole.of[f"{name}.{L - 1}"], alone.of[name]) < 1e-10, name
    assert torch.equal(whole.fired[-D_SAE:], alone.fired)
    assert float(whole.losses["auxiliary"]) == pytest.approx(float(alone.losses["auxiliary"]), rel=1e-10)


def test_nothing_is_read_back_from_the_device() -> None:
    values = {name: value.to("meta") for name, value in parameters("topk", torch.float32).items()}
    x, y = (part.to("meta") for part in batch(torch.float32))
    dead = Dead(mask=torch.zeros(L * D_SAE, dtype=torch.bool, device="meta"), room=5)
    for architecture in ARCHITECTURES:
        result = layers.step(
            architecture,
            values,
            x,
            y,
            layers=L,
            k=K,
            sparsity=1.0,
            dead=None if architecture == "standard" else dead,
        )
        assert {name: t.shape for name, t in result.of.items()} == {
            name: t.shape for name, t in values.items()
        }


def test_folding_is_exact_and_the_file_holds_it_all(tmp_path: Path) -> None:
    values, rng = parameters("topk", torch.float32), torch.Generator().manual_seed(8)
    x = [2 * torch.randn(50, D_IN, generator=rng) + 1 for _ in range(L)]
    reads = [(torch.rand(D_IN, generator=rng), 0.5 + layer) for layer in range(L)]
    writes = [(torch.rand(D_OUT, generator=rng), 0.1 + layer) for layer in range(L)]
    about = CrossLayerConfig(
        d_in=D_IN, d_out=D_OUT, d_sae=D_SAE, k=K, reads=("a", "b", "c"), writes=("d", "e", "f")
    )
    made = _fold(values, about, reads, writes)
    made.save_model(tmp_path)
    loaded = load_cross_layer(tmp_path)
    assert loaded.cfg == about
    found = loaded.decode(loaded.encode(x))
    expected = [part.expand(50, -1) for part in values["decoder_bias"].split(D_OUT)]
    for layer in range(L):
        one, (mean, scale) = of_layer(values, layer), reads[layer]
        norms = one["decoder"].norm(dim=1)
        latents = (((x[layer] - mean) * scale) @ one["encoder"].T + one["encoder_bias"]).relu()
        top = (latents * norms).topk(K, dim=1).indices
        written = (latents * torch.zeros_like(latents).scatter(1, top, 1.0)) @ one["decoder"]
        for target, part in enumerate(written.split(D_OUT, dim=1), start=layer):
            expected[target] = expected[target] + part
    for one, other, (mean, scale) in zip(found, expected, writes, strict=True):
        assert relative(one, other / scale + mean) < 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_an_early_layer_adds_to_a_late_one_is_learned(architecture: Any) -> None:
    inputs, outputs = recordings()
    trained = train_cross_layer(inputs, outputs, config(architecture))
    # The last output can be known from the first input alone; the second is noise.
    assert trained.fvu[0] < 0.3
    assert trained.fvu[2] < 0.3
    assert trained.fvu[1] > 0.5
    if architecture == "batchtopk":
        assert trained.record.l0 == pytest.approx(L * K, rel=0.05)


def test_a_cut_off_training_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, outputs = recordings()
    settings = config("batchtopk", steps=40, dead_after=3)
    whole = train_cross_layer(inputs, outputs, settings)
    advance = Loop.advance

    def until(loop: Loop, x: Tensor, y: Tensor) -> Any:
        if loop.step == 23:
            raise KeyboardInterrupt
        return advance(loop, x, y)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            train_cross_layer(inputs, outputs, settings, directory=tmp_path)
    resumed = train_cross_layer(inputs, outputs, settings, directory=tmp_path)
    assert resumed.record == whole.record
    for one, other in zip(resumed.transcoder.W_dec, whole.transcoder.W_dec, strict=True):
        assert torch.equal(one, other)


def test_bad_input_is_a_sentence(tmp_path: Path) -> None:
    inputs, outputs = recordings()
    with pytest.raises(InputError, match="3 inputs and 2 outputs"):
        train_cross_layer(inputs, outputs[:2], config())
    narrow = replace(outputs[1], values=outputs[1].values[:, :5])
    with pytest.raises(InputError, match=r"`out.1` is 5 wide, `out.0` is 6"):
        train_cross_layer(inputs, [outputs[0], narrow, outputs[2]], config())
    with pytest.raises(InputError, match="different tokens"):
        train_cross_layer([*inputs[:2], replace(inputs[2], example=inputs[2].example + 1)], outputs, config())
    trained = train_cross_layer(inputs, outputs, config(steps=2)).transcoder
    trained.save_model(tmp_path)
    tensors = load_tensors(tmp_path / WEIGHTS)
    save_tensors(tmp_path / WEIGHTS, {**tensors, "W_dec_1": tensors["W_dec_1"][:, :1]})
    with pytest.raises(InputError, match="`W_dec_1` is"):
        load_cross_layer(tmp_path)


def test_cut_weights_are_told_how_they_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "saes" / "layers"
    inputs, outputs = recordings()
    save(train_cross_layer(inputs, outputs, config(steps=2)).transcoder, path)
    whole = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(whole[:-1])
    with pytest.raises(InputError, match="is not a whole file of weights") as refused:
        load_cross_layer(path)
    assert f"`tinysql sae train {tmp_path / 'run'} --name layers --overwrite`" in refused.value.hint
