"""Model -> the units that can be taken out: heads, MLPs, experts and whole mixers; how each is read and replaced.

A unit's value is what it writes, before its output projection: a head's row of `hook_z` or `hook_gated`, the output
of an MLP, and of an expert its weighted output (zero at tokens that did not choose it), summed into the routed path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from circuits.looking.running import HookedLM, HookFunction
from data_gen.errors import InputError, nearest

Value = Float[Tensor, "batch seq width"]
MIXERS = ("attn", "mamba", "moe")
"""Mixers made of several units, which can be taken out whole too."""
HEADS = {"attn": "hook_z", "mamba": "hook_gated"}
EXPERTS = ("hook_chosen", "hook_weights", "hook_expert_out")


@dataclass(frozen=True)
class Unit:
    """One thing to take out, by its name as a writer (`blocks.0.attn.head.1`, `blocks.1.mlp`) or a mixer's."""

    name: str
    block: int
    hook: str
    """Where its replacement is put."""
    slot: int | None = None
    """Its head, or its expert; None when the hook carries the unit and nothing else."""
    expert: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Hooks that its value is computed from."""
        if not self.expert:
            return (self.hook,)
        return tuple(f"blocks.{self.block}.moe.{name}" for name in EXPERTS)

    def value(self, seen: Mapping[str, Tensor]) -> Value:
        """What it writes, given what its hooks carry."""
        if not self.expert:
            carried = seen[self.hook]
            return carried if self.slot is None else carried[:, :, self.slot]
        chosen, weights, out = (seen[name] for name in self.reads)
        mine = weights.to(out.dtype) * (chosen == self.slot)
        return einsum(out, mine, "batch seq active width, batch seq active -> batch seq width")

    def replacing(self, model: HookedLM, new: Callable[[Value], Tensor]) -> list[tuple[str, HookFunction]]:
        """Hook functions that run the model with `new(value)` in place of the unit's value."""
        if not self.expert:
            return [(self.hook, self._put(new))]
        kept: dict[str, Tensor] = {}

        def keeping(name: str) -> HookFunction:
            def keep(value: Tensor, hook: HookPoint) -> None:
                kept[name] = value

            return keep

        def put(routed: Tensor, hook: HookPoint) -> Tensor:
            now, up = self.value(kept), model.blocks[self.block].moe.W_up
            moved = new(now) - now
            return routed + (moved if up is None else moved @ up)

        return [*((name, keeping(name)) for name in self.reads), (self.hook, put)]

    def _put(self, new: Callable[[Value], Tensor]) -> HookFunction:
        def put(carried: Tensor, hook: HookPoint) -> Tensor:
            if self.slot is None:
                return new(carried).expand_as(carried)
            heads = list(carried.unbind(2))
            heads[self.slot] = new(heads[self.slot]).expand_as(heads[self.slot])
            return torch.stack(heads, dim=2)

        return put


def units_of(model: HookedLM) -> tuple[Unit, ...]:
    """Every unit of a model, block by block: heads, MLPs, experts, the shared expert, then the mixer as a whole."""
    return tuple(unit for block in range(len(model.blocks)) for unit in _units(model, block))


def find_units(model: HookedLM, names: tuple[str, ...] | None) -> tuple[Unit, ...]:
    """The units of these names, or every one. Raises `InputError`, with the nearest name, for an unknown one."""
    known = {unit.name: unit for unit in units_of(model)}
    if names is not None and not names:
        raise InputError("there is no unit to take out", hint="name some, or leave `units` out")
    for name in names if names is not None else ():
        if name not in known:
            raise InputError(
                f"the model has no unit `{name}`{nearest(name, list(known))}",
                hint=f"it has: {', '.join(list(known)[:6])}, ...; circuits.looking.units.units_of(model) lists all",
            )
    return tuple(known.values()) if names is None else tuple(known[name] for name in names)


def _units(model: HookedLM, block: int) -> list[Unit]:
    here, hooks = f"blocks.{block}", model.hook_dict
    counts = {"attn": model.cfg.n_heads, "mamba": getattr(model.cfg, "mamba_heads", 0)}
    found = [
        Unit(f"{here}.{mixer}.head.{head}", block, f"{here}.{mixer}.{hook}", head)
        for mixer, hook in HEADS.items()
        if f"{here}.{mixer}.{hook}" in hooks
        for head in range(counts[mixer])
    ]
    if f"{here}.moe.hook_routed_out" in hooks:
        routed = f"{here}.moe.hook_routed_out"
        experts = range(model.cfg.moe.n_experts)
        found += [Unit(f"{here}.moe.expert.{e}", block, routed, e, expert=True) for e in experts]
        found.append(Unit(f"{here}.moe.shared", block, f"{here}.moe.hook_shared_out"))
    whole = [*MIXERS, "mlp"]
    outs = ((mixer, f"{here}.hook_{mixer}_out") for mixer in whole)
    return found + [Unit(f"{here}.{mixer}", block, hook) for mixer, hook in outs if hook in hooks]
