"""Lenses: what is read at every depth, against the model's own parts, and by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from circuits.looking.by_role import Targets, role_means
from circuits.looking.lens import LensReading, logit_lens, tuned_lens
from circuits.looking.translators import (
    TunedLens,
    TunedLensConfig,
    fingerprints,
    fit_tuned_lens,
    translated,
)
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
    with pytest.raises(InputError, match="2 of 6 rows do not fit: the longest has 10 tokens"):
        logit_lens(short, rows())


def test_a_bridge_is_read_alike() -> None:
    shape = {"d_model": 24, "n_heads": 3, "d_head": 8, "n_layers": 2, "n_ctx": 16, "d_vocab": 20, "d_mlp": 32}
    bridge = TransformerBridge.boot_native({**shape, "act_fn": "gelu", "seed": 0})
    reading = logit_lens(bridge, rows())
    logits = bridge(rows().ids)[reading.targets.row, reading.targets.position].detach()
    own = logits.log_softmax(-1).gather(1, reading.targets.token[:, None])[:, 0]
    torch.testing.assert_close(reading.log_prob[:, -1], own)


def test_the_kl_is_from_the_models_prediction_to_the_lens(model: HybridLM) -> None:
    reading = logit_lens(model, rows())
    at = reading.targets.row, reading.targets.position
    logits, cache = model.run_with_cache(rows().ids)
    whole = logits.detach()[at].log_softmax(-1)
    early = model.unembed(model.ln_final(cache["blocks.0.hook_resid_post"])).detach()[at].log_softmax(-1)
    expected = torch.nn.functional.kl_div(early, whole, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(reading.kl[:, 1], expected)


def test_equal_logits_share_the_better_rank(random_case) -> None:
    case = random_case("*-")
    with torch.no_grad():
        case.model.unembed.W_U.zero_()
    assert (logit_lens(case.model, case.pairs).rank == 1).all()


def test_means_by_hand() -> None:
    """Two tokens of one row and one of another: ranks 1 and 2 and 16, probabilities 1, 1/2 and 1/4."""
    count = torch.tensor([0, 0, 1])
    targets = Targets(
        row=count, position=count, token=count, other=None, role=torch.tensor([0, 0, 1]), roles=("a", "b")
    )
    reading = LensReading(
        lens="logit",
        depths=("embed",),
        targets=targets,
        rank=torch.tensor([[1], [2], [16]]),
        log_prob=torch.tensor([[1.0], [0.5], [0.25]]).log(),
        kl=torch.tensor([[0.0], [3.0], [5.0]]),
    )
    for means, expected in (
        (reading.probability(), [0.75, 0.25]),
        (reading.on_top(), [0.5, 0.0]),
        (reading.log2_rank(), [0.5, 4.0]),
        (reading.divergence(), [1.5, 5.0]),
    ):
        assert means.value[:, 0].tolist() == pytest.approx(expected)
        assert means.count.tolist() == [2, 1]
    written = reading.to_json()
    assert (written["targets"], written["rows"]) == (3, 2)
    lines = [{key: line[key] for key in ("role", "tokens", "at", "value")} for line in written["log2_rank"]]
    assert lines == [
        {"role": "a", "tokens": 2, "at": "embed", "value": 0.5},
        {"role": "b", "tokens": 1, "at": "embed", "value": 4.0},
    ]
    assert [line["value"] for line in written["probability"]] == pytest.approx([0.75, 0.25])
    assert [line["value"] for line in written["kl"]] == [1.5, 5.0]


def test_a_translator_by_hand() -> None:
    """`h + h @ A + b` of h = (1, 2), an A that takes the first axis to the second, and b = (3, 0)."""
    weight, bias = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([3.0, 0.0])
    assert translated(torch.tensor([[1.0, 2.0]]), weight, bias).tolist() == [[4.0, 3.0]]


def test_every_depth_has_its_own_translator(model: HybridLM) -> None:
    """Biases alone: at depth d the lens reads the stream there plus the bias of d; the last depth has none."""
    bias = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    nothing = {"config": TunedLensConfig(), "losses": (), "rows": frozenset()}
    found = tuned_lens(model, rows(), TunedLens(weight=torch.zeros(4, 16, 16), bias=bias, **nothing))
    _, cache = model.run_with_cache(rows().ids)
    at = found.targets.row, found.targets.position
    for depth, hook in enumerate(("hook_resid_pre", *["hook_resid_post"] * 4)):
        stream = cache[f"blocks.{max(depth - 1, 0)}.{hook}"] + (bias[depth] if depth < 4 else 0)
        said = model.unembed(model.ln_final(stream)).detach()[at].log_softmax(-1)
        own = said.gather(1, found.targets.token[:, None])[:, 0]
        torch.testing.assert_close(found.log_prob[:, depth], own)


def test_the_first_loss_is_the_logit_lens_own_over_real_tokens_and_depths(model: HybridLM) -> None:
    tokens = rows()
    fitted = fit_tuned_lens(model, tokens, TunedLensConfig(steps=1, batch_size=len(tokens)))
    logits, cache = model.run_with_cache(tokens.ids)
    whole = logits.detach().log_softmax(-1)
    each = []
    for hook in ("blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(3))):
        said = model.unembed(model.ln_final(cache[hook])).detach().log_softmax(-1)
        kl = torch.nn.functional.kl_div(said, whole, reduction="none", log_target=True).sum(-1)
        each.append(kl[tokens.mask].mean())
    assert fitted.losses[0] == pytest.approx(torch.stack(each).mean().item(), rel=1e-4)


def test_the_first_step_goes_down_each_depths_own_gradient(model: HybridLM) -> None:
    """Adam's first step is one rate against the sign of the gradient of the KL at that depth."""
    tokens = rows()
    fitted = fit_tuned_lens(model, tokens, TunedLensConfig(steps=1, batch_size=len(tokens), lr=0.5))
    logits, cache = model.run_with_cache(tokens.ids)
    whole = logits.detach()[tokens.mask].log_softmax(-1)
    for depth, hook in enumerate(
        ("blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(3)))
    ):
        bias = torch.zeros(16, requires_grad=True)
        stream = cache[hook].detach()[tokens.mask] + bias
        said = model.unembed(model.ln_final(stream[None]))[0].log_softmax(-1)
        (gradient,) = torch.autograd.grad((whole.exp() * (whole - said)).sum(-1).mean(), bias)
        clear = gradient.abs() > 1e-5
        assert clear.any()
        torch.testing.assert_close(
            fitted.bias[depth][clear], -0.5 * gradient.sign()[clear], rtol=0.01, atol=0
        )


def test_adams_rate_falls_in_a_line(model: HybridLM) -> None:
    """Two steps of the same rows: a coordinate that goes the same way twice has moved by 1 + 1/2 rates."""
    config = TunedLensConfig(steps=2, batch_size=6, lr=1e-4)
    moved = fit_tuned_lens(model, rows(), config).bias.abs().max()
    assert moved.item() == pytest.approx(1.5e-4, rel=0.02)


def test_the_seed_draws_the_order_of_rows(model: HybridLM) -> None:
    first, other = (fit_tuned_lens(model, rows(50), TunedLensConfig(steps=2, seed=seed)) for seed in (0, 1))
    assert not torch.allclose(first.weight, other.weight)


def test_a_row_is_known_by_its_prompt_and_not_by_its_answer() -> None:
    tokens = rows()
    answers, prompts = tokens.ids.clone(), tokens.ids.clone()
    answers[:, 4] += 1
    prompts[:, 2] += 1
    known = fingerprints(tokens)
    assert len(set(known)) == len(tokens)
    assert fingerprints(replace(tokens, ids=answers)) == known
    assert not set(fingerprints(replace(tokens, ids=prompts))) & set(known)
