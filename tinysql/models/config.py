"""The shape of a model, written as typed Python: one pattern character per block."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from data_gen.errors import InputError, nearest

Precision = Literal["float32", "bfloat16"]
"""Of matrix products; weights, norms, routers, states and losses stay in float32."""

MIXERS = {"M": "Mamba-2", "*": "attention", "E": "experts", "-": "MLP"}
"""What each pattern character builds, as Nemotron-H writes it."""

Biased = Literal["norm", "qkv", "attention_out", "mlp"]
Normed = Literal["rms", "layer"]
Positions = Literal["rope", "learned", "none"]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "relu2"]
MAX_CONTEXT = 1 << 24
"""Longest context that a config may ask for; the tables of its positions are made with the model."""


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """The shape of every `M` block (Mamba-2, arXiv 2405.21060)."""

    n_heads: int | None = None
    """Heads, each with a state of its own; derived so that all heads are 2 * d_model wide."""
    d_head: int = 64
    """Width of one head."""
    d_state: int = 128
    """Numbers a head keeps per coordinate."""
    n_groups: int = 1
    """Sets of B and C; heads h of one group share theirs."""
    d_conv: int = 4
    """Positions under the causal convolution."""
    dt_min: float = 0.0
    """Smallest step size dt."""
    dt_max: float | None = None
    """Largest step size dt; None means no limit."""
    chunk: int = 64
    """Positions per chunk of the scan; a matter of speed."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_heads", "d_head", "d_state", "n_groups", "d_conv", "chunk", where="mamba.")
        if not 0 <= self.dt_min <= (self.dt_max if self.dt_max is not None else self.dt_min):
            raise InputError(
                f"mamba.dt_min is {self.dt_min} and mamba.dt_max {self.dt_max}, expected 0 <= dt_min <= dt_max",
                hint="leave them at 0 and None",
            )
        if self.dt_max is not None:
            _positive(self, "dt_max", where="mamba.")


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """The shape of every `E` block (Nemotron 3, arXiv 2512.20856; LatentMoE, arXiv 2601.18089)."""

    n_experts: int = 8
    """Routed experts."""
    n_active: int = 2
    """Experts chosen per token."""
    d_expert: int = 256
    """Hidden width of one expert."""
    d_shared: int = 512
    """Hidden width of the expert that every token goes through."""
    d_latent: int | None = None
    """Width the routed experts work in (LatentMoE); None means d_model."""
    scale: float = 2.5
    """Factor on the weights of the chosen experts, which sum to 1 before it."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_experts", "n_active", "d_expert", "d_shared", "d_latent", where="moe.")
        if self.n_active > self.n_experts:
            raise InputError(
                f"moe.n_active is {self.n_active}, more than the {self.n_experts} of moe.n_experts",
                hint="choose fewer experts per token, or have more of them",
            )
        _positive(self, "scale", where="moe.")


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """Llama 3's stretching of slow rotary frequencies."""

    factor: float = 32.0
    """What the slowest frequencies are divided by."""
    low: float = 1.0
    """Frequencies that turn fewer times than this in the original context are divided by `factor`."""
    high: float = 4.0
    """Frequencies that turn more often than this are left alone."""
    original_n_ctx: int = 8192

    def __post_init__(self) -> None:
        _positive(self, "factor", "low", "high", "original_n_ctx", where="rotary_scaling.")
        if self.low >= self.high:
            raise InputError(
                f"rotary_scaling.low is {self.low} and rotary_scaling.high {self.high}, expected low < high",
                hint="leave them at 1 and 4",
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything needed to build a `HybridLM`; `None` means "derive it"."""

    pattern: str = "*-*-*-"
    """One character per block: `M` Mamba-2, `*` attention, `E` experts, `-` MLP."""
    d_model: int = 128
    """Width of the residual stream."""
    n_heads: int = 4
    """Query heads per `*` block."""
    n_kv_heads: int | None = None
    """Key and value heads, each shared by n_heads / n_kv_heads query heads; derived as n_heads."""
    d_head: int | None = None
    """Width of one attention head; derived as d_model / n_heads."""
    d_mlp: int | None = None
    """Hidden width of a `-` block; derived as 4 * d_model."""
    d_vocab: int = 512
    """Vocabulary size; training takes it from the tokenizer."""
    n_ctx: int = 192
    """Longest sequence in tokens, prompt and answer together."""
    norm: Normed = "rms"
    """RMSNorm, or LayerNorm (which also subtracts the mean)."""
    positions: Positions = "rope"
    """Rotary, learned absolute, or no position information."""
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = None
    window: int | None = None
    """Positions, its own included, that the blocks of `windowed_blocks` look back on."""
    windowed_blocks: tuple[int, ...] = ()
    """Indices of `*` blocks with a window; the others see everything before them."""
    attention_scale: float | None = None
    """Factor on attention scores; derived as 1 / sqrt(d_head)."""
    activation: Activation = "gelu"
    """Non-linearity of the MLP; `relu2` is squared ReLU, `gelu_tanh` GPT-2's approximation."""
    gated: bool = False
    """Whether an MLP multiplies `activation(x @ W_gate)` with `x @ W_in`."""
    biases: tuple[Biased, ...] = ()
    """Where biases stand: "norm", "qkv", "attention_out", "mlp"."""
    tied: bool = False
    """Whether the unembedding is the embedding, transposed."""
    eps: float = 1e-5
    """Added to the variance before the square root."""
    mamba: MambaConfig = field(default_factory=MambaConfig)
    moe: MoEConfig = field(default_factory=MoEConfig)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.pattern) - set(MIXERS))
        if unknown or not self.pattern:
            known = ", ".join(f"`{letter}` {kind}" for letter, kind in MIXERS.items())
            raise InputError(
                f"model pattern {self.pattern!r} has {unknown or 'no blocks'}: expected some of {' '.join(MIXERS)}",
                hint=f"one character per block: {known}; as in `*-*-` or `MEM*EME`",
            )
        _at_least_one(
            self, "d_model", "n_heads", "n_kv_heads", "d_vocab", "n_ctx", "d_head", "d_mlp", "window"
        )
        if self.n_ctx > MAX_CONTEXT:
            raise InputError(
                f"n_ctx is {self.n_ctx}, expected at most {MAX_CONTEXT}",
                hint="a context costs memory by its length",
            )
        self._check_choices()
        _positive(self, "rotary_base", *(["attention_scale"] if self.attention_scale is not None else []))
        if not 0 <= self.eps < math.inf:
            raise InputError(
                f"eps is {self.eps}, expected a finite number of at least 0", hint="leave it at 1e-5"
            )
        _divides(self.n_heads, "n_heads", self.d_model, "d_model", self.d_head is None, "set d_head")
        _divides(self.kv_heads, "n_kv_heads", self.n_heads, "n_heads", True, "leave it at None")
        if "*" in self.pattern and self.head_width % 2 and self.positions == "rope":
            raise InputError(
                f"d_head {self.head_width} is odd, and rotary positions turn pairs of coordinates",
                hint="choose an even d_head or positions='learned'",
            )
        self._check_mamba()
        wrong = [i for i in self.windowed_blocks if self.pattern[i : i + 1] != "*" or i < 0]
        if wrong or bool(self.windowed_blocks) != (self.window is not None):
            raise InputError(
                f"windowed_blocks is {self.windowed_blocks} and window {self.window} for pattern {self.pattern!r}",
                hint="give both, and indices of `*` blocks",
            )

    def _check_choices(self) -> None:
        """Refuse names that are none of the known: a mixer would take any other as its own last case."""
        given: list[tuple[str, str, Any]] = [
            ("norm", self.norm, Normed),
            ("positions", self.positions, Positions),
        ]
        given += [
            ("activation", self.activation, Activation),
            *(("biases", name, Biased) for name in self.biases),
        ]
        for field_name, value, kind in given:
            if value not in get_args(kind):
                raise InputError(
                    f"{field_name} is {value!r}{nearest(str(value), get_args(kind))}",
                    hint=f"expected one of {', '.join(get_args(kind))}",
                )

    def _check_mamba(self) -> None:
        if "M" not in self.pattern:
            return
        width = 2 * self.d_model
        _divides(
            self.mamba.d_head,
            "mamba.d_head",
            width,
            "2 * d_model",
            self.mamba.n_heads is None,
            "set mamba.n_heads",
        )
        _divides(
            self.mamba.n_groups,
            "mamba.n_groups",
            self.mamba_heads,
            "the number of Mamba heads",
            True,
            "use 1",
        )

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.d_head if self.d_head is not None else self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Key and value heads per `*` block."""
        return self.n_kv_heads if self.n_kv_heads is not None else self.n_heads

    @property
    def mlp_width(self) -> int:
        """Hidden width of one MLP block."""
        return self.d_mlp if self.d_mlp is not None else 4 * self.d_model

    @property
    def mamba_heads(self) -> int:
        """Heads per `M` block."""
        return self.mamba.n_heads if self.mamba.n_heads is not None else 2 * self.d_model // self.mamba.d_head

    @property
    def expert_width(self) -> int:
        """Width in which routed experts read and write."""
        return self.moe.d_latent if self.moe.d_latent is not None else self.d_model

    @property
    def norm_parameters(self) -> int:
        """Weights of one norm."""
        return self.d_model * (2 if "norm" in self.biases else 1)

    def num_parameters(self) -> int:
        """Trained weights, by formula (the selection biases of routers are not trained by gradients)."""
        d, blocks = self.d_model, {kind: self.pattern.count(kind) for kind in MIXERS}
        each = {"M": self._mamba(), "*": self._attention(), "E": self._moe(), "-": self._mlp()}
        embeddings = d * self.d_vocab * (1 if self.tied else 2)
        positions = d * self.n_ctx if self.positions == "learned" else 0
        mixers = sum(count * each[kind] for kind, count in blocks.items())
        return embeddings + positions + mixers + (len(self.pattern) + 1) * self.norm_parameters

    def num_active_parameters(self) -> int:
        """Trained weights that one token goes through: only `n_active` of the routed experts count."""
        idle = self.moe.n_experts - self.moe.n_active
        unused = idle * 2 * self.expert_width * self.moe.d_expert
        return self.num_parameters() - self.pattern.count("E") * unused

    def _attention(self) -> int:
        d, width = self.d_model, self.head_width
        biases = (self.n_heads + 2 * self.kv_heads) * width if "qkv" in self.biases else 0
        out = d if "attention_out" in self.biases else 0
        return 2 * d * width * (self.n_heads + self.kv_heads) + biases + out

    def _mlp(self) -> int:
        d, width = self.d_model, self.mlp_width
        into = 2 if self.gated else 1
        return (into + 1) * d * width + (into * width + d if "mlp" in self.biases else 0)

    def _mamba(self) -> int:
        inner = self.mamba_heads * self.mamba.d_head
        convolved = inner + 2 * self.mamba.n_groups * self.mamba.d_state
        projections = self.d_model * (inner + convolved + self.mamba_heads) + inner * self.d_model
        return projections + (self.mamba.d_conv + 1) * convolved + 3 * self.mamba_heads + inner

    def _moe(self) -> int:
        d, moe = self.d_model, self.moe
        latent = 2 * d * moe.d_latent if moe.d_latent is not None else 0
        return (
            d * moe.n_experts
            + 2 * moe.n_experts * self.expert_width * moe.d_expert
            + 2 * d * moe.d_shared
            + latent
        )


def _at_least_one(config: Any, *names: str, where: str = "") -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise InputError(f"{where}{name} is {value}, expected at least 1", hint="give a larger number")


def _positive(config: Any, *names: str, where: str = "") -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise InputError(
                f"{where}{name} is {value}, expected a finite number above 0", hint="give a positive number"
            )


def _divides(part: int, part_name: str, whole: int, whole_name: str, needed: bool, otherwise: str) -> None:
    if needed and whole % part:
        raise InputError(
            f"{whole_name} {whole} is not a multiple of {part_name} {part}",
            hint=f"choose a multiple, or {otherwise}",
        )
