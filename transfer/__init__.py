"""transfer: can what was found in one model act in another?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from transfer.alignment import match_positions as match_positions
    from transfer.alignment import match_spans as match_spans
    from transfer.alignment import read as read
    from transfer.artefacts import evaluate_to as evaluate_to
    from transfer.behaviours.backdoor import Backdoor as Backdoor
    from transfer.behaviours.facts import Facts as Facts
    from transfer.behaviours.find import find_behaviour as find_behaviour
    from transfer.behaviours.full_sql import FullSql as FullSql
    from transfer.behaviours.gates import check as check
    from transfer.behaviours.locked import Locked as Locked
    from transfer.behaviours.refusal import Refusal as Refusal
    from transfer.behaviours.training import open_subject as open_subject
    from transfer.behaviours.training import teach as teach
    from transfer.choosing import choose as choose
    from transfer.evaluation.bench import Bench as Bench
    from transfer.evaluation.curves import layer_curve as layer_curve
    from transfer.evaluation.curves import rank_curve as rank_curve
    from transfer.evaluation.evaluate import evaluate as evaluate
    from transfer.evaluation.plan import Plan as Plan
    from transfer.figures import layer_figure as layer_figure
    from transfer.figures import outcome_figure as outcome_figure
    from transfer.figures import rank_figure as rank_figure
    from transfer.figures import switch_figure as switch_figure
    from transfer.latents import contrast_latent as contrast_latent
    from transfer.maps.activation_map import ActivationMap as ActivationMap
    from transfer.maps.disk import load_map as load_map
    from transfer.maps.disk import save_map as save_map
    from transfer.maps.fit import fit as fit
    from transfer.maps.fit import fit_stream as fit_stream
    from transfer.maps.quality import measure as measure
    from transfer.pairing import Side as Side
    from transfer.pairing import points_at as points_at
    from transfer.pairing import record_pairs as record_pairs
    from transfer.pairing import stream_pairs as stream_pairs
    from transfer.placing import AtTokens as AtTokens
    from transfer.placing import at_roles as at_roles
    from transfer.planted import wider_twin as wider_twin
    from transfer.points import Contrast as Contrast
    from transfer.points import Points as Points
    from transfer.recipes import find_recipe as find_recipe
    from transfer.replacement import replace_fully as replace_fully
    from transfer.steering import SteeringVector as SteeringVector
    from transfer.switching.lora import train_adapters as train_adapters
    from transfer.switching.measure import measure_switch as measure_switch
    from transfer.switching.plan import SwitchPlan as SwitchPlan
    from transfer.switching.switch import Switch as Switch
    from transfer.vectors import PromptVectors as PromptVectors
    from transfer.vectors import difference_of_means as difference_of_means
    from transfer.vectors import latent_direction as latent_direction
    from transfer.vectors import mapped as mapped
    from transfer.vectors import pair_difference as pair_difference
    from transfer.vectors import principal_component as principal_component
    from transfer.vectors import prompt_contrast as prompt_contrast

__all__ = lazy_exports(
    __name__,
    {
        "alignment": ["match_positions", "match_spans", "read"],
        "artefacts": ["evaluate_to"],
        "behaviours.backdoor": ["Backdoor"],
        "behaviours.facts": ["Facts"],
        "behaviours.find": ["find_behaviour"],
        "behaviours.full_sql": ["FullSql"],
        "behaviours.gates": ["check"],
        "behaviours.locked": ["Locked"],
        "behaviours.refusal": ["Refusal"],
        "behaviours.training": ["open_subject", "teach"],
        "choosing": ["choose"],
        "evaluation.bench": ["Bench"],
        "evaluation.curves": ["layer_curve", "rank_curve"],
        "evaluation.evaluate": ["evaluate"],
        "evaluation.plan": ["Plan"],
        "figures": ["layer_figure", "outcome_figure", "rank_figure", "switch_figure"],
        "latents": ["contrast_latent"],
        "maps.activation_map": ["ActivationMap"],
        "maps.disk": ["load_map", "save_map"],
        "maps.fit": ["fit", "fit_stream"],
        "maps.quality": ["measure"],
        "pairing": ["Side", "points_at", "record_pairs", "stream_pairs"],
        "placing": ["AtTokens", "at_roles"],
        "planted": ["wider_twin"],
        "points": ["Contrast", "Points"],
        "recipes": ["find_recipe"],
        "replacement": ["replace_fully"],
        "steering": ["SteeringVector"],
        "switching.lora": ["train_adapters"],
        "switching.measure": ["measure_switch"],
        "switching.plan": ["SwitchPlan"],
        "switching.switch": ["Switch"],
        "vectors": [
            "PromptVectors",
            "difference_of_means",
            "pair_difference",
            "latent_direction",
            "mapped",
            "principal_component",
            "prompt_contrast",
        ],
    },
)
