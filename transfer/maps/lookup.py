"""Pairs of activations -> look-up map: what the token alone, or token and position, tell of the target."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.maps.activation_map import Made
from transfer.maps.kinds import LookupMap, position_keys
from transfer.points import ActivationPairs


def lookup_map(pairs: ActivationPairs, made: Made, *, by_position: bool) -> LookupMap:
    """The target's mean per source token, and with `by_position` per source token and position too.

    The control for any map between early layers: it reads nothing of the source model.
    """
    source, target = pairs.source, pairs.target.values
    keys, table = _means(source.ids, target)
    if by_position:
        more, further = _means(position_keys(source.ids, source.positions), target)
        keys, table = torch.cat([keys, more]), torch.cat([table, further])
    return LookupMap(
        made=made,
        width=torch.tensor(source.values.shape[1]),
        keys=keys,
        table=table.float(),
        mean=target.double().mean(0).float(),
    )


def _means(
    keys: Int[Tensor, " token"], values: Float[Tensor, "token d_out"]
) -> tuple[Int[Tensor, " entry"], Float[Tensor, "entry d_out"]]:
    unique, entry, counts = keys.unique(return_inverse=True, return_counts=True)
    total = torch.zeros(len(unique), values.shape[1], dtype=torch.float64, device=values.device)
    return unique, total.index_add(0, entry, values.double()) / counts[:, None]
