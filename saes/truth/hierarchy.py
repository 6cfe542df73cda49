"""Roles above roles -> splitting, absorption, polysemanticity: how latents share the roles among them.

A family stands above its slots: `sql.select.column` above `sql.select.0.column`. Where the slots of a family are known,
absorption (Chanin et al. 2024, arXiv 2409.14507) needs no spelling task: a latent of the family is silent at a slot
because a latent of the slot has taken over. Constants are SAEBench's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saes.roles import Roles, family
from saes.truth.firing import Firings
from saes.truth.scoring import Table

SPLIT_GAIN = 0.03
"""A latent more belongs to a role when it raises F1 by this much."""
MOST_SPLIT = 10
"""Latents looked at per role."""
CHILD_F1, COSINE, SHARE = 0.5, 0.025, 0.4
"""An absorbing latent detects the slot this well, lies this much along the family, and gives this share of it."""
MONOSEMANTIC_F1 = 0.5
"""From which F1 on a latent counts as a detector of a role."""


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """One role, and over how many latents it is spread."""

    role: str
    latents: tuple[int, ...]
    """The best latent, and those that each raise the F1 of firing together by at least `SPLIT_GAIN`."""
    f1: float
    """Of any of them firing, on the measured half."""
    effective: float
    """exp of the entropy of what each latent writes at tokens of the role: latents in use, not best ones."""


@dataclass(frozen=True, kw_only=True)
class Absorption:
    """One slot of a family, and how often the family's latents leave it to others."""

    parent: str
    child: str
    tokens: int
    """Tokens of the slot in the measured half."""
    rate: float
    """Share of them at which the family's latents are silent and a latent of the slot carries the family."""
    missed: float
    """1 - recall at the slot / recall at the family's other slots: needs no direction. 0 where it is no worse."""


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """How latents share the roles among them."""

    splitting: tuple[Splitting, ...]
    absorption: tuple[Absorption, ...]
    detecting: int
    """Latents with F1 of at least `MONOSEMANTIC_F1` for some role."""
    polysemantic: float
    """Share of those that detect two roles of which neither stands above the other."""


@torch.no_grad()
def hierarchy(
    decoder: Float[Tensor, "latent d_out"],
    values: Float[Tensor, "token d_out"],
    firings: tuple[Firings, Firings],
    roles: tuple[Roles, Roles],
    table: Table,
) -> Hierarchy:
    """`values` are what is to be written at tokens of the measured half, `decoder` what each latent writes.

    `firings` and `roles` are those of the choosing half and of the measured one.
    """
    length = decoder.norm(dim=1).cpu()
    spread = [split(c, firings, roles, table, length) for c in range(len(table.names))]
    of = dict(zip(table.names, spread, strict=True))
    column = dict(zip(table.names, table.column.tolist(), strict=True))
    found = []
    for child in table.names:
        parent = family(child)
        if parent == child or parent not in of:
            continue
        wanted = (roles[1].wanted(column[parent]), roles[1].wanted(column[child]))
        if not bool((wanted[0] & ~wanted[1]).any()):
            continue  # the only slot of its family
        detects = table.chosen_f1[:, table.names.index(child)] >= CHILD_F1
        found.append(
            absorbed(decoder, values, firings[1], wanted, of[parent].latents, detects, (parent, child))
        )
    detecting, polysemantic = meanings(table)
    return Hierarchy(
        splitting=tuple(spread), absorption=tuple(found), detecting=detecting, polysemantic=polysemantic
    )


def split(
    c: int,
    firings: tuple[Firings, Firings],
    roles: tuple[Roles, Roles],
    table: Table,
    length: Float[Tensor, " latent"],
) -> Splitting:
    """Add latents, from the best F1 down, while each raises the F1 of any of them firing on the choosing half."""
    wanted = [side.wanted(int(table.column[c])).cpu() for side in roles]
    order = table.chosen_f1[:, c].topk(min(MOST_SPLIT, len(table.chosen_f1))).indices.tolist()
    order = [j for j in order if table.chosen_f1[j, c] > 0]
    fires = [torch.zeros(len(side), dtype=torch.bool) for side in wanted]
    kept: list[int] = []
    best = 0.0
    for j in order:
        more = [_at(side, j, float(table.threshold[j, c])) for side in firings]
        f1 = _f1(fires[0] | more[0], wanted[0])
        if kept and f1 < best + SPLIT_GAIN:
            break
        kept, best = [*kept, j], f1
        fires = [one | other for one, other in zip(fires, more, strict=True)]
    second = firings[1]
    here = wanted[1][second.token.cpu()]
    written = (
        torch.bincount(
            second.latent.cpu()[here], weights=second.value.cpu()[here], minlength=second.n_latents
        )
        * length
    )
    share = written / written.sum().clamp_min(1e-30)
    return Splitting(
        role=table.names[c],
        latents=tuple(kept),
        f1=_f1(fires[1], wanted[1]),
        effective=float(torch.special.entr(share).sum().exp()) if float(written.sum()) > 0 else 0.0,
    )


def absorbed(
    decoder: Float[Tensor, "latent d_out"],
    values: Float[Tensor, "token d_out"],
    firings: Firings,
    wanted: tuple[Bool[Tensor, " token"], Bool[Tensor, " token"]],
    main: Sequence[int],
    detects: Bool[Tensor, " latent"],
    names: tuple[str, str],
) -> Absorption:
    """Tokens of the slot at which all `main` latents are silent and another carries the family's direction.

    The direction is that from the mean of tokens without the family to the mean of those of its other slots (this
    slot's own would let what is peculiar to it pass for the family), and a token's share of it is measured from the
    former mean, where there is none. `detects` says which latents detect the slot.
    """
    parent, child = (side.to(values.device) for side in wanted)
    outside = values[~parent].mean(0)
    others = parent & ~child
    direction = values[others].mean(0) - outside
    direction = direction / direction.norm().clamp_min(1e-30)
    carried = (values[child] - outside) @ direction
    along = decoder @ direction
    takes = detects.to(along.device) & (along >= COSINE * decoder.norm(dim=1))
    silent = torch.ones(len(parent), dtype=torch.bool, device=values.device)
    for j in main:
        silent &= ~_at(firings, j, 0.0).to(values.device)
    strongest = values.new_zeros(len(parent))
    given = firings.value * along[firings.latent]
    ours = takes[firings.latent]
    strongest.scatter_reduce_(0, firings.token[ours], given[ours].to(strongest), "amax")
    taken = silent[child] & (strongest[child] > 0) & (strongest[child] >= SHARE * carried)
    recall, elsewhere = (
        float((~silent)[side].double().mean()) if bool(side.any()) else 0.0 for side in (child, others)
    )
    return Absorption(
        parent=names[0],
        child=names[1],
        tokens=int(child.sum()),
        rate=float(taken.double().mean()) if len(taken) else 0.0,
        missed=max(0.0, 1 - recall / elsewhere) if elsewhere > 0 else 0.0,
    )


def meanings(table: Table) -> tuple[int, float]:
    """How many latents detect a role, and the share of those that detect two of which neither is above the other."""
    detects = table.f1 >= MONOSEMANTIC_F1
    nested = torch.tensor(
        [[family(a) == b or family(b) == a or a == b for b in table.names] for a in table.names]
    )
    apart = detects.double() @ (~nested).double()
    several = (detects & (apart > 0)).any(1)
    detecting = int(detects.any(1).sum())
    return detecting, float(several.sum()) / max(detecting, 1)


def _at(firings: Firings, latent: int, threshold: float) -> Bool[Tensor, " token"]:
    """The tokens at which a latent is at least `threshold`, on the CPU."""
    start, fired = int(firings.starts[latent]), int(firings.fired[latent])
    own: Int[Tensor, " firing"] = firings.token[start : start + fired]
    fires = torch.zeros(firings.n_tokens, dtype=torch.bool)
    fires[own[firings.value[start : start + fired] >= threshold].cpu()] = True
    return fires


def _f1(fires: Bool[Tensor, " token"], wanted: Bool[Tensor, " token"]) -> float:
    return 2 * int((fires & wanted).sum()) / max(int(fires.sum() + wanted.sum()), 1)
