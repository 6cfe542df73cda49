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
from transfer.maps.trained import SGDConfig
from transfer.pairing import Side, record_pairs
from transfer.replacement import KLGuide, replace_fully, replacing

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
    assert float(guide(lambda x: x, torch.Generator().manual_seed(0))) == pytest.approx(0, abs=1e-6)
    scale = torch.tensor(0.5, requires_grad=True)
    loss = guide(lambda x: x * scale, torch.Generator().manual_seed(0))
    loss.backward()
    assert float(loss) > 1e-4
    assert float(scale.grad) < 0  # a larger scale, nearer to the identity, loses less


def test_a_guided_autoencoder_diverges_less(side: Side) -> None:
    matches = match_spans(side.reading, side.reading)
    pairs = record_pairs(side, side, matches)
    config = SGDConfig(lr=3e-3, epochs=12, batch_tokens=256, guide_weight=3.0)
    free = fit("autoencoder", pairs, sgd=config)
    guided = fit(
        "autoencoder-kl", pairs, sgd=config, guide=KLGuide(source=side, target=side, matches=matches)
    )
    results = [replace_fully(one, side, side, matches).kl for one in (guided, free)]
    assert results[0] < results[1]


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
