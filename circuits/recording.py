"""Embedding stream -> a Recording: all that was read and written in one bare run of the model's blocks.

A metric looks at one position per sequence. Behind the last attention block nothing else is computed:
recorded tensors of the blocks from `tail_of(model)` on have a single position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.ports import Slots, blocks_of, ports_of, slots, tail_of, written
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run; tuples hold one entry per block, `resid` and `scales` one more for the final norm."""

    resid: tuple[Float[Tensor, "batch _ d_model"], ...]
    """What each block, and the final norm, reads."""
    scales: tuple[Float[Tensor, "batch _ 1"], ...]
    """The norms' divisors."""
    reads: tuple[tuple[Slots, ...], ...]
    """Outputs of each block's reader ports (q, k, v or the MLP's pre-activation)."""
    latents: tuple[Slots, ...]
    """Inputs of each block's writer port (z or the MLP's post-activation)."""
    normalized: Float[Tensor, "batch 1 d_model"]
    """What the unembedding reads."""
    logits: Float[Tensor, "batch d_vocab"]


def embedding_stream(model: HybridLM, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
    """What enters `blocks.0.hook_resid_pre`: token and position embedding."""
    stream: Tensor = model.embed(ids)
    return stream + model.pos_embed.W_pos[: ids.shape[1]] if model.cfg.positions == "learned" else stream


def record(
    model: HybridLM, stream: Float[Tensor, "batch seq d_model"], position: Int[Tensor, " batch"]
) -> Recording:
    """Run all blocks on an embedding stream and keep what goes through their ports.

    Gradients flow or not as the caller's context says.
    """
    kept: dict[str, Tensor] = {}
    ports, tail = ports_of(model), tail_of(model)

    def keep(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = activation

    def keep_slots(activation: Tensor, hook: HookPoint) -> Tensor:
        # The model goes on from the kept view, so that gradients at it exist.
        kept[str(hook.name)] = slots(activation)
        return kept[str(hook.name)].view_as(activation)

    scales = [*(f"blocks.{index}.ln1.hook_scale" for index in range(len(ports))), "ln_final.hook_scale"]
    through = [name for block in ports for name in (*(port.hook for port in block.reads), block.write.hook)]
    resid = []
    with model.hooks(
        fwd_hooks=[*((name, keep) for name in scales), *((name, keep_slots) for name in through)]
    ):
        for index, block in enumerate(blocks_of(model)):
            stream = at(stream, position) if index == tail else stream
            resid.append(stream)
            stream = block(stream)
        stream = at(stream, position) if tail == len(ports) else stream
        normalized = model.ln_final(stream)
    return Recording(
        resid=(*resid, stream),
        scales=tuple(kept[name] for name in scales),
        reads=tuple(tuple(kept[port.hook] for port in block.reads) for block in ports),
        latents=tuple(kept[block.write.hook] for block in ports),
        normalized=normalized,
        logits=model.unembed(normalized)[:, 0],
    )


class Changes(NamedTuple):
    """What writers add to the stream in one run minus what they add in another; rows as in `Graph.writers`."""

    whole: Float[Tensor, "writer batch seq d_model"]
    """All positions; only the writers that the last attention block can read."""
    last: Float[Tensor, "every batch 1 d_model"]
    """The metric's position, all writers."""


def changes(model: HybridLM, run: Recording, base: Recording, position: Int[Tensor, " batch"]) -> Changes:
    """Every writer in `run` minus the same in `base`."""
    tail, embedding = tail_of(model), run.resid[0] - base.resid[0]
    whole, last = [embedding[None]], [(at(embedding, position) if tail else embedding)[None]]
    for index, ports in enumerate(ports_of(model)):
        moved = run.latents[index] - base.latents[index]
        if index < tail - 1:
            whole.append(written(ports.write, moved))
            last.append(torch.stack([at(one, position) for one in whole[-1]]))
        else:
            last.append(written(ports.write, at(moved, position) if index == tail - 1 else moved))
    return Changes(torch.cat(whole), torch.cat(last))


def at(
    x: Float[Tensor, "batch seq *rest"], position: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1 *rest"]:
    """One position of each sequence, kept as a sequence of length one."""
    return x[torch.arange(len(x), device=x.device), position][:, None]


def prompts(pairs: TokenPairs) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Clean and corrupt ids, cut behind the last position whose logits are wanted."""
    length = int(pairs.position.max()) + 1
    return pairs.clean.ids[:, :length], pairs.corrupt.ids[:, :length]


def both_sides(model: HybridLM, pairs: TokenPairs) -> tuple[Recording, Recording]:
    """The clean and the corrupt run."""
    clean, corrupt = (record(model, embedding_stream(model, ids), pairs.position) for ids in prompts(pairs))
    return clean, corrupt
