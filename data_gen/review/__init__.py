"""Rows -> what they hold and whether they hold what they promise."""
