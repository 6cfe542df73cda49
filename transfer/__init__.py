"""transfer: can what was found in one model act in another?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from transfer.steering import SteeringVector as SteeringVector

__all__ = lazy_exports(
    __name__,
    {
        "steering": ["SteeringVector"],
    },
)
