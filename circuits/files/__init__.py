"""Circuits and scores <-> the files of other tools."""
