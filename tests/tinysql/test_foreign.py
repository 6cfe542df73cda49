"""Models of TransformerLens' bridge as a `HybridLM`: the same logits, or one sentence."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.foreign import as_hybrid
from tinysql.models.huggingface.tokenizer import write_tokenizer
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens.model_bridge import TransformerBridge

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}
ROTARY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 30,
    "intermediate_size": 17,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 50,
    "rms_norm_eps": 3e-3,
    **NO_TOKENS,
}
CONFIGS = {
    "gpt2": GPT2Config(
        vocab_size=97, n_embd=21, n_layer=2, n_head=3, n_positions=50, n_inner=19, **NO_TOKENS
    ),
    "gpt_neo": GPTNeoConfig(
        vocab_size=97,
        hidden_size=21,
        num_layers=2,
        num_heads=3,
        max_position_embeddings=50,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        **NO_TOKENS,
    ),
    "qwen2": Qwen2Config(**ROTARY, tie_word_embeddings=True),
    "llama": LlamaConfig(**ROTARY),
}


def bridge(config: PretrainedConfig, folder: Path, dtype: torch.dtype = torch.float32) -> TransformerBridge:
    """A random model, saved and booted as somebody's own would be."""
    model, generator = AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            offset = 0.7 if weight.ndim == 1 else 0.0
            weight.normal_(offset, 0.3, generator=generator)
    model.save_pretrained(folder)
    write_tokenizer(folder, Tokenizer.train(["a b"], vocab_size=97), 50)
    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=dtype)


def ids(length: int = 21) -> Tensor:
    return torch.randint(0, 97, (2, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bridge_becomes_a_hybrid_with_its_logits(name: str, tmp_path: Path) -> None:
    theirs = bridge(CONFIGS[name], tmp_path)
    model = as_hybrid(theirs)
    assert isinstance(model, HybridLM)
    assert model.cfg.pattern == "*-*-"
    assert model.cfg.tied == CONFIGS[name].tie_word_embeddings
    with torch.no_grad():
        for length in (1, 21, 50):
            torch.testing.assert_close(model(ids(length)), theirs(ids(length)), atol=3e-5, rtol=0)


def test_the_weights_are_copies(tmp_path: Path) -> None:
    theirs = bridge(CONFIGS["gpt2"], tmp_path)
    before, model = theirs(ids()), as_hybrid(theirs)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(theirs(ids()), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_of_the_bridge_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    model = as_hybrid(bridge(CONFIGS["llama"], tmp_path, dtype))
    assert {weight.dtype for weight in model.parameters()} == {dtype}


def test_a_hybrid_goes_through_unchanged() -> None:
    model = HybridLM(ModelConfig(d_model=16, n_heads=2))
    assert as_hybrid(model) is model


def test_anything_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"is a Linear, expected a HybridLM or a TransformerBridge\n.*GPT-2, GPT-Neo"
    ):
        as_hybrid(torch.nn.Linear(2, 2))
    bloom = BloomConfig(vocab_size=97, hidden_size=24, n_layer=1, n_head=3, **NO_TOKENS)
    with pytest.raises(InputError, match="of type 'bloom', expected GPT-2, GPT-Neo, Llama or Qwen2"):
        as_hybrid(bridge(bloom, tmp_path))


def test_what_a_hybrid_cannot_compute_is_refused(tmp_path: Path) -> None:
    config = LlamaConfig(
        **ROTARY, rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}
    )
    with pytest.raises(
        InputError, match="bridge's configuration: `rope_parameters` is .*rope_type` default or"
    ):
        as_hybrid(bridge(config, tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2", "logits are not those of its weights"),
        ("gpt_neo", "weights are not those of its configuration"),
    ],
)
def test_weights_that_the_bridge_rewrote_are_refused(name: str, message: str, tmp_path: Path) -> None:
    theirs = bridge(CONFIGS[name], tmp_path / "rewritten")
    theirs.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(InputError, match=rf"{message}.*\n.*enable_compatibility_mode"):
        as_hybrid(theirs)
    theirs = bridge(CONFIGS[name], tmp_path / "as they are")
    theirs.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    torch.testing.assert_close(as_hybrid(theirs)(ids()), theirs(ids()), atol=3e-5, rtol=0)
