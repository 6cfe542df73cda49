"""Pairs -> which token has which role, for sums and edges that are kept apart by role."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
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


def random_tokens(
    member: Float[Tensor, "batch seq role"],
    real: Float[Tensor, "batch seq"],
    roles: np.ndarray,
    rng: np.random.Generator,
) -> Float[Tensor, "part batch seq"]:
    """1 at tokens drawn among the `real` ones, for each part as many as `member` gives its role; `roles` `[part]`."""
    noise = torch.from_numpy(rng.random((len(roles), *real.shape), dtype=np.float32)).to(member.device)
    # Padding comes last of all.
    order = noise.masked_fill(real == 0, 2).argsort(-1).argsort(-1)
    count = (member * real[..., None]).sum(1).T[torch.from_numpy(roles).to(member.device)]
    return (order < count[..., None]).to(member)
