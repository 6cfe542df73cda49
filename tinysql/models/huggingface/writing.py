"""`ModelConfig` -> `config.json` that transformers reads: which family a model is, or why it is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig, MoEConfig

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu2": "relu2"}
"""Our names of activations, and transformers'."""
ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_neo": "GPTNeoForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "nemotron_h": "NemotronHForCausalLM",
}
SMALLEST_STEP = 1e-30
"""Written as `time_step_min` where dt has no lower limit: transformers 5.23 uses that key as the limit, and 0 has no
logarithm, which it takes of it to draw weights."""


class Need(NamedTuple):
    """One thing that a family asks of a model."""

    met: bool
    what: str
    """What the model has."""
    wanted: str


def family_of(config: ModelConfig) -> str:
    """The family whose transformers class computes what a model of this shape does.

    Raises:
        InputError: there is none; the sentence names the first thing that the nearest family has otherwise.
    """
    family, needs = _nearest(config)
    unmet = next((need for need in needs if not need.met), None)
    if unmet is not None:
        raise InputError(
            f"no transformers family fits this model: it has {unmet.what}, and the nearest, {family}, "
            f"needs {unmet.wanted}",
            hint=f"train a model of one of the families: {'; '.join(FAMILIES)}",
        )
    return family


def write_config(config: ModelConfig) -> dict[str, Any]:
    """`config.json` of a model, token ids and dtype aside.

    Raises:
        InputError: as `family_of`.
    """
    family = family_of(config)
    head = {"model_type": family, "architectures": [ARCHITECTURES[family]]}
    return {**head, **WRITERS[family](config)}


FAMILIES = (
    "llama (pattern *-*-, rms norms, rope, gated)",
    "qwen2 (the same with qkv biases)",
    "gpt2 (pattern *-*-, layer norms, learned positions, all biases)",
    "gpt_neo (pattern *-*-, layer norms, learned positions, attention_scale 1, biases on norm, attention_out, mlp)",
    "nemotron_h (any pattern, rms norms, positions none, relu2, no biases)",
)


def _nearest(config: ModelConfig) -> tuple[str, Iterator[Need]]:
    if set("ME") & set(config.pattern) or config.positions == "none":
        return "nemotron_h", _nemotron_h(config)
    if config.norm == "layer" or config.positions == "learned":
        if "qkv" in config.biases:
            return "gpt2", _gpt2(config)
        return "gpt_neo", _gpt_neo(config)
    if set(config.biases) == {"qkv"}:
        return "qwen2", _rotary_transformer(config)
    return "llama", _llama(config)


def _pairs(config: ModelConfig) -> Need:
    pairs = config.pattern == "*-" * (len(config.pattern) // 2)
    return Need(pairs, f"pattern {config.pattern!r}", "`*-` repeated")


def _is(config: ModelConfig, name: str, wanted: object) -> Need:
    value = getattr(config, name)
    return Need(value == wanted, f"{name} {value!r}", repr(wanted))


def _scale(config: ModelConfig, wanted: float, described: str) -> Need:
    scale = config.attention_scale if config.attention_scale is not None else config.head_width**-0.5
    return Need(scale == wanted, f"attention_scale {config.attention_scale!r}", described)


def _biases(config: ModelConfig, *allowed: frozenset[str]) -> Need:
    wanted = " or ".join(str(sorted(each)) if each else "none" for each in allowed)
    return Need(frozenset(config.biases) in allowed, f"biases {sorted(config.biases)}", wanted)


def _rotary_transformer(config: ModelConfig) -> Iterator[Need]:
    yield _pairs(config)
    yield _is(config, "norm", "rms")
    yield _is(config, "positions", "rope")
    yield _is(config, "gated", True)
    yield _is(config, "window", None)
    yield _scale(config, config.head_width**-0.5, "None")


def _llama(config: ModelConfig) -> Iterator[Need]:
    yield from _rotary_transformer(config)
    attention, mlp = frozenset({"qkv", "attention_out"}), frozenset({"mlp"})
    yield _biases(config, frozenset(), attention, mlp, attention | mlp)
    whole = config.d_model % config.n_heads == 0
    yield Need(whole, f"d_model {config.d_model} and n_heads {config.n_heads}", "n_heads to divide d_model")


def _gpt2(config: ModelConfig) -> Iterator[Need]:
    yield from _gpt(config, frozenset({"norm", "qkv", "attention_out", "mlp"}))
    yield _is(config, "window", None)
    if config.attention_scale != 1.0:
        yield _scale(config, config.head_width**-0.5, "None or 1.0")


def _gpt_neo(config: ModelConfig) -> Iterator[Need]:
    yield from _gpt(config, frozenset({"norm", "attention_out", "mlp"}))
    yield _scale(config, 1.0, "1.0")


def _gpt(config: ModelConfig, biases: frozenset[str]) -> Iterator[Need]:
    yield _pairs(config)
    yield _is(config, "norm", "layer")
    yield _is(config, "positions", "learned")
    yield _is(config, "gated", False)
    yield _biases(config, biases)
    yield Need(config.kv_heads == config.n_heads, f"n_kv_heads {config.kv_heads}", "as many as n_heads")
    width = config.n_heads * config.head_width
    yield Need(width == config.d_model, f"d_head {config.head_width}", "d_model / n_heads")


def _nemotron_h(config: ModelConfig) -> Iterator[Need]:
    yield _is(config, "norm", "rms")
    # Without attention nothing turns.
    nowhere = config.positions == "none" or (config.positions == "rope" and "*" not in config.pattern)
    yield Need(nowhere, f"positions {config.positions!r}", "'none'")
    yield _biases(config, frozenset())
    if "-" in config.pattern:
        yield _is(config, "gated", False)
        if "E" in config.pattern:
            yield _is(config, "activation", "relu2")
    if "*" in config.pattern:
        yield _is(config, "window", None)
        yield _scale(config, config.head_width**-0.5, "None")
    if "E" in config.pattern:
        # transformers ranks groups of experts by the best two of each.
        yield Need(config.moe.n_experts > 1, "moe.n_experts 1", "at least 2")


def _write_llama(config: ModelConfig) -> dict[str, Any]:
    biased = {"attention_bias": "qkv" in config.biases, "mlp_bias": "mlp" in config.biases}
    return {**_write_qwen2(config), **biased}


def _write_qwen2(config: ModelConfig) -> dict[str, Any]:
    rotary: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rotary_base}
    if config.rotary_scaling is not None:
        rotary |= {
            "rope_type": "llama3",
            "factor": config.rotary_scaling.factor,
            "low_freq_factor": config.rotary_scaling.low,
            "high_freq_factor": config.rotary_scaling.high,
            "original_max_position_embeddings": config.rotary_scaling.original_n_ctx,
        }
    return {
        "vocab_size": config.d_vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": len(config.pattern) // 2,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.n_ctx,
        "rms_norm_eps": config.eps,
        "rope_parameters": rotary,
        # Readers from before `rope_parameters` look here.
        "rope_theta": config.rotary_base,
        "tie_word_embeddings": config.tied,
    }


def _write_gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.d_vocab,
        "n_embd": config.d_model,
        "n_inner": config.mlp_width,
        "n_layer": len(config.pattern) // 2,
        "n_head": config.n_heads,
        "scale_attn_weights": config.attention_scale != 1.0,
        "activation_function": ACTIVATIONS[config.activation],
        "n_positions": config.n_ctx,
        "layer_norm_epsilon": config.eps,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": config.tied,
    }


def _write_gpt_neo(config: ModelConfig) -> dict[str, Any]:
    blocks = range(0, len(config.pattern), 2)
    kinds = ["local" if block in config.windowed_blocks else "global" for block in blocks]
    return {
        "vocab_size": config.d_vocab,
        "hidden_size": config.d_model,
        "intermediate_size": config.mlp_width,
        "num_layers": len(blocks),
        "num_heads": config.n_heads,
        "attention_types": [[kinds, 1]],
        "window_size": config.window if config.window is not None else 256,
        "activation_function": ACTIVATIONS[config.activation],
        "max_position_embeddings": config.n_ctx,
        "layer_norm_epsilon": config.eps,
        "resid_dropout": 0.0,
        "embed_dropout": 0.0,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tied,
    }


def _write_nemotron_h(config: ModelConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        "vocab_size": config.d_vocab,
        "hidden_size": config.d_model,
        # The older spelling, which every version of transformers reads.
        "hybrid_override_pattern": config.pattern,
        "num_hidden_layers": len(config.pattern),
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.n_ctx,
        "layer_norm_epsilon": config.eps,
        "tie_word_embeddings": False,
        # A cache of transformers counts positions in attention blocks alone, and fails where there are none.
        "use_cache": "*" in config.pattern,
    }
    if "-" in config.pattern:
        activation = ACTIVATIONS[config.activation]
        values |= {"intermediate_size": config.mlp_width, "mlp_hidden_act": activation}
    if "M" in config.pattern:
        values |= _mamba(config)
    if "E" in config.pattern:
        values |= _moe(config.moe)
    return values


def _mamba(config: ModelConfig) -> dict[str, Any]:
    mamba = config.mamba
    highest = mamba.dt_max if mamba.dt_max is not None else {"__float__": "Infinity"}
    return {
        "mamba_num_heads": config.mamba_heads,
        "mamba_head_dim": mamba.d_head,
        "ssm_state_size": mamba.d_state,
        "n_groups": mamba.n_groups,
        "conv_kernel": mamba.d_conv,
        "chunk_size": mamba.chunk,
        "time_step_limit": [mamba.dt_min, highest],
        "time_step_min": max(mamba.dt_min, SMALLEST_STEP),
    }


def _moe(moe: MoEConfig) -> dict[str, Any]:
    return {
        "n_routed_experts": moe.n_experts,
        "num_experts_per_tok": moe.n_active,
        "moe_intermediate_size": moe.d_expert,
        "moe_shared_expert_intermediate_size": moe.d_shared,
        "moe_latent_size": moe.d_latent,
        "routed_scaling_factor": moe.scale,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
    }


WRITERS: Mapping[str, Callable[[ModelConfig], dict[str, Any]]] = {
    "gpt2": _write_gpt2,
    "gpt_neo": _write_gpt_neo,
    "llama": _write_llama,
    "qwen2": _write_qwen2,
    "nemotron_h": _write_nemotron_h,
}
