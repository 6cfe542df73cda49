"""What the benchmarks of SAEs decide by themselves: penalties, blocks that are kept, and shared heads."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
of_seed, of_table = (importlib.import_module(f"benchmarks.{name}") for name in ("sae_seed", "sae_table"))
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


@pytest.mark.parametrize(("at_one", "power"), [(60.0, -0.5), (3.0, -1.0), (9.5, -0.3), (200.0, -1.8)])
def test_the_penalty_of_a_power_law_is_found_in_a_few_trainings(at_one: float, power: float) -> None:
    tried: dict[float, float] = {}
    while all(abs(l0 / 8 - 1) > of_table.NEAR for l0 in tried.values()):
        penalty = of_table.next_penalty(tried, 8.0)
        tried[penalty] = at_one * penalty**power
        assert len(tried) <= 6


def test_a_law_with_a_step_is_searched_between_its_sides() -> None:
    tried: dict[float, float] = {}
    for _ in range(8):
        penalty = of_table.next_penalty(tried, 8.0)
        assert penalty not in tried
        tried[penalty] = 30.0 if penalty < 5 else 2.0 / math.sqrt(penalty)
    assert max(p for p in tried if tried[p] > 8) < 5 <= min(p for p in tried if tried[p] < 8) < 6


def test_penalties_that_change_nothing_are_left_behind() -> None:
    tried: dict[float, float] = {}
    for _ in range(6):
        penalty = of_table.next_penalty(tried, 8.0)
        assert penalty > max(tried, default=0)
        tried[penalty] = 80.0


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
