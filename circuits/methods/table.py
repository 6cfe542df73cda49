"""Name -> method: all that score the edges of a model on pairs, one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from circuits.engine.rules import FROZEN, FROZEN_NORMS, FROZEN_ROUTER
from circuits.methods.acdc import acdc_scores
from circuits.methods.eap import clean_corrupt, eap, relp
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.methods.masks import edge_masks
from circuits.metrics import logit_diff
from circuits.scores import EdgeScores
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

METHODS: dict[str, Callable[[HybridLM, TokenPairs], EdgeScores]] = {
    "exact": exact,
    "eap": eap,
    "eap-ig": eap_ig,
    "eap-ig-frozen-norms": partial(eap_ig, rules=FROZEN_NORMS),
    "eap-ig-frozen-router": partial(eap_ig, rules=FROZEN_ROUTER),
    "eap-ig-frozen": partial(eap_ig, rules=FROZEN),
    "eap-ig-activations": partial(eap_ig, over="activations"),
    "clean-corrupt": clean_corrupt,
    "relp": relp,
    "acdc": partial(acdc_scores, loss=logit_diff),
    "masks": partial(edge_masks, loss=logit_diff),
}
"""Methods with their defaults, as the leaderboard runs them; the metric is `logit_diff`."""
