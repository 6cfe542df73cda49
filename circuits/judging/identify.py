"""EdgeScores and held-out pairs -> is the circuit the only one: a second circuit without the first one's best path.

Two circuits of one model can be equally faithful and share few edges (arXiv 2605.12671: two for one task that share
4 %). Here the second may use no edge of the widest path of the first, and is grown from the same scores. Where it is
as faithful as the first, the behaviour runs along several paths, and neither is *the* circuit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from circuits.circuit import Circuit
from circuits.engine.forward import metric_of
from circuits.judging.bootstrap import plain
from circuits.judging.compare import compare
from circuits.judging.ratios import Estimate, estimate, ratios_of
from circuits.metrics import Metric, logit_diff
from circuits.paths import widest_path
from circuits.scores import EdgeScores
from circuits.select import greedy_edges
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


@dataclass(frozen=True, kw_only=True)
class Identifiability:
    """The first circuit and its rival."""

    n_first: int
    n_second: int
    path: tuple[str, ...]
    """The widest path, of which the second circuit has no edge."""
    jaccard: float
    first: Estimate
    """Faithfulness."""
    second: Estimate
    difference: Estimate
    """First minus second, on the same pairs: above zero, the path is needed; around zero, the circuit is not unique."""

    def __str__(self) -> str:
        return (
            f"{self.n_first} edges reach {self.first}\n"
            f"{self.n_second} edges without {', '.join(self.path)} reach {self.second}\n"
            f"  first minus second  {self.difference}; Jaccard index {self.jaccard:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(asdict(self))


def rival(scores: EdgeScores, n: int) -> Circuit:
    """The greedy circuit of at most `n` edges that shares no edge with the widest path; it may be empty.

    Raises `InputError` as `greedy_edges` does.
    """
    return greedy_edges(scores, n, without=widest_path(scores))


def identifiability(
    model: HybridLM,
    scores: EdgeScores,
    pairs: TokenPairs,
    n: int,
    *,
    metric: Metric = logit_diff,
    seed: int = 0,
    batch_size: int | None = None,
) -> Identifiability:
    """Faithfulness on held-out `pairs` of the greedy circuit of `n` edges, and of its `rival` of as many.

    `seed` draws the bootstrap. Raises `InputError` when the model does not tell clean from corrupt on these pairs, for
    an `n` that no circuit can have, or for scores of another model.
    """
    first, second = greedy_edges(scores, n), rival(scores, n)
    ratios = ratios_of(model, scores.graph, pairs, metric, seed=seed, batch_size=batch_size)
    values = metric_of(model, [first, second], pairs, metric, batch_size=batch_size).double().numpy()
    draws, found = ratios.draws(values), ratios.of(values)
    return Identifiability(
        n_first=len(first),
        n_second=len(second),
        path=tuple(str(edge) for edge in widest_path(scores).edges),
        jaccard=compare(first, second).jaccard,
        first=estimate(float(found[0]), draws[:, 0]),
        second=estimate(float(found[1]), draws[:, 1]),
        difference=estimate(float(found[0] - found[1]), draws[:, 0] - draws[:, 1]),
    )
