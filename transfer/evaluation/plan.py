"""What one transfer is: two hooks, a map, a place, how many rows for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from data_gen.errors import InputError, nearest
from data_gen.seeding import MOST_COUNT
from transfer.names import METHODS, NOT_AFFINE, SAE_LATENT, VECTORS, Alignment, Mode, Operator, check_seed

Place = Literal["trigger", "marker", "last", "everywhere"]
"""Where a vector is read and the model steered: at the words that set the behaviour off; at the last token of the
prompt that occurs but once in it, which reads them by attention alone; at the last token; or at every token behind
those words, and then everywhere.

At the trigger a look-up of the target's own means, per token, gives the native vector, whatever the source is: no
transfer can be shown there."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One transfer and its controls. Raises `InputError` for what does not exist."""

    source_hook: str
    target_hook: str
    aim: str | None = None
    """What the steering is for, by its name in `behaviour.aims`; the behaviour's usual aim unless given."""
    vector: str = "difference-of-means"
    """What is made of the aim's two sides, in both models; see `transfer.names.VECTORS`."""
    sae: tuple[str, ...] = ()
    """Of the vector `sae-latent`: names of SAEs of both runs, of which each hook has its own."""
    method: str = "affine"
    """The map; see `transfer.fit`."""
    rank: int = 16
    """Of the maps `low-rank` and `low-rank-step`."""
    alignment: Alignment = "spans"
    """How tokens are paired that the map is fitted on; raw `positions` are the control between tokenizers."""
    mode: Mode = "difference"
    """What becomes of the direction."""
    place: Place = "everywhere"
    operator: Operator = "add-and-ablate"
    scales: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
    """Tried on validation rows, for the native and the transferred vector each."""
    map_rows: int = 600
    """Texts the map is fitted on."""
    vector_rows: int = 128
    """Prompts the vectors are taken from."""
    choose_rows: int = 100
    """Validation prompts that choose the scale."""
    test_rows: int = 1000
    """Prompts of each condition."""
    draws: int = 20
    """Draws of a random control."""
    most_damage: float = 0.02
    """Most taught answers to the prompts that steering shall leave alone that a scale may cost, as a share."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("vector", self.vector, VECTORS),
            ("map", self.method, METHODS),
            ("place", self.place, get_args(Place)),
            ("mode", self.mode, get_args(Mode)),
            ("alignment", self.alignment, get_args(Alignment)),
            ("operator", self.operator, get_args(Operator)),
        ):
            if value not in known:
                raise InputError(
                    f"no {name} `{value}`{nearest(value, known)}", hint=f"known: {', '.join(known)}"
                )
        if self.vector != "difference-of-means" and self.mode == "difference" and self.method in NOT_AFFINE:
            raise InputError(
                f"the map `{self.method}` is not affine, and mode `difference` maps the difference of means whatever "
                f"the vector, so a `{self.vector}` would be lost",
                hint="choose mode `jacobian`, an affine map, or the vector `difference-of-means`",
            )
        if self.vector == SAE_LATENT and not self.sae:
            raise InputError(
                f"the vector `{SAE_LATENT}` is one of an SAE, and none is named",
                hint="name one that both runs have, as in --set sae=NAME",
            )
        if self.sae and self.vector != SAE_LATENT:
            raise InputError(
                f"sae is `{','.join(self.sae)}`, and a `{self.vector}` reads none",
                hint=f"leave it out, or choose the vector `{SAE_LATENT}`",
            )
        for name in ("map_rows", "vector_rows", "choose_rows", "test_rows", "draws"):
            if not 2 <= getattr(self, name) <= MOST_COUNT:
                raise InputError(
                    f"{name} is {getattr(self, name):,}, expected 2 to {MOST_COUNT:,}",
                    hint="give another number",
                )
        check_seed(self.seed)
        if self.rank < 1:
            raise InputError(f"rank is {self.rank}, expected at least 1", hint="give a larger rank")
        if not self.scales or any(scale <= 0 for scale in self.scales):
            raise InputError(
                f"scales are {self.scales}, expected positive numbers",
                hint="as in 0.5,1,2; the sign is a control",
            )
        if not 0 <= self.most_damage <= 1:
            raise InputError(
                f"most_damage is {self.most_damage}, expected a share of 0 to 1", hint="as in 0.02"
            )
