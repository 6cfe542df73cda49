"""Names of the methods that score edges and of what they score, without what computes them: known at once."""

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
