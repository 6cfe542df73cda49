"""Names of the methods that score edges, without what computes them: a command's help says them at once."""

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
