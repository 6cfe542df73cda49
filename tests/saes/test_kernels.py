"""Triton's kernels of sparse steps against sums written out; on a GPU as compiled, elsewhere in the interpreter."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saes.dictionaries import pairs, select
from saes.dictionaries.auxiliary import Dead
from saes.dictionaries.pairs import Pairs
from saes.dictionaries.topk import plain_loss, step

pytest.importorskip("triton", reason="the kernels need Triton, on a GPU or for its interpreter")

from saes.dictionaries import kernels, ranking, searching

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
D = 300
"""Columns: one whole tile and part of another."""


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def bags(*lengths: int, rows: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Index, weight and bag of every pair, and where bags of these lengths start."""
    g = torch.Generator().manual_seed(1)
    total = sum(lengths)
    index = torch.randint(0, rows, (total,), generator=g)
    bag = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    start = torch.tensor([0, *lengths]).cumsum(0)[:-1]
    return index.to(DEVICE), drawn(total, seed=2), bag.to(DEVICE), start.to(DEVICE)


LENGTHS = [(1,), (0, 3, 8, 0, 9, 17, 0), (2, 0), (40, 1, 0, 70), (16, 16, 32)]


@pytest.mark.parametrize("lengths", [*LENGTHS, (0,)])
def test_sums_of_rows_are_those_of_a_loop(lengths: tuple[int, ...]) -> None:
    rows = drawn(40, D)
    index, weight, bag, start = bags(*lengths)
    empty = torch.zeros(len(lengths), D, device=DEVICE)
    expected = empty.index_add(0, bag, weight[:, None] * rows[index])
    torch.testing.assert_close(kernels.sum_rows(rows, index, weight, start), expected)
    order = torch.arange(len(index), device=DEVICE).flip(0)
    found = kernels.sum_rows(rows, index, weight, start, order=order, scale=0.5, share=3)
    expected = empty.index_add(0, bag, weight.flip(0)[:, None] * rows[index // 3]) / 2
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_inner_products_are_those_of_a_loop(lengths: tuple[int, ...]) -> None:
    rows, of_bags = drawn(40, D), drawn(len(lengths), D, seed=3)
    index, gate, bag, _ = bags(*lengths)
    near = {"rtol": 1e-5, "atol": 1e-4}
    expected = (of_bags[bag] * rows[index]).sum(1)
    torch.testing.assert_close(kernels.inner(of_bags, rows, bag, index), expected, **near)
    bias = drawn(40, seed=4)
    found = kernels.inner(of_bags, rows, bag, index, bias=bias)
    torch.testing.assert_close(found, (expected + bias[index]).relu(), **near)
    found = kernels.inner(of_bags, rows, bag, index, gate=gate, scale=0.5)
    torch.testing.assert_close(found, expected / 2 * (gate > 0), **near)


def test_a_nan_is_in_every_inner_product_it_has_a_part_in() -> None:
    index, gate, bag, _ = bags(40, 9)
    of_bags = drawn(2, D)
    of_bags[1, 7] = torch.nan
    bias = torch.zeros(40, device=DEVICE)
    for settings in ({}, {"bias": bias}, {"gate": gate}):
        found = kernels.inner(of_bags, drawn(40, D), bag, index, **settings)
        assert found.isnan().tolist() == [False] * 40 + [True] * 9


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(0, 3, 8, 0, 9, 17), (40, 1, 0, 2, 1, 30)])
def test_errors_of_nested_levels_are_sums_of_later_ones(lengths: tuple[int, ...], levels: int) -> None:
    rows, target = drawn(40, D), drawn(6 // levels, D, seed=3)
    index, weight, bag, start = bags(*lengths)
    found, squares = kernels.errors(rows, index, weight, start, target)
    parts = torch.zeros(6, D, device=DEVICE).index_add(0, bag, weight[:, None] * rows[index])
    own = parts.unflatten(0, (-1, levels)).cumsum(1) - target[:, None]
    torch.testing.assert_close(squares, own.square().sum((0, 2)))
    expected = torch.stack([own[:, level:].sum(1) for level in range(levels)], 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [(1,), (0, 3, 80, 0, 64, 17, 0), (0,)])
def test_sums_and_counts_of_bags_are_those_of_a_loop(lengths: tuple[int, ...]) -> None:
    _, value, bag, start = bags(*lengths)
    order = torch.arange(len(value), device=DEVICE).flip(0)
    empty = torch.zeros(len(lengths), device=DEVICE)
    found = kernels.per_bag(value, order, start, counted=False)
    torch.testing.assert_close(found, empty.index_add(0, bag, value.flip(0)))
    found = kernels.per_bag(value, order, start, counted=True)
    assert torch.equal(found, empty.long().index_add(0, bag, (value.flip(0) > 0).long()))


def hard_rows() -> Tensor:
    """Rows whose k-th largest is one of many, or hard to tell from its neighbours."""
    x = drawn(8, D)
    x[1] = x[1].round()
    x[2] = 0.0
    x[3] = -x[3].abs()
    x[4, :9] = 7.0
    x[5] = torch.linspace(1, 1 + 1e-4, D)
    x[6, ::2] = -0.0
    x[7, 3] = float("inf")
    return x


SEARCHES = {"groups": searching.by_groups, "columns": searching.by_columns, "either": searching.largest}
EITHER = [*((name, k) for name in SEARCHES for k in (1, 7, 9, 19)), ("columns", 60), ("either", 300)]
"""Searches, and a number that each can find in rows of D."""


@pytest.mark.parametrize(("search", "k"), EITHER)
def test_the_largest_of_a_row_are_those_of_topk(search: str, k: int) -> None:
    x = hard_rows()
    places = SEARCHES[search](x, k)
    assert places.dtype == torch.int64
    assert all(len(set(row)) == k for row in places.tolist())
    assert torch.equal(x.gather(1, places).sort(1).values, x.topk(k, dim=1).values.sort(1).values)


def test_rows_wider_than_the_kernels_take_go_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MAX_LATENTS", D - 1)
    monkeypatch.setattr(searching, "MAX_GROUPS", D // searching.GROUP)
    for kernel in ("_in_columns", "_in_groups"):
        monkeypatch.setattr(searching, kernel, None)
    x = hard_rows()
    assert torch.equal(x.gather(1, searching.largest(x, 5)).sort(1).values, x.topk(5).values.sort(1).values)


@pytest.mark.parametrize(
    ("width", "k", "way"),
    [
        (15_360, 32, "by_groups"),
        (131_072, 256, "by_groups"),
        (15_360, 257, "by_columns"),
        (1023, 32, "by_columns"),
        (32_768, 2000, "by_columns"),
        (131_073, 32, "topk"),
        (32_769, 1025, "topk"),
    ],
)
def test_a_search_is_chosen_by_width_and_k(
    width: int, k: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {name: torch.full((1, 1), i) for i, name in enumerate(("by_groups", "by_columns"))}
    for name, found in ways.items():
        monkeypatch.setattr(searching, name, lambda x, k, found=found: found)
    found = searching.largest(torch.empty(1, width, device="meta"), k)
    assert found is ways[way] if way in ways else found.shape == (1, k)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("search", "k"), [*EITHER, ("columns", 299), ("columns", 300)])
def test_a_nan_is_the_largest_whatever_its_sign(search: str, k: int, sign: int) -> None:
    nan = torch.tensor(float("nan")).copysign(torch.tensor(float(sign)))
    x = drawn(4, D)
    x[0, 5], x[1], x[2, 2:], x[3, 7:] = nan, nan, nan, -torch.inf
    x[3, 0] = nan
    places = SEARCHES[search](x, k)
    assert all(len(set(row)) == k for row in places.tolist())
    assert ((places >= 0) & (places < D)).all()
    found, expected = (x.gather(1, each).sort(1).values for each in (places, x.topk(k).indices))
    assert torch.equal(found.nan_to_num(7e7), expected.nan_to_num(7e7))


@pytest.mark.parametrize("shape", [(1024, 128), (2048, 256), (4096, 512)])
def test_the_largest_may_all_be_in_few_columns(shape: tuple[int, int]) -> None:
    width, columns = shape
    x = drawn(3, width)
    x[0, 5::columns] += 100  # more than are wanted: the largest of the columns tell little
    x[1, 5::columns] += 100
    x[1, 6::columns] += 50
    x[2, ::columns] = 7.0
    for k in (1, 6, width // columns, width // columns + 2):
        found = x.gather(1, searching.by_columns(x, k)).sort(1).values
        assert torch.equal(found, x.topk(k, dim=1).values.sort(1).values)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 33, 64])
def test_the_largest_may_all_be_in_few_groups(k: int) -> None:
    x = drawn(4, 1024)
    x[0, 32:48] += 100
    x[1, 32:47] += 100
    x[1, 1000:1016] += 50
    x[2, 32:48] = 7.0
    x[3, ::16] = 7.0
    found = x.gather(1, searching.by_groups(x, k)).sort(1).values
    assert torch.equal(found, x.topk(k, dim=1).values.sort(1).values)


@pytest.mark.parametrize("width", [1, 15, 16, 300, 5000])
def test_maxima_are_in_the_order_of_the_largest_of_neighbours(width: int) -> None:
    x = drawn(3, width)
    x[0, 0], x[1, -1], x[2, 0] = -torch.inf, torch.inf, torch.nan
    found = searching.maxima(x)
    padded = torch.nn.functional.pad(x, (0, -width % 16), value=-torch.inf)
    expected = padded.unflatten(1, (-1, 16)).amax(2).flatten()
    order = found.flatten().argsort(stable=True)
    assert torch.equal(order, expected.argsort(stable=True))
    assert found.shape == (3, -(-width // 16))


@pytest.mark.parametrize("width", [1, 15, 16, 2049])
def test_rows_of_any_width_have_their_largest(width: int) -> None:
    x = drawn(3, width)
    k = (width + 1) // 2
    assert torch.equal(x.gather(1, searching.largest(x, k)).sort(1).values, x.topk(k).values.sort(1).values)


def test_arrays_with_gaps_are_read_right() -> None:
    rows, of_bags = drawn(D, 40).T, drawn(D, 3, seed=3).T
    index, weight, bag, start = bags(4, 0, 9)
    gaps = [torch.stack([each, each + 1], 1)[:, 0] for each in (index, weight, start, bag)]
    expected = torch.zeros(3, D, device=DEVICE).index_add(0, bag, weight[:, None] * rows[index])
    torch.testing.assert_close(kernels.sum_rows(rows, *gaps[:3]), expected)
    found = kernels.inner(of_bags, rows, gaps[3], gaps[0])
    torch.testing.assert_close(found, (of_bags[bag] * rows[index]).sum(1), rtol=1e-5, atol=1e-4)
    for search in (searching.by_columns, searching.by_groups):
        assert torch.equal(search(rows, 2).sort(1).values, rows.topk(2).indices.sort(1).values)


def test_there_may_be_no_bag_and_no_pair() -> None:
    index, weight, bag, start = bags(0, 0)
    assert kernels.sum_rows(drawn(40, D), index, weight, start[:0]).shape == (0, D)
    assert kernels.inner(drawn(2, D), drawn(40, D), bag, index).shape == (0,)
    assert kernels.errors(drawn(40, D), index, weight, start[:0], drawn(40, D)[:0])[0].shape[::2] == (0, D)
    assert kernels.per_bag(weight, index, start[:0], counted=False).shape == (0,)
    for search in (searching.by_columns, searching.by_groups):
        assert search(drawn(40, D)[:0], 3).shape == (0, 3)


def test_matrices_are_given_up_earlier_where_there_are_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    active = pairs.equal_bags(torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1), 50)
    for few, dense in ((40, False), (60, True)):
        monkeypatch.setattr(pairs, "DENSE_BELOW", {"cpu": 100 - few, "kernels": few})
        monkeypatch.setattr(pairs, "on_kernels", lambda x: True)
        assert active.is_dense() is dense
        monkeypatch.setattr(pairs, "on_kernels", lambda x: False)
        assert active.is_dense() is not dense
        monkeypatch.setattr(pairs, "DENSE_BELOW", {})
        assert active.is_dense()  # a GPU without kernels


@pytest.mark.parametrize("lower", [0.0, 9.0], ids=["all positive", "few positive"])
@pytest.mark.parametrize("per_batch", [False, True])
def test_what_is_chosen_coarsely_is_computed_exactly(
    on_kernels: list[str], per_batch: bool, lower: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coarse products may choose other latents, but their values are not what is kept."""
    coarse = select._coarse
    monkeypatch.setattr(select, "_coarse", lambda *given: coarse(*given).bfloat16().float())
    x, encoder, bias = drawn(9, 20), drawn(48, 20, seed=1), drawn(48, seed=2) - lower
    norms = drawn(48, seed=3).abs() + 0.1
    choose = select.top_of_batch if per_batch else select.top_of_rows
    found = choose(x, encoder, bias, norms, 5)
    assert len(found.latent) == 45
    pre = x @ encoder.T + bias
    torch.testing.assert_close(found.value, pre[found.bag, found.latent].relu())
    assert (lower == 0) == bool((found.value > 0).all())


@pytest.mark.parametrize(("with_kernels", "expected"), [(True, "tf32"), (False, "ieee")])
def test_coarse_products_are_in_tf32_where_exact_ones_follow_and_none_after_them_even_behind_an_error(
    with_kernels: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    products, during = torch.backends.cuda.matmul, []

    def fails(*given: Tensor) -> Tensor:
        during.append(products.fp32_precision)
        raise RuntimeError

    monkeypatch.setattr(select, "on_kernels", lambda x: with_kernels)
    monkeypatch.setattr(torch, "addmm", fails)
    before, products.fp32_precision = products.fp32_precision, "ieee"
    try:
        with pytest.raises(RuntimeError):
            select._coarse(drawn(3, 20), drawn(48, 20), drawn(48), drawn(48))
        assert (during, products.fp32_precision) == ([expected], "ieee")
    finally:
        products.fp32_precision = before


PARTS = [
    *((kernels, name) for name in ("sum_rows", "errors", "inner", "per_bag")),
    (searching, "largest"),
    (ranking, "largest_of_all"),
]


@pytest.fixture
def on_kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps go through the kernels, here too; the list has the name of each one that ran."""
    ran: list[str] = []

    def seen(module: Any, name: str) -> Any:
        kernel = getattr(module, name)

        def run(*given: Any, **named: Any) -> Tensor:
            ran.append(name)
            return kernel(*given, **named)

        return run

    for module in (pairs, select):
        monkeypatch.setattr(module, "on_kernels", lambda x: True)
    monkeypatch.setattr(Pairs, "is_dense", lambda pairs, share=1: False)
    for part, name in PARTS:
        monkeypatch.setattr(part, name, seen(part, name))
    return ran


@pytest.mark.parametrize(
    ("settings", "chosen_by"),
    [
        ({}, {"largest"}),
        ({"per_batch": True}, {"largest_of_all"}),
        ({"per_batch": True, "widths": (10, 30, 48)}, {"largest_of_all"}),
        (
            {"per_batch": True, "dead": Dead(mask=torch.arange(48, device=DEVICE) >= 30, room=20)},
            {"largest_of_all", "largest"},
        ),
    ],
)
def test_gradients_of_a_step_on_kernels_are_autograds(
    on_kernels: list[str], settings: dict[str, Any], chosen_by: set[str]
) -> None:
    shapes = {"encoder": (48, 20), "decoder": (48, 20), "encoder_bias": (48,), "decoder_bias": (20,)}
    parameters = {name: drawn(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    x = drawn(33, 20, seed=9)
    found = step(parameters, x, k=5, **settings)
    assert {"sum_rows", "errors", "inner", "per_bag"} | chosen_by == set(on_kernels)
    leaves = {name: tensor.requires_grad_() for name, tensor in parameters.items()}
    plain_loss(leaves, x, k=5, **settings).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        torch.testing.assert_close(
            found.of[name], leaf.grad, rtol=2e-5, atol=2e-5 * float(leaf.grad.abs().max())
        )


@pytest.mark.gpu
@pytest.mark.parametrize("per_batch", [False, True])
def test_a_step_on_a_gpu_is_that_of_a_cpu_but_for_ties(per_batch: bool) -> None:
    shapes = {"encoder": (4096, 256), "decoder": (4096, 256), "encoder_bias": (4096,), "decoder_bias": (256,)}
    parameters = {name: drawn(*shape, seed=i) * 0.1 for i, (name, shape) in enumerate(shapes.items())}
    x = drawn(512, 256, seed=9)
    before = torch.backends.cuda.matmul.fp32_precision
    found = step(parameters, x, k=16, per_batch=per_batch)
    assert torch.backends.cuda.matmul.fp32_precision == before
    expected = step({name: t.cpu() for name, t in parameters.items()}, x.cpu(), k=16, per_batch=per_batch)
    loss = found.losses["reconstruction"].cpu()
    torch.testing.assert_close(loss, expected.losses["reconstruction"], rtol=1e-3, atol=0.0)
    for name, gradient in expected.of.items():
        # A latent in 16 x 512 chosen otherwise changes a row; most rows are the same.
        error = (found.of[name].cpu() - gradient).norm() / gradient.norm()
        assert error < 0.03, (name, float(error))
