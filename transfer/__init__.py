"""Transfer: can what was found in one model act in another?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transfer.steering import SteeringVector

__all__ = ["SteeringVector"]

_HOMES = {"SteeringVector": "transfer.steering"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module `transfer` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
