"""Rows -> files, streams and clusters, ours and the published ones."""
