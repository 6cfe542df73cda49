"""Somebody's GPT-2 in TransformerLens' bridge: recorded, explained and scored at its own hooks, as it is."""

import warnings
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from saes.activations import capture, record
from saes.disk import load, save, stock
from saes.training.sae import SAEConfig, train_sae
from saes.truth.alignment import truth
from tinysql.models.foreign import as_hybrid
from tinysql.tokens import Tokenizer, Tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens.model_bridge import TransformerBridge

DATA = DataConfig(command_sets=("cs1", "cs2"), lexicon="demo", max_columns=4)
HOOK = "blocks.1.hook_resid_post"
OURS = {
    HOOK: "blocks.3.hook_resid_post",
    "blocks.1.mlp.hook_post": "blocks.3.mlp.hook_post",
    "blocks.0.attn.hook_z": "blocks.0.attn.hook_z",
}
"""Hooks of the bridge, and those of the `HybridLM` with its weights, in which a layer is two blocks."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([make_example(DATA, index).text.string for index in range(24)], vocab_size=400)


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> Tokens:
    return tokenizer.encode([make_example(DATA, index) for index in range(24)])


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> TransformerBridge:
    folder = tmp_path_factory.mktemp("gpt2")
    shape = {"vocab_size": 400, "n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 192}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.3, bos_token_id=None, eos_token_id=None))
    model.save_pretrained(folder)
    return TransformerBridge.boot_transformers(str(folder), device="cpu")


@pytest.mark.parametrize("hook", OURS)
def test_a_bridge_carries_what_the_hybrid_with_its_weights_does(
    hook: str, bridge: TransformerBridge, tokens: Tokens
) -> None:
    found = record(bridge, tokens, hook, batch_size=7)
    expected = record(as_hybrid(bridge), tokens, OURS[hook])
    torch.testing.assert_close(found.values, expected.values, atol=2e-5, rtol=0)
    assert found.roles == expected.roles


def test_recording_leaves_no_trace_in_a_bridge(bridge: TransformerBridge, tokens: Tokens) -> None:
    before = bridge(tokens.ids[:2])
    record(bridge, tokens, HOOK)
    assert not any(point.has_hooks() for point in bridge.hook_dict.values())
    assert torch.equal(bridge(tokens.ids[:2]), before)


def test_an_sae_of_a_bridge_is_trained_saved_loaded_and_scored(
    bridge: TransformerBridge, tokens: Tokens, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    activations = record(bridge, tokens, HOOK)
    trained = train_sae(activations, SAEConfig(d_sae=96, steps=60, batch_size=128), model_name="gpt2")
    assert trained.record.loss[-1] < 0.7 * trained.record.loss[0]
    save(trained.sae, tmp_path)
    for sae in (load(tmp_path), stock().SAE.load_from_disk(tmp_path)):
        assert (sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name) == ("gpt2", HOOK)
        assert torch.equal(sae.encode(activations.values), trained.sae.encode(activations.values))
    alignment = truth(load(tmp_path), bridge, tokens, tokenizer=tokenizer)
    assert (alignment.hook, alignment.tokens, alignment.n_latents) == (HOOK, len(activations), 96)
    assert alignment.sae.fvu == pytest.approx(trained.record.fvu, abs=1e-4)


def test_hooks_that_a_bridge_lacks_or_has_switched_off_are_refused(
    bridge: TransformerBridge, tokens: Tokens
) -> None:
    with pytest.raises(InputError, match=r"no hook `blocks\.1\.hook_resid_pots`; did you mean"):
        capture(bridge, tokens.ids, "blocks.1.hook_resid_pots")
    with pytest.raises(
        InputError, match=r"`blocks\.0\.attn\.hook_result` is switched off: .*set_use_attn_result"
    ):
        capture(bridge, tokens.ids, "blocks.0.attn.hook_result")
    with pytest.raises(InputError, match="not one row per token"):
        capture(bridge, tokens.ids, "blocks.0.attn.hook_pattern")
