"""Small models of transformers and of ours, of any sizes, with random weights; tests of the exchange have them too."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    NemotronHConfig,
    PretrainedConfig,
    Qwen2Config,
)

from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig, RotaryScaling
from tinysql.models.hybrid import HybridLM

NO_FLOOR = {"time_step_min": 1e-30}
"""transformers 5.23 takes this key for the limit of dt, in place of `time_step_limit`."""
MAMBA: dict[str, Any] = {
    "mamba_num_heads": 6,
    "mamba_head_dim": 5,
    "ssm_state_size": 7,
    "n_groups": 3,
    "chunk_size": 8,
}
EXPERTS: dict[str, Any] = {
    "n_routed_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 7,
    "moe_shared_expert_intermediate_size": 9,
    "routed_scaling_factor": 1.7,
}
NEMOTRON: dict[str, Any] = {
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
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
ROTARY: dict[str, Any] = {
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
NEO: dict[str, Any] = {
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
GPT2: dict[str, Any] = {
    "vocab_size": 97,
    "n_embd": 21,
    "n_layer": 3,
    "n_head": 3,
    "n_positions": 50,
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
    "gpt2": GPT2Config(**GPT2),
    "gpt2, unscaled, untied": GPT2Config(
        **GPT2, n_inner=19, scale_attn_weights=False, tie_word_embeddings=False, activation_function="gelu"
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
SLOW = NemotronHConfig(**NEMOTRON, time_step_min=0.8, time_step_max=1.0, time_step_limit=(0.2, 1.1))
"""Of transformers 5.23, whose mixers take `time_step_min` for the limit of dt, and not `time_step_limit`."""


def shake(model: nn.Module, seed: int = 0) -> nn.Module:
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


def theirs(config: PretrainedConfig, folder: Path, seed: int = 0) -> nn.Module:
    """A random model of transformers and its directory."""
    model = shake(AutoModelForCausalLM.from_config(config, **eager(config)), seed)
    model.save_pretrained(folder)
    return model


def edit(folder: Path, **values: Any) -> None:
    """Set keys of a directory's config.json."""
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def limit_dt(model: nn.Module, limits: tuple[float, float]) -> None:
    """Give the Mamba mixers of transformers the limits of dt that config.json names."""
    for layer in model.model.layers:
        if layer.block_type == "linear_attention":
            layer.mixer.time_step_limit = limits


def eager(config: PretrainedConfig) -> dict[str, str]:
    """How transformers has to be told to compute experts of any width."""
    # Their grouped product of experts wants rows of 16 bytes, which odd widths do not have.
    return {"experts_implementation": "eager"} if config.model_type == "nemotron_h" else {}


def ids(vocabulary: int = 97, length: int = 21, seed: int = 1) -> Tensor:
    """Two rows of random tokens."""
    return torch.randint(0, vocabulary, (2, length), generator=torch.Generator().manual_seed(seed))


SMALL: dict[str, Any] = {"d_vocab": 97, "n_ctx": 50, "d_mlp": 13, "eps": 3e-3}
LLAMA = ModelConfig(
    pattern="*-*-", d_model=30, n_heads=3, n_kv_heads=1, gated=True, activation="silu", **SMALL
)
GPT_NEO = ModelConfig(
    pattern="*-*-*-",
    d_model=21,
    n_heads=3,
    norm="layer",
    positions="learned",
    attention_scale=1.0,
    activation="gelu_tanh",
    biases=("norm", "attention_out", "mlp"),
    tied=True,
    window=4,
    windowed_blocks=(2,),
    **SMALL,
)
GPT_2 = ModelConfig(
    pattern="*-*-",
    d_model=21,
    n_heads=3,
    norm="layer",
    positions="learned",
    activation="gelu_tanh",
    biases=("norm", "qkv", "attention_out", "mlp"),
    tied=True,
    **SMALL,
)
HYBRID = ModelConfig(
    pattern="MEM*E-",
    d_model=22,
    n_heads=6,
    n_kv_heads=2,
    d_head=5,
    positions="none",
    activation="relu2",
    mamba=MambaConfig(n_heads=6, d_head=5, d_state=7, n_groups=3, d_conv=3, chunk=8),
    moe=MoEConfig(n_experts=5, n_active=3, d_expert=7, d_shared=9, scale=1.7),
    **SMALL,
)
OURS = {
    "llama": LLAMA,
    "llama with all biases": replace(LLAMA, biases=("qkv", "attention_out", "mlp")),
    "llama, tied, stretched rotation, wide heads": replace(
        LLAMA,
        d_head=14,
        tied=True,
        activation="gelu",
        rotary_base=500.0,
        rotary_scaling=RotaryScaling(factor=8.0, original_n_ctx=16),
    ),
    "qwen2": replace(LLAMA, biases=("qkv",), rotary_base=777.0),
    "qwen2 with heads that do not divide the width": replace(
        LLAMA, biases=("qkv",), n_heads=7, n_kv_heads=7, d_head=6, tied=True
    ),
    "gpt2": GPT_2,
    "gpt2, unscaled, untied": replace(GPT_2, attention_scale=1.0, tied=False, activation="silu"),
    "gpt_neo, global and local": GPT_NEO,
    "gpt_neo, global, untied": replace(
        GPT_NEO, tied=False, window=None, windowed_blocks=(), activation="relu"
    ),
    "nemotron_h": HYBRID,
    "nemotron_h, latent experts, tied, limited dt": replace(
        HYBRID, tied=True, moe=replace(HYBRID.moe, d_latent=11), mamba=replace(HYBRID.mamba, dt_min=0.9)
    ),
    "nemotron_h, Mamba alone, default positions": replace(HYBRID, pattern="MM", positions="rope"),
    "nemotron_h, attention and MLP": replace(HYBRID, pattern="*-*-", activation="gelu"),
}


def ours(config: ModelConfig, seed: int = 3) -> HybridLM:
    """A random model of ours."""
    return shake(HybridLM(config), seed)


def loaded(folder: Path, config: PretrainedConfig) -> nn.Module:
    """What a stock transformers makes of the directory; it must use every weight and miss none."""
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, trust_remote_code=False, **eager(config)
    )
    assert not any(found.values()), found
    return model.eval()


def stock(folder: Path) -> nn.Module:
    """`loaded`, by the directory's own configuration."""
    return loaded(folder, AutoConfig.from_pretrained(folder))


def family(name: str) -> str:
    """Of a name in `THEIRS` or `OURS`: what `model_type` in its config.json says."""
    return name.split(",")[0].split()[0]


def drawn_theirs(config: PretrainedConfig, rng: Random) -> PretrainedConfig:
    """The same kind of model of transformers, in sizes that are drawn."""
    sizes, groups = attention_sizes(rng), rng.choice((1, 2, 3))
    heads, width = sizes["n_heads"], sizes["d_model"]
    has_kv = (
        config.model_type not in ("gpt2", "gpt_neo")
        and config.num_key_value_heads != config.num_attention_heads
    )
    kv = sizes["n_kv_heads"] if has_kv else heads
    own = getattr(config, "head_dim", None) not in (None, config.hidden_size // config.num_attention_heads)
    rows = {"vocab_size": rng.randrange(61, 140, 2)}
    if config.model_type == "gpt2":
        return changed(config, rows | {"n_embd": width, "n_head": heads, "n_inner": rng.randrange(7, 40)})
    rows["hidden_size"], rows["intermediate_size"] = width, rng.randrange(7, 40)
    if config.model_type == "gpt_neo":
        return changed(config, rows | {"num_heads": heads})
    rows |= {"num_attention_heads": heads, "num_key_value_heads": kv}
    rows["head_dim"] = sizes["d_head"] if own else width // heads
    if config.model_type == "nemotron_h":
        rows |= {
            "mamba_num_heads": groups * rng.randrange(1, 4),
            "n_groups": groups,
            "mamba_head_dim": rng.randrange(1, 9),
            "ssm_state_size": rng.randrange(1, 12),
            "n_routed_experts": (experts := rng.randrange(2, 8)),
            "num_experts_per_tok": rng.randrange(1, experts),
            "moe_intermediate_size": rng.randrange(3, 12),
            "moe_shared_expert_intermediate_size": rng.randrange(3, 12),
        }
    return changed(config, rows)


def changed(config: PretrainedConfig, values: dict[str, Any]) -> PretrainedConfig:
    """The same configuration with other values."""
    return type(config).from_dict({**config.to_dict(), **values})


def drawn_ours(config: ModelConfig, rng: Random) -> ModelConfig:
    """The same kind of model of ours, in sizes that are drawn."""
    sizes, groups = attention_sizes(rng), rng.choice((1, 2, 3))
    if config.n_kv_heads in (None, config.n_heads):
        sizes["n_kv_heads"] = None
    if config.d_head is None:
        sizes["d_head"] = None
    mamba, moe = config.mamba, config.moe
    if mamba is not None:
        mamba = replace(
            mamba,
            n_groups=groups,
            n_heads=groups * rng.randrange(1, 4),
            d_head=rng.randrange(1, 9),
            d_state=rng.randrange(1, 12),
            d_conv=rng.randrange(2, 6),
        )
    if moe is not None:
        n = rng.randrange(2, 8)
        moe = replace(
            moe,
            n_experts=n,
            n_active=rng.randrange(1, n),
            d_expert=rng.randrange(3, 12),
            d_shared=rng.randrange(3, 12),
        )
    vocabulary, hidden = rng.randrange(61, 140, 2), rng.randrange(7, 40)
    return replace(config, mamba=mamba, moe=moe, d_vocab=vocabulary, d_mlp=hidden, **sizes)


def attention_sizes(rng: Random) -> dict[str, Any]:
    """Heads, those that share keys, an even width of a head, and a width of the stream that heads divide evenly."""
    heads = rng.randrange(1, 8)
    return {
        "n_heads": heads,
        "n_kv_heads": rng.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        "d_head": 2 * rng.randrange(1, 8),
        "d_model": heads * 2 * rng.randrange(1, 8),
    }
