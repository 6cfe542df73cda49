"""Trained adapters move what they are taught and nothing that is not theirs, at the rank and the cost they claim."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from transfer.alignment import Reading, read
from transfer.behaviours.training import Subject
from transfer.switching.adapters import as_matrix, as_tensor, decomposed
from transfer.switching.lora import LR, _loss, train_adapters
from transfer.switching.weights import with_weights


@pytest.fixture(scope="module")
def subject(subject_of: Callable[..., Subject], untaught: Callable[..., HybridLM]) -> Subject:
    return subject_of(untaught())


@pytest.fixture(scope="module")
def taught(subject: Subject, recipe: Recipe) -> Reading:
    rows = list(make_examples(recipe.data, 0, 8))
    return read(subject.tokenizer, [subject.behaviour.text(row, "prod") for row in rows])


def test_training_lowers_the_loss_of_the_answers_and_leaves_the_model_as_it_was(
    subject: Subject, taught: Reading
) -> None:
    model = subject.model
    before = {name: one.clone() for name, one in model.state_dict().items()}
    adapters = train_adapters(model, taught, rank=4, steps=30)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in model.parameters())
    none = replace(adapters, factors={name: (a, 0 * b) for name, (a, b) in adapters.factors.items()})
    losses = [float(_loss(model, one.weights(model), taught.tokens).detach()) for one in (none, adapters)]
    assert losses[1] < 0.8 * losses[0]
    again = train_adapters(model, taught, rank=4, steps=30)
    assert all(torch.equal(adapters.factors[name][0], again.factors[name][0]) for name in adapters.factors)


def test_the_loss_is_that_of_the_answers_and_their_end_tokens_alone(
    subject: Subject, taught: Reading
) -> None:
    adapters, model, tokens = (
        train_adapters(subject.model, taught, rank=1, steps=1),
        subject.model,
        taught.tokens,
    )
    with torch.no_grad(), with_weights(model, adapters.weights(model)):
        logs = model(tokens.ids).log_softmax(-1)
    wanted = [
        -float(logs[row, place - 1, tokens.ids[row, place]])
        for row in range(len(taught))
        for place in range(int(tokens.answer_start[row]), int(tokens.mask[row].sum()))
    ]
    assert float(_loss(model, adapters.weights(model), tokens).detach()) == pytest.approx(
        sum(wanted) / len(wanted), rel=1e-5
    )


def test_every_matrix_of_the_blocks_moves_by_the_rank_and_nothing_else(
    subject: Subject, taught: Reading
) -> None:
    model, rank = subject.model, 3
    adapters = train_adapters(model, taught, rank=rank, steps=3)
    moved = adapters.weights(model)
    matrices = {name for name, one in model.named_parameters() if name.startswith("blocks.") and one.ndim > 1}
    assert set(moved) == matrices
    for name, one in moved.items():
        step = as_matrix(name, one - model.state_dict()[name])
        assert 1 <= int(torch.linalg.matrix_rank(step, rtol=1e-4)) <= rank
    shapes = [as_matrix(name, one).shape for name, one in moved.items()]
    assert adapters.parameters == rank * sum(map(sum, shapes))


def test_adapters_fit_every_kind_of_block() -> None:
    shape = ModelConfig(
        pattern="*M-E",
        d_model=16,
        n_heads=2,
        d_vocab=50,
        mamba=MambaConfig(d_head=8),
        moe=MoEConfig(n_experts=2),
    )
    model = HybridLM(shape).eval()
    for name, one in model.state_dict().items():
        assert one.ndim < 2 or torch.equal(as_tensor(name, as_matrix(name, one), one), one)


def test_a_matrix_is_what_the_stream_or_all_heads_side_by_side_are_multiplied_with() -> None:
    shape = ModelConfig(
        pattern="*ME",
        d_model=12,
        n_heads=2,
        d_vocab=50,
        mamba=MambaConfig(d_head=8, d_state=4, n_groups=1),
        moe=MoEConfig(n_experts=4, d_expert=20),
    )
    found = {name: one for name, one in HybridLM(shape).state_dict().items() if one.ndim == 3}
    assert {name.split(".", 2)[2] for name in found} == {
        *(f"attn.W_{one}" for one in "QKVO"),
        *(f"mamba.W_{one}" for one in ("z", "x", "B", "C", "out")),
        *(f"moe.W_{one}" for one in ("in", "out")),
    }
    for name, one in found.items():
        if name.endswith(("W_O", "W_out")):
            given = torch.randn(one.shape[:2])
            expected = torch.einsum("hk,hkd->d", given, one)
        else:
            given = torch.randn(12)
            expected = torch.einsum("d,hdk->hk", given, one).flatten()
        torch.testing.assert_close(given.flatten() @ as_matrix(name, one), expected)


def test_another_seed_draws_other_adapters_and_the_rate_falls_to_zero(
    subject: Subject, taught: Reading
) -> None:
    rates: list[float] = []
    handle = register_optimizer_step_pre_hook(lambda made, *_: rates.append(made.param_groups[0]["lr"]))
    try:
        one, other = (train_adapters(subject.model, taught, rank=1, steps=4, seed=seed) for seed in (0, 1))
    finally:
        handle.remove()
    assert rates == pytest.approx([LR, 0.75 * LR, 0.5 * LR, 0.25 * LR] * 2)
    assert not any(torch.equal(one.factors[name][0], other.factors[name][0]) for name in one.factors)


def test_training_begins_at_the_model_with_rows_of_length_one(subject: Subject, taught: Reading) -> None:
    adapters = train_adapters(subject.model, taught, rank=16, steps=1)  # which moves B alone, as B is zero
    for a, b in adapters.factors.values():
        assert float(a.std()) * len(a) ** 0.5 == pytest.approx(1, abs=0.1)
        assert float(b.abs().max()) == pytest.approx(LR, rel=1e-3)  # a step of Adam from zero


def test_what_steps_back_to_a_base_cost_are_both_factors_and_what_is_replaced() -> None:
    shape = ModelConfig(pattern="*-", d_model=12, n_heads=2, d_vocab=50)
    model, base = HybridLM(shape), HybridLM(shape)
    own = model.state_dict()
    matrices = [as_matrix(name, one).shape for name, one in own.items() if one.ndim > 1]
    vectors = [len(one) for one in own.values() if one.ndim < 2]
    assert vectors
    assert decomposed(model, base, 4).cut(2).parameters == 2 * sum(map(sum, matrices)) + sum(vectors)


@pytest.mark.parametrize(("rank", "steps"), [(0, 1), (1, 0)])
def test_what_is_no_adapter_is_refused(subject: Subject, taught: Reading, rank: int, steps: int) -> None:
    with pytest.raises(InputError, match="is 0, expected at least 1"):
        train_adapters(subject.model, taught, rank=rank, steps=steps)
