"""circuits: which edges carry a behaviour, how faithfully, how surely?

Score edges (`methods/`: `eap`, `eap_ig`, `relp`, `exact`, ...), choose some (`top_edges`, `greedy_edges`), run them
alone and judge them (`judging/`: `evaluate`, `faithfulness_curve`, `stability`, ...), draw them (`show`). `looking/`
reads a model without a circuit: lenses, contributions, patterns, patching, ablation. `planted/` wires models whose
circuits are known, and `bench/` ranks methods on them. `engine/` runs a model taken apart into readers and writers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from circuits.circuit import Circuit as Circuit
    from circuits.drawing.curve import faithfulness_figure as faithfulness_figure
    from circuits.engine.batching import fitting_batch_size as fitting_batch_size
    from circuits.engine.forward import run_circuit as run_circuit
    from circuits.engine.rules import FROZEN as FROZEN
    from circuits.engine.rules import FROZEN_NORMS as FROZEN_NORMS
    from circuits.engine.rules import FROZEN_ROUTER as FROZEN_ROUTER
    from circuits.engine.rules import RELP as RELP
    from circuits.engine.rules import Rules as Rules
    from circuits.files.exchange import read_circuit as read_circuit
    from circuits.files.exchange import write_circuit as write_circuit
    from circuits.files.mib import write_mib as write_mib
    from circuits.graph import Edge as Edge
    from circuits.graph import Graph as Graph
    from circuits.graph import Reader as Reader
    from circuits.graph import Writer as Writer
    from circuits.judging.agreement import Agreement as Agreement
    from circuits.judging.agreement import agreement as agreement
    from circuits.judging.compare import Comparison as Comparison
    from circuits.judging.compare import Overlap as Overlap
    from circuits.judging.compare import compare as compare
    from circuits.judging.compare import compare_all as compare_all
    from circuits.judging.controls import RandomCircuits as RandomCircuits
    from circuits.judging.curves import Area as Area
    from circuits.judging.curves import Areas as Areas
    from circuits.judging.curves import Curve as Curve
    from circuits.judging.curves import faithfulness_curve as faithfulness_curve
    from circuits.judging.faithfulness import Report as Report
    from circuits.judging.faithfulness import Sufficiency as Sufficiency
    from circuits.judging.faithfulness import evaluate as evaluate
    from circuits.judging.generation import CircuitAccuracy as CircuitAccuracy
    from circuits.judging.generation import circuit_accuracy as circuit_accuracy
    from circuits.judging.identify import Identifiability as Identifiability
    from circuits.judging.identify import identifiability as identifiability
    from circuits.judging.minimality import Minimality as Minimality
    from circuits.judging.ratios import Band as Band
    from circuits.judging.ratios import Estimate as Estimate
    from circuits.judging.recovery import Recovery as Recovery
    from circuits.judging.recovery import recovery as recovery
    from circuits.judging.role_curves import RoleCurve as RoleCurve
    from circuits.judging.role_curves import RolePoint as RolePoint
    from circuits.judging.role_curves import evaluate_by_role as evaluate_by_role
    from circuits.judging.role_curves import role_curve as role_curve
    from circuits.judging.role_curves import top_parts as top_parts
    from circuits.judging.role_curves import top_role_edges as top_role_edges
    from circuits.judging.stability import PairsNeeded as PairsNeeded
    from circuits.judging.stability import Stability as Stability
    from circuits.judging.stability import pairs_needed as pairs_needed
    from circuits.judging.stability import resampled as resampled
    from circuits.judging.stability import stability as stability
    from circuits.looking.ablation import Ablation as Ablation
    from circuits.looking.ablation import AblationEffects as AblationEffects
    from circuits.looking.ablation import ablate as ablate
    from circuits.looking.contributions import Contributions as Contributions
    from circuits.looking.contributions import contributions as contributions
    from circuits.looking.figures import ablation_figure as ablation_figure
    from circuits.looking.figures import contributions_figure as contributions_figure
    from circuits.looking.figures import lens_figure as lens_figure
    from circuits.looking.figures import patching_figure as patching_figure
    from circuits.looking.figures import pattern_figure as pattern_figure
    from circuits.looking.figures import swap_figure as swap_figure
    from circuits.looking.knockout import knocked_out as knocked_out
    from circuits.looking.lens import LensReading as LensReading
    from circuits.looking.lens import logit_lens as logit_lens
    from circuits.looking.lens import tuned_lens as tuned_lens
    from circuits.looking.patching import Direction as Direction
    from circuits.looking.patching import PatchEffects as PatchEffects
    from circuits.looking.patching import patch_positions as patch_positions
    from circuits.looking.patching import patch_roles as patch_roles
    from circuits.looking.patterns import RolePatterns as RolePatterns
    from circuits.looking.patterns import attention_by_role as attention_by_role
    from circuits.looking.patterns import effective_attention as effective_attention
    from circuits.looking.swaps import SwapTest as SwapTest
    from circuits.looking.swaps import swap_pairs as swap_pairs
    from circuits.looking.swaps import swap_test as swap_test
    from circuits.looking.translators import TunedLens as TunedLens
    from circuits.looking.translators import TunedLensConfig as TunedLensConfig
    from circuits.looking.translators import fit_tuned_lens as fit_tuned_lens
    from circuits.methods.acdc import acdc as acdc
    from circuits.methods.acdc import acdc_scores as acdc_scores
    from circuits.methods.eap import clean_corrupt as clean_corrupt
    from circuits.methods.eap import eap as eap
    from circuits.methods.eap import relp as relp
    from circuits.methods.eap_ig import eap_ig as eap_ig
    from circuits.methods.eap_ig import integration_error as integration_error
    from circuits.methods.edge_flows import EdgeFlow as EdgeFlow
    from circuits.methods.edge_flows import EdgeFlows as EdgeFlows
    from circuits.methods.edge_flows import edge_flows as edge_flows
    from circuits.methods.exact import exact as exact
    from circuits.methods.flows import Flows as Flows
    from circuits.methods.flows import flows as flows
    from circuits.methods.masks import edge_masks as edge_masks
    from circuits.methods.role_scores import RoleScores as RoleScores
    from circuits.methods.role_scores import role_scores as role_scores
    from circuits.methods.unit_scores import UnitScores as UnitScores
    from circuits.methods.unit_scores import unit_scores as unit_scores
    from circuits.metrics import answer_log_prob as answer_log_prob
    from circuits.metrics import logit_diff as logit_diff
    from circuits.paths import widest_path as widest_path
    from circuits.planted.cases import planted as planted
    from circuits.planted.draft import Planted as Planted
    from circuits.role_circuit import RoleCircuit as RoleCircuit
    from circuits.role_circuit import RoleEdge as RoleEdge
    from circuits.scores import EdgeScores as EdgeScores
    from circuits.select import greedy_edges as greedy_edges
    from circuits.select import significant_edges as significant_edges
    from circuits.select import top_edges as top_edges
    from circuits.show import show as show
    from circuits.show import show_difference as show_difference

__all__ = lazy_exports(
    __name__,
    {
        "circuit": ["Circuit"],
        "drawing.curve": ["faithfulness_figure"],
        "engine.forward": ["run_circuit"],
        "engine.batching": ["fitting_batch_size"],
        "engine.rules": ["FROZEN", "FROZEN_NORMS", "FROZEN_ROUTER", "RELP", "Rules"],
        "files.exchange": ["read_circuit", "write_circuit"],
        "files.mib": ["write_mib"],
        "graph": [
            "Edge",
            "Graph",
            "Reader",
            "Writer",
        ],
        "judging.agreement": ["Agreement", "agreement"],
        "judging.compare": [
            "Comparison",
            "Overlap",
            "compare",
            "compare_all",
        ],
        "judging.controls": ["RandomCircuits"],
        "judging.curves": [
            "Area",
            "Areas",
            "Curve",
            "faithfulness_curve",
        ],
        "judging.faithfulness": ["Report", "Sufficiency", "evaluate"],
        "judging.generation": ["CircuitAccuracy", "circuit_accuracy"],
        "judging.identify": ["Identifiability", "identifiability"],
        "judging.minimality": ["Minimality"],
        "judging.ratios": ["Band", "Estimate"],
        "judging.recovery": ["Recovery", "recovery"],
        "judging.role_curves": [
            "RoleCurve",
            "RolePoint",
            "evaluate_by_role",
            "role_curve",
            "top_parts",
            "top_role_edges",
        ],
        "judging.stability": [
            "PairsNeeded",
            "Stability",
            "pairs_needed",
            "resampled",
            "stability",
        ],
        "looking.ablation": ["Ablation", "AblationEffects", "ablate"],
        "looking.contributions": ["Contributions", "contributions"],
        "looking.figures": [
            "ablation_figure",
            "contributions_figure",
            "lens_figure",
            "patching_figure",
            "pattern_figure",
            "swap_figure",
        ],
        "looking.knockout": ["knocked_out"],
        "looking.lens": ["LensReading", "logit_lens", "tuned_lens"],
        "looking.patching": [
            "Direction",
            "PatchEffects",
            "patch_positions",
            "patch_roles",
        ],
        "looking.patterns": ["RolePatterns", "attention_by_role", "effective_attention"],
        "looking.swaps": ["SwapTest", "swap_pairs", "swap_test"],
        "looking.translators": ["TunedLens", "TunedLensConfig", "fit_tuned_lens"],
        "methods.acdc": ["acdc", "acdc_scores"],
        "methods.eap": ["clean_corrupt", "eap", "relp"],
        "methods.eap_ig": ["eap_ig", "integration_error"],
        "methods.edge_flows": ["EdgeFlow", "EdgeFlows", "edge_flows"],
        "methods.exact": ["exact"],
        "methods.flows": ["Flows", "flows"],
        "methods.masks": ["edge_masks"],
        "methods.role_scores": ["RoleScores", "role_scores"],
        "methods.unit_scores": ["UnitScores", "unit_scores"],
        "metrics": ["answer_log_prob", "logit_diff"],
        "paths": ["widest_path"],
        "planted.cases": ["planted"],
        "planted.draft": ["Planted"],
        "role_circuit": ["RoleCircuit", "RoleEdge"],
        "scores": ["EdgeScores"],
        "select": ["greedy_edges", "significant_edges", "top_edges"],
        "show": ["show", "show_difference"],
    },
)
