"""EdgeScores and held-out pairs -> Curve: faithfulness against size, its areas CMD and CPR, and random bands.

As MIB defines them (Mueller et al., arXiv 2504.13151, and its `evaluation.py`): circuits of {.1, .2, .5, 1, 2, 5,
10, 20, 50, 100} % of all edges, rounded down, and by the trapezoid rule over the fractions x

    CMD = ∫ |1 - f(x)| dx      (distance of the circuits from the model; 0 is best; the headline)
    CPR = ∫ f(x) dx            (unbounded: circuits that leave out what works against the answer raise it)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.judging.bootstrap import plain
from circuits.judging.controls import RandomCircuits
from circuits.judging.ratios import Band, Estimate, Ratios, band, estimate, ratios_of
from circuits.metrics import Metric, logit_diff, metric_name
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of all edges at which MIB runs circuits."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Faithfulness of the top `n_edges` and of random circuits of that size."""

    n_edges: int
    faithfulness: Estimate
    random: Band
    """Uniformly random circuits."""
    matched: Band | None = None
    """Layer-matched random circuits; `None` where a report is older than they are."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """One area under the curve, beside that of uniform and of layer-matched random circuits."""

    value: Estimate
    random: Band
    matched: Band


@dataclass(frozen=True, kw_only=True)
class Areas:
    """MIB's areas over the fraction x, and the same over log x, divided by its length so that both are like means."""

    cmd: Area
    """`∫ |1 - f| dx` from .001 to 1. Its bootstrap draws lie above it where f is near 1: noise never cancels."""
    cpr: Area
    """`∫ f dx` from .001 to 1."""
    cmd_log: Area
    """`∫ |1 - f| d log x / log 1000`: small circuits count as much as large ones."""
    cpr_log: Area


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Faithfulness against the number of edges."""

    edit: str
    method: str
    metric: str
    n_pairs: int
    n_edges_model: int
    random_circuits: int
    seed: int
    points: tuple[CurvePoint, ...]
    areas: Areas | None = None
    """`None` where the caller chose the sizes."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Curve:
        """Inverse of `to_json`. Raises `InputError` when a field is missing or unknown."""
        try:
            points = tuple(_point(point) for point in found["points"])
            areas = found.get("areas")
            return cls(**{**found, "points": points, "areas": None if areas is None else _areas(areas)})
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not a faithfulness curve: {error!r}", hint="make it again with `tinysql circuit eval`"
            ) from error


def faithfulness_curve(
    model: HybridLM,
    scores: EdgeScores,
    pairs: TokenPairs,
    sizes: Sequence[int] | None = None,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Curve:
    """Faithfulness of the top edges at each of `sizes`, with the bands of random circuits at each.

    `None` takes MIB's fractions of all edges, those of at least one edge, and gives the areas too. Random circuits
    of growing size are nested, as the top edges are. Pairs must be held out from scoring. `track` passes the circuits
    through, for a progress bar.
    Raises `InputError` when the model does not tell clean from corrupt on these pairs, for a size that no circuit can
    have, or for scores of another model.
    """
    graph = scores.graph
    taken = mib_sizes(len(graph.edges)) if sizes is None else tuple(sizes)
    if not taken:
        raise InputError("there is no size to run circuits of", hint="give some, or leave `sizes` out")
    draws = RandomCircuits.draw(graph, random_circuits, seed)
    ratios = ratios_of(model, graph, pairs, metric, seed=seed, batch_size=batch_size)
    played: list[Circuit] = []
    for size in taken:
        top = top_edges(scores, size)
        played += [top, *draws.uniform(size), *draws.layer_matched(top)]
    values = metric_of(model, played, pairs, metric, batch_size=batch_size, track=track).double().numpy()
    each = values.reshape(len(taken), 1 + 2 * random_circuits, -1)
    return Curve(
        edit=pairs.edit,
        method=scores.method,
        metric=metric_name(metric),
        n_pairs=len(pairs),
        n_edges_model=len(graph.edges),
        random_circuits=random_circuits,
        seed=seed,
        points=tuple(_point_of(ratios, size, here) for size, here in zip(taken, each, strict=True)),
        areas=_areas_of(ratios, each, len(graph.edges)) if sizes is None else None,
    )


def _point_of(ratios: Ratios, size: int, each: np.ndarray) -> CurvePoint:
    """From `each` `[circuit pair]`, the top edges first, then as many uniform as layer-matched circuits."""
    uniform, matched = np.split(each[1:], 2)
    return CurvePoint(
        n_edges=size,
        faithfulness=ratios.estimate(each[0]),
        random=ratios.band(uniform),
        matched=ratios.band(matched),
    )


def mib_sizes(n_edges: int) -> tuple[int, ...]:
    """The distinct circuit sizes of at least one edge at MIB's fractions of `n_edges`.

    Example:
        >>> mib_sizes(998)
        (1, 4, 9, 19, 49, 99, 199, 499, 998)
    """
    return tuple(dict.fromkeys(size for size in _sizes(n_edges) if size))


def cmd(faithfulness: np.ndarray, *, log: bool = False) -> np.ndarray:
    """`∫ |1 - f| dx` of `[..., fraction]`; with `log`, over log x and divided by its length."""
    return _area(np.abs(1 - faithfulness), log)


def cpr(faithfulness: np.ndarray, *, log: bool = False) -> np.ndarray:
    """`∫ f dx` of `[..., fraction]`; with `log`, over log x and divided by its length."""
    return _area(faithfulness, log)


def _area(heights: np.ndarray, log: bool) -> np.ndarray:
    x = np.log(FRACTIONS) / np.log(FRACTIONS[-1] / FRACTIONS[0]) if log else np.array(FRACTIONS)
    return np.asarray(((heights[..., 1:] + heights[..., :-1]) / 2 * np.diff(x)).sum(-1))


def _sizes(n_edges: int) -> list[int]:
    """Edges at each of MIB's fractions, rounded down."""
    return [int(fraction * n_edges) for fraction in FRACTIONS]


def _areas_of(ratios: Ratios, each: np.ndarray, n_edges: int) -> Areas:
    """Areas of `each` `[size circuit pair]`, the top edges first, then as many uniform as layer-matched circuits."""
    taken = mib_sizes(n_edges)
    # A fraction of less than one edge is the corrupt run, whose faithfulness is 0.
    places = [1 + taken.index(size) if size else 0 for size in _sizes(n_edges)]

    def at_fractions(by_size: np.ndarray) -> np.ndarray:
        whole = np.concatenate([np.zeros_like(by_size[..., :1]), by_size], axis=-1)
        return whole[..., places]

    top, draws = at_fractions(ratios.of(each[:, 0])), at_fractions(ratios.draws(each[:, 0]))
    uniform, matched = np.split(at_fractions(ratios.of(each[:, 1:]).T), 2)

    def area(kind: Any, log: bool) -> Area:
        return Area(
            value=estimate(float(kind(top, log=log)), kind(draws, log=log)),
            random=band(kind(uniform, log=log)),
            matched=band(kind(matched, log=log)),
        )

    return Areas(cmd=area(cmd, False), cpr=area(cpr, False), cmd_log=area(cmd, True), cpr_log=area(cpr, True))


def _point(found: dict[str, Any]) -> CurvePoint:
    matched = found.get("matched")
    return CurvePoint(
        n_edges=found["n_edges"],
        faithfulness=Estimate.from_json(found["faithfulness"]),
        random=Band.from_json(found["random"]),
        matched=None if matched is None else Band.from_json(matched),
    )


def _areas(found: dict[str, Any]) -> Areas:
    def area(one: dict[str, Any]) -> Area:
        return Area(
            value=Estimate.from_json(one["value"]),
            random=Band.from_json(one["random"]),
            matched=Band.from_json(one["matched"]),
        )

    return Areas(**{name: area(one) for name, one in found.items()})
