"""What one switch is: a hook, a map, how many rows for what."""

from __future__ import annotations

from dataclasses import dataclass

from data_gen.draw.splits import Split
from data_gen.errors import InputError, nearest
from data_gen.seeding import MOST_COUNT
from transfer.names import METHODS, check_seed

MAPS = tuple(one for one in METHODS if one != "autoencoder-kl")
"""Maps that a switch can have; that one learns from another model's predictions too."""


@dataclass(frozen=True, kw_only=True)
class SwitchPlan:
    """One switch and what it is measured on."""

    hook: str
    method: str = "affine"
    rank: int = 16
    """Of the maps `low-rank` and `low-rank-step`."""
    map_rows: int = 600
    """Texts the map is fitted on, with the base's answers, conditions by turns."""
    test_rows: int = 1000
    """Prompts of each condition."""
    ood_rows: int = 300
    """Prompts of the split `unseen`."""
    unseen: Split = "templates"
    """What training never had; `novel` is names and templates."""
    lora_steps: int = 200
    """Of the adapters that are trained on the map's texts."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("map_rows", "test_rows", "ood_rows"):
            if not 2 <= getattr(self, name) <= MOST_COUNT:
                raise InputError(
                    f"{name} is {getattr(self, name):,}, expected 2 to {MOST_COUNT:,}",
                    hint="give another number",
                )
        if self.method not in MAPS:
            raise InputError(
                f"no map `{self.method}` for a switch{nearest(self.method, MAPS)}",
                hint=f"maps: {', '.join(MAPS)}",
            )
        for name in ("rank", "lora_steps"):
            if not 1 <= getattr(self, name) <= MOST_COUNT:
                raise InputError(
                    f"{name} is {getattr(self, name):,}, expected 1 to {MOST_COUNT:,}",
                    hint="give another number",
                )
