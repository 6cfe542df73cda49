"""Tokens -> logits and named activations: `HybridLM`, any model as one pattern string.

One block is one norm, one mixer and one residual add, `resid + mixer(norm(resid))`, and one
character of the pattern, so the residual graph of a model is read off its pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.layers import MLP, Attention, KeyValues, Norm


@dataclass
class Cache:
    """What one-token-at-a-time generation carries forward: keys and values per attention block."""

    blocks: list[KeyValues]
    seen: int = 0
    """How many positions went through the model already."""


class Embed(nn.Module):
    """Token ids -> rows of `W_E`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(config.d_vocab, config.d_model))

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        # Indexing would add up the gradient of a repeated token in an order that varies between threads.
        return F.embedding(ids, self.W_E)


class PosEmbed(nn.Module):
    """Learned absolute positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.W_pos = nn.Parameter(torch.empty(config.n_ctx, config.d_model))


class Unembed(nn.Module):
    """Normed residual stream -> logits, no bias."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.W_U = nn.Parameter(torch.empty(config.d_model, config.d_vocab))

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_vocab"]:
        return x @ self.W_U


class Block(nn.Module):
    """`resid + mixer(norm(resid))`; the mixer is `attn` or `mlp`, and the other attribute does not exist."""

    def __init__(self, config: ModelConfig, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()  # [batch seq d_model]
        self.ln1 = Norm(config)
        if kind == "*":
            self.attn = Attention(config)
            self.hook_attn_out = HookPoint()
        else:
            self.mlp = MLP(config)
            self.hook_mlp_out = HookPoint()

    def forward(
        self, resid: Float[Tensor, "batch seq d_model"], past: KeyValues | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        resid = self.hook_resid_pre(resid)
        normalized = self.ln1(resid)
        if self.kind == "*":
            out = self.hook_attn_out(self.attn(normalized, past))
        else:
            out = self.hook_mlp_out(self.mlp(normalized))
        return self.hook_resid_post(resid + out)


class HybridLM(HookedRootModule):
    """A causal language model from a pattern string, with TransformerLens' hooks.

    `model(ids)` gives logits `[batch seq d_vocab]`; `run_with_cache`, `run_with_hooks` and
    `hook_dict` are TransformerLens' own. Weights are drawn from `seed` and nothing else.

    Example:
        >>> model = HybridLM(ModelConfig(pattern="*-", d_model=16, n_heads=2, d_vocab=50))
        >>> model(torch.zeros(1, 4, dtype=torch.long)).shape
        torch.Size([1, 4, 50])
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = config
        self.embed = Embed(config)
        self.hook_embed = HookPoint()
        if config.positions == "learned":
            self.pos_embed = PosEmbed(config)
            self.hook_pos_embed = HookPoint()
        self.blocks = nn.ModuleList(Block(config, kind) for kind in config.pattern)
        self.ln_final = Norm(config)
        self.unembed = Unembed(config)
        self._draw_weights(seed)
        self.setup()

    def forward(
        self, ids: Int[Tensor, "batch seq"], *, cache: Cache | None = None
    ) -> Float[Tensor, "batch seq d_vocab"]:
        """Logits after each token.

        With a `cache` (from `start_cache`), `ids` continue the positions it has seen and it is extended.
        Raises `InputError` when the sequence is longer than `n_ctx`.
        """
        start = cache.seen if cache is not None else 0
        length = start + ids.shape[1]
        if length > self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {length} tokens is longer than the model's context of {self.cfg.n_ctx}",
                hint="shorten the prompt or the schema, or train with a larger n_ctx",
            )
        resid = self.hook_embed(self.embed(ids))
        if self.cfg.positions == "learned":
            positions = self.pos_embed.W_pos[start:length]
            resid = resid + self.hook_pos_embed(positions.expand(len(ids), -1, -1))
        for i, block in enumerate(self.blocks):
            resid = block(resid, cache.blocks[i] if cache is not None else None)
        if cache is not None:
            cache.seen = length
        return self.unembed(self.ln_final(resid))

    def start_cache(self) -> Cache:
        """An empty cache for step-by-step generation."""
        return Cache(blocks=[KeyValues() for _ in self.blocks])

    @property
    def device(self) -> torch.device:
        return self.embed.W_E.device

    def num_parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    @torch.no_grad()
    def _draw_weights(self, seed: int) -> None:
        """Normal weights of deviation 1/sqrt(fan-in); what writes to the residual is divided by sqrt(blocks).

        Token embeddings start at 0.6: copying is learned in fewer steps, and on every seed, when the token itself
        is large beside what blocks write (0.3 to 1.0 tried alike; at 0.02 it came late or not at all).
        """
        generator = torch.Generator().manual_seed(seed)
        width, depth = self.cfg.d_model, len(self.cfg.pattern)
        deviation = {
            "W_E": 0.6,
            "W_pos": 0.02,
            "W_Q": width**-0.5,
            "W_K": width**-0.5,
            "W_V": width**-0.5,
            "W_in": width**-0.5,
            "W_U": width**-0.5,
            "W_O": (self.cfg.n_heads * self.cfg.head_width * depth) ** -0.5,
            "W_out": (self.cfg.mlp_width * depth) ** -0.5,
        }
        for name, parameter in self.named_parameters():
            kind = name.rsplit(".", 1)[-1]
            if kind in deviation:
                parameter.normal_(0.0, deviation[kind], generator=generator)
