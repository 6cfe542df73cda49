"""Names of the methods that score edges and of what they score, without what computes them: known at once."""

from __future__ import annotations

from collections.abc import Iterable

from data_gen.errors import InputError, nearest

METHOD_NAMES = (
    "exact",
    "eap",
    "eap-ig",
    "eap-ig-frozen-norms",
    "eap-ig-frozen-router",
    "eap-ig-frozen",
    "eap-ig-activations",
    "clean-corrupt",
    "relp",
    "acdc",
    "masks",
)
"""The keys of `circuits.methods.table.METHODS`, in its order."""
UNSIGNED = ("acdc", "masks")
"""Methods that say how much an edge matters and not which way, with one row for all pairs."""
STEPPED = tuple([name for name in METHOD_NAMES if name.startswith("eap-ig")])
"""Methods that integrate, in a number of steps that they can be told."""
METRIC_NAMES = ("logit_diff", "answer_log_prob", "kl")
"""What the metadata of scores call the metrics of `circuits.metrics` and the divergence of `circuits.losses`."""


def check_methods(names: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest name, for one that is no method's."""
    for name in names:
        if name not in METHOD_NAMES:
            raise InputError(
                f"no method `{name}`{nearest(name, METHOD_NAMES)}", hint=f"known: {', '.join(METHOD_NAMES)}"
            )
