"""Lenses: what is read at every depth, against the model's own parts, and by hand."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from circuits.looking.by_role import Targets, role_means
from circuits.looking.lens import LensReading, logit_lens, tuned_lens
from circuits.looking.translators import TunedLens, TunedLensConfig, fit_tuned_lens
from data_gen.errors import InputError
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokens

ROLES = ("sql.select.keyword", "sql.select.0.column", "sql.table")


def rows(n: int = 6, seed: int = 0, vocabulary: int = 20) -> Tokens:
    """Rows of unlike length: a prompt of three tokens, then an answer whose tokens take turns in three roles."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, vocabulary, (n, 10), generator=generator)
    lengths = torch.tensor([6 + i % 5 for i in range(n)])
    mask = torch.arange(10) < lengths[:, None]
    roles = tuple(
        tuple("" if j >= size else "prompt.markup" if j < 3 else ROLES[j % 3] for j in range(10))
        for size in lengths.tolist()
    )
    return Tokens(ids=ids * mask, mask=mask, roles=roles, answer_start=torch.full((n,), 3))


@pytest.fixture(scope="module")
def model() -> HybridLM:
    shape = ModelConfig(
        pattern="M*E-",
        d_model=16,
        n_heads=2,
        d_vocab=20,
        n_ctx=16,
        norm="layer",
        biases=("norm",),
        mamba=MambaConfig(d_head=8, d_state=4),
        moe=MoEConfig(n_experts=4, d_expert=8, d_shared=8),
    )
    model = HybridLM(shape, seed=1)
    with torch.no_grad():
        for parameter in (model.ln_final.w, model.ln_final.b):
            parameter.add_(0.3 * torch.randn(16, generator=torch.Generator().manual_seed(0)))
    return model


def test_every_depth_is_the_streams_own_readout(model: HybridLM) -> None:
    tokens = rows()
    reading = logit_lens(model, tokens, batch_size=4)
    _, cache = model.run_with_cache(tokens.ids)
    streams = [cache["blocks.0.hook_resid_pre"], *(cache[f"blocks.{i}.hook_resid_post"] for i in range(4))]
    at = reading.targets.row, reading.targets.position
    for depth, stream in enumerate(streams):
        said = model.unembed(model.ln_final(stream)).detach()[at].log_softmax(-1)
        own = said.gather(1, reading.targets.token[:, None])[:, 0]
        torch.testing.assert_close(reading.log_prob[:, depth], own)
        order = said.argsort(descending=True)
        assert torch.equal(
            reading.rank[:, depth] - 1, (order == reading.targets.token[:, None]).int().argmax(1)
        )
    torch.testing.assert_close(reading.kl[:, -1], torch.zeros(len(reading.targets)), atol=1e-5, rtol=0)
    assert (reading.kl[:, 0] > 1e-3).all()
    assert reading.depths == ("embed", "blocks.0", "blocks.1", "blocks.2", "blocks.3")


def test_targets_are_the_answers_tokens_and_their_own_roles(model: HybridLM) -> None:
    tokens = rows()
    found = logit_lens(model, tokens).targets
    assert len(found) == int(tokens.mask[:, 3:].sum())
    for row, position, token, role in zip(found.row, found.position, found.token, found.role, strict=True):
        assert tokens.ids[row, position + 1] == token
        slot = tokens.roles[row][position + 1]
        assert found.roles[role] == slot.replace(".0", "")


def test_pairs_are_read_where_their_answers_part(random_case) -> None:
    case = random_case("*-")
    reading = logit_lens(case.model, case.pairs)
    logits = case.model(case.pairs.clean.ids)[torch.arange(5), case.pairs.position].detach()
    expected = logits.log_softmax(-1).gather(1, case.pairs.clean_answer[:, None])[:, 0].float()
    torch.testing.assert_close(reading.log_prob[:, -1], expected)
    assert reading.targets.roles == ("schema.table",)


def reading_of(ranks: list[list[int]]) -> LensReading:
    rank = torch.tensor(ranks)
    count = torch.arange(len(rank))
    targets = Targets(
        row=count, position=count, token=count, other=None, role=torch.zeros_like(count), roles=("sql.table",)
    )
    blank = torch.zeros(rank.shape)
    return LensReading(
        lens="logit", depths=("embed", "a", "b", "c"), targets=targets, rank=rank, log_prob=blank, kl=blank
    )


def test_first_and_settled_depths_by_hand() -> None:
    reading = reading_of([[2, 1, 3, 1], [2, 2, 2, 2], [1, 1, 1, 1], [1, 2, 1, 1], [1, 1, 1, 2]])
    assert reading.first_on_top.tolist() == [1, 4, 0, 0, 0]
    assert reading.settled.tolist() == [3, 4, 0, 2, 4]
    assert reading.first_depths().value.tolist() == [[0.6, 0.2, 0, 0, 0.2]]


def test_rows_are_resampled_and_not_tokens() -> None:
    """Two rows of many equal tokens are two observations: the interval reaches from one row's value to the other's."""
    row = torch.tensor([0] * 50 + [1] * 50)
    targets = Targets(
        row=row, position=row, token=row, other=None, role=torch.zeros_like(row), roles=("sql.table",)
    )
    means = role_means(row.float(), targets)
    assert (means.low[0], means.value[0], means.high[0]) == (0.0, 0.5, 1.0)


def test_translators_that_do_nothing_are_the_logit_lens(model: HybridLM) -> None:
    tokens = rows()
    nothing = TunedLens(
        weight=torch.zeros(4, 16, 16),
        bias=torch.zeros(4, 16),
        config=TunedLensConfig(),
        losses=(),
        rows=frozenset(),
    )
    plain, tuned = logit_lens(model, tokens), tuned_lens(model, tokens, nothing)
    assert torch.equal(plain.rank, tuned.rank)
    torch.testing.assert_close(plain.log_prob, tuned.log_prob)


@pytest.fixture(scope="module")
def fitted(model: HybridLM) -> TunedLens:
    return fit_tuned_lens(model, rows(200), TunedLensConfig(steps=40, lr=0.02))


def test_a_tuned_lens_is_nearer_to_the_model_on_rows_it_has_not_seen(
    model: HybridLM, fitted: TunedLens
) -> None:
    unseen = rows(40, seed=1)
    plain, tuned = logit_lens(model, unseen).kl.mean(0), tuned_lens(model, unseen, fitted).kl.mean(0)
    assert (tuned[:-1] < 0.8 * plain[:-1]).all()


def test_fitting_leaves_the_model_and_repeats(model: HybridLM) -> None:
    short = TunedLensConfig(steps=3)
    first, second = (fit_tuned_lens(model, rows(50), short) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    for trained in (first.weight, first.bias):
        assert (trained.flatten(1).abs().amax(1) > 0).all()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_tuned_lens_comes_back_from_disk(fitted: TunedLens, tmp_path) -> None:
    fitted.save(tmp_path)
    back = TunedLens.load(tmp_path)
    assert torch.equal(back.weight, fitted.weight)
    assert (back.config, back.rows, back.losses) == (fitted.config, fitted.rows, fitted.losses)
    (tmp_path / "tuned_lens.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="no whole tuned lens"):
        TunedLens.load(tmp_path)


def test_rows_it_was_fitted_on_and_other_models_are_refused(model: HybridLM, fitted: TunedLens) -> None:
    with pytest.raises(InputError, match="was fitted on 6 of these 6 rows"):
        tuned_lens(model, rows(), fitted)
    other = HybridLM(ModelConfig(pattern="*", d_model=16, n_heads=2, d_vocab=20, n_ctx=16))
    with pytest.raises(InputError, match="4 depths of width 16, this model 1 of 16"):
        tuned_lens(other, rows(6, seed=1), fitted)


def test_no_rows_and_long_rows_are_refused(model: HybridLM) -> None:
    with pytest.raises(InputError, match="no tokens"):
        logit_lens(model, rows()[:0])
    short = HybridLM(ModelConfig(pattern="*", d_model=16, n_heads=2, d_vocab=20, n_ctx=8))
    with pytest.raises(InputError, match="a row of 10 tokens is longer"):
        logit_lens(short, rows())


def test_a_bridge_is_read_alike() -> None:
    shape = {"d_model": 24, "n_heads": 3, "d_head": 8, "n_layers": 2, "n_ctx": 16, "d_vocab": 20, "d_mlp": 32}
    bridge = TransformerBridge.boot_native({**shape, "act_fn": "gelu", "seed": 0})
    reading = logit_lens(bridge, rows())
    logits = bridge(rows().ids)[reading.targets.row, reading.targets.position].detach()
    own = logits.log_softmax(-1).gather(1, reading.targets.token[:, None])[:, 0]
    torch.testing.assert_close(reading.log_prob[:, -1], own)
