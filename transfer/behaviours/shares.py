"""Flags -> the share of them that hold."""

from __future__ import annotations

from collections.abc import Iterable

from tinysql.answering.shares import Share


def share(flags: Iterable[bool]) -> Share:
    """How many of these are true."""
    flags = list(flags)
    return Share(right=sum(flags), total=len(flags))
