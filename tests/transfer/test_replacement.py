"""A model that runs on another's mapped activations loses exactly what the map loses."""

import pytest
import torch

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer
from transfer.alignment import match_spans, read
from transfer.maps.fit import fit
from transfer.maps.quality import measure
from transfer.maps.trained import SGDConfig
from transfer.pairing import Side, record_pairs
from transfer.replacement import KLGuide, Replacement, divergence, replace_fully, replacing

HOOK = "blocks.1.hook_resid_post"
TEXTS = [example.text for example in make_examples(DataConfig(command_sets=("cs1",), lexicon="demo"), 0, 12)]


@pytest.fixture(scope="module")
def side() -> Side:
    tokenizer = Tokenizer.train((text.string for text in TEXTS), vocab_size=400)
    shape = ModelConfig(pattern="*-*-", d_model=16, n_heads=2, d_vocab=tokenizer.vocab_size, n_ctx=400)
    return Side(model=HybridLM(shape, seed=1).eval(), hook=HOOK, reading=read(tokenizer, TEXTS))


def test_the_identity_loses_nothing_and_the_mean_everything(side: Side) -> None:
    matches = match_spans(side.reading, side.reading)
    pairs = record_pairs(side, side, matches)
    same = replace_fully(fit("identity", pairs), side, side, matches, batch_size=5)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert same.agreement > 0.999
    assert same.kl_recovered == pytest.approx(1, abs=1e-4)
    assert same.loss_recovered == pytest.approx(1, abs=1e-3)
    assert same.tokens == int(side.reading.tokens.mask.sum())
    mean = replace_fully(fit("mean", pairs), side, side, matches, batch_size=5)
    assert mean.kl == pytest.approx(mean.kl_ablated, rel=1e-4)
    assert mean.kl_recovered == pytest.approx(0, abs=1e-4)
    assert mean.kl_ablated > 0.01
    # The batches make no difference.
    other = replace_fully(fit("mean", pairs), side, side, matches, batch_size=12)
    assert other.kl == pytest.approx(mean.kl, rel=1e-4)


def test_divergence_and_recovery_worked_by_hand() -> None:
    clean, found = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    # .5 ln(.5 / .9) + .5 ln(.5 / .1)
    assert divergence(clean, found).item() == pytest.approx(0.5108, abs=1e-4)
    one = Replacement(
        tokens=1,
        kl=1.0,
        kl_ablated=5.0,
        loss=2.0,
        loss_ablated=5.0,
        loss_clean=1.0,
        agreement=1.0,
        agreement_ablated=0.0,
    )
    assert (one.kl_recovered, one.loss_recovered) == (0.8, 0.75)


def test_only_the_named_positions_are_replaced(side: Side) -> None:
    ids = side.reading.tokens.ids[:2, :8]
    values = torch.ones(2, 8, 16)
    where = torch.zeros(2, 8, dtype=torch.bool)
    where[0, 3] = where[1, 5] = True
    before = side.model.run_with_cache(ids)[1][HOOK]
    with replacing(side.model, HOOK, values, where):
        after = side.model.run_with_cache(ids)[1]["blocks.2.hook_resid_pre"]
    assert torch.equal(after[where], values[where])
    assert torch.equal(after[~where], before[~where])
    assert torch.equal(side.model.run_with_cache(ids)[1][HOOK], before)


def test_the_kl_guide_is_zero_for_the_identity_and_has_a_gradient_elsewhere(side: Side) -> None:
    matches = match_spans(side.reading, side.reading)
    guide = KLGuide(source=side, target=side, matches=matches)
    assert guide(lambda x: x, torch.Generator().manual_seed(0)).item() == pytest.approx(0, abs=1e-6)
    scale = torch.tensor(0.5, requires_grad=True)
    loss = guide(lambda x: x * scale, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(loss, scale)
    assert loss.item() > 1e-4
    assert gradient.item() < 0  # a larger scale, nearer to the identity, loses less


def test_a_guided_autoencoder_that_is_too_narrow_keeps_what_the_target_uses(side: Side) -> None:
    matches = match_spans(side.reading, side.reading)
    pairs = record_pairs(side, side, matches)
    config = SGDConfig(lr=1e-2, epochs=20, batch_tokens=512, hidden=3, guide_weight=10.0)
    guide = KLGuide(source=side, target=side, matches=matches, texts=12)
    guided, free = (
        fit("autoencoder-kl", pairs, sgd=config, guide=guide),
        fit("autoencoder", pairs, sgd=config),
    )
    kl = [replace_fully(one, side, side, matches).kl for one in (guided, free)]
    assert kl[0] < 0.85 * kl[1]
    assert measure(guided, pairs).fvu > measure(free, pairs).fvu
    # The target itself has learned nothing.
    assert all(weight.grad is None for weight in side.model.parameters())


def test_a_map_of_other_widths_is_refused(side: Side) -> None:
    matches = match_spans(side.reading, side.reading)
    narrow = Side(
        model=HybridLM(
            ModelConfig(pattern="*-", d_model=8, n_heads=2, d_vocab=side.model.cfg.d_vocab, n_ctx=400)
        ),
        hook="blocks.0.hook_resid_post",
        reading=side.reading,
    )
    found = fit("affine", record_pairs(side, narrow, matches))
    with pytest.raises(InputError, match=r"images are 8 wide, `blocks.1.hook_resid_post` is 16"):
        replace_fully(found, side, side, matches)
