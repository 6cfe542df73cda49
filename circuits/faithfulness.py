"""Circuit and held-out pairs -> Report: how much of the behaviour the circuit carries, and how surely.

`faithfulness = (m(C) - m(corrupt)) / (m(clean) - m(corrupt))`, a ratio of means over pairs, where `m(C)` runs
the circuit's edges alone (`forward`). Beside it stands the same number for random circuits of equally many
edges: a faithfulness that chance reaches too says nothing. The pairs must not be those the circuit was
selected on; `tinysql circuit find` and `eval` see to that by drawing with different seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from circuits.bootstrap import percentiles, resampled_means
from circuits.circuit import Circuit
from circuits.forward import metric_of
from circuits.graph import Graph
from circuits.metrics import Metric, logit_diff
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True)
class Estimate:
    """A ratio of means over pairs, with its 95 % bootstrap interval over pairs."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_number(self.value)} (95 % interval {_number(self.low)} to {_number(self.high)})"


@dataclass(frozen=True)
class Band:
    """Faithfulness of size-matched random circuits: mean and 5th to 95th percentile over circuits."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_number(self.mean)} (5-95 %: {_number(self.low)} to {_number(self.high)})"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One circuit, evaluated."""

    edit: str
    metric: str
    n_pairs: int
    n_edges: int
    n_live_edges: int
    """Edges on a path of the circuit's edges from `embed` to `logits`; the others change nothing."""
    n_live_outside: int
    """The same for the edges outside the circuit; 0 makes `completeness` 0 by itself."""
    n_edges_model: int
    metric_clean: float
    metric_corrupt: float
    metric_circuit: float
    metric_complement: float
    faithfulness: Estimate
    """1: the circuit alone does what the model does; 0: no more than the corrupt run."""
    completeness: Estimate
    """Faithfulness of every edge outside the circuit; near 0 when nothing outside it carries the behaviour."""
    random: Band
    random_circuits: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.edit}: {self.n_edges} of {self.n_edges_model} edges ({self.n_live_edges} live, "
            f"{self.n_live_outside} live outside) on {self.n_pairs} pairs\n"
            f"  the circuit alone      {self.faithfulness}\n"
            f"  everything outside it  {self.completeness}\n"
            f"  {self.random_circuits} random circuits     {self.random}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Faithfulness of the top `n_edges` and of random circuits of that size."""

    n_edges: int
    faithfulness: Estimate
    random: Band


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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Curve:
        """Inverse of `to_json`. Raises `InputError` when a field is missing or unknown."""
        try:
            points = tuple(
                CurvePoint(
                    n_edges=point["n_edges"],
                    faithfulness=Estimate(**point["faithfulness"]),
                    random=Band(**point["random"]),
                )
                for point in found["points"]
            )
            return cls(**{**found, "points": points})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"not a faithfulness curve: {error!r}", hint="make it again: tinysql circuit eval"
            ) from error


def evaluate(
    model: HybridLM,
    circuit: Circuit,
    pairs: TokenPairs,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    seed: int = 0,
    batch_size: int = 64,
) -> Report:
    """Run the circuit, its complement and size-matched random circuits on held-out `pairs`.

    A random circuit is a uniformly random subset of as many edges; most small ones hold no path from `embed`
    to `logits` at all, so the band is a floor, not a strong rival. `seed` draws the circuits and the bootstrap.
    Raises `InputError` when the model does not tell clean from corrupt on these pairs, so that no ratio
    exists, or when the circuit belongs to another model.
    """
    graph, size = circuit.graph, len(circuit)
    randoms = [Circuit(graph, order[:size]) for order in _shuffled(graph, random_circuits, seed)]
    played = [_whole(graph), Circuit(graph, ()), circuit, circuit.complement(), *randoms]
    values = metric_of(model, played, pairs, metric, batch_size=batch_size).double().numpy()
    ratios = _Ratios(values[0], values[1], seed, pairs.edit)
    means = values.mean(1)
    return Report(
        edit=pairs.edit,
        metric=getattr(metric, "__name__", repr(metric)),
        n_pairs=len(pairs),
        n_edges=size,
        n_live_edges=len(circuit.connected()),
        n_live_outside=len(circuit.complement().connected()),
        n_edges_model=len(graph.edges),
        metric_clean=float(means[0]),
        metric_corrupt=float(means[1]),
        metric_circuit=float(means[2]),
        metric_complement=float(means[3]),
        faithfulness=ratios.estimate(values[2]),
        completeness=ratios.estimate(values[3]),
        random=ratios.band(values[4:]),
        random_circuits=random_circuits,
        seed=seed,
    )


def faithfulness_curve(
    model: HybridLM,
    scores: EdgeScores,
    pairs: TokenPairs,
    sizes: Sequence[int] | None = None,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    seed: int = 0,
    batch_size: int = 64,
) -> Curve:
    """Faithfulness of the top edges at each of `sizes`, with the random band at each.

    `None` takes 1, 2, 5, 10, 20, 50, ... and all edges. A random circuit of one size holds those of the smaller
    sizes. Pairs must be held out from scoring. Raises `InputError` as `evaluate` does.
    """
    graph = scores.graph
    sizes = default_sizes(len(graph.edges)) if sizes is None else tuple(sizes)
    orders = _shuffled(graph, random_circuits, seed)
    played = [_whole(graph), Circuit(graph, ())]
    for size in sizes:
        played += [top_edges(scores, size), *(Circuit(graph, order[:size]) for order in orders)]
    values = metric_of(model, played, pairs, metric, batch_size=batch_size).double().numpy()
    ratios = _Ratios(values[0], values[1], seed, pairs.edit)
    each = values[2:].reshape(len(sizes), 1 + random_circuits, -1)
    return Curve(
        edit=pairs.edit,
        method=scores.method,
        metric=getattr(metric, "__name__", repr(metric)),
        n_pairs=len(pairs),
        n_edges_model=len(graph.edges),
        random_circuits=random_circuits,
        seed=seed,
        points=tuple(
            CurvePoint(n_edges=size, faithfulness=ratios.estimate(here[0]), random=ratios.band(here[1:]))
            for size, here in zip(sizes, each, strict=True)
        ),
    )


def default_sizes(n_edges: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50, ... below `n_edges`, then `n_edges`."""
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    return (*(size for size in steps if size < n_edges), n_edges)


def _whole(graph: Graph) -> Circuit:
    return Circuit(graph, graph.edges)


def _shuffled(graph: Graph, count: int, seed: int) -> list[tuple[Any, ...]]:
    """`count` random orders of all edges."""
    if count < 1:
        raise InputError(f"random_circuits is {count}, expected at least 1")
    rng = np.random.default_rng(seed)
    return [tuple(graph.edges[i] for i in rng.permutation(len(graph.edges))) for _ in range(count)]


class _Ratios:
    """`(m(C) - m(corrupt)) / (m(clean) - m(corrupt))` of means over pairs."""

    def __init__(self, clean: np.ndarray, corrupt: np.ndarray, seed: int, edit: str) -> None:
        self.corrupt, self.span, self.seed = corrupt, clean - corrupt, seed
        mean = float(self.span.mean())
        error = float(self.span.std(ddof=1) / len(self.span) ** 0.5) if len(self.span) > 1 else 0.0
        if abs(mean) <= max(1e-6, 2 * error):
            raise InputError(
                f"the model does not tell clean from corrupt on edit `{edit}`: the metric differs by {mean:.2g}"
                f" ± {error:.2g} (standard error over {len(self.span)} pairs), so faithfulness is not defined",
                hint="train the model longer, take more pairs, or choose an edit it has learned",
            )

    def estimate(self, values: np.ndarray) -> Estimate:
        both = np.stack([values - self.corrupt, self.span], axis=1)
        means, draws = both.mean(0), _ratio_draws(both, self.seed)
        low, high = percentiles(draws, 0.95)
        return Estimate(float(means[0] / means[1]), float(low), float(high))

    def band(self, values: np.ndarray) -> Band:
        ratios = (values - self.corrupt).mean(1) / self.span.mean()
        low, high = percentiles(ratios, 0.90)
        return Band(float(ratios.mean()), float(low), float(high))


def _ratio_draws(both: np.ndarray, seed: int) -> np.ndarray:
    draws = resampled_means(both, seed=seed)
    ratios: np.ndarray = draws[:, 0] / draws[:, 1]
    return ratios


def _number(value: float) -> str:
    """Three digits, and no minus in front of a zero."""
    return f"{round(value, 3) + 0.0:.3f}"
