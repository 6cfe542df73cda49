"""How a token is chosen from the logits: numbers, known to name a distribution before a model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_gen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen from the logits; raises `InputError` where the numbers name no distribution."""

    temperature: float = 0.0
    """What logits are divided by; 0 takes the likeliest token."""
    top_p: float = 1.0
    """The likeliest tokens that together have this probability are drawn from, the others never."""
    seed: int = 0
    """Each prompt draws from numbers of its own, which depend on the seed and its place in the list."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(
                f"temperature is {self.temperature}, expected a number of at least 0",
                hint="0 answers greedily, 1 draws from the model's own distribution",
            )
        if not 0 < self.top_p <= 1:
            raise InputError(
                f"top_p is {self.top_p}, expected more than 0 and at most 1",
                hint="1 leaves every token in, 0.9 leaves out what is unlikely",
            )


GREEDY = Sampling()
