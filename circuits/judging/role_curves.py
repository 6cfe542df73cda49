"""Role scores and held-out pairs -> faithfulness of circuits whose edges are kept at the tokens of their roles alone.

A role-aware edge is one part of `role_scores`: an edge, at the tokens of one role. It carries the clean value at these
and the corrupt one at all others, so the role it comes from is that at which its head read, itself by an edge of the
circuit. It is a smaller thing than an edge: an edge is one for every role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from circuits.engine.forward import metric_by_role
from circuits.graph import Graph
from circuits.judging.ratios import Estimate, ratios_of
from circuits.methods.role_scores import RoleScores
from circuits.metrics import Metric, logit_diff
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


class RolePoint(NamedTuple):
    """Faithfulness of the top role-aware edges."""

    n_parts: int
    """Role-aware edges."""
    n_edges: int
    """Edges they are parts of."""
    faithfulness: Estimate


def top_parts(roles: RoleScores, n: int) -> np.ndarray:
    """Bool `[role writer reader]`: true at the n parts of largest |mean|, none of which is zero.

    Raises `InputError` when there are fewer.
    """
    sizes = roles.values.abs().flatten()
    many = int((sizes > 0).sum())
    if not 0 <= n <= many:
        raise InputError(f"n is {n:,}, and {many:,} parts of edges have a score", hint="ask for fewer")
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[sizes.argsort(descending=True, stable=True)[:n]] = True
    found: np.ndarray = chosen.unflatten(0, roles.values.shape).numpy()
    return found


def role_curve(
    model: HybridLM,
    roles: RoleScores,
    pairs: TokenPairs,
    sizes: Sequence[int],
    *,
    metric: Metric = logit_diff,
    seed: int = 0,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> list[RolePoint]:
    """Faithfulness of the top role-aware edges at each size; the pairs are not those that were scored.

    `seed` draws the bootstrap. Raises `InputError` for scores of another model, a size beyond the parts there are, or
    when the model does not tell clean from corrupt on these pairs.
    """
    graph = Graph.of(model)
    if roles.graph != graph:
        raise InputError(f"the roles are of a model of {roles.graph}, and this one is of {graph}")
    kept = [top_parts(roles, n) for n in sizes]
    ratios = ratios_of(model, graph, pairs, metric, seed=seed, batch_size=batch_size)
    values = metric_by_role(model, kept, roles.roles, pairs, metric, batch_size=batch_size, track=track)
    return [
        RolePoint(n, int(mask.any(0).sum()), ratios.estimate(value))
        for n, mask, value in zip(sizes, kept, values.double().numpy(), strict=True)
    ]
