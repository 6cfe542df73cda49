"""Circuit and held-out pairs -> Report: how much of the behaviour the circuit carries, and how surely.

With `m(C)` the metric when the circuit's edges alone carry clean values (`forward`) and every other edge the corrupt
ones, `f(C) = (m(C) - m(corrupt)) / (m(clean) - m(corrupt))` (`ratios`). Beside it stands the same number for random
circuits of equally many edges (`controls`): a faithfulness that chance reaches too says nothing. The pairs must not be
those the circuit was selected on; `tinysql circuit find` and `eval` see to that by drawing with different seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.judging.bootstrap import plain
from circuits.judging.controls import RandomCircuits
from circuits.judging.curves import Curve as Curve
from circuits.judging.curves import CurvePoint as CurvePoint
from circuits.judging.curves import faithfulness_curve as faithfulness_curve
from circuits.judging.minimality import Minimality, leave_one_out
from circuits.judging.ratios import Band as Band
from circuits.judging.ratios import Estimate as Estimate
from circuits.judging.ratios import counted, ratios_of
from circuits.metrics import Metric, logit_diff, metric_name
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True)
class Sufficiency:
    """Is the circuit better than what its layers would give by chance (the sufficiency test of arXiv 2410.13032)?"""

    share: float
    """Share of the layer-matched random circuits that are less faithful: their |1 - f| is larger."""
    p: float
    """`(1 + number at least as faithful) / (1 + number of random circuits)`."""


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
    """Faithfulness of every edge outside the circuit, as Marks et al. (arXiv 2403.19647) measure it; near 0 when
    nothing outside it carries the behaviour."""
    random: Band
    """Faithfulness of uniformly random circuits of as many edges."""
    matched: Band
    """Faithfulness of random circuits with as many edges between every two blocks."""
    sufficiency: Sufficiency
    minimality: Minimality | None
    """`None` where no edge is live, or no path can be added to the circuit, or it was not asked for."""
    random_circuits: int
    """Of either kind."""
    seed: int

    def __str__(self) -> str:
        found = (
            f"{self.edit}: {self.n_edges} of {self.n_edges_model} edges ({self.n_live_edges} live, "
            f"{self.n_live_outside} live outside) on {counted(self.n_pairs, 'pair')}\n"
            f"  the circuit alone      {self.faithfulness}\n"
            f"  everything outside it  {self.completeness}\n"
            f"  {counted(self.random_circuits, 'random circuit'):<23}{self.random}\n"
            f"  {counted(self.random_circuits, 'layer-matched one'):<23}{self.matched}; less faithful than the"
            f" circuit: {self.sufficiency.share:.0%}, p = {self.sufficiency.p:.3f}"
        )
        if self.minimality is None:
            return found
        return (
            f"{found}\n  needed edges           {self.minimality.share:.0%} of {self.minimality.tested} change more"
            f" than the 90 % quantile of random edges ({self.minimality.quantile:.3f}); redundant:"
            f" {len(self.minimality.redundant)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))


def evaluate(
    model: HybridLM,
    circuit: Circuit,
    pairs: TokenPairs,
    *,
    metric: Metric = logit_diff,
    random_circuits: int = 20,
    minimality: bool = True,
    seed: int = 0,
    batch_size: int | None = None,
    track: Callable[[list[Any]], Iterable[Any]] = iter,
) -> Report:
    """Run a circuit, its complement, random circuits of its size and itself without each edge, on held-out pairs.

    `minimality=False` leaves out the last of these, which is most of the work. `seed` draws the random circuits, the
    random edges and the bootstrap. `track` passes the circuits through, for a progress bar.
    Raises `InputError` when the model does not tell clean from corrupt on these pairs, so that no ratio
    exists, or when the circuit belongs to another model.
    """
    draws = RandomCircuits.draw(circuit.graph, random_circuits, seed)
    ratios = ratios_of(model, circuit.graph, pairs, metric, seed=seed, batch_size=batch_size)
    complement = circuit.complement()
    played = [circuit, complement, *draws.uniform(len(circuit)), *draws.layer_matched(circuit)]
    values = metric_of(model, played, pairs, metric, batch_size=batch_size, track=track).double().numpy()
    uniform, matched = np.split(values[2:], 2)
    needed = None
    if minimality:
        needed = leave_one_out(model, circuit, pairs, metric, ratios, batch_size=batch_size, track=track)
    return Report(
        edit=pairs.edit,
        metric=metric_name(metric),
        n_pairs=len(pairs),
        n_edges=len(circuit),
        n_live_edges=len(circuit.connected()),
        n_live_outside=len(complement.connected()),
        n_edges_model=len(circuit.graph.edges),
        metric_clean=float(ratios.clean.mean()),
        metric_corrupt=float(ratios.corrupt.mean()),
        metric_circuit=float(values[0].mean()),
        metric_complement=float(values[1].mean()),
        faithfulness=ratios.estimate(values[0]),
        completeness=ratios.estimate(values[1]),
        random=ratios.band(uniform),
        matched=ratios.band(matched),
        sufficiency=sufficiency(float(ratios.of(values[0])), ratios.of(matched)),
        minimality=needed,
        random_circuits=random_circuits,
        seed=seed,
    )


def sufficiency(faithfulness: float, random: np.ndarray) -> Sufficiency:
    """The circuit's faithfulness against that of random circuits, `random` `[circuit]`."""
    worse = np.abs(1 - random) > abs(1 - faithfulness)
    return Sufficiency(float(worse.mean()), float((1 + (~worse).sum()) / (1 + len(random))))
