"""Foreign models through TransformerLens' bridge: the same functions, held to the bridge's own hooks."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen2Config,
)

from circuits.circuit import Circuit
from circuits.engine.forward import run_circuit
from circuits.graph import Graph
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.methods.unit_scores import unit_scores
from data_gen.errors import InputError
from tinysql.models.foreign import as_hybrid
from tinysql.models.huggingface.tokenizer import write_tokenizer
from tinysql.tokens import Tokenizer, TokenPairs

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformer_lens.model_bridge import TransformerBridge

ENDS = {"bos_token_id": None, "eos_token_id": None}
ROTARY = {
    "vocab_size": 97,
    "hidden_size": 24,
    "intermediate_size": 17,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 50,
    **ENDS,
}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=97, n_embd=24, n_layer=2, n_head=3, n_positions=50, n_inner=19, **ENDS),
    "gpt_neo": GPTNeoConfig(
        vocab_size=97,
        hidden_size=24,
        num_layers=2,
        num_heads=3,
        max_position_embeddings=50,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        **ENDS,
    ),
    "qwen2": Qwen2Config(**ROTARY, tie_word_embeddings=True),
    "llama": LlamaConfig(**ROTARY),
}


def bridge(config: PretrainedConfig, folder: Path) -> TransformerBridge:
    model, generator = AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.7 if weight.ndim == 1 else 0.0, 0.3, generator=generator)
    model.save_pretrained(folder)
    write_tokenizer(folder, Tokenizer.train(["a b"], vocab_size=97), 50)
    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


@pytest.fixture
def pairs(pairs_of) -> TokenPairs:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(0, 97, (3, 9), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2:4] = torch.randint(0, 97, (3, 2), generator=generator)
    answers = torch.randint(0, 97, (2, 3), generator=generator)
    return pairs_of(clean, corrupt, torch.full((3,), 8), *answers)


@pytest.mark.parametrize("family", CONFIGS)
def test_scores_of_heads_are_those_that_the_bridges_own_hooks_give(
    family: str, pairs, tmp_path: Path
) -> None:
    """Layer i of the bridge is the blocks 2i and 2i + 1; a head's edges sum to its units' scores."""
    theirs = bridge(CONFIGS[family], tmp_path)
    scores = eap_ig(as_hybrid(theirs), pairs, steps=2)
    for layer in range(2):
        units = unit_scores(theirs, pairs, f"blocks.{layer}.attn.hook_z", steps=2)
        mine = [i for i, writer in enumerate(scores.graph.writers) if writer.block == 2 * layer]
        heads = units.per_example.unflatten(1, (len(mine), -1)).sum(-1)
        assert heads.abs().max() > 1e-3
        torch.testing.assert_close(scores.of_writers()[:, mine], heads, rtol=1e-3, atol=1e-4)


def test_a_circuit_of_a_foreign_model_runs_and_is_patched(pairs, tmp_path: Path) -> None:
    theirs = bridge(CONFIGS["llama"], tmp_path)
    model = as_hybrid(theirs)
    graph = Graph.of(model)
    with torch.no_grad():
        expected = theirs(pairs.clean.ids)[:, 8]
    torch.testing.assert_close(
        run_circuit(model, Circuit(graph, graph.edges), pairs), expected, rtol=1e-3, atol=1e-3
    )
    assert exact(model, pairs).per_example.abs().max() > 1e-3


def test_a_bridge_that_is_not_taken_over_first_is_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="the model is a TransformerBridge, expected a HybridLM\n.*as_hybrid"
    ):
        Graph.of(bridge(CONFIGS["gpt2"], tmp_path))
