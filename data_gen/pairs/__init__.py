"""Example -> counterfactual pairs and shortcut diagnostics."""
