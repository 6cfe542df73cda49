"""Training is sae-lens' own, repeats from its seed, touches nothing around it and reloads in stock sae-lens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.errors import InputError
from saes.activations import Activations
from saes.disk import load, save, stock
from saes.training import loop as loops
from saes.training.config import SAEConfig
from saes.training.fitting import batches
from saes.training.sae import TrainedSAE, fvu, train_sae

CONFIG = SAEConfig(d_sae=48, k=3, steps=400, batch_size=128, lr=5e-3, seed=1)
HOOK = "blocks.1.hook_resid_post"


def planted(n: int = 2048, seed: int = 0) -> Activations:
    """Three of 24 directions per token, off centre and of uneven scale."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(24, 16, generator=torch.Generator().manual_seed(9))
    which = torch.rand(n, 24, generator=generator).topk(3).indices
    strength = torch.zeros(n, 24).scatter_(1, which, 1 + torch.rand(n, 3, generator=generator))
    values = 0.3 * strength @ directions + 5
    zeros = torch.zeros(n, dtype=torch.long)
    return Activations(hook=HOOK, values=values, ids=zeros, roles=("r",) * n, example=zeros, position=zeros)


@pytest.fixture(scope="module")
def trained() -> TrainedSAE:
    return train_sae(planted(), CONFIG)


def test_a_planted_dictionary_is_explained(trained: TrainedSAE) -> None:
    fresh = planted(seed=4).values
    latents = trained.sae.encode(fresh)
    assert int((latents > 0).sum(1).max()) <= CONFIG.k
    assert fvu(fresh, trained.sae.decode(latents)) < 0.2
    assert trained.record.fvu == pytest.approx(fvu(fresh, trained.sae.decode(latents)), abs=0.05)
    assert trained.record.loss[-1] < 0.5 * trained.record.loss[0]


def test_decoder_rows_have_length_one(trained: TrainedSAE) -> None:
    torch.testing.assert_close(trained.sae.W_dec.norm(dim=1), torch.ones(48))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained: TrainedSAE) -> None:
    again = train_sae(planted(), CONFIG)
    for name, weight in trained.sae.state_dict().items():
        assert torch.equal(weight, again.sae.state_dict()[name])
    other = train_sae(planted(), SAEConfig(d_sae=48, k=3, steps=10, batch_size=128, seed=2))
    assert not torch.equal(other.sae.W_dec, trained.sae.W_dec)


def test_global_random_state_and_directory_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    train_sae(planted(), SAEConfig(d_sae=48, k=3, steps=10, batch_size=128))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert list(tmp_path.iterdir()) == []


def test_stock_sae_lens_loads_what_is_saved(trained: TrainedSAE, tmp_path: Path) -> None:
    save(trained.sae, tmp_path)
    x = planted(seed=4).values
    expected = trained.sae.decode(trained.sae.encode(x))
    for reloaded in (stock().SAE.load_from_disk(tmp_path), load(tmp_path)):
        torch.testing.assert_close(reloaded.decode(reloaded.encode(x)), expected, rtol=0, atol=1e-6)
        assert reloaded.cfg.architecture() == "topk"
        assert reloaded.cfg.metadata.hook_name == HOOK


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_or_cut_file_is_bad_input(trained: TrainedSAE, tmp_path: Path, name: str) -> None:
    save(trained.sae, tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=name):
        load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match="is not an SAE directory"):
        load(tmp_path)


def test_weights_of_another_shape_are_bad_input(trained: TrainedSAE, tmp_path: Path) -> None:
    save(trained.sae, tmp_path)
    config = (tmp_path / "cfg.json").read_text()
    (tmp_path / "cfg.json").write_text(config.replace('"d_sae": 48', '"d_sae": 50'))
    with pytest.raises(InputError, match="cannot be built"):
        load(tmp_path)


def test_every_activation_comes_once_per_epoch() -> None:
    rows = torch.arange(10)
    order = batches(rows, 5, seed=0)
    epochs = [torch.cat([next(order), next(order)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == rows.tolist()
    assert epochs[0] != epochs[1]


def test_the_order_goes_on_from_any_step() -> None:
    rows = torch.arange(11) * 3
    order = batches(rows, 5, seed=0)
    whole = [next(order).tolist() for _ in range(7)]
    for start in range(7):
        assert next(batches(rows, 5, seed=0, start=start)).tolist() == whole[start]


def test_fvu_is_zero_for_perfect_and_one_for_the_mean() -> None:
    x = planted(100).values
    assert fvu(x, x) == 0
    assert fvu(x, x.mean(0).expand_as(x)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 0}, "SAE k is 0, expected more than 0"),
        ({"lr": -1.0}, "SAE lr is -1.0"),
        ({"d_sae": 8, "k": 9}, "SAE k is 9, but there are 8 latents"),
        ({"decay_fraction": 1.0}, "decay_fraction 1.0"),
        ({"warmup_fraction": 0.8}, "warmup_fraction 0.8 and decay_fraction 0.3"),
    ],
)
def test_settings_that_cannot_be_are_answered_with_a_sentence(
    settings: dict[str, float], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        SAEConfig(**settings)


def test_too_few_or_broken_activations_are_answered_with_a_sentence() -> None:
    with pytest.raises(InputError, match="100 activations are fewer than one SAE batch of 128"):
        train_sae(planted(100), CONFIG)
    with pytest.raises(InputError, match="k is 65, but there are 64 latents"):
        train_sae(planted(), SAEConfig(k=65, batch_size=128))
    broken = planted()
    broken.values[3, 3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        train_sae(broken, CONFIG)
    for d_sae in (10**13, 10**18):
        with pytest.raises(
            InputError, match=f"{d_sae} latents of activations 16 wide do not fit into memory"
        ):
            train_sae(planted(), SAEConfig(d_sae=d_sae, batch_size=128))
    same = planted()
    same.values[:] = 3
    with pytest.raises(InputError, match=f"all {len(same)} activations are the same"):
        train_sae(same, CONFIG)


def test_looking_for_dead_latents_now_and_then_misses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SAEConfig(d_sae=64, k=2, steps=60, batch_size=128, lr=5e-3, dead_after=3)
    always = train_sae(planted(512), config)
    assert always.record.dead > 0
    monkeypatch.setattr(loops, "LOOK_EVERY", {"cpu": 7})
    seldom = train_sae(planted(512), config)
    torch.testing.assert_close(seldom.sae.W_dec, always.sae.W_dec, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(seldom.sae.W_enc, always.sae.W_enc, atol=1e-4, rtol=1e-3)
