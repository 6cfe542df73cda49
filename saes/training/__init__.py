"""Activations -> dictionaries: SAEs, grids of them, transcoders, crosscoders and cross-layer transcoders."""
