"""Checkpoints of transformers and `HybridLM`, both ways: the same logits, the same ids, or one sentence."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, LlamaConfig, NemotronHConfig, Qwen2Config

from tinysql.models.huggingface import from_hf

NO_FLOOR = {"time_step_min": 1e-30}
"""transformers 5.23 takes this key for the limit of dt, in place of `time_step_limit`."""
CLOSE = {"atol": 1e-4, "rtol": 0.0}

MAMBA = {"mamba_num_heads": 6, "mamba_head_dim": 5, "ssm_state_size": 7, "n_groups": 3, "chunk_size": 8}
EXPERTS = {
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 7,
    "moe_shared_expert_intermediate_size": 9,
    "routed_scaling_factor": 1.7,
}
NEMOTRON = {
    "vocab_size": 97,
    "hidden_size": 22,
    "hybrid_override_pattern": "MEM*E-",
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 5,
    "intermediate_size": 13,
    "max_position_embeddings": 50,
    "layer_norm_epsilon": 3e-3,
    **MAMBA,
    **EXPERTS,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ROTARY = {
    "vocab_size": 97,
    "hidden_size": 30,
    "intermediate_size": 17,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 50,
    "rms_norm_eps": 3e-3,
    "bos_token_id": None,
    "eos_token_id": None,
}
NEO = {
    "vocab_size": 97,
    "hidden_size": 21,
    "num_layers": 3,
    "num_heads": 3,
    "max_position_embeddings": 50,
    "window_size": 4,
    "attention_types": [[["global", "local"], 1], [["local"], 1]],
    "layer_norm_epsilon": 3e-3,
    "bos_token_id": None,
    "eos_token_id": None,
}
THEIRS = {
    "llama": LlamaConfig(**ROTARY),
    "llama with all biases": LlamaConfig(**ROTARY, attention_bias=True, mlp_bias=True),
    "llama, tied, stretched rotation, wide heads": LlamaConfig(
        **ROTARY, tie_word_embeddings=True, head_dim=14, rope_parameters=dict(LLAMA3), hidden_act="gelu"
    ),
    "qwen2": Qwen2Config(**ROTARY, rope_parameters={"rope_type": "default", "rope_theta": 777.0}),
    "qwen2, tied, every head its own": Qwen2Config(
        **(ROTARY | {"num_key_value_heads": 3}), tie_word_embeddings=True
    ),
    "gpt_neo, global and local": GPTNeoConfig(**NEO),
    "gpt_neo, global, untied": GPTNeoConfig(
        **(NEO | {"attention_types": [[["global"], 3]]}), intermediate_size=19, tie_word_embeddings=False
    ),
    "nemotron_h": NemotronHConfig(**NEMOTRON, **NO_FLOOR),
    "nemotron_h, latent experts": NemotronHConfig(**NEMOTRON, moe_latent_size=11, **NO_FLOOR),
    "nemotron_h, Mamba and MLP": NemotronHConfig(
        **(NEMOTRON | {"hybrid_override_pattern": "M-M*-"}), **NO_FLOOR, mlp_hidden_act="silu"
    ),
}


def shake(model, seed=0):
    """Random weights everywhere, norms, biases, routers and buffers included, so that none can be forgotten."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            noise = torch.empty_like(weight).normal_(0.0, 1.0, generator=generator)
            if "A_log" in name:
                weight.copy_(noise * 0.5)
            elif weight.ndim > 1:
                weight.copy_(noise * 0.3)
            else:
                weight.copy_(0.7 + 0.3 * noise)
    return model.eval()


def theirs(config, folder):
    """A random model of transformers and its directory."""
    model = shake(AutoModelForCausalLM.from_config(config, **eager(config)))
    model.save_pretrained(folder)
    return model


def eager(config):
    # Their grouped product of experts wants rows of 16 bytes, which odd widths do not have.
    return {"experts_implementation": "eager"} if config.model_type == "nemotron_h" else {}


def ids(vocabulary=97, length=21, seed=1):
    return torch.randint(0, vocabulary, (2, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", THEIRS)
def test_imported_models_compute_the_logits_of_transformers(name, tmp_path):
    expected = theirs(THEIRS[name], tmp_path)
    model = from_hf(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(model(ids()), expected(ids()).logits, **CLOSE)
