"""`config.json` of a checkpoint -> `ModelConfig`; what a `HybridLM` cannot compute is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from data_gen.errors import InputError
from tinysql.models.config import Biased, MambaConfig, ModelConfig, MoEConfig, RotaryScaling
from tinysql.models.huggingface.settings import Settings, as_real

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}
"""transformers' names of activations, and ours."""
BLOCKS = {
    "linear_attention": "M",
    "mamba": "M",
    "full_attention": "*",
    "attention": "*",
    "moe": "E",
    "mlp": "-",
}
"""NemotronH's names of blocks, newer and older, and ours."""


def read_config(settings: Settings) -> tuple[str, ModelConfig]:
    """The family (`model_type`) and the shape of the model.

    Raises:
        InputError: the family is unknown, or a value is none that a `HybridLM` can hold.
    """
    family = settings.values.get("model_type")
    if not isinstance(family, str) or family not in READERS:
        raise InputError(
            f"{settings.where}: `model_type` is {family!r}, which cannot be imported",
            hint=f"choose a checkpoint of one of: {', '.join(READERS)}",
        )
    if settings.values.get("quantization_config") is not None:
        raise InputError(
            f"{settings.where}: the checkpoint is quantized", hint="choose the one in bfloat16 or float32"
        )
    return family, READERS[family](settings)


def read_llama(settings: Settings) -> ModelConfig:
    """Llama: attention and gated MLP in turn, RMSNorm, rotary positions."""
    attention: tuple[Biased, ...] = ("qkv", "attention_out") if settings.flag("attention_bias", False) else ()
    mlp: tuple[Biased, ...] = ("mlp",) if settings.flag("mlp_bias", False) else ()
    return _rotary_transformer(settings, attention + mlp, n_ctx=2048)


def read_qwen2(settings: Settings) -> ModelConfig:
    """Qwen2: Llama with biases on queries, keys and values."""
    settings.only("use_sliding_window", False)
    kinds = settings.values.get("layer_types") or []
    if any(kind != "full_attention" for kind in kinds):
        raise settings.wrong("layer_types", "`full_attention` throughout")
    return _rotary_transformer(settings, ("qkv",), n_ctx=32768)


def read_gpt2(settings: Settings) -> ModelConfig:
    """GPT-2: LayerNorm, learned positions, biases everywhere, gelu in its tanh form."""
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        settings.only(name, False)
    return ModelConfig(
        pattern="*-" * settings.whole("n_layer"),
        d_model=settings.whole("n_embd"),
        n_heads=settings.whole("n_head"),
        d_mlp=settings.optional_whole("n_inner"),
        d_vocab=settings.whole("vocab_size"),
        n_ctx=settings.whole("n_positions", default=1024),
        norm="layer",
        positions="learned",
        attention_scale=None if settings.flag("scale_attn_weights", True) else 1.0,
        activation=settings.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        biases=("norm", "qkv", "attention_out", "mlp"),
        tied=settings.flag("tie_word_embeddings", True),
        eps=settings.real("layer_norm_epsilon", default=1e-5),
    )


def read_gpt_neo(settings: Settings) -> ModelConfig:
    """GPT-Neo: LayerNorm, learned positions, unscaled attention that is global or local by layer."""
    layers = settings.whole("num_layers")
    local = [2 * i for i, kind in enumerate(_attention_kinds(settings, layers)) if kind == "local"]
    return ModelConfig(
        pattern="*-" * layers,
        d_model=settings.whole("hidden_size"),
        n_heads=settings.whole("num_heads"),
        d_mlp=settings.optional_whole("intermediate_size"),
        d_vocab=settings.whole("vocab_size"),
        n_ctx=settings.whole("max_position_embeddings", default=2048),
        norm="layer",
        positions="learned",
        window=settings.whole("window_size", default=256) if local else None,
        windowed_blocks=tuple(local),
        attention_scale=1.0,
        activation=settings.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        biases=("norm", "attention_out", "mlp"),
        tied=settings.flag("tie_word_embeddings", True),
        eps=settings.real("layer_norm_epsilon", default=1e-5),
    )


def read_nemotron_h(settings: Settings) -> ModelConfig:
    """NemotronH: any pattern of `M`, `*`, `E` and `-`, RMSNorm, no positions."""
    for name in ("use_bias", "mamba_proj_bias", "mlp_bias", "attention_bias"):
        settings.only(name, False)
    if settings.values.get("sliding_window") is not None:
        raise settings.wrong("sliding_window", "null")
    pattern = _pattern(settings)
    activation = settings.one_of("mlp_hidden_act", ACTIVATIONS, "relu2")
    if "E" in pattern and activation != "relu2":
        raise settings.wrong("mlp_hidden_act", "relu2, as tinysql's experts have it")
    return ModelConfig(
        pattern=pattern,
        d_model=settings.whole("hidden_size"),
        n_heads=settings.whole("num_attention_heads"),
        n_kv_heads=settings.optional_whole("num_key_value_heads"),
        d_head=settings.whole("head_dim", "attention_head_dim", default=128),
        d_mlp=settings.whole("intermediate_size") if "-" in pattern else None,
        d_vocab=settings.whole("vocab_size"),
        n_ctx=settings.whole("max_position_embeddings", default=4096),
        positions="none",
        activation=activation,
        tied=settings.flag("tie_word_embeddings", False),
        eps=settings.real("layer_norm_epsilon", default=1e-5),
        mamba=_mamba(settings) if "M" in pattern else MambaConfig(),
        moe=_moe(settings) if "E" in pattern else MoEConfig(),
    )


READERS: Mapping[str, Callable[[Settings], ModelConfig]] = {
    "gpt2": read_gpt2,
    "gpt_neo": read_gpt_neo,
    "llama": read_llama,
    "qwen2": read_qwen2,
    "nemotron_h": read_nemotron_h,
}


def _rotary_transformer(settings: Settings, biases: tuple[Biased, ...], n_ctx: int) -> ModelConfig:
    base, scaling = _rotary(settings)
    return ModelConfig(
        pattern="*-" * settings.whole("num_hidden_layers"),
        d_model=settings.whole("hidden_size"),
        n_heads=settings.whole("num_attention_heads"),
        n_kv_heads=settings.optional_whole("num_key_value_heads"),
        d_head=settings.optional_whole("head_dim"),
        d_mlp=settings.whole("intermediate_size"),
        d_vocab=settings.whole("vocab_size"),
        n_ctx=settings.whole("max_position_embeddings", default=n_ctx),
        rotary_base=base,
        rotary_scaling=scaling,
        activation=settings.one_of("hidden_act", ACTIVATIONS, "silu"),
        gated=True,
        biases=biases,
        tied=settings.flag("tie_word_embeddings", False),
        eps=settings.real("rms_norm_eps", default=1e-6),
    )


def _rotary(settings: Settings) -> tuple[float, RotaryScaling | None]:
    """Base and scaling, from `rope_parameters` or the older `rope_theta` and `rope_scaling`."""
    settings.only("partial_rotary_factor", 1.0)
    name = "rope_scaling" if settings.values.get("rope_scaling") else "rope_parameters"
    values = settings.values.get(name) or {}
    if not isinstance(values, Mapping):
        raise settings.wrong(name, "an object")
    inner = Settings(values, f"{settings.where}: {name}")
    inner.only("partial_rotary_factor", 1.0)
    base = inner.real("rope_theta", default=settings.real("rope_theta", default=10_000.0))
    if not 0 < base < math.inf:
        raise inner.wrong("rope_theta", "a number above 0")
    kind = values.get("rope_type", values.get("type", "default"))
    if kind == "default":
        return base, None
    if kind != "llama3":
        raise settings.wrong(name, "`rope_type` default or llama3")
    factor, low, high = (inner.real(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    if not (factor > 0 and 0 < low < high):
        raise settings.wrong(
            name, "a factor above 0, and low_freq_factor below high_freq_factor, both above 0"
        )
    original = inner.whole(
        "original_max_position_embeddings", default=settings.optional_whole("max_position_embeddings")
    )
    return base, RotaryScaling(factor=factor, low=low, high=high, original_n_ctx=original)


def _attention_kinds(settings: Settings, layers: int) -> list[str]:
    """`global` or `local` for each layer, from `[[["global", "local"], 12]]`."""
    try:
        groups = settings.values.get("attention_types") or [[["global", "local"], 12]]
        kinds = [kind for names, times in groups for kind in list(names) * min(times, layers)]
    except (TypeError, ValueError):
        kinds = []
    if len(kinds) != layers or not set(kinds) <= {"global", "local"}:
        raise settings.wrong("attention_types", f"`global` or `local` for each of the {layers} layers")
    return kinds


def _pattern(settings: Settings) -> str:
    """One character per block, from the list of names or from the older string."""
    name = next((n for n in ("layers_block_type", "layer_types") if settings.values.get(n)), None)
    if name is None:
        written = settings.values.get("hybrid_override_pattern")
        if not isinstance(written, str):
            raise InputError(
                f"{settings.where} has neither `layers_block_type` nor `hybrid_override_pattern`",
                hint="restore the file",
            )
        return written
    kinds = settings.values[name]
    if not isinstance(kinds, list) or any(not isinstance(kind, str) or kind not in BLOCKS for kind in kinds):
        raise settings.wrong(name, f"a list of {', '.join(BLOCKS)}")
    return "".join(BLOCKS[kind] for kind in kinds)


def _mamba(settings: Settings) -> MambaConfig:
    settings.only("mamba_hidden_act", "silu")
    settings.only("use_conv_bias", True)
    settings.only("mamba_conv_bias", True)
    lowest, highest = _time_step_limit(settings)
    return MambaConfig(
        n_heads=settings.whole("mamba_num_heads"),
        d_head=settings.whole("mamba_head_dim"),
        d_state=settings.whole("ssm_state_size"),
        n_groups=settings.whole("mamba_n_groups", "n_groups"),
        d_conv=settings.whole("mamba_d_conv", "conv_kernel", default=4),
        dt_min=lowest,
        dt_max=None if math.isinf(highest) else highest,
        chunk=settings.whole("mamba_chunk_size", "chunk_size", default=128),
    )


def _time_step_limit(settings: Settings) -> tuple[float, float]:
    """Smallest and largest dt; transformers 5.23 overlooks this key, and models are trained by it."""
    name = "mamba_dt_limit" if "mamba_dt_limit" in settings.values else "time_step_limit"
    found: Any = settings.values.get(name)
    if found is None:
        return 0.0, math.inf
    limits = [as_real(value) for value in found] if isinstance(found, list) else []
    if len(limits) != 2 or limits[0] is None or limits[1] is None:
        raise settings.wrong(name, "two numbers")
    return limits[0], limits[1]


def _moe(settings: Settings) -> MoEConfig:
    settings.only("n_group", 1)
    settings.only("topk_group", 1)
    settings.only("norm_topk_prob", True)
    return MoEConfig(
        n_experts=settings.whole("n_routed_experts", "num_local_experts"),
        n_active=settings.whole("num_experts_per_tok"),
        d_expert=settings.whole("moe_intermediate_size"),
        d_shared=settings.whole("moe_shared_expert_intermediate_size"),
        d_latent=settings.optional_whole("moe_latent_size"),
        scale=settings.real("routed_scaling_factor", default=1.0),
    )
