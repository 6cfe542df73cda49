"""The `*` block: causal attention with shared key-value heads, windows and packed documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tinysql.models.config import ModelConfig
from tinysql.models.layers import Rotary, added
from tinysql.models.packing import Packing

ROOM = 128
"""Positions by which a KV cache that is full grows."""


class KeyValues:
    """Keys and values seen so far by one attention block: what a KV cache holds."""

    def __init__(self) -> None:
        self.seen = 0
        self.place: Int[Tensor, " 1"] | None = None
        """Where the next position goes, once shapes are fixed; on the device, so that a CUDA graph follows it."""
        self._k: Float[Tensor, "batch room head d_head"] | None = None
        self._v: Float[Tensor, "batch room head d_head"] | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take new keys and values in; all that were seen, the new ones last, or the whole room once it is fixed."""
        if self.place is not None and self._k is not None and self._v is not None:
            return self._k.index_copy_(1, self.place, k), self._v.index_copy_(1, self.place, v)
        start, self.seen = self.seen, self.seen + k.shape[1]
        self._k, self._v = self._put(self._k, k, start), self._put(self._v, v, start)
        return self._k[:, : self.seen], self._v[:, : self.seen]

    def _put(self, room: Tensor | None, new: Tensor, start: int) -> Tensor:
        if torch.is_grad_enabled():  # writing in place would spoil what a backward pass needs
            return new if room is None else torch.cat([room[:, :start], new], dim=1)
        if room is None:
            room = new[:, :0]
        if room.shape[1] < self.seen:
            room = _enlarged(room, start, self.seen + ROOM)
        room[:, start : self.seen] = new
        return room

    def fix(self, place: Int[Tensor, " 1"], seen: int) -> None:
        """From now on shapes stay: `seen` positions are there, and there is room for one more at least."""
        self.place = place
        if self._k is not None and self._v is not None and self._k.shape[1] <= seen:
            self._k, self._v = (_enlarged(room, seen, seen + ROOM) for room in (self._k, self._v))

    def has_room(self, seen: int) -> bool:
        """Whether one more position fits behind those seen."""
        return self._k is not None and seen < self._k.shape[1]

    def keep(self, rows: Bool[Tensor, " batch"]) -> None:
        """Go on with these rows alone."""
        if self._k is not None and self._v is not None:
            self._k, self._v = self._k[rows], self._v[rows]


def _enlarged(room: Tensor, used: int, size: int) -> Tensor:
    # Zeros, because what is masked is still multiplied.
    larger = room.new_zeros(len(room), size, *room.shape[2:])
    larger[:, :used] = room[:, :used]
    return larger


class Attention(nn.Module):
    """Causal multi-head attention; `z @ W_O`, summed over heads, is what it writes.

    Query head *h* reads key-value head `h // (n_heads / n_kv_heads)`.
    """

    def __init__(self, config: ModelConfig, window: int | None = None) -> None:
        super().__init__()
        heads, shared, width, d_head = config.n_heads, config.kv_heads, config.d_model, config.head_width
        self.W_Q = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_K = nn.Parameter(torch.empty(shared, width, d_head))
        self.W_V = nn.Parameter(torch.empty(shared, width, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, width))
        biased = "qkv" in config.biases
        self.b_Q = nn.Parameter(torch.zeros(heads, d_head)) if biased else None
        self.b_K = nn.Parameter(torch.zeros(shared, d_head)) if biased else None
        self.b_V = nn.Parameter(torch.zeros(shared, d_head)) if biased else None
        self.b_O = nn.Parameter(torch.zeros(width)) if "attention_out" in config.biases else None
        self.window = window
        self.scale = config.attention_scale if config.attention_scale is not None else d_head**-0.5
        self.rotary = Rotary(config) if config.positions == "rope" else None
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_z = HookPoint()

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        past: KeyValues | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        q, k, v = project_all(x, (self.W_Q, self.W_K, self.W_V))
        q, k, v = added(q, self.b_Q), added(k, self.b_K), added(v, self.b_V)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        z = self.attend(q, k, v, past, packing)
        return added(z.flatten(2) @ self.W_O.flatten(0, 1), self.b_O)

    def attend(
        self,
        q: Float[Tensor, "batch seq head d_head"],
        k: Float[Tensor, "batch seq shared d_head"],
        v: Float[Tensor, "batch seq shared d_head"],
        past: KeyValues | None = None,
        packing: Packing | None = None,
    ) -> Float[Tensor, "batch seq head d_head"]:
        """What each head reads out: fused attention, unless someone hooks its scores or its pattern."""
        start = past.seen if past is not None else 0
        place = past.place if past is not None else None
        if self.rotary is not None:
            own = place[None] if place is not None else _line(start, q)
            places = packing.positions if packing is not None else own
            q, k = self.rotary(q, places), self.rotary(k, places)
        q, k = self.hook_rot_q(q), self.hook_rot_k(k)
        if past is not None:
            k, v = past.extend(k, v)
        if self._watched():
            return self.hook_z(self._attend_in_the_open(q, k, v, start if place is None else place, packing))
        if packing is not None and packing.is_fused(q) and self.window is None:
            return self.hook_z(packing.attend(q, k, v, self.scale))
        return self.hook_z(self._attend_fused(q, k, v, start if place is None else place, packing))

    def _watched(self) -> bool:
        return any(point.has_hooks() for point in (self.hook_attn_scores, self.hook_pattern))

    def _attend_fused(
        self, q: Tensor, k: Tensor, v: Tensor, start: int | Tensor, packing: Packing | None
    ) -> Tensor:
        simple = packing is None and self.window is None
        plain = simple and isinstance(start, int) and start == 0
        # The last position alone sees everything before it.
        all_seen = simple and isinstance(start, int) and q.shape[1] == 1
        mask = None if plain or all_seen else self._mask(q, k, start, packing)
        z = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=plain and not all_seen,
            scale=self.scale,
            enable_gqa=k.shape[2] != q.shape[2],
        )
        return z.transpose(1, 2)

    def _attend_in_the_open(
        self, q: Tensor, k: Tensor, v: Tensor, start: int | Tensor, packing: Packing | None
    ) -> Tensor:
        each = q.shape[2] // k.shape[2]
        k, v = (t.repeat_interleave(each, dim=2) if each > 1 else t for t in (k, v))
        scores = einsum(q, k, "batch q head d, batch k head d -> batch head q k") * self.scale
        scores = scores.masked_fill(~self._mask(q, k, start, packing), float("-inf"))
        pattern = self.hook_pattern(self.hook_attn_scores(scores).softmax(-1))
        return einsum(pattern, v, "batch head q k, batch k head d -> batch q head d")

    def _mask(
        self, q: Tensor, k: Tensor, start: int | Tensor, packing: Packing | None
    ) -> Bool[Tensor, "... q k"]:
        """Which keys each query may see: `[q k]`, or `[batch 1 q k]` when documents are packed."""
        if isinstance(start, Tensor):
            return visible(torch.arange(k.shape[1], device=k.device), start, self.window)
        mask = causal(q.shape[1], start, q.device, self.window)
        return mask if packing is None else mask & packing.together[:, None]


def project(
    x: Float[Tensor, "batch seq d_model"],
    weight: Float[Tensor, "head d_model width"],
    bias: Float[Tensor, "head width"] | None = None,
) -> Float[Tensor, "batch seq head width"]:
    """One product for all heads."""
    heads, width, each = weight.shape
    out = x @ weight.transpose(0, 1).reshape(width, heads * each)
    return added(out.unflatten(-1, (heads, each)), bias)


def project_all(
    x: Float[Tensor, "batch seq d_model"], weights: Sequence[Float[Tensor, "_ d_model _"]]
) -> list[Float[Tensor, "batch seq _ _"]]:
    """`project` with each of the weights; one product in all where the step is compiled."""
    if not torch.compiler.is_compiling():
        return [project(x, weight) for weight in weights]
    flat = [weight.transpose(0, 1).flatten(1) for weight in weights]
    parts = (x @ torch.cat(flat, dim=1)).split([w.shape[1] for w in flat], dim=-1)
    return [part.unflatten(-1, (len(w), -1)) for part, w in zip(parts, weights, strict=True)]


def causal(
    n_queries: int, start: int, device: torch.device, window: int | None = None
) -> Bool[Tensor, "q k"]:
    """Which keys each query may see, when `start` keys came before the first query."""
    keys = torch.arange(start + n_queries, device=device)
    return visible(keys, keys[start:], window)


def visible(
    keys: Int[Tensor, " k"], queries: Int[Tensor, " q"], window: int | None = None
) -> Bool[Tensor, "q k"]:
    """Which keys, by position, queries at these positions may see."""
    seen = keys <= queries[:, None]
    return seen if window is None else seen & (keys > queries[:, None] - window)


def _line(start: int, q: Tensor) -> Int[Tensor, "1 seq"]:
    return torch.arange(start, start + q.shape[1], device=q.device)[None]
