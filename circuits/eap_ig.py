"""Model and pairs -> EdgeScores by EAP with integrated gradients over the inputs.

EAP-IG is Hanna, Pezzelle & Belinkov, arXiv 2403.17806. Theirs is a left Riemann sum; the midpoint rule taken
here needs as many passes and integrates exactly one order higher.
"""

from __future__ import annotations

from circuits.attribution import attribute
from circuits.metrics import Metric, logit_diff
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def eap_ig(
    model: HybridLM, pairs: TokenPairs, metric: Metric = logit_diff, *, steps: int = 5, batch_size: int = 32
) -> EdgeScores:
    """Score every edge as `eap` does, with the gradient averaged along the way from corrupt to clean.

    The embedding stream at `blocks.0.hook_resid_pre` is `corrupt + a * (clean - corrupt)` with
    `a = (k + 1/2) / steps`, `k = 0 .. steps - 1`. Sign as in `eap` and `exact`.
    The scores of all edges leaving `embed` sum to the metric's change from clean to corrupt as `steps` grow;
    `metadata["completeness_gap"]` is what is missing from that.
    Raises `InputError` for fewer than one step, no pairs, prompts of unlike shape, or hooks on the model.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    mixes = tuple((step + 0.5) / steps for step in range(steps))
    return attribute(model, pairs, metric, method="eap-ig", mixes=mixes, batch_size=batch_size)
