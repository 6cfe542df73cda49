"""circuits: which edges carry a behaviour, how faithfully, how surely?

Score edges (`eap`, `eap_ig`, `exact`), choose some (`top_edges`), run them alone (`evaluate`,
`faithfulness_curve`) and draw them (`show`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from circuits.agreement import Agreement as Agreement
    from circuits.agreement import agreement as agreement
    from circuits.circuit import Circuit as Circuit
    from circuits.eap import clean_corrupt as clean_corrupt
    from circuits.eap import eap as eap
    from circuits.eap import relp as relp
    from circuits.eap_ig import eap_ig as eap_ig
    from circuits.eap_ig import integration_error as integration_error
    from circuits.exact import exact as exact
    from circuits.faithfulness import Curve as Curve
    from circuits.faithfulness import Report as Report
    from circuits.faithfulness import evaluate as evaluate
    from circuits.faithfulness import faithfulness_curve as faithfulness_curve
    from circuits.forward import run_circuit as run_circuit
    from circuits.graph import Edge as Edge
    from circuits.graph import Graph as Graph
    from circuits.graph import Reader as Reader
    from circuits.graph import Writer as Writer
    from circuits.metrics import answer_log_prob as answer_log_prob
    from circuits.metrics import logit_diff as logit_diff
    from circuits.rules import FROZEN as FROZEN
    from circuits.rules import RELP as RELP
    from circuits.rules import Rules as Rules
    from circuits.scores import EdgeScores as EdgeScores
    from circuits.select import top_edges as top_edges
    from circuits.show import faithfulness_figure as faithfulness_figure
    from circuits.show import show as show

__all__ = lazy_exports(
    __name__,
    {
        "agreement": ["Agreement", "agreement"],
        "circuit": ["Circuit"],
        "eap": ["clean_corrupt", "eap", "relp"],
        "eap_ig": ["eap_ig", "integration_error"],
        "exact": ["exact"],
        "faithfulness": ["Curve", "Report", "evaluate", "faithfulness_curve"],
        "forward": ["run_circuit"],
        "graph": ["Edge", "Graph", "Reader", "Writer"],
        "metrics": ["answer_log_prob", "logit_diff"],
        "rules": ["FROZEN", "RELP", "Rules"],
        "scores": ["EdgeScores"],
        "select": ["top_edges"],
        "show": ["faithfulness_figure", "show"],
    },
)
