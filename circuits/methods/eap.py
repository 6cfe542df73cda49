"""Model and pairs -> EdgeScores by edge attribution patching: one backward pass for all edges.

EAP is Syed, Rager & Conmy, arXiv 2310.10348: the first-order estimate of patching each edge alone. Two relatives cost
one pass more or none: `clean_corrupt` averages the gradients of both ends, `relp` takes relevance for the gradient.
"""

from __future__ import annotations

from circuits.engine.attribution import attribute
from circuits.engine.batching import Track
from circuits.engine.rules import LIVE, RELP, Rules
from circuits.metrics import Metric, logit_diff
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def eap(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    rules: Rules = LIVE,
    batch_size: int | None = None,
    track: Track = iter,
) -> EdgeScores:
    """Score every edge by `Σ_t ⟨writer(corrupt) - writer(clean), ∂metric/∂reader input at the clean run⟩`.

    Sign: a score estimates `metric(this edge carries the corrupt value) - metric(clean run)`, which is what
    `exact` measures; an edge that carries a behaviour measured by `logit_diff` has a *negative* score.
    Where the metric is saturated at the clean run the estimate is far too small: see `eap_ig`.
    `rules` say what the gradient takes for a constant (`circuits.FROZEN`: norms and router); `track` may wrap the
    list of batches in a progress bar, here and below.
    Raises `InputError` for no pairs, prompts of unlike shape, or hooks on the model.
    """
    method = "eap" + rules.suffix
    return attribute(
        model,
        pairs,
        metric,
        method=method,
        mixes=(1.0,),
        batch_size=batch_size,
        rules=rules,
        track=track,
    )


def clean_corrupt(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    rules: Rules = LIVE,
    batch_size: int | None = None,
    track: Track = iter,
) -> EdgeScores:
    """`eap` with the mean of the gradients at the clean and at the corrupt run: the trapezoid rule in two passes.

    Method and name are of Hanna, Pezzelle & Belinkov's code (arXiv 2403.17806). Raises `InputError` as `eap` does.
    """
    method = "clean-corrupt" + rules.suffix
    return attribute(
        model,
        pairs,
        metric,
        method=method,
        mixes=(0.0, 1.0),
        batch_size=batch_size,
        rules=rules,
        track=track,
    )


def relp(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    batch_size: int | None = None,
    track: Track = iter,
) -> EdgeScores:
    """`eap` under the rules of relevance patching, `circuits.RELP` (Jafari et al., arXiv 2508.21258): same cost.

    Raises `InputError` as `eap` does.
    """
    return attribute(
        model,
        pairs,
        metric,
        method="relp",
        mixes=(1.0,),
        batch_size=batch_size,
        rules=RELP,
        track=track,
    )
