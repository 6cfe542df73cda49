"""A grid's members are, bit for bit, what they are when trained alone, and go on after a kill."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.training import fitting
from saes.training.combinations import grid
from saes.training.config import SAEConfig
from saes.training.grids import train_grid
from saes.training.loop import Loop
from saes.training.sae import TrainedSAE, train_sae

BASE = SAEConfig(d_sae=48, k=3, steps=30, batch_size=64, lr=5e-3, seed=7, dead_after=3)
CHOICES: dict[str, Any] = {
    "architecture": ("topk", "batchtopk", "matryoshka", "standard", "gated", "jumprelu"),
    "k": (2, 4),
    "d_sae": (32, 40),
    "seed": (1, 2),
}


def activations(n: int = 500) -> Activations:
    zeros = torch.zeros(n, dtype=torch.long)
    values = torch.randn(n, 16, generator=torch.Generator().manual_seed(0)).abs()
    return Activations(hook="h", values=values, ids=zeros, roles=("r",) * n, example=zeros, position=zeros)


def same(one: TrainedSAE, other: TrainedSAE) -> bool:
    states = [trained.sae.state_dict() for trained in (one, other)]
    return one.record == other.record and all(
        torch.equal(t, states[1][name]) for name, t in states[0].items()
    )


def test_every_member_is_its_lone_training() -> None:
    configs = grid(replace(BASE, steps=12), **CHOICES)
    assert len(configs) == 3 * 8 + 3 * 4  # k decides nothing of the kinds with a penalty
    trained = train_grid(activations(), configs)
    assert list(trained) == list(configs)
    for name, config in configs.items():
        assert same(trained[name], train_sae(activations(), config)), name
    assert len({float(one.sae.W_dec.sum()) for one in trained.values()}) > 24


def test_members_may_have_steps_batches_and_orders_of_their_own() -> None:
    configs = {
        "short": replace(BASE, steps=11),
        "long": BASE,
        "wide": replace(BASE, batch_size=100),
        "other order": replace(BASE, order_seed=9),
    }
    trained = train_grid(activations(), configs)
    for name, config in configs.items():
        assert same(trained[name], train_sae(activations(), config)), name


def test_a_batch_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled, asked = fitting.scaled, []

    def counted(*of: Any) -> Tensor:
        asked.append(1)
        return scaled(*of)

    monkeypatch.setattr("saes.training.grids.scaled", counted)
    train_grid(activations(), grid(BASE, k=(1, 2, 3, 4), seed=(0, 1)))
    assert len(asked) == BASE.steps


@pytest.mark.parametrize("after", [70, 71, 74])
def test_a_killed_grid_goes_on_to_the_same_bits(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between members too, when one has saved a step and the next has not."""
    configs, advance, taken = grid(BASE, k=(1, 2, 3, 4, 5)), Loop.advance, []
    whole = train_grid(activations(), configs)

    def until(loop: Loop, x: Tensor) -> Any:
        taken.append(1)
        if len(taken) > after:
            raise KeyboardInterrupt
        return advance(loop, x)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "advance", until)
        with pytest.raises(KeyboardInterrupt):
            train_grid(activations(), configs, directory=tmp_path)
    resumed = train_grid(activations(), configs, directory=tmp_path)
    assert all(same(resumed[name], whole[name]) for name in configs)
    for name in configs:
        assert len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) == BASE.steps


def test_a_choice_that_decides_nothing_of_a_kind_makes_no_second_member_of_it() -> None:
    base = replace(BASE, widths=None)
    made = grid(
        base, architecture=("topk", "matryoshka", "gated"), k=(2, 4), sparsity=(0.5, 2.0), widths=((8, 48),)
    )
    assert list(made) == [
        "architecture=topk,k=2",
        "architecture=topk,k=4",
        "architecture=matryoshka,k=2,widths=(8, 48)",
        "architecture=matryoshka,k=4,widths=(8, 48)",
        "architecture=gated,sparsity=0.5",
        "architecture=gated,sparsity=2.0",
    ]
    for name, config in made.items():
        assert config.k == (4 if "k=4" in name else 2 if "k=2" in name else base.k)
        assert config.sparsity == (0.5 if "0.5" in name else 2.0 if "2.0" in name else base.sparsity)
        assert config.widths == ((8, 48) if "widths" in name else None)
    with pytest.raises(InputError, match="k decides nothing of `gated` and `jumprelu`"):
        grid(base, architecture=("gated", "jumprelu"), k=(2, 4))
    with pytest.raises(InputError, match="sparsity decides nothing of `topk`"):
        grid(base, sparsity=(1.0, 2.0))


def test_a_grid_of_one_order_reads_in_that_of_its_base() -> None:
    configs = grid(BASE, seed=(0, 1))
    assert {config.order_seed for config in configs.values()} == {7}
    assert same(train_sae(activations(), BASE), train_sae(activations(), replace(BASE, order_seed=7)))


def test_bad_input_is_a_sentence() -> None:
    with pytest.raises(InputError, match="no setting `sed`; did you mean `seed`"):
        grid(BASE, sed=(1, 2))
    with pytest.raises(InputError, match=r"k of the grid is \[2, 2\]"):
        grid(BASE, k=(2, 2))
    with pytest.raises(InputError, match="the grid has no member"):
        train_grid(activations(), {})
    with pytest.raises(InputError, match="k is 60, but there are 48 latents"):
        grid(BASE, k=(2, 60))
    with pytest.raises(InputError, match="fewer than one SAE batch of 4096"):
        train_grid(activations(), grid(BASE, batch_size=(64, 4096)))
