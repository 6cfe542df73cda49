"""One configuration, choices of its fields -> the configurations of every combination: the members of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

from data_gen.errors import InputError, nearest
from saes.training.config import SAEConfig


def grid(base: SAEConfig, **choices: Sequence[Any]) -> dict[str, SAEConfig]:
    """Every combination of the choices by its name, all of which read the activations in the order of `base`.

    Example:
        >>> list(grid(SAEConfig(), k=(4, 8), seed=(0, 1)))
        ['k=4,seed=0', 'k=4,seed=1', 'k=8,seed=0', 'k=8,seed=1']
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
    ordered = replace(base, order_seed=base.seed_of_order)
    return {
        ",".join(f"{name}={value}" for name, value in zip(choices, values, strict=True)): replace(
            ordered, **dict(zip(choices, values, strict=True))
        )
        for values in product(*choices.values())
    }
