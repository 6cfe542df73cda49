"""Trained adapters move what they are taught and nothing that is not theirs, at the rank and the cost they claim."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.recipes import Recipe
from transfer.alignment import Reading, read
from transfer.behaviours.training import Subject
from transfer.switching.adapters import as_matrix, as_tensor
from transfer.switching.lora import _loss, train_adapters
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


@pytest.mark.parametrize(("rank", "steps"), [(0, 1), (1, 0)])
def test_what_is_no_adapter_is_refused(subject: Subject, taught: Reading, rank: int, steps: int) -> None:
    with pytest.raises(InputError, match="is 0, expected at least 1"):
        train_adapters(subject.model, taught, rank=rank, steps=steps)
