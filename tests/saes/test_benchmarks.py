"""What the benchmarks of SAEs decide by themselves: blocks that are kept, and shared heads."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
of_steps, of_bound, of_seed, of_table, of_synthetic, of_choice = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("sae", "sae_bound", "sae_seed", "sae_table", "sae_synthetic", "sae_choice")
)
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


def test_blocks_are_kept_until_they_hold_the_share_of_what_is_above_the_least() -> None:
    # Three blocks of two dimensions whose lengths are 5, 1 and 3: 4, 0 and 2 above the least.
    decoder = torch.tensor([[3.0, 4.0, 1.0, 0.0, 0.0, 3.0], [9.0] * 6])
    assert of_seed.kept_blocks(decoder, [0], 2) == [0, 2]
    assert of_seed.kept_blocks(torch.tensor([[9.0, 1.0, 2.0]]), [0], 1) == [0]
    assert of_seed.mask([0, 2], 3, 2).tolist() == [True, True, False, False, True, True]


def test_shared_heads_stand_beside_what_random_heads_share() -> None:
    eap = frozenset({"blocks.0.attn.head.1", "blocks.2.attn.head.3"})
    found = of_seed.overlap({"0.1", "0.2"}, eap, heads=4)
    assert (found["shared"], found["share"], found["chance"]) == (1, 0.5, 0.5)
    # Of six ways to choose two of four heads, one shares none.
    assert found["p"] == pytest.approx(5 / 6)


SHAPE = of_bound.Shape(d_in=10, d_sae=100, k=3, batch=20)
CEILINGS = of_bound.Ceilings(
    choosing=2.0, bfloat16=None, float32=5.0, copying=100.0, latents=1200.0, rows=600.0
)
COPIED = 4 * (8 * (2 * 100 * 10 + 110) + 2 * 20 * 10) / 100


def test_the_bound_of_a_k_sparse_step_is_its_choice_its_gathers_and_its_bytes() -> None:
    # 20 rows of 3 pairs of 10 floats are 2,400 bytes: 2 seconds of latents' rows, 4 of the batch's.
    found = of_bound.bound("topk", SHAPE, CEILINGS)
    assert found == {"choosing": 2.0, "gathers": 3 * 2.0 + 2 * 4.0, "products": 0.0, "bytes": COPIED}
    assert found == of_bound.bound("crosscoder", SHAPE, CEILINGS)


def test_a_gather_costs_no_more_than_the_product_that_it_stands_for() -> None:
    slow = of_bound.Ceilings(**{**vars(CEILINGS), "latents": 1.0, "rows": 1.0})
    assert of_bound.bound("batchtopk", SHAPE, slow)["gathers"] == 5 * 5.0


def test_dead_latents_add_products_of_their_share_and_dense_kinds_are_products() -> None:
    dead = of_bound.bound("topk", SHAPE, CEILINGS, n_dead=25)
    assert dead == of_bound.bound("topk", SHAPE, CEILINGS) | {"products": 5 * 5.0 / 4}
    for kind, products in (("standard", 5), ("crosscoder standard", 5), ("gated", 8)):
        assert of_bound.bound(kind, SHAPE, CEILINGS) == {"products": products * 5.0, "bytes": COPIED}


@pytest.mark.parametrize("n_dead", [0, 128])
def test_a_step_with_dead_latents_revives_them(n_dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    advance = of_steps.Loop.advance
    monkeypatch.setattr(of_steps.Loop, "advance", lambda self, *batch: made.append(advance(self, *batch)))
    # As on a GPU, where only some steps look.
    monkeypatch.setitem(of_steps.importlib.import_module("saes.training.loop").LOOK_EVERY, "cpu", 16)
    shape = of_steps.SHAPES["tiny"]
    step = of_steps.ours(shape, "cpu", "topk", n_dead=n_dead)
    for x in of_steps.activations(shape, "cpu")[:2]:
        step(x)
    assert [float(result.losses.get("auxiliary", 0)) > 0 for result in made] == [n_dead > 0] * 2


def test_a_table_of_steps_has_a_bound_for_every_row_that_ran() -> None:
    shape = of_steps.SHAPES["tiny"]
    saved: list[dict] = []
    arguments = of_steps.argparse.Namespace(device="cpu", only="tinysql", longest=True)
    of_steps.at_shape(shape, arguments, lambda made: saved.append(dict(made["steps"])))
    assert len(saved) == len(saved[-1]) == 11
    for row in saved[-1].values():
        assert row["x bound"] * row["bound ms"] == pytest.approx(row["ms"])
        assert row["bound ms"] == pytest.approx(sum(row["bound of"].values()))
        assert row["longest"]


class Sums:
    """Sums of random directions in place of sae-lens' model, drawn from the global state as there."""

    def sample(self, n: int) -> torch.Tensor:
        directions = torch.randn(24, 8, generator=torch.Generator().manual_seed(1))
        return (torch.rand(n, 24) < 0.1).float() @ directions


def test_a_stream_that_is_left_goes_on_to_the_same_saes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_synthetic, "BLOCK", 2048)
    config = of_synthetic.SAEConfig(d_sae=16, k=2, batch_size=1024, steps=9, dead_after=3)
    configs = {"topk": config, "jumprelu": replace(config, architecture="jumprelu", sparsity=0.1)}

    def train(name: str, seconds: float) -> dict:
        return of_synthetic.streamed(Sums(), configs, seed=0, directory=tmp_path / name, seconds=seconds)

    whole, calls = train("whole", 1e6), 1
    while not (parts := train("parts", 0.0)):
        calls += 1
    assert calls == 10  # the last finds all steps done
    for kind in configs:
        for name, value in whole[kind].sae.state_dict().items():
            assert torch.equal(parts[kind].sae.state_dict()[name], value), (kind, name)


def test_a_stream_never_repeats_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_synthetic, "BLOCK", 1024)
    seen: list[torch.Tensor] = []
    advance = of_synthetic.Fit.advance
    monkeypatch.setattr(
        of_synthetic.Fit, "advance", lambda self, batch: (seen.append(batch[0]), advance(self, batch))
    )
    config = of_synthetic.SAEConfig(d_sae=16, k=2, batch_size=512, steps=6)
    of_synthetic.streamed(Sums(), {"topk": config}, seed=0, directory=tmp_path, seconds=1e6)
    assert len(seen) == 6
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_what_each_way_of_choosing_takes_stands_beside_the_others() -> None:
    def member(name: str, looks: list[float], fvu: float, loss: float, test: float) -> dict[str, Any]:
        watched = [{"step": step, "coverage": one, "held_out_fvu": fvu} for step, one in enumerate(looks)]
        found = {"coverage": test, "coverage_interval": [test - 0.1, test + 0.1], "slot_coverage": 0.5}
        return {"name": name, "loss": loss, "watched": watched, "test": {**found, "fvu": fvu, "l0": 8.0}}

    members = [
        member("a", [0.9, 0.1, 0.1, 0.1, 0.1], 0.3, 3.0, 0.2),
        member("b", [0.1, 0.1, 0.9, 0.1, 0.7], 0.2, 1.0, 0.4),
        member("c", [0.1, 0.1, 0.1, 0.9, 0.8], 0.4, 4.0, 0.3),
        member("d", [0.1, 0.1, 0.1, 0.1, 0.6], 0.1, 2.0, 0.1),
    ]
    watching = {"share_of_training": 0.25, "seconds_a_look": 0.5}
    row = {"run": "r", "chosen": "b", "level": ["b", "c"], "watching": watching, "members": members}
    lines = [line.split(" | ") for line in of_choice.table(row).splitlines() if line.startswith("| ")]
    taken = {cells[0].removeprefix("| "): (cells[1], cells[3]) for cells in lines[1:-1]}
    assert taken == {
        "roles (`saes.choose`)": ("b", "1 of 4"),
        "highest validation coverage": ("c", "2 of 4"),
        "coverage after 1 steps": ("a", "3 of 4"),
        "coverage after 3 steps": ("b", "1 of 4"),
        "coverage after 5 steps": ("c", "2 of 4"),
        "least validation FVU": ("d", "4 of 4"),
        "least training loss": ("b", "1 of 4"),
    }
    assert "0.250 (of members: 0.100 to 0.400)" in " | ".join(lines[-1])
    assert len(of_choice.configs(10, 16)) == 36
