"""SAEs: which latents does a model use, and do they match the known roles?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saes.activations import Activations, record
    from saes.alignment import Alignment, truth
    from saes.disk import load, save
    from saes.recipes import default_hook, topk
    from saes.training import SAEConfig, TrainedSAE, TrainingRecord, train_sae

_HOMES = {
    "Activations": "saes.activations",
    "Alignment": "saes.alignment",
    "SAEConfig": "saes.training",
    "TrainedSAE": "saes.training",
    "TrainingRecord": "saes.training",
    "default_hook": "saes.recipes",
    "load": "saes.disk",
    "record": "saes.activations",
    "save": "saes.disk",
    "topk": "saes.recipes",
    "train_sae": "saes.training",
    "truth": "saes.alignment",
}

__all__ = [
    "Activations",
    "Alignment",
    "SAEConfig",
    "TrainedSAE",
    "TrainingRecord",
    "default_hook",
    "load",
    "record",
    "save",
    "topk",
    "train_sae",
    "truth",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module `saes` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
