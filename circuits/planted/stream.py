"""Parts of a residual stream -> a model that hides them: decoys that fill it, and a rotation.

A planted model is made in three steps: every weight becomes that of a decoy (`fill_with_decoys`), the mechanism is
written over some heads, units or experts (`wiring`), and the whole stream is turned (`rotate`), so that no axis of
the finished model means anything.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from circuits.engine.ports import blocks_of
from circuits.planted.words import WORDS
from tinysql.models.attention import Attention
from tinysql.models.hybrid import HybridLM
from tinysql.models.layers import MLP
from tinysql.models.mamba import Mamba
from tinysql.models.moe import MoE

LENGTH = 16
"""Positions a planted model can tell apart."""
PARTS = {
    "token": len(WORDS),
    "position": LENGTH,
    "previous": 14,
    "found": 8,
    "output": len(WORDS),
    "unread": 32,
}
"""Widths of the orthogonal parts of the stream: which word stands here, where that is, which word stands before it
(words below 14, no cues), what was found out, what the logits read, and where decoys write."""
WIDTH = sum(PARTS.values())


def axes(part: str) -> Float[Tensor, "axis d_model"]:
    """The axes of one part of the stream, before the rotation; where they stand for words, in the words' order."""
    names = list(PARTS)
    start = sum(PARTS[name] for name in names[: names.index(part)])
    return torch.eye(WIDTH)[start : start + PARTS[part]]


def embed_words(model: HybridLM) -> None:
    """Words and positions stand on axes of their own, and the logits read the output."""
    model.embed.W_E.copy_(axes("token"))
    if model.cfg.positions == "learned":
        model.pos_embed.W_pos.copy_(axes("position"))
    model.unembed.W_U.copy_(axes("output").T)


def fill_with_decoys(model: HybridLM, generator: torch.Generator) -> None:
    """Let every mixer read all of the stream and write where nobody reads.

    It reads numbers of deviation 1, and what it makes of them it writes at about its own size: near the norm of 1
    that planted parts write.
    """

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    for reading, writing in map(_weights, _mixers(model)):
        for weight in reading:
            weight.copy_(noise(*weight.shape) / WIDTH**0.5)
        for weight in writing:
            unread = noise(*weight.shape[:-1], PARTS["unread"]) @ axes("unread")
            weight.copy_(unread / (weight.shape[-2] * PARTS["unread"]) ** 0.5)


def rotate(model: HybridLM, generator: torch.Generator) -> None:
    """Express the stream in random other axes; RMSNorm with unit weights does not notice."""
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    model.embed.W_E.copy_(model.embed.W_E @ rotation)
    if model.cfg.positions == "learned":
        model.pos_embed.W_pos.copy_(model.pos_embed.W_pos @ rotation)
    for reading, writing in map(_weights, _mixers(model)):
        for weight in reading:
            weight.copy_(rotation.T @ weight)
        for weight in writing:
            weight.copy_(weight @ rotation)
    model.unembed.W_U.copy_(rotation.T @ model.unembed.W_U)


Mixer = Attention | MLP | Mamba | MoE


def _mixers(model: HybridLM) -> list[Mixer]:
    names = {"*": "attn", "-": "mlp", "M": "mamba", "E": "moe"}
    return [getattr(block, names[block.kind]) for block in blocks_of(model)]


def _weights(mixer: Mixer) -> tuple[list[Tensor], list[Tensor]]:
    """Weights `[... d_model width]` that read the stream, and `[... width d_model]` that write into it."""
    if isinstance(mixer, Attention):
        return [mixer.W_Q, mixer.W_K, mixer.W_V], [mixer.W_O]
    if isinstance(mixer, MLP):
        return [mixer.W_in], [mixer.W_out]
    if isinstance(mixer, Mamba):
        return [mixer.W_z, mixer.W_x, mixer.W_B, mixer.W_C, mixer.W_dt], [mixer.W_out]
    return [mixer.W_R, mixer.W_in, mixer.W_in_shared], [mixer.W_out, mixer.W_out_shared]
