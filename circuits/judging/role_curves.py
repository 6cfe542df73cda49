"""Role scores and held-out pairs -> faithfulness of circuits whose edges are kept at the tokens of their roles alone.

A role-aware edge is one part of `role_scores`: an edge, at the tokens of one role. It carries the clean value at these
and the corrupt one at all others, so the role it comes from is that at which its head read, itself by an edge of the
circuit. It is a smaller thing than an edge: an edge is one for every role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from circuits.engine.forward import metric_by_role, metric_of
from circuits.graph import Edge, Graph
from circuits.judging.bootstrap import plain
from circuits.judging.controls import RandomParts
from circuits.judging.curves import Curve, mib_sizes
from circuits.judging.ratios import Band, Estimate, Ratios, ratios_of
from circuits.methods.role_scores import RoleScores
from circuits.metrics import Metric, logit_diff, metric_name
from circuits.role_circuit import RoleCircuit, RoleEdge
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

AGAIN = "make it again with `tinysql circuit eval --by-role`"
LEVEL = 0.8
"""The faithfulness of which `Reach` says how many edges carry it."""


@dataclass(frozen=True, kw_only=True)
class RolePoint:
    """Faithfulness of some role-aware edges, and of random ones as many."""

    n_parts: int
    """Role-aware edges."""
    n_edges: int
    """Edges they are parts of."""
    faithfulness: Estimate
    matched: Band
    """Random role-aware edges, as many between every two blocks."""
    other_roles: Band
    """The same edges at random roles, as many of each."""

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> RolePoint:
        """Inverse of `asdict` and `plain`. Raises `KeyError` or `TypeError` where a part is missing."""
        bands = {name: Band.from_json(found[name]) for name in ("matched", "other_roles")}
        return cls(**{**found, **bands, "faithfulness": Estimate.from_json(found["faithfulness"])})


@dataclass(frozen=True, kw_only=True)
class RoleCurve:
    """Faithfulness against the number of role-aware edges."""

    edit: str
    metric: str
    n_pairs: int
    n_parts_model: int
    """Role-aware edges that have a score."""
    random_circuits: int
    """Of either kind."""
    seed: int
    points: tuple[RolePoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> RoleCurve:
        """Inverse of `to_json`. Raises `InputError` when a field is missing or unknown."""
        try:
            return cls(**{**found, "points": tuple(RolePoint.from_json(each) for each in found["points"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"not a curve of role-aware edges: {error!r}", hint=AGAIN) from error


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Where faithfulness crosses a level: n edges reach it and n - 1 do not."""

    level: float
    plain: int | None
    """Edges; `None` where no size that was tried reaches the level."""
    role_aware: int | None
    """Role-aware edges; `None` as above."""


@dataclass(frozen=True, kw_only=True)
class ByRole:
    """What an evaluation says of role-aware edges."""

    circuit: RolePoint
    """The circuit that was found."""
    curve: RoleCurve
    reach: Reach

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> ByRole:
        """Inverse of `to_json`. Raises `InputError` when a field is missing or unknown."""
        try:
            return cls(
                circuit=RolePoint.from_json(found["circuit"]),
                curve=RoleCurve.from_json(found["curve"]),
                reach=Reach(**found["reach"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"no evaluation by role: {error!r}", hint=AGAIN) from error


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


def top_role_edges(roles: RoleScores, n: int, metadata: dict[str, Any] | None = None) -> RoleCircuit:
    """The circuit of `top_parts`, the largest first. Raises `InputError` as that does."""
    graph, values = roles.graph, roles.values
    places = np.argwhere(top_parts(roles, n)).tolist()
    parts = [
        RoleEdge(
            Edge(graph.writers[writer].name, graph.readers[reader].name),
            roles.roles[role],
            values[role, writer, reader].item(),
        )
        for role, writer, reader in places
    ]
    about = {"metric": roles.metric, "edit": roles.edit, **(metadata or {})}
    return RoleCircuit(graph, tuple(sorted(parts, key=lambda part: -abs(part.score))), about)


def role_curve(
    model: HybridLM,
    roles: RoleScores,
    pairs: TokenPairs,
    sizes: Sequence[int] | None = None,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> RoleCurve:
    """Faithfulness of the top role-aware edges at each size, with the bands of random ones at each.

    `None` takes the sizes of `faithfulness_curve`, and all role-aware edges with a score where these are fewer. The
    pairs are not those that were scored. `seed` draws the random circuits, which are nested, and the bootstrap.
    Raises `InputError` for scores of another model, a size beyond the parts there are, or when the model does not
    tell clean from corrupt on these pairs.
    """
    many = int((roles.values != 0).sum())
    usual = tuple(dict.fromkeys(min(size, many) for size in mib_sizes(len(roles.graph.edges))))
    taken = usual if sizes is None else tuple(sizes)
    points = _points(
        model,
        roles,
        pairs,
        (top_parts(roles, size) for size in taken),
        metric=metric,
        random_circuits=random_circuits,
        seed=seed,
        batch_size=batch_size,
        track=track,
    )
    return RoleCurve(
        edit=pairs.edit,
        metric=metric_name(metric),
        n_pairs=len(pairs),
        n_parts_model=many,
        random_circuits=random_circuits,
        seed=seed,
        points=tuple(points),
    )


def evaluate_by_role(
    model: HybridLM,
    circuit: RoleCircuit,
    roles: RoleScores,
    pairs: TokenPairs,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> RolePoint:
    """Faithfulness of one role-aware circuit, beside random ones of its size.

    Raises `InputError` as `role_curve` does, for a circuit of another model, and for a part that `roles` do not score.
    """
    circuit.check_belongs(roles.graph)
    return _points(
        model,
        roles,
        pairs,
        [circuit.mask(roles.roles)],
        metric=metric,
        random_circuits=random_circuits,
        seed=seed,
        batch_size=batch_size,
        track=track,
    )[0]


def reach(
    model: HybridLM,
    scores: EdgeScores,
    roles: RoleScores,
    pairs: TokenPairs,
    curves: tuple[Curve, RoleCurve],
    *,
    level: float = LEVEL,
    metric: Metric = logit_diff,
) -> Reach:
    """How many top edges, and how many top role-aware edges, first reach a faithfulness.

    `curves` are theirs on these pairs: sizes in between are run. Raises `InputError` as `role_curve` does.
    """
    ratios = ratios_of(model, scores.graph, pairs, metric, seed=curves[0].seed, batch_size=None)

    def of_edges(size: int) -> float:
        values = metric_of(model, [top_edges(scores, size)], pairs, metric)
        return float(ratios.of(values.double().numpy())[0])

    def of_parts(size: int) -> float:
        values = metric_by_role(model, [top_parts(roles, size)], roles.roles, pairs, metric)
        return float(ratios.of(values.double().numpy())[0])

    edges = [(point.n_edges, point.faithfulness.value) for point in curves[0].points]
    parts = [(point.n_parts, point.faithfulness.value) for point in curves[1].points]
    return Reach(
        level=level, plain=crossing(of_edges, edges, level), role_aware=crossing(of_parts, parts, level)
    )


def crossing(
    faithfulness: Callable[[int], float], known: Sequence[tuple[int, float]], level: float
) -> int | None:
    """A size that reaches `level` where one less does not, in front of the first of the `known` sizes that does.

    By halving the gap, so each is tried in log2 of its length. `None` where none of the known sizes reaches it.

    Example:
        >>> crossing(lambda size: size / 10, [(1, 0.1), (5, 0.5), (20, 2.0)], 0.8)
        8
    """
    below, above = 0, None
    for size, value in known:
        if value >= level:
            above = size
            break
        below = size
    if above is None:
        return None
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (below, middle) if faithfulness(middle) >= level else (middle, above)
    return above


def _points(
    model: HybridLM,
    roles: RoleScores,
    pairs: TokenPairs,
    kept: Iterable[np.ndarray],
    *,
    metric: Metric,
    random_circuits: int,
    seed: int,
    batch_size: int | None,
    track: Callable[[list[Any]], Iterable[Any]],
) -> list[RolePoint]:
    """Each mask `[role writer reader]` that is kept, beside random ones of its size."""
    graph = Graph.of(model)
    if roles.graph != graph:
        raise InputError(f"the roles are of a model of {roles.graph}, and this one is of {graph}")
    draws = RandomParts.draw(graph, (roles.values != 0).numpy(), random_circuits, seed)
    masks = list(kept)
    ratios = ratios_of(model, graph, pairs, metric, seed=seed, batch_size=batch_size)

    def played() -> Iterator[np.ndarray]:
        for mask in masks:
            yield from (mask, *draws.layer_matched(mask), *draws.edge_matched(mask))

    values = metric_by_role(model, played(), roles.roles, pairs, metric, batch_size=batch_size, track=track)
    each = values.double().numpy().reshape(len(masks), 1 + 2 * random_circuits, -1)
    return [_point(ratios, mask, here) for mask, here in zip(masks, each, strict=True)]


def _point(ratios: Ratios, mask: np.ndarray, each: np.ndarray) -> RolePoint:
    """From `each` `[circuit pair]`, the kept parts first, then as many layer-matched as edge-matched ones."""
    matched, other_roles = np.split(each[1:], 2)
    return RolePoint(
        n_parts=int(mask.sum()),
        n_edges=int(mask.any(0).sum()),
        faithfulness=ratios.estimate(each[0]),
        matched=ratios.band(matched),
        other_roles=ratios.band(other_roles),
    )
