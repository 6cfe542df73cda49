"""Pairs -> which token has which role, for sums and edges that are kept apart by role."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from saes.roles import family
from tinysql.tokens import TokenPairs


def member_of(batch: TokenPairs, roles: Sequence[str]) -> Int[Tensor, "batch seq role"]:
    """1 at the family of each token's role; nothing at padding, and at tokens of other roles than these."""
    number = {role: place for place, role in enumerate(roles)}
    length = int(batch.position.max()) + 1
    places = [[number.get(family(role), len(roles)) for role in row[:length]] for row in batch.clean.roles]
    label = torch.tensor(places, device=batch.clean.ids.device)
    return torch.nn.functional.one_hot(label, len(roles) + 1)[..., :-1]
