"""A crosscoder's gradients, its folding into sae-lens' classes, and whose latents it finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.dictionaries import dense, topk
from saes.dictionaries.auxiliary import Dead
from saes.dictionaries.inference import to_sae
from saes.dictionaries.parameters import first_parameters
from saes.dictionaries.select import decoder_norms
from saes.disk import load, save, stock
from saes.training.config import SAEConfig
from saes.training.crosscoders import at_hook, side_by_side, specificity, train_crosscoder, widths
from saes.training.sae import train_sae

HOOKS, D_SAE, N = (6, 10), 32, 4096


def parameters(architecture: Any, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(3)
    made = first_parameters(architecture, d_in=sum(HOOKS), d_sae=D_SAE, hooks=HOOKS, dtype=dtype)
    return {name: t + 0.05 * torch.rand(t.shape, generator=rng, dtype=dtype) for name, t in made.items()}


def batch(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(40, sum(HOOKS), generator=torch.Generator().manual_seed(0), dtype=dtype)


def recording(hook: str, values: Tensor) -> Activations:
    n = len(values)
    zeros = torch.zeros(n, dtype=torch.long)
    return Activations(
        hook=hook, values=values, ids=zeros, roles=("r",) * n, example=zeros, position=torch.arange(n)
    )


def two_models() -> list[Activations]:
    """24 directions: 8 that both models write, 8 of the first alone and 8 of the second; 3 of each 8 at a token.

    The second model has 50 times the scale of the first and another centre.
    """
    rng = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2, 24, 24, generator=rng), dim=-1)
    directions[0, 16:] = 0
    directions[1, 8:16] = 0
    chosen = torch.rand(N, 24, generator=rng)
    strength = torch.where(chosen < 0.1, 1 + torch.rand(N, 24, generator=rng), 0.0)
    return [
        recording("base: resid", strength @ directions[0] + 1),
        recording("tuned: resid", 50 * (strength @ directions[1]) - 30),
    ]


def config(architecture: Any = "batchtopk", **settings: Any) -> SAEConfig:
    base = {"form": "crosscoder", "d_sae": 48, "k": 4, "steps": 300, "batch_size": 256, "lr": 1e-2}
    return SAEConfig(architecture=architecture, **{**base, **settings})


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("settings", [{}, {"per_batch": True}, {"per_batch": True, "widths": (4, 12, D_SAE)}])
def test_k_sparse_gradients_are_autograds(settings: dict[str, Any], dtype: torch.dtype) -> None:
    values, x = parameters("topk", dtype), batch(dtype)
    mask = torch.arange(D_SAE) % 3 == 0
    shared: dict[str, Any] = {"k": 3, "hooks": HOOKS, "dead": Dead(mask=mask, room=int(mask.sum()))}
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    loss = topk.plain_loss(leaves, x, **shared, **settings)
    loss.backward()
    result = topk.step(values, x, **shared, **settings)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-6
    assert float(sum(result.losses.values())) == pytest.approx(loss.item(), rel=tolerance)
    for name, leaf in leaves.items():
        assert relative(result.of[name], leaf.grad) < tolerance, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_the_penalty_is_of_the_summed_lengths_and_its_gradient_is_autograds(dtype: torch.dtype) -> None:
    values, x = parameters("standard", dtype), batch(dtype)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    latents = ((x - leaves["decoder_bias"]) @ leaves["encoder"].T + leaves["encoder_bias"]).relu()
    error = latents @ leaves["decoder"] + leaves["decoder_bias"] - x
    lengths = leaves["decoder"][:, :6].norm(dim=1) + leaves["decoder"][:, 6:].norm(dim=1)
    loss = error.square().sum(1).mean() + 0.7 * (latents * lengths).sum(1).mean()
    loss.backward()
    result = dense.step("standard", values, x, sparsity=0.7, hooks=HOOKS)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-6
    assert float(sum(result.losses.values())) == pytest.approx(loss.item(), rel=tolerance)
    for name, leaf in leaves.items():
        assert relative(result.of[name], leaf.grad) < tolerance, name


def test_a_latent_that_writes_nothing_to_a_hook_has_a_finite_gradient() -> None:
    values = parameters("standard")
    values["decoder"][5, :6] = 0
    result = dense.step("standard", values, batch(), sparsity=1.0, hooks=HOOKS)
    assert all(bool(gradient.isfinite().all()) for gradient in result.of.values())


@pytest.mark.parametrize("architecture", ["topk", "standard", "jumprelu"])
def test_folding_is_exact_and_stock_sae_lens_reads_it(architecture: Any, tmp_path: Path) -> None:
    values, rng = parameters(architecture, torch.float32), torch.Generator().manual_seed(5)
    x = 2 * torch.randn(100, sum(HOOKS), generator=rng)
    mean = torch.rand(sum(HOOKS), generator=rng)
    scale = torch.cat([torch.full((6,), 0.7), torch.full((10,), 0.02)])
    made = to_sae(values, architecture, k=3, mean=mean, scale=scale, metadata={}, hooks=HOOKS)
    save(made, tmp_path)
    z = (x - mean) * scale
    pre = (z - values["decoder_bias"]) @ values["encoder"].T + values["encoder_bias"]
    lengths = decoder_norms(values["decoder"], HOOKS)
    latents = pre.relu()
    if architecture == "topk":
        top = (latents * lengths).topk(3, dim=1).indices
        latents = latents * torch.zeros_like(latents).scatter(1, top, 1.0)
    if architecture == "jumprelu":
        latents = latents * (pre > values["threshold"])
    loaded = stock().SAE.load_from_disk(tmp_path)
    loaded.requires_grad_(False)
    assert relative(loaded.encode(x), latents * lengths) < 1e-6
    expected = (latents @ values["decoder"] + values["decoder_bias"]) / scale + mean
    assert relative(loaded(x), expected) < 1e-6


def test_latents_of_one_model_are_told_from_shared_ones(tmp_path: Path) -> None:
    recordings = two_models()
    trained = train_crosscoder(recordings, config(), names=["base", "tuned"])
    assert trained.record.fvu < 0.2
    assert trained.record.l0 == pytest.approx(4, rel=0.05)
    save(trained.sae, tmp_path)
    found = specificity(load(tmp_path))
    assert widths(load(tmp_path)) == (24, 24)
    latents = trained.sae.encode(side_by_side(recordings).values)
    alive = (latents > 0).sum(0) > 40
    share = found.share[alive, 0]
    # Whichever latents there are, most of those that fire are nearly one model's or nearly both's.
    for low, high in ((-0.01, 0.15), (0.35, 0.65), (0.85, 1.01)):
        assert int(((share > low) & (share < high)).sum()) >= 5
    counts = found.counts(0.2)
    assert list(counts) == ["base", "tuned", "shared"]
    assert sum(counts.values()) == 48


def test_specificity_of_a_decoder_written_by_hand() -> None:
    trained = train_crosscoder(two_models(), config(steps=1))
    sae = trained.sae
    first, second = sae.cfg.metadata.hook_scales
    assert first == pytest.approx(50 * second, rel=0.2)
    sae.W_dec.zero_()
    sae.W_dec[0, 0] = 1 / first
    sae.W_dec[1, 30] = 1 / second
    sae.W_dec[2, 3], sae.W_dec[2, 27] = 3 / first, 3 / second
    sae.W_dec[3, 3], sae.W_dec[3, 28] = 3 / first, 1 / second
    found = specificity(sae)
    torch.testing.assert_close(
        found.share[:4], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.25]])
    )
    torch.testing.assert_close(found.breadth[:3], torch.tensor([1.0, 1.0, 2.0]))
    torch.testing.assert_close(found.cosine[2:4, 0, 1], torch.tensor([1.0, 0.0]))
    assert found.counts()["shared"] == 46
    assert at_hook(sae, torch.arange(48.0)[None], 1)[0, 0] == 24


def test_a_cut_off_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    recordings, settings = two_models(), config(steps=30)
    whole = train_crosscoder(recordings, settings)
    train_crosscoder(recordings, settings, directory=tmp_path)
    resumed = train_crosscoder(recordings, settings, directory=tmp_path)
    assert resumed.record == whole.record
    assert torch.equal(resumed.sae.W_dec, whole.sae.W_dec)


def test_bad_input_is_a_sentence() -> None:
    one, other = two_models()
    with pytest.raises(InputError, match="were recorded at different tokens"):
        train_crosscoder([one, replace(other, position=other.position + 1)], config())
    with pytest.raises(InputError, match="at least two hooks, not 1"):
        train_crosscoder([one], config())
    with pytest.raises(InputError, match="3 names for 2 hooks"):
        train_crosscoder([one, other], config(), names=["a", "b", "c"])
    for names in (["a", "a"], ["shared", "b"]):
        with pytest.raises(
            InputError, match=f"named {', '.join(names)}, expected different names, none of them"
        ):
            train_crosscoder([one, other], config(), names=names)
    with pytest.raises(InputError, match="named base: resid, base: resid, expected different names"):
        train_crosscoder([one, one], config())
    with pytest.raises(InputError, match="a crosscoder of architecture `gated` cannot be saved"):
        config("gated")
    plain = train_sae(one, SAEConfig(d_sae=48, steps=2, batch_size=128)).sae
    with pytest.raises(InputError, match="reads one hook and is no crosscoder"):
        specificity(plain)
