"""The shape of a model, written as typed Python: one pattern character per block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_gen.errors import InputError

MIXERS = {"*": "attention", "-": "MLP"}
"""What each pattern character builds, as Nemotron-H writes it."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything needed to build a `HybridLM`; `None` means "derive it"."""

    pattern: str = "*-*-*-"
    """One character per block: `*` attention, `-` MLP."""
    d_model: int = 128
    """Width of the residual stream."""
    n_heads: int = 4
    """Attention heads per `*` block."""
    d_head: int | None = None
    """Width of one head; derived as d_model / n_heads."""
    d_mlp: int | None = None
    """Hidden width of a `-` block; derived as 4 * d_model."""
    d_vocab: int = 512
    """Vocabulary size; training takes it from the tokenizer."""
    n_ctx: int = 192
    """Longest sequence in tokens, prompt and answer together."""
    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm, or LayerNorm (which also subtracts the mean); neither has a bias."""
    positions: Literal["rope", "learned", "none"] = "rope"
    """Rotary, learned absolute, or no position information."""
    activation: Literal["relu", "gelu", "silu", "relu2"] = "gelu"
    """Non-linearity of the MLP; `relu2` is squared ReLU."""
    eps: float = 1e-5
    """Added to the variance before the square root."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.pattern) - set(MIXERS))
        if unknown or not self.pattern:
            raise InputError(
                f"model pattern {self.pattern!r} has {unknown or 'no blocks'}: expected some of {' '.join(MIXERS)}",
                hint="`*` is an attention block and `-` an MLP block, as in `*-*-`",
            )
        for name in ("d_model", "n_heads", "d_vocab", "n_ctx", "d_head", "d_mlp"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}, expected at least 1", hint="give a larger number"
                )
        if self.d_head is None and self.d_model % self.n_heads:
            raise InputError(
                f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}",
                hint="choose a multiple, or set d_head",
            )
        if self.head_width % 2 and self.positions == "rope":
            raise InputError(
                f"d_head {self.head_width} is odd, and rotary positions turn pairs of coordinates",
                hint="choose an even d_head or positions='learned'",
            )

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.d_head if self.d_head is not None else self.d_model // self.n_heads

    @property
    def mlp_width(self) -> int:
        """Hidden width of one MLP block."""
        return self.d_mlp if self.d_mlp is not None else 4 * self.d_model
