"""Rows right of so many -> their share, with a 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def wilson(share: float, total: int) -> tuple[float, float]:
    """Wilson (1927) score interval at 95 % of a share of so many, which may lie between two counts."""
    z, n, p = 1.959964, total, share
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the two are equal, but for what rounding leaves between them.
    return (max(0.0, centre - half) if p > 0 else 0.0), (min(1.0, centre + half) if p < 1 else 1.0)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A proportion of rows with its Wilson 95 % interval."""

    right: int
    total: int

    @property
    def value(self) -> float:
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """`wilson`'s."""
        return wilson(self.value, self.total)

    def to_json(self) -> dict[str, Any]:
        return {
            "right": self.right,
            "total": self.total,
            "share": self.value,
            "interval95": list(self.interval),
        }
