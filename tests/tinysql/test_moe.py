"""Experts: routing, both ways of computing them, hooks, and balance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinysql.models.config import ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.models.moe import MoE, Routing, _ordered, balance, load, sequence_balance_loss
from tinysql.training.batches import TrainingRows
from tinysql.training.loss import Losses, losses


def make(latent: int | None = None, **options: int) -> MoE:
    shape = MoEConfig(
        **{"n_experts": 4, "n_active": 2, "d_expert": 24, "d_shared": 16, "d_latent": latent, **options}
    )
    moe = MoE(ModelConfig(pattern="E", d_model=16, moe=shape))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return moe


EVERY = torch.ones(3, 7, dtype=torch.bool)


def stream() -> Tensor:
    return torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("latent", [None, 8])
def test_the_sum_over_chosen_experts_written_out(latent: int | None) -> None:
    moe, x = make(latent), stream()
    moe.selection_bias += torch.tensor([0.3, 0.0, -0.2, 0.0])
    got = moe(x)
    for b in range(3):
        for t in range(7):
            u = x[b, t]
            scores = torch.sigmoid(u @ moe.W_R)
            chosen = (scores + moe.selection_bias).topk(2).indices
            inner = u if latent is None else u @ moe.W_down
            routed = sum(
                2.5 * scores[e] / scores[chosen].sum() * (torch.relu(inner @ moe.W_in[e]) ** 2 @ moe.W_out[e])
                for e in chosen.tolist()
            )
            routed = routed if latent is None else routed @ moe.W_up
            shared = torch.relu(u @ moe.W_in_shared) ** 2 @ moe.W_out_shared
            torch.testing.assert_close(got[b, t], routed + shared, atol=1e-5, rtol=1e-5)


def test_grouped_products_equal_the_loop() -> None:
    moe, x = make(), stream().flatten(0, 1)
    chosen = torch.tensor([0] * 5 + [2] * 9 + [3] * 7)  # nobody chooses expert 1
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.copy_(parameter.bfloat16())
    found = {}
    for name in ("_grouped", "_one_by_one"):
        moe.zero_grad()
        y = getattr(moe, name)(x.bfloat16() if name == "_grouped" else x.bfloat16().float(), chosen)
        y.float().square().sum().backward()
        found[name] = (y.detach().float(), moe.W_in.grad.clone(), moe.W_out.grad.clone())
    for grouped, loop in zip(*found.values(), strict=True):
        torch.testing.assert_close(grouped, loop, atol=2e-2 * loop.abs().max().item(), rtol=0)


@pytest.mark.parametrize("times", [1, 3])
def test_rows_in_another_order_have_the_gradient_of_indexing(times: int) -> None:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(4 * times, generator=generator)
    x = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(len(order), 5, generator=generator, dtype=torch.float64)
    found, expected = _ordered(x, order, order.argsort(), times), x.repeat_interleave(times, 0)[order]
    assert found.equal(expected)
    (got,), (wanted,) = (torch.autograd.grad(y, x, slope) for y in (found, expected))
    torch.testing.assert_close(got, wanted)
    torch.autograd.gradgradcheck(lambda t: _ordered(t, order, order.argsort(), times).square(), x)


def test_the_router_computes_in_float32_under_autocast() -> None:
    moe, kept = make(), {}
    moe.hook_router.add_hook(lambda logits, hook: kept.update(logits=logits))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moe(stream())
    assert kept["logits"].dtype == torch.float32
    torch.testing.assert_close(kept["logits"], stream() @ moe.W_R)


def test_a_hook_may_choose_the_experts() -> None:
    moe, x = make(), stream()
    picked = []
    moe.hook_chosen.add_hook(lambda chosen, hook: torch.zeros_like(chosen))
    moe.hook_expert_out.add_hook(lambda out, hook: picked.append(out))
    moe(x)
    only = torch.relu(x @ moe.W_in[0]) ** 2 @ moe.W_out[0]
    torch.testing.assert_close(picked[0][:, :, 1], only, atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_router_and_latent_hooks() -> None:
    moe, kept = make(8), {}

    def keep(name: str) -> object:
        def hook(value: Tensor, hook: object) -> None:
            value.retain_grad()
            kept[name] = value

        return hook

    for name in ("router", "weights", "latent", "expert_out", "routed_out", "shared_out"):
        getattr(moe, f"hook_{name}").add_hook(keep(name))
    moe(stream()).square().sum().backward()
    assert [name for name, value in kept.items() if value.grad is None or not value.grad.any()] == []


def test_balance_moves_the_bias_towards_idle_experts_and_keeps_its_mean() -> None:
    moe = make()
    balance(moe, torch.tensor([10, 0, 4, 2]), rate=0.1)
    # Signs -1, +1, 0, +1 around the mean load of 4, then the mean of .025 is taken off.
    torch.testing.assert_close(moe.selection_bias, torch.tensor([-0.125, 0.075, -0.025, 0.075]))


def test_balancing_evens_out_a_lopsided_router() -> None:
    moe, x = make(), stream()
    with torch.no_grad():
        moe.W_R[:, 0] += 0.5
    x = x.abs()

    def worst() -> float:
        routing: list[Routing] = []
        moe(x, routing)
        counts = load(routing[0], EVERY)
        balance(moe, counts, rate=0.02)
        return (counts.max() / counts.float().mean() - 1).item()

    before = worst()
    for _ in range(100):
        after = worst()
    assert before > 0.8
    assert after < 0.4


def test_loads_count_choices() -> None:
    chosen = torch.tensor([[[0, 1], [0, 2]], [[3, 0], [1, 0]]])
    routing = Routing(torch.zeros(2, 2, 5), chosen)
    assert load(routing, torch.ones(2, 2, dtype=torch.bool)).tolist() == [4, 2, 1, 1, 0]
    assert load(routing, torch.tensor([[True, True], [True, False]])).tolist() == [3, 1, 1, 1, 0]


def test_the_balance_loss_is_one_when_even_and_larger_when_not() -> None:
    even = Routing(torch.full((2, 4, 4), 0.5), torch.tensor([[[0, 1], [2, 3], [0, 1], [2, 3]]] * 2))
    torch.testing.assert_close(sequence_balance_loss(even, EVERY[:2, :4]), torch.tensor(1.0))
    scores = torch.zeros(2, 4, 4) + 1e-3
    scores[..., :2] = 1.0
    uneven = Routing(scores, torch.tensor([[[0, 1]] * 4] * 2))
    torch.testing.assert_close(
        sequence_balance_loss(uneven, EVERY[:2, :4]), torch.tensor(2.0), atol=0.01, rtol=0
    )


def test_the_balance_loss_looks_at_each_sequence_by_itself() -> None:
    # Each of two sequences leans on two experts, together they are even.
    scores = torch.full((2, 4, 4), 1e-3)
    scores[0, :, :2], scores[1, :, 2:] = 1.0, 1.0
    chosen = torch.tensor([[[0, 1]] * 4, [[2, 3]] * 4])
    found = sequence_balance_loss(Routing(scores, chosen), EVERY[:2, :4])
    torch.testing.assert_close(found, torch.tensor(2.0), atol=0.01, rtol=0)


def test_the_gradient_of_the_balance_loss_is_its_slope() -> None:
    moe = make().double()
    direction = torch.randn(moe.W_R.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value() -> Tensor:
        routing: list[Routing] = []
        moe(stream().double(), routing)
        return sequence_balance_loss(routing[0], EVERY)

    value().backward()
    slope, found = (moe.W_R.grad * direction).sum(), []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            moe.W_R += step * direction
            found.append(value())
    torch.testing.assert_close(slope, (found[0] - found[1]) / 2e-6, rtol=1e-5, atol=1e-9)
    assert slope.abs() > 1e-3


@pytest.mark.parametrize("packed", [False, True])
def test_padding_changes_neither_loads_nor_losses(packed: bool) -> None:
    shape = ModelConfig(
        pattern="*E",
        d_model=16,
        n_heads=2,
        d_vocab=50,
        n_ctx=64,
        moe=MoEConfig(n_experts=4, n_active=2, d_expert=16, d_shared=16),
    )
    model, lengths = HybridLM(shape), np.array([9, 20, 31])
    ids = np.random.default_rng(0).integers(1, 50, lengths.sum()).astype(np.int32)
    rows = TrainingRows(ids, np.concatenate([[0], lengths.cumsum()]), lengths // 2, 0)

    def found(width: int) -> Losses:
        if packed:
            return losses(model, rows.packed([[0, 1], [2]], width), balance_loss=1.0)
        batch = rows.batch([0, 1, 2])
        more = width - batch.ids.shape[1]
        wider = replace(
            batch,
            ids=F.pad(batch.ids, (0, more)),
            real=F.pad(batch.real, (0, more)),
            places=batch.places // batch.ids.shape[1] * width + batch.places % batch.ids.shape[1],
        )
        return losses(model, wider, balance_loss=1.0)

    narrow, wide = found(31), found(60)
    assert narrow.loads[0].tolist() == wide.loads[0].tolist()
    assert int(narrow.loads[0].sum()) == 2 * lengths.sum()
    torch.testing.assert_close(narrow.total, wide.total, atol=1e-5, rtol=0)
