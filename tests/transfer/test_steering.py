"""A steering vector moves a model by what it says, only inside its block, and only through its own hook."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs, Tokens
from transfer.steering import SteeringVector
from transfer.vectors import pair_difference

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture
def model() -> HybridLM:
    return HybridLM(ModelConfig(pattern="*-*-", d_model=16, n_heads=2, d_vocab=30, n_ctx=12), seed=1).eval()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 30, (3, 6), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def vector() -> SteeringVector:
    return SteeringVector(hook=HOOK, vector=torch.randn(16, generator=torch.Generator().manual_seed(3)))


def pairs_of(clean: Tensor, corrupt: Tensor, position: Tensor) -> TokenPairs:
    def side(ids: Tensor) -> Tokens:
        mask = torch.arange(ids.shape[1]) <= position[:, None]
        roles = tuple(tuple("sql.table" if real else "" for real in row) for row in mask.tolist())
        return Tokens(ids=ids, mask=mask, roles=roles, answer_start=position)

    answers = torch.zeros_like(position)
    return TokenPairs(
        edit="schema.table",
        clean=side(clean),
        corrupt=side(corrupt),
        position=position,
        clean_answer=answers,
        corrupt_answer=answers,
    )


def linear(name: str) -> Callable[[HybridLM, Tensor], Tensor]:
    """A readout that is linear in the steered stream: the stream itself, projected on one unembedding column."""
    return lambda model, ids: model.run_with_cache(ids)[1][name] @ model.unembed.W_U[:, 4]


def test_adding_the_vector_moves_a_linear_readout_by_its_projection(
    model: HybridLM, ids: Tensor, vector: SteeringVector
) -> None:
    readout = linear("blocks.2.hook_resid_pre")
    before = readout(model, ids)
    with vector.apply(model, scale=2.5):
        after = readout(model, ids)
    torch.testing.assert_close(after - before, (2.5 * vector.vector @ model.unembed.W_U[:, 4]).expand(3, 6))


@pytest.mark.parametrize(
    ("positions", "where"),
    [(-1, [[5], [5], [5]]), (0, [[0], [0], [0]]), (torch.tensor([1, 4, 2]), [[1], [4], [2]])],
)
def test_positions_say_where_it_is_added(
    model: HybridLM, ids: Tensor, vector: SteeringVector, positions: int | Tensor, where: list[list[int]]
) -> None:
    readout = linear("blocks.2.hook_resid_pre")
    before = readout(model, ids)
    with vector.apply(model, positions=positions):
        moved = (readout(model, ids) - before).abs() > 1e-6
    assert [row.nonzero()[:, 0].tolist() for row in moved] == where


def test_scale_zero_is_bit_for_bit_no_hook(model: HybridLM, ids: Tensor, vector: SteeringVector) -> None:
    before = model(ids)
    # Nothing is added at all: even 0 times an infinite vector would be felt.
    for direction in (vector.vector, vector.vector / 0):
        with SteeringVector(hook=HOOK, vector=direction).apply(model, scale=0.0):
            assert torch.equal(model(ids), before)


def test_only_its_own_hook_is_removed_even_after_an_error(
    model: HybridLM, ids: Tensor, vector: SteeringVector
) -> None:
    before, point = model(ids), model.hook_dict[HOOK]
    model.add_hook(HOOK, lambda value, hook: value)
    with vector.apply(model):
        assert len(point.fwd_hooks) == 2
        model.run_with_cache(ids)
        assert len(point.fwd_hooks) == 2
    assert len(point.fwd_hooks) == 1
    with pytest.raises(IndexError), vector.apply(model):
        model(torch.full((1, 1), 99))
    assert len(point.fwd_hooks) == 1
    assert torch.equal(model(ids), before)
    model.reset_hooks()
    assert not point.has_hooks()


def test_a_pair_difference_is_the_difference_of_means_at_the_metric_position(
    model: HybridLM, ids: Tensor
) -> None:
    other = (ids + 1) % 30
    position = torch.tensor([5, 3, 4])
    found = pair_difference(model, pairs_of(ids, other, position), HOOK, batch_size=2)
    clean, corrupt = (model.run_with_cache(side)[1][HOOK].detach() for side in (ids, other))
    rows = torch.arange(3)
    torch.testing.assert_close(found.vector, (clean[rows, position] - corrupt[rows, position]).mean(0))
    everywhere = pair_difference(model, pairs_of(ids, other, position), HOOK, position="all")
    mask = torch.arange(6) <= position[:, None]
    torch.testing.assert_close(everywhere.vector, clean[mask].mean(0) - corrupt[mask].mean(0))


def test_steering_a_corrupt_run_turns_it_towards_the_clean_one(model: HybridLM, ids: Tensor) -> None:
    pairs = pairs_of(ids[:1], (ids[:1] + 1) % 30, torch.tensor([5]))
    last = "blocks.3.hook_resid_post"
    vector = pair_difference(model, pairs, last)
    with vector.apply(model, positions=5):
        steered = model(pairs.corrupt.ids)[:, 5]
    torch.testing.assert_close(steered, model(pairs.clean.ids)[:, 5], rtol=1e-4, atol=1e-4)


def test_it_works_on_heads_side_by_side(model: HybridLM, ids: Tensor) -> None:
    hook = "blocks.0.attn.hook_z"
    vector = pair_difference(model, pairs_of(ids, (ids + 1) % 30, torch.tensor([5, 5, 5])), hook)
    before = model.run_with_cache(ids)[1][hook]
    with vector.apply(model):
        after = model.run_with_cache(ids)[1]["blocks.0.hook_attn_out"]
    by_hand = torch.einsum("bshd,hdm->bsm", before + vector.vector.reshape(2, 8), model.blocks[0].attn.W_O)
    torch.testing.assert_close(after, by_hand)


def test_save_and_load_give_the_same_vector_back(tmp_path: Path, vector: SteeringVector) -> None:
    vector.save(tmp_path / "v")
    found = SteeringVector.load(tmp_path / "v")
    assert found.hook == vector.hook
    assert found.metadata == vector.metadata
    assert torch.equal(found.vector, vector.vector)
    with pytest.raises(InputError, match="not empty"):
        vector.save(tmp_path / "v")
    vector.save(tmp_path / "v", overwrite=True)
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["config.json", "vector.safetensors"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"recipe": {}}')
    with pytest.raises(InputError, match="holds a training run, which a steering vector does not overwrite"):
        vector.save(tmp_path / "run", overwrite=True)
    (tmp_path / "v" / "vector.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="not a whole"):
        SteeringVector.load(tmp_path / "v")


def test_what_does_not_fit_is_answered_with_a_sentence(
    model: HybridLM, ids: Tensor, vector: SteeringVector
) -> None:
    narrow = SteeringVector(hook=HOOK, vector=vector.vector[:4])
    with pytest.raises(InputError, match="16 wide in this model, the vector has 4"), narrow.apply(model):
        model(ids)
    assert not model.hook_dict[HOOK].has_hooks()
    lost = SteeringVector(hook="blocks.1.hook_resid_pots", vector=vector.vector)
    with pytest.raises(InputError, match=r"did you mean `blocks\.1\.hook_resid_"), lost.apply(model):
        pass
