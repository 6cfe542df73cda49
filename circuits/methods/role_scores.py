"""Model and pairs -> RoleScores: every edge's score, shared out to the roles of the tokens at which it is read.

An edge joins a writer and a reader at one position, and the position's token has a known role, so the sum over
positions that an edge's score is falls into one part per role, at no further passes. Which role information comes from
and which it goes to is what `flows` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from circuits.engine.attribution import Differentiated, differentiate, parts_of, readings
from circuits.engine.batching import Track, by_length
from circuits.engine.ports import at, frozen
from circuits.engine.recording import Machine
from circuits.engine.roles import member_of
from circuits.graph import Graph
from circuits.metrics import Metric, check_finite, check_moves, logit_diff, metric_name
from data_gen.errors import InputError
from saes.roles import family
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True, kw_only=True, eq=False)
class RoleScores:
    """Mean score of every edge at the tokens of each role; over the roles it sums to the edge's score."""

    graph: Graph
    roles: tuple[str, ...]
    """Families of roles: `english.order_by.direction` stands for all its numbers."""
    values: Float[Tensor, "role writer reader"]
    errors: Float[Tensor, "role writer reader"]
    """Standard errors over the pairs; zero for a single pair."""
    metric: str
    edit: str
    n_pairs: int

    def table(self, n: int = 20) -> list[dict[str, Any]]:
        """The `n` largest parts: edge, role, score and standard error."""
        order = self.values.flatten().abs().argsort(descending=True, stable=True)[:n].tolist()
        places = [torch.unravel_index(torch.tensor(place), self.values.shape) for place in order]
        return [
            {
                "edge": f"{self.graph.writers[int(writer)].name} -> {self.graph.readers[int(reader)].name}",
                "role": self.roles[int(role)],
                "score": self.values[role, writer, reader].item(),
                "error": self.errors[role, writer, reader].item(),
            }
            for role, writer, reader in places
            if self.values[role, writer, reader] != 0
        ]


def role_scores(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    steps: int = 5,
    batch_size: int | None = None,
    track: Track = iter,
) -> RoleScores:
    """`eap_ig` over the inputs, by the role of the position. Sign, errors and `track` as there."""
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    mixes = tuple((step + 0.5) / steps for step in range(steps))
    roles = sorted({family(role) for row in pairs.clean.roles for role in row if role})
    total = squares = torch.zeros(())
    sides = []
    with frozen(model):
        machine = Machine(model)
        for batch in track(by_length(model, pairs, batch_size).batches):
            found = differentiate(machine, batch, metric, mixes)
            sides.append((found.metric_clean, found.metric_corrupt))
            with torch.no_grad():
                for rows in parts_of(machine, batch):
                    each = _by_role(found, rows, roles).double().cpu() / steps
                    total, squares = total + each.sum(0), squares + each.square().sum(0)
    check_finite("role scores", total)
    clean, corrupt = (torch.cat(side) for side in zip(*sides, strict=True))
    check_moves(clean, corrupt, pairs.edit)
    count = len(pairs)
    mean = total / count
    spread = (squares - count * mean.square()).clamp_min(0)
    return RoleScores(
        graph=Graph.of(model),
        roles=tuple(roles),
        values=mean.float(),
        errors=(spread / max(count - 1, 1) / count).sqrt().float(),
        metric=metric_name(metric),
        edit=pairs.edit,
        n_pairs=count,
    )


def _by_role(
    found: Differentiated, rows: slice, roles: Sequence[str]
) -> Float[Tensor, "batch role writer reader"]:
    """Scores of some examples, each position's added to that of its role."""
    graph, change = Graph.of(found.machine.model), found.change(rows)
    scores = change.last.new_zeros(change.last.shape[1], len(roles), len(graph.writers), len(graph.readers))
    member = member_of(found.batch, roles)[rows].to(change.last)
    whole, last = member[:, change.since :], at(member, found.batch.position[rows])
    for part in readings(found.machine, change, found.gradients, rows):
        each = torch.matmul(
            rearrange(part.change, "writer batch seq d -> batch seq writer d"),
            rearrange(part.gradient, "reader batch seq d -> batch seq d reader"),
        )
        label = last if part.narrowed else whole
        by_role = einsum(label, each, "batch seq role, batch seq writer reader -> batch role writer reader")
        scores[:, :, : len(part.change), part.readers] = by_role
    return scores
