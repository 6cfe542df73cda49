"""Tokens -> logits and named activations: `HybridLM`, any model as one pattern string.

One block is one norm, one mixer and one residual add, `resid + mixer(norm(resid))`, and one
character of the pattern, so the residual graph of a model is read off its pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError, nearest
from tinysql.models.attention import Attention, KeyValues
from tinysql.models.config import ModelConfig
from tinysql.models.layers import MLP, Norm
from tinysql.models.mamba import Mamba, MambaState
from tinysql.models.moe import MoE, Routing
from tinysql.models.packing import Packing


@dataclass
class Cache:
    """What one-token-at-a-time generation carries forward, block by block; nothing for `-` and `E`."""

    blocks: list[KeyValues | MambaState | None]
    seen: int = 0
    """How many positions went through the model already."""

    place: Int[Tensor, " 1"] | None = None
    """Where the next position goes, on the device, once shapes are fixed (`fix`)."""

    def fix(self, device: torch.device) -> None:
        """From now on single positions go in at `place`, which the caller sets, and no tensor changes its shape.

        So one recorded step (a CUDA graph) serves for every position until there is no room.
        """
        self.place = torch.tensor([self.seen], device=device)
        for block in self.blocks:
            if isinstance(block, KeyValues):
                block.fix(self.place, self.seen)
            elif isinstance(block, MambaState):
                block.fixed = True

    @property
    def has_room(self) -> bool:
        """Whether one more position fits without a change of shapes."""
        return all(block.has_room(self.seen) for block in self.blocks if isinstance(block, KeyValues))

    def keep(self, rows: Bool[Tensor, " batch"]) -> None:
        """Go on with these rows alone."""
        for block in self.blocks:
            if block is not None:
                block.keep(rows)


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

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        return x @ self.W_U


class TiedUnembed(nn.Module):
    """An unembedding whose `W_U` is the embedding, transposed; it holds no weights of its own."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self._embed = [embed]  # in a list, so that the weights are listed once

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        return self._embed[0].W_E.T

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_vocab"]:
        return x @ self.W_U


class Block(nn.Module):
    """`resid + mixer(norm(resid))`; the mixer is `attn`, `mlp`, `mamba` or `moe`, the others do not exist."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.kind = config.pattern[index]
        self.hook_resid_pre, self.hook_resid_post = HookPoint(), HookPoint()  # [batch seq d_model]
        self.ln1 = Norm(config)
        if self.kind == "*":
            self.attn = Attention(config, config.window if index in config.windowed_blocks else None)
            self.hook_attn_out = HookPoint()
        elif self.kind == "M":
            self.mamba = Mamba(config)
            self.hook_mamba_out = HookPoint()
        elif self.kind == "E":
            self.moe = MoE(config)
            self.hook_moe_out = HookPoint()
        else:
            self.mlp = MLP(config)
            self.hook_mlp_out = HookPoint()

    def forward(
        self,
        resid: Float[Tensor, "batch seq d_model"],
        past: KeyValues | MambaState | None = None,
        packing: Packing | None = None,
        routing: list[Routing] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        resid = self.hook_resid_pre(resid)
        normalized = self.ln1(resid)
        if self.kind == "*":
            out = self.hook_attn_out(self.attn(normalized, past, packing))
        elif self.kind == "M":
            out = self.hook_mamba_out(self.mamba(normalized, past, packing))
        elif self.kind == "E":
            out = self.hook_moe_out(self.moe(normalized, routing))
        else:
            out = self.hook_mlp_out(self.mlp(normalized))
        return self.hook_resid_post(resid + out)

    def start_cache(self) -> KeyValues | MambaState | None:
        """An empty state for step-by-step generation, where this mixer has one."""
        return {"*": KeyValues, "M": MambaState}.get(self.kind, lambda: None)()


class HybridLM(HookedRootModule):
    """A causal language model from a pattern string, with TransformerLens' hooks.

    `model(ids)` gives logits `[batch seq d_vocab]`; `run_with_cache`, `run_with_hooks` and
    `hook_dict` are TransformerLens' own. Weights are drawn from `seed` and nothing else.

    Example:
        >>> model = HybridLM(ModelConfig(pattern="M*-", d_model=16, n_heads=2, d_vocab=50, mamba=MambaConfig(d_head=8)))
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
        self.blocks = nn.ModuleList(Block(config, index) for index in range(len(config.pattern)))
        self.ln_final = Norm(config)
        self.unembed: Unembed | TiedUnembed = TiedUnembed(self.embed) if config.tied else Unembed(config)
        draw_weights(self, seed)
        self.setup()

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        cache: Cache | None = None,
        packing: Packing | None = None,
        places: Int[Tensor, " place"] | None = None,
        routing: list[Routing] | None = None,
        recompute: bool = False,
    ) -> Float[Tensor, "batch seq d_vocab"] | Float[Tensor, "place d_vocab"]:
        """Logits after each token, or after those at the flat `places` alone.

        With a `cache` (from `start_cache`), `ids` continue the positions it has seen and it is extended. With a
        `packing`, rows hold several documents that do not see each other. What the routers of `E` blocks decide is
        appended to `routing`. With `recompute`, blocks keep nothing for the backward pass and run again in it.
        Raises `InputError` when the sequence is longer than `n_ctx`; documents of a packed row are not counted.
        """
        start = cache.seen if cache is not None else 0
        length = start + ids.shape[1]
        if packing is None and length > self.cfg.n_ctx:
            raise InputError(
                f"a sequence of {length} tokens is longer than the model's context of {self.cfg.n_ctx}",
                hint="shorten the prompt or the schema, or train with a larger n_ctx",
            )
        resid = self.hook_embed(self.embed(ids))
        if self.cfg.positions == "learned":
            fixed = cache.place if cache is not None else None
            own = self.pos_embed.W_pos[start:length] if fixed is None else self.pos_embed.W_pos[fixed]
            own = own.expand(len(ids), -1, -1)
            where = own if packing is None else F.embedding(packing.positions, self.pos_embed.W_pos)
            resid = resid + self.hook_pos_embed(where)
        for i, block in enumerate(self.blocks):
            past = cache.blocks[i] if cache is not None else None
            if recompute:
                resid = checkpoint(block, resid, past, packing, routing, use_reentrant=False)
            else:
                resid = block(resid, past, packing, routing)
        if cache is not None and cache.place is None:
            cache.seen = length
        stream = self.ln_final(resid)
        return self.unembed(stream if places is None else stream.flatten(0, 1)[places])

    def start_cache(self) -> Cache:
        """An empty cache for step-by-step generation."""
        return Cache(blocks=[cast(Block, block).start_cache() for block in self.blocks])

    def run_with_cache(self, *model_args: Any, names_filter: Any = None, **kwargs: Any) -> Any:
        """TransformerLens' `run_with_cache`; without a `names_filter` everything is cached but `hook_state`.

        All states of a Mamba block are `d_state` times the size of its outputs: ask for them by name.
        """
        if names_filter is None:
            names_filter = _all_but_states
        if isinstance(names_filter, str):
            names_filter = [names_filter]
        for name in names_filter if isinstance(names_filter, list) else ():
            self._check_hook(name)
        return super().run_with_cache(*model_args, names_filter=names_filter, **kwargs)

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Sequence[tuple[str | Callable[[str], bool], Callable[..., Any]]] = (),
        bwd_hooks: Sequence[tuple[str | Callable[[str], bool], Callable[..., Any]]] = (),
        *args: Any,
        **kwargs: Any,
    ) -> Iterator[HybridLM]:
        """TransformerLens' `hooks`; `InputError` for the name of a hook that the model has not."""
        for name, _ in (*fwd_hooks, *bwd_hooks):
            if isinstance(name, str):
                self._check_hook(name)
        with super().hooks(list(fwd_hooks), list(bwd_hooks), *args, **kwargs):
            yield self

    def _check_hook(self, name: str) -> None:
        if name not in self.hook_dict:
            raise InputError(
                f"the model has no hook `{name}`{nearest(name, self.hook_dict)}",
                hint="`model.hook_dict` lists the hooks",
            )

    @contextmanager
    def states_at(self, positions: Sequence[int]) -> Iterator[HybridLM]:
        """Within it, `hook_state` holds the SSM states after these positions alone, `[batch position head ...]`.

        Patching a few positions so costs little more than a run without hooks; all positions cost a state each.
        """
        mixers = [cast(Mamba, block.mamba) for block in self.blocks if block.kind == "M"]
        before = [mixer.positions for mixer in mixers]
        try:
            for mixer in mixers:
                mixer.positions = tuple(positions)
            yield self
        finally:
            for mixer, kept in zip(mixers, before, strict=True):
                mixer.positions = kept

    @property
    def device(self) -> torch.device:
        return self.embed.W_E.device

    def num_parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.parameters())


def _all_but_states(name: str) -> bool:
    return not name.endswith("mamba.hook_state")


@torch.no_grad()
def draw_weights(model: HybridLM, seed: int) -> None:
    """Normal weights of deviation 1/sqrt(fan-in); what writes to the residual is divided by sqrt(blocks).

    Token embeddings start at 0.6: copying is learned in fewer steps, and on every seed, when the token itself
    is large beside what blocks write (0.3 to 1.0 tried alike; at 0.02 it came late or not at all). A tied
    embedding starts at 1/sqrt(d_model), because it is the unembedding too. Mamba's own scalars start as in
    mamba-ssm: A from 1 to 16, dt from 0.001 to 0.1 on a logarithmic scale.
    """
    config, generator = model.cfg, torch.Generator().manual_seed(seed)
    width, depth = config.d_model, len(config.pattern)
    fan_in = {
        **dict.fromkeys(("W_Q", "W_K", "W_V", "W_in", "W_gate", "W_U"), width),
        **dict.fromkeys(("W_z", "W_x", "W_B", "W_C", "W_dt", "W_R", "W_in_shared", "W_down"), width),
        "attn.W_O": config.n_heads * config.head_width * depth,
        "mlp.W_out": config.mlp_width * depth,
        "mamba.W_out": config.mamba_heads * config.mamba.d_head * depth,
        "moe.W_in": config.expert_width,
        "moe.W_out": config.moe.d_expert * (1 if config.moe.d_latent is not None else depth),
        "W_up": config.expert_width * depth,
        "W_out_shared": config.moe.d_shared * depth,
    }
    for name, parameter in model.named_parameters():
        kind = name.rsplit(".", 1)[-1]
        fan = fan_in.get(".".join(name.split(".")[-2:]), fan_in.get(kind))
        if kind == "W_E":
            parameter.normal_(0.0, width**-0.5 if config.tied else 0.6, generator=generator)
        elif kind == "W_pos":
            parameter.normal_(0.0, 0.02, generator=generator)
        elif kind == "A_log":
            parameter.uniform_(1, 16, generator=generator).log_()
        elif kind == "dt_bias":
            dt = parameter.uniform_(math.log(1e-3), math.log(1e-1), generator=generator).exp()
            parameter.copy_(dt + (-torch.expm1(-dt)).log())  # the inverse of softplus
        elif kind == "conv_weight":
            parameter.uniform_(-1, 1, generator=generator).mul_(parameter.shape[1] ** -0.5)
        elif fan is not None:
            parameter.normal_(0.0, fan**-0.5, generator=generator)
