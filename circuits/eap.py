"""Model and pairs -> EdgeScores by edge attribution patching: one backward pass for all edges.

EAP is Syed, Rager & Conmy, arXiv 2310.10348: the first-order estimate of patching each edge alone.
"""

from __future__ import annotations

from circuits.attribution import attribute
from circuits.metrics import Metric, logit_diff
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def eap(
    model: HybridLM, pairs: TokenPairs, metric: Metric = logit_diff, *, batch_size: int = 32
) -> EdgeScores:
    """Score every edge by `Σ_t ⟨writer(corrupt) - writer(clean), ∂metric/∂reader input at the clean run⟩`.

    Sign: a score estimates `metric(this edge carries the corrupt value) - metric(clean run)`, which is what
    `exact` measures; an edge that carries a behaviour measured by `logit_diff` has a *negative* score.
    Where the metric is saturated at the clean run the estimate is far too small: see `eap_ig`.
    Raises `InputError` for no pairs, prompts of unlike shape, or hooks on the model.
    """
    return attribute(model, pairs, metric, method="eap", mixes=(1.0,), batch_size=batch_size)
