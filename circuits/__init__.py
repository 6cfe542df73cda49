"""Which edges carry a behaviour, how faithfully, how surely?

Score edges (`eap`, `eap_ig`, `exact`), choose some (`top_edges`), run them alone (`evaluate`,
`faithfulness_curve`) and draw them (`show`). Nothing is imported before it is asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuits.circuit import Circuit
    from circuits.eap import eap
    from circuits.eap_ig import eap_ig
    from circuits.exact import exact
    from circuits.faithfulness import Curve, Report, evaluate, faithfulness_curve
    from circuits.forward import run_circuit
    from circuits.graph import Edge, Graph, Reader, Writer
    from circuits.metrics import answer_log_prob, logit_diff
    from circuits.scores import EdgeScores
    from circuits.select import top_edges
    from circuits.show import faithfulness_figure, show

_HOMES = {
    "Circuit": "circuits.circuit",
    "Curve": "circuits.faithfulness",
    "Edge": "circuits.graph",
    "EdgeScores": "circuits.scores",
    "Graph": "circuits.graph",
    "Reader": "circuits.graph",
    "Report": "circuits.faithfulness",
    "Writer": "circuits.graph",
    "answer_log_prob": "circuits.metrics",
    "eap": "circuits.eap",
    "eap_ig": "circuits.eap_ig",
    "evaluate": "circuits.faithfulness",
    "exact": "circuits.exact",
    "faithfulness_curve": "circuits.faithfulness",
    "faithfulness_figure": "circuits.show",
    "logit_diff": "circuits.metrics",
    "run_circuit": "circuits.forward",
    "show": "circuits.show",
    "top_edges": "circuits.select",
}

__all__ = [
    "Circuit",
    "Curve",
    "Edge",
    "EdgeScores",
    "Graph",
    "Reader",
    "Report",
    "Writer",
    "answer_log_prob",
    "eap",
    "eap_ig",
    "evaluate",
    "exact",
    "faithfulness_curve",
    "faithfulness_figure",
    "logit_diff",
    "run_circuit",
    "show",
    "top_edges",
]


class _Package(ModuleType):
    """A package in which `eap`, `eap_ig`, `exact` and `show` are functions, though modules bear these names."""

    def __setattr__(self, name: str, value: object) -> None:
        # Importing `circuits.eap` makes Python bind the module to that name, which would hide the function.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    # Loaded on first use, because torch and plotly take seconds to import.
    if name not in _HOMES:
        raise AttributeError(f"module 'circuits' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
