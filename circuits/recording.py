"""Token ids -> a Recording: all that was read and written in one bare run of the model.

The logits are computed at one position per sequence only, the one a metric looks at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.ports import Slots, ports_of, slots, written
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One run; lists hold one entry per block, `resid` and `scales` one more for the final norm."""

    resid: tuple[Float[Tensor, "batch _ d_model"], ...]
    """What each block reads before its norm; the last is what the final norm reads, at `position` only."""
    scales: tuple[Float[Tensor, "batch _ 1"], ...]
    """The norms' divisors; the last at `position` only."""
    reads: tuple[tuple[Slots, ...], ...]
    """Outputs of each block's reader ports (q, k, v or the MLP's pre-activation)."""
    latents: tuple[Slots, ...]
    """Inputs of each block's writer port (z or the MLP's post-activation)."""
    normalized: Float[Tensor, "batch 1 d_model"]
    """What the unembedding reads, at `position`."""
    logits: Float[Tensor, "batch d_vocab"]
    """Logits at `position`."""


def record(
    model: HybridLM,
    ids: Int[Tensor, "batch seq"],
    position: Int[Tensor, " batch"],
    stream: Float[Tensor, "batch seq d_model"] | None = None,
) -> Recording:
    """Run the model once and keep what went through its ports.

    `stream`, if given, takes the place of what block 0 reads (token and position embedding). Gradients flow
    or not as the caller's context says.
    """
    kept: dict[str, Tensor] = {}
    ports = ports_of(model)
    inputs = [f"blocks.{i}.hook_resid_pre" for i in range(len(ports))]
    final = f"blocks.{len(ports) - 1}.hook_resid_post"

    def keep(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = activation

    def keep_slots(activation: Tensor, hook: HookPoint) -> Tensor:
        # The model goes on from the kept view, so that gradients at it exist.
        kept[str(hook.name)] = slots(activation)
        return kept[str(hook.name)].view_as(activation)

    def keep_position(activation: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = at(activation, position)

    def only_position(activation: Tensor, hook: HookPoint) -> Tensor:
        # The unembedding then sees one position instead of all.
        keep_position(activation, hook)
        return kept[str(hook.name)]

    everywhere = [*inputs, *(f"{norm}.hook_scale" for norm in norms(model)[:-1])]
    hooks: list[tuple[str, Callable[..., Tensor | None]]] = [(name, keep) for name in everywhere]
    hooks += [(port.hook, keep_slots) for block in ports for port in block.reads]
    hooks += [(block.write.hook, keep_slots) for block in ports]
    hooks += [(final, keep_position), ("ln_final.hook_scale", keep_position)]
    hooks.append(("ln_final.hook_normalized", only_position))
    if stream is not None:
        hooks.insert(0, (inputs[0], lambda activation, hook: stream))
    with model.hooks(fwd_hooks=hooks):
        logits = model(ids)
    return Recording(
        resid=tuple(kept[name] for name in (*inputs, final)),
        scales=tuple(kept[f"{norm}.hook_scale"] for norm in norms(model)),
        reads=tuple(tuple(kept[port.hook] for port in block.reads) for block in ports),
        latents=tuple(kept[block.write.hook] for block in ports),
        normalized=kept["ln_final.hook_normalized"],
        logits=logits[:, 0],
    )


def changes(model: HybridLM, run: Recording, base: Recording) -> Float[Tensor, "writer batch seq d_model"]:
    """What every writer adds to the stream in `run`, minus what it adds in `base`; rows as in `Graph.writers`."""
    heads = [
        written(ports.write, latent - other)
        for ports, latent, other in zip(ports_of(model), run.latents, base.latents, strict=True)
    ]
    return torch.cat([(run.resid[0] - base.resid[0])[None], *heads])


def norms(model: HybridLM) -> tuple[str, ...]:
    """Names of the norms in the order of `Recording.scales`."""
    return (*(f"blocks.{i}.ln1" for i in range(len(model.blocks))), "ln_final")


def at(
    x: Float[Tensor, "batch seq *rest"], position: Int[Tensor, " batch"]
) -> Float[Tensor, "batch 1 *rest"]:
    """One position of each sequence, kept as a sequence of length one."""
    return x[torch.arange(len(x), device=x.device), position][:, None]


def at_position(
    x: Float[Tensor, "writer batch seq d_model"], position: Int[Tensor, " batch"]
) -> Float[Tensor, "writer batch 1 d_model"]:
    """One position of what each writer added."""
    return x[:, torch.arange(x.shape[1], device=x.device), position][:, :, None]


def prompts(pairs: TokenPairs) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Clean and corrupt ids, cut behind the last position whose logits are wanted."""
    length = int(pairs.position.max()) + 1
    return pairs.clean.ids[:, :length], pairs.corrupt.ids[:, :length]
