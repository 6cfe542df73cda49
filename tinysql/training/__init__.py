"""Rows -> batches -> weights: how models are trained, on one process or many, and gone on with after a kill."""
