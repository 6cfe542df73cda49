"""Scores or circuit, held-out pairs -> how faithful, how minimal, how sure."""
