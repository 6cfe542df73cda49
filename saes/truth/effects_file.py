"""RUN/saes/NAME/effects.json <-> what an SAE's latents do: switched one by one, and swapped on pairs of edits.

A run of `tinysql sae effects` replaces what it finds anew. Swaps of edits that it was not asked for take as long as
those it was, so they stay, as long as they are of the same weights, scored rows and seed: the latents to swap are
chosen by the scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import find_json, read_json, write_atomic
from saes.training.config import difference
from saes.truth.causal import Effects
from saes.truth.interchange import Swap
from saes.truth.recovered import Fidelity
from tinysql.config import from_json, to_json
from tinysql.runs import provenance
from tinysql.written import mended_by

EFFECTS = "effects.json"
SWAPS, SWAPS_OF = "interchange", "interchange_of"

Swaps = dict[str, list[Swap]]
"""Edit -> what swapping ever more latents on its pairs did."""


def read_effects(path: Path) -> dict[int, dict[str, dict[str, float]]]:
    """What an SAE's file holds, latent -> way -> clause -> share of answers changed; nothing where there is none.

    Raises `InputError` for one that is damaged.
    """
    file = path / EFFECTS
    if not file.exists():
        return {}
    run, name = path.parents[1], path.name
    with mended_by(file, hint=f"make it again with `tinysql sae effects {run} --name {name}`, or remove it"):
        return Effects.from_json(read_json(file).get("effects"), where=str(file)).by_latent


def kept_swaps(file: Path, edits: Sequence[str], of: Mapping[str, Any]) -> Swaps:
    """The swaps that `file` holds of other edits than these.

    A file that is cut short holds none. Raises `InputError` where it does not say that they are `of` the same as those
    that are about to be made, since one file then would hold two things.
    """
    try:
        values = find_json(file) or {}
        held = values.get(SWAPS)
        there = held if isinstance(held, dict) else {}
        others = {
            edit: [from_json(Swap, swap, where=f"{file}: {SWAPS}") for swap in swaps]
            for edit, swaps in there.items()
            if edit not in edits
        }
    except (InputError, TypeError):
        return {}
    if others and values.get(SWAPS_OF) != of:
        names = ", ".join(f"`{edit}`" for edit in others)
        said = difference(values.get(SWAPS_OF), dict(of)) or ": it does not say of what they are"
        raise InputError(
            f"{file} has swaps on pairs of {names} that do not go with what is asked for{said}",
            hint=f"swap them again with {' '.join(f'--edit {edit}' for edit in others)}, or move the file away",
        )
    return others


def write_effects(
    file: Path, effects: Effects, fidelity: Fidelity, swaps: Swaps, of: Mapping[str, Any]
) -> None:
    """Write the file whole; `of` is what the swaps hold for."""
    made = {
        "effects": effects.to_json(),
        "fidelity": fidelity.to_json(),
        SWAPS: {edit: [to_json(swap) for swap in each] for edit, each in swaps.items()},
        SWAPS_OF: dict(of),
        "made_by": provenance(),
    }
    write_atomic(file, json.dumps(made, allow_nan=False))
