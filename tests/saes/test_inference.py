"""Each kind is saved so that a stock sae-lens reconstructs the same, and fires as much as it was trained to."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.dictionaries.architectures import ARCHITECTURES
from saes.dictionaries.inference import CLASSES, calibrate, to_sae
from saes.dictionaries.parameters import first_parameters
from saes.disk import load, save, stock
from saes.training.config import SAEConfig
from saes.training.sae import train_sae

D_IN, D_SAE, K = 16, 64, 4


def rows(n: int, seed: int) -> Tensor:
    """Three of 40 directions per row, off centre, in units that are not those of training."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(40, D_IN, generator=torch.Generator().manual_seed(9))
    which = torch.rand(n, 40, generator=generator).topk(3).indices
    strength = torch.zeros(n, 40).scatter_(1, which, 1 + torch.rand(n, 3, generator=generator))
    return 0.2 * strength @ directions + 2


def activations(n: int = 16_384, seed: int = 0) -> Activations:
    zeros = torch.zeros(n, dtype=torch.long)
    values = rows(n, seed)
    return Activations(
        hook="blocks.0.mlp.hook_post",
        values=values,
        ids=zeros,
        roles=("r",) * n,
        example=zeros,
        position=zeros,
    )


def trained_parameters(architecture: Any) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    made = first_parameters(architecture, d_in=D_IN, d_sae=D_SAE)
    return {name: t + 0.1 * torch.rand(t.shape, generator=generator) for name, t in made.items()}


def training_reconstruction(architecture: str, values: dict[str, Tensor], z: Tensor) -> Tensor:
    """What the dictionary makes of scaled activations, written down from its definition."""
    shared = (z - values["decoder_bias"]) @ values["encoder"].T
    if architecture == "gated":
        magnitude = shared * values["magnitude_scale"].exp() + values["magnitude_bias"]
        latents = magnitude.relu() * (shared + values["gate_bias"] > 0)
    else:
        pre = shared + values["encoder_bias"]
        latents = pre.relu()
    if architecture == "jumprelu":
        latents = latents * (pre > values["threshold"])
    if architecture == "topk":
        kept = (pre * values["decoder"].norm(dim=1)).topk(K).indices
        latents = latents * torch.zeros_like(latents).scatter(1, kept, 1.0)
    return latents @ values["decoder"] + values["decoder_bias"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_stock_sae_lens_reconstructs_what_was_trained(architecture: Any, tmp_path: Path) -> None:
    values, x = trained_parameters(architecture), rows(200, seed=1)
    mean, scale = x.mean(0), 2.5
    metadata = {"model_name": "m", "hook_name": "blocks.0.mlp.hook_post", "prepend_bos": False}
    state = torch.get_rng_state()
    sae = to_sae(values, architecture, k=K, mean=mean, scale=scale, metadata=metadata)
    assert torch.equal(torch.get_rng_state(), state)
    save(sae, tmp_path)
    expected = training_reconstruction(architecture, values, (x - mean) * scale) / scale + mean
    for loaded in (stock().SAE.load_from_disk(tmp_path), load(tmp_path)):
        assert type(loaded).__name__ == CLASSES[architecture]
        reconstruction = loaded.decode(loaded.encode(x)).detach()
        assert float((reconstruction - expected).norm() / expected.norm()) < 1e-6
        torch.testing.assert_close(loaded.W_dec.norm(dim=1).detach(), torch.ones(D_SAE))
    about = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    assert (about["training_architecture"], about["hook_name"]) == (architecture, "blocks.0.mlp.hook_post")


@pytest.mark.parametrize("l0", [1.0, 4.0, 7.5])
def test_the_threshold_gives_the_wanted_l0_exactly_where_it_is_set(l0: float) -> None:
    x = rows(5000, seed=2)
    sae = to_sae(trained_parameters("batchtopk"), "batchtopk", k=K, mean=x.mean(0), scale=1.0, metadata={})
    threshold = calibrate(sae, x, l0)
    assert int((sae.encode(x) > 0).sum()) == round(l0 * len(x))
    assert torch.equal(sae.threshold, torch.full((D_SAE,), threshold))


def test_the_threshold_is_0_where_too_few_latents_are_positive() -> None:
    x = rows(100, seed=2)
    sae = to_sae(trained_parameters("batchtopk"), "batchtopk", k=K, mean=x.mean(0), scale=1.0, metadata={})
    assert calibrate(sae, x, l0=float(D_SAE)) == 0


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka"])
@pytest.mark.parametrize("steps", [20, 100])
def test_the_saved_l0_is_the_trained_one_however_short_the_training(
    architecture: Any, steps: int, tmp_path: Path
) -> None:
    config = SAEConfig(architecture=architecture, d_sae=D_SAE, k=K, steps=steps, batch_size=256)
    trained = train_sae(activations(131_072), config)
    save(trained.sae, tmp_path)
    loaded = stock().SAE.load_from_disk(tmp_path)
    fresh = (loaded.encode(rows(131_072, seed=3)) > 0).float().sum(1).mean()
    assert float(fresh) == pytest.approx(K, rel=0.01)
    assert trained.record.tokens == 131_072 - 16_384


def test_sae_lens_own_threshold_is_far_off_after_a_short_training(tmp_path: Path) -> None:
    """The reason for `calibrate`: its running mean of the smallest activation starts at 0 and moves by 1 %."""
    sae_lens = stock()
    config = sae_lens.BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sae = sae_lens.BatchTopKTrainingSAE(config)
    x = rows(20 * 256, seed=0)
    z = (x - x.mean(0)) * 2
    settings = sae_lens.config.SAETrainerConfig(
        total_training_samples=len(x), train_batch_size_samples=256, lr=4e-3, lr_end=4e-3, device="cpu"
    )
    sae_lens.training.sae_trainer.SAETrainer(settings, sae, iter(z.split(256))).fit()
    sae.save_inference_model(tmp_path)
    assert float((sae_lens.SAE.load_from_disk(tmp_path).encode(z) > 0).float().sum(1).mean()) > 1.5 * K


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_kind_learns_and_its_record_is_of_the_saved_sae(architecture: Any) -> None:
    config = SAEConfig(
        architecture=architecture, d_sae=D_SAE, k=K, sparsity=0.3, steps=150, batch_size=256, lr=1e-2
    )
    data = activations()
    trained = train_sae(data, config)
    assert trained.record.loss[-1] < 0.7 * trained.record.loss[0]
    assert trained.record.fvu < 0.6
    assert (trained.record.threshold is not None) == config.needs_threshold
    assert trained.sae.cfg.metadata.l0 == trained.record.l0


@pytest.mark.parametrize(
    ("folder", "name"), [("saes/wide", "wide"), ("saes/seeds,seed=1", "seeds"), ("x", None)]
)
def test_a_cut_file_names_the_training_that_makes_it_again(
    tmp_path: Path, folder: str, name: str | None
) -> None:
    made = to_sae(
        trained_parameters("topk"),
        "topk",
        k=K,
        mean=torch.zeros(D_IN),
        scale=1.0,
        metadata={"model_name": "m"},
    )
    save(made, tmp_path / folder)
    weights = tmp_path / folder / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not a whole file of weights") as told:
        load(tmp_path / folder)
    again = "train the SAE again and `saes.save` it"
    if name is not None:
        again = f"repeat `tinysql sae train {tmp_path} --name {name} --overwrite` with its settings"
    assert told.value.hint == f"restore the file, or {again}"
