"""The search of a batch by Triton's kernels against a stable sort; on a GPU compiled, elsewhere in the interpreter."""

import pytest
import torch
from torch import Tensor

from saes.dictionaries import select

pytest.importorskip("triton", reason="the kernels need Triton, on a GPU or for its interpreter")

from saes.dictionaries import ranking

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = {"BLOCK": 64, "TILE": 16, "FROM": 2, "LISTED": 16, "COUNTED": 2}
"""Blocks and tiles so small that few numbers are in many."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def hard_numbers(length: int) -> dict[str, Tensor]:
    """Numbers whose n-th largest is one of many, hard to tell from its neighbours, below 0, or not finite."""
    x = drawn(length)
    together, odd, sides = x.clone(), x.clone(), x.clone()
    together[: length // 40] += 10
    odd[::3], odd[1::5] = torch.inf, -torch.inf
    odd[::7], odd[3::7] = torch.nan, -torch.tensor(torch.nan)
    sides[::2] = -torch.inf
    return {
        "drawn": x,
        "rounded": x.round() + 0.0,
        "all equal": torch.full_like(x, 7.0),
        "all zero": torch.zeros_like(x),
        "all infinite": torch.full_like(x, -torch.inf),
        "all NaN": torch.full_like(x, torch.nan),
        "two values": (x > 1).float(),
        "near": torch.linspace(1, 1 + 1e-4, length, device=DEVICE),
        "negative": -x.abs() - 0.1,
        "of every size": x * (10.0 ** drawn(length, seed=1).mul(9).clamp(-30, 30)),
        "together": together,
        "not finite": odd,
        "half without": sides,
    }


def first_of_the_largest(x: Tensor, n: int) -> Tensor:
    """Places of the n largest, ascending, of equal ones the first."""
    order = x.argsort(descending=True, stable=True)
    order = order[x[order].isnan().int().argsort(descending=True, stable=True)]
    return order[:n].sort().values


@pytest.mark.parametrize("length", [1, 15, 16, 17, 300])
def test_the_largest_of_all_are_the_first_of_a_stable_sort(length: int) -> None:
    for name, x in hard_numbers(length).items():
        for n in {1, length // 33, length // 3, length}:
            if n:
                places = ranking.largest_of_all(x, n)
                assert places.dtype == torch.int64
                assert torch.equal(places, first_of_the_largest(x, n)), (name, n)


@pytest.mark.parametrize("n", [1, 7, 100])
def test_numbers_of_several_blocks_and_tiles_have_their_largest(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(ranking, name, value)
    for name, x in hard_numbers(300).items():
        assert torch.equal(ranking.largest_of_all(x, n), first_of_the_largest(x, n)), name


@pytest.mark.parametrize("n", [600, 12_000])
def test_numbers_of_several_programs_have_their_largest(n: int) -> None:
    numbers = hard_numbers(20_000)
    for name in ("drawn", "rounded", "all equal", "not finite"):
        x = numbers[name]
        assert torch.equal(ranking.largest_of_all(x, n), first_of_the_largest(x, n)), name


@pytest.mark.parametrize("n", [1, 40, 150])
def test_both_zeros_are_as_large_as_torch_says(n: int) -> None:
    x = torch.zeros(5000, device=DEVICE)
    x[::2], x[7], x[9] = -0.0, 1.0, -1.0
    places = ranking.largest_of_all(x, n)
    assert torch.equal(places.unique(), places)
    assert torch.equal(x[places].sort().values, x.topk(n).values.sort().values)


def test_numbers_with_gaps_between_them_are_read_right() -> None:
    x = drawn(3000, 2)
    for n in (5, 2000):
        assert torch.equal(ranking.largest_of_all(x[:, 0], n), first_of_the_largest(x[:, 0], n))


def test_of_no_numbers_none_are_the_largest() -> None:
    assert ranking.largest_of_all(drawn(0), 0).shape == (0,)


@pytest.mark.parametrize(("width", "k"), [(320, 3), (37, 3), (1, 1)])
def test_places_of_a_batch_are_those_of_its_rows_one_after_the_other(
    width: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = drawn(7, width)
    monkeypatch.setattr(select, "on_kernels", lambda x: True)
    assert torch.equal(select._places(x, k), first_of_the_largest(x.flatten(), 7 * k))


@pytest.mark.gpu
@pytest.mark.parametrize(("width", "k"), [(8192, 32), (8200, 64), (512, 32)])
def test_a_search_is_recorded_as_a_graph_and_finds_the_largest_of_what_stands_there(
    width: int, k: int
) -> None:
    x = drawn(2048, width)
    select._places(x, k)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        places = select._places(x, k)
    for seed in (1, 2):
        x.copy_(drawn(2048, width, seed=seed))
        graph.replay()
        assert torch.equal(places, first_of_the_largest(x.flatten(), 2048 * k))
