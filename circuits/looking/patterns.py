"""Rows -> who looks at whom: attention mass from query roles to key roles, of attention heads and of Mamba heads.

A Mamba head is linear attention: its scan is `y_t = Σ_s M[t, s] dt_s x_s + D x_t` with
`M[t, s] = (C_t · B_s) exp(Σ_{s<r<=t} log decay_r)` (Dao and Gu, arXiv 2405.21060, equation 16; Ali et al., arXiv
2403.01590, call it hidden attention). What weighs `x_s` is `M dt`; it has a sign, so its mass is taken by size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from circuits.looking.by_role import Grouping, numbered
from circuits.looking.running import HookedLM, look, row_batches
from circuits.metrics import check_weights
from data_gen.errors import InputError
from saes.roles import family
from tinysql.kernels import ops
from tinysql.tokens import Tokens

MAMBA = ("dt", "decay", "B", "C")
Z95 = 1.959964


@dataclass(frozen=True, kw_only=True, eq=False)
class RolePatterns:
    """Mean attention mass between roles, over rows; each row counts once for every role it has."""

    roles: tuple[str, ...]
    blocks: tuple[int, ...]
    """The blocks that look back: attention and Mamba."""
    kinds: tuple[str, ...]
    """`attn` or `mamba`, per block."""
    mass: tuple[Float[Tensor, "_ query key"], ...]
    """Per block `[head query key]`: the share of a query role's attention that each key role gets; sums to 1."""
    margin: tuple[Float[Tensor, "_ query key"], ...]
    """Half a 95 % interval of the mean over rows, by the normal approximation; NaN where one row has the role."""
    uniform: Float[Tensor, "query key"]
    """The mass of a head that looks at all earlier tokens alike."""
    rows: Int[Tensor, " query"]
    """Rows that have each query role."""

    def of(self, block: int) -> Float[Tensor, "head query key"]:
        """One block's mass. Raises `InputError` for a block that does not look back."""
        if block not in self.blocks:
            raise InputError(
                f"block {block} has no attention to look at",
                hint=f"blocks that look back: {', '.join(map(str, self.blocks))}",
            )
        return self.mass[self.blocks.index(block)]

    def table(self, n: int = 20) -> list[dict[str, Any]]:
        """The `n` heads and roles that look most beyond what a uniform head would, one head, query and key a line."""
        found = []
        for block, kind, mass, margin in zip(self.blocks, self.kinds, self.mass, self.margin, strict=True):
            beyond = (mass - self.uniform).masked_fill((self.rows == 0)[:, None], float("-inf"))
            best = beyond.flatten().argsort(descending=True, stable=True)[:n].tolist()
            for head, query, key in (np.unravel_index(place, mass.shape) for place in best):
                line = {
                    "head": f"blocks.{block}.{kind}.head.{head}",
                    "query": self.roles[query],
                    "key": self.roles[key],
                    "mass": float(mass[head, query, key]),
                    "margin": float(margin[head, query, key]),
                    "uniform": float(self.uniform[query, key]),
                    "rows": int(self.rows[query]),
                }
                found.append((float(beyond[head, query, key]), line))
        return [line for _, line in sorted(found, key=lambda pair: -pair[0])[:n]]


@torch.no_grad()
def attention_by_role(
    model: HookedLM, tokens: Tokens, *, group: Grouping = family, batch_size: int = 64
) -> RolePatterns:
    """Mean attention mass between roles for every head of every block that looks back.

    Raises `InputError` for a model without such a block, no rows, rows longer than the model's context, or weights that
    are not finite.
    """
    check_weights(model.named_parameters())
    blocks, kinds = _looking_back(model)
    batches = row_batches(model, tokens, batch_size)
    roles, label = numbered(tokens, group)
    sums = [_Sums() for _ in (*blocks, "uniform")]
    rows, done = torch.zeros(len(roles), dtype=torch.long), 0
    for batch in batches:
        here = label[done : done + len(batch), : batch.ids.shape[1]].to(batch.ids.device)
        member = (here[..., None] == torch.arange(len(roles), device=here.device)).to(torch.float32)
        done += len(batch)
        rows += (member.sum(1) > 0).sum(0).cpu()
        seen = look(model, batch.ids, _hooks(model)).at
        for total, block, kind in zip(sums, blocks, kinds, strict=False):
            total.add(_role_mass(_pattern(seen, block, kind), member))
        sums[-1].add(_role_mass(_uniform(batch.ids), member))
    found = [total.over(rows) for total in sums]
    return RolePatterns(
        roles=roles,
        blocks=blocks,
        kinds=kinds,
        mass=tuple(mean for mean, _ in found[:-1]),
        margin=tuple(margin for _, margin in found[:-1]),
        uniform=found[-1][0][0],
        rows=rows,
    )


def effective_attention(
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
    decay: Float[Tensor, "batch seq head"],
) -> Float[Tensor, "batch head query key"]:
    """`M` of each Mamba head, from `hook_B`, `hook_C` and `hook_decay`: `M @ (dt x) + D x` is `hook_y`."""
    return ops.effective_attention(decay.double().log(), B, C)


def mamba_pattern(
    dt: Float[Tensor, "batch seq head"],
    decay: Float[Tensor, "batch seq head"],
    B: Float[Tensor, "batch seq group d_state"],
    C: Float[Tensor, "batch seq group d_state"],
) -> Float[Tensor, "batch head query key"]:
    """`|M dt|`, each query's summing to 1: the size with which each earlier `x` enters its `y`."""
    size = (effective_attention(B, C, decay) * rearrange(dt, "batch key head -> batch head 1 key")).abs()
    return size / size.sum(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)


def _looking_back(model: HookedLM) -> tuple[tuple[int, ...], tuple[str, ...]]:
    kinds = {
        index: kind
        for index in range(len(model.blocks))
        for kind, hook in (("attn", "hook_pattern"), ("mamba", "hook_decay"))
        if f"blocks.{index}.{kind}.{hook}" in model.hook_dict
    }
    if not kinds:
        raise InputError(
            "the model has no block that looks back", hint="look at a model with `*` or `M` in its pattern"
        )
    return tuple(kinds), tuple(kinds.values())


def _hooks(model: HookedLM) -> list[str]:
    found = []
    for block, kind in zip(*_looking_back(model), strict=True):
        names = ("pattern",) if kind == "attn" else MAMBA
        found += [f"blocks.{block}.{kind}.hook_{name}" for name in names]
    return found


def _pattern(seen: Mapping[str, Tensor], block: int, kind: str) -> Float[Tensor, "batch head query key"]:
    if kind == "attn":
        return seen[f"blocks.{block}.attn.hook_pattern"]
    dt, decay, b, c = (seen[f"blocks.{block}.mamba.hook_{name}"] for name in MAMBA)
    return mamba_pattern(dt, decay, b, c)


def _uniform(ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 1 query key"]:
    past = torch.ones(ids.shape[1], ids.shape[1], device=ids.device).tril()
    return (past / past.sum(-1, keepdim=True)).expand(len(ids), 1, -1, -1)


def _role_mass(
    pattern: Float[Tensor, "batch head query key"], member: Float[Tensor, "batch seq role"]
) -> Float[Tensor, "batch head role role2"]:
    """Of each row, the mean over the tokens of a query role of their mass on the tokens of a key role; 0 if none."""
    to_role = einsum(pattern.to(member), member, "batch head q k, batch k key -> batch head q key")
    total = einsum(to_role, member, "batch head q key, batch q query -> batch head query key")
    return total / rearrange(member.sum(1).clamp_min(1), "batch query -> batch 1 query 1")


class _Sums:
    """Sum and sum of squares over rows."""

    def __init__(self) -> None:
        self.total, self.squares = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def add(self, values: Float[Tensor, "batch head role role2"]) -> None:
        wide = values.double()
        self.total = self.total + wide.sum(0).cpu()
        self.squares = self.squares + wide.square().sum(0).cpu()

    def over(self, rows: Int[Tensor, " query"]) -> tuple[Tensor, Tensor]:
        """Mean over the rows that have the query role, and half its 95 % interval."""
        n = rows.clamp_min(1)[:, None].to(self.total)
        mean = self.total / n
        variance = (self.squares / n - mean.square()).clamp_min(0) * n / (n - 1)
        return mean.float(), (Z95 * (variance / n).sqrt()).float()
