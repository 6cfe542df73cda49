"""One configuration, choices of its fields -> the configurations of every combination: the members of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

from data_gen.errors import InputError, nearest
from saes.dictionaries.architectures import ARCHITECTURES, K_SPARSE, Architecture
from saes.training.config import SAEConfig

DECIDES: dict[str, tuple[Architecture, ...]] = {
    "k": K_SPARSE,
    "widths": ("matryoshka",),
    "sparsity": tuple(kind for kind in ARCHITECTURES if kind not in K_SPARSE),
}
"""Settings that decide something of these architectures alone."""


def grid(base: SAEConfig, **choices: Sequence[Any]) -> dict[str, SAEConfig]:
    """Every combination of the choices by its name, all of which read the activations in the order of `base`.

    A choice that decides nothing of an architecture, such as k of a kind with a penalty, is left out of its members.
    Raises `InputError` for what is no setting, and for a choice that decides nothing of any member.

    Example:
        >>> list(grid(SAEConfig(), k=(4, 8), seed=(0, 1)))
        ['k=4,seed=0', 'k=4,seed=1', 'k=8,seed=0', 'k=8,seed=1']
        >>> list(grid(SAEConfig(), architecture=("topk", "gated"), k=(4, 8), sparsity=(0.5,)))
        ['architecture=topk,k=4', 'architecture=topk,k=8', 'architecture=gated,sparsity=0.5']
    """
    known = [field.name for field in fields(SAEConfig)]
    for name, values in choices.items():
        if name not in known:
            raise InputError(
                f"an SAE has no setting `{name}`{nearest(name, known)}", hint=f"known: {', '.join(known)}"
            )
        if not values or len(set(values)) < len(values):
            raise InputError(
                f"{name} of the grid is {list(values)}, expected different values",
                hint="give each value once, and at least one",
            )
    kinds = choices.get("architecture", (base.architecture,))
    for name in choices:
        if name in DECIDES and not any(kind in DECIDES[name] for kind in kinds):
            raise InputError(
                f"{name} decides nothing of {' and '.join(f'`{kind}`' for kind in kinds)}",
                hint=f"leave it out; it is a setting of {', '.join(DECIDES[name])}",
            )
    ordered = replace(base, order_seed=base.seed_of_order)
    made: dict[str, SAEConfig] = {}
    for values in product(*choices.values()):
        given = dict(zip(choices, values, strict=True))
        kind = given.get("architecture", base.architecture)
        own = {name: value for name, value in given.items() if kind in DECIDES.get(name, (kind,))}
        made[",".join(f"{name}={value}" for name, value in own.items())] = replace(ordered, **own)
    return made
