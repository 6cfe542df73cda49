"""saes: which latents does a model use, and do they match the known roles?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from saes.activations import Activations as Activations
    from saes.activations import record as record
    from saes.activations import record_many as record_many
    from saes.disk import load as load
    from saes.disk import save as save
    from saes.recipes import batchtopk as batchtopk
    from saes.recipes import default_hook as default_hook
    from saes.recipes import gated as gated
    from saes.recipes import jumprelu as jumprelu
    from saes.recipes import matryoshka as matryoshka
    from saes.recipes import standard as standard
    from saes.recipes import topk as topk
    from saes.sparsify import load_sparsify as load_sparsify
    from saes.stored import open_recording as open_recording
    from saes.stored import record_to as record_to
    from saes.training.combinations import grid as grid
    from saes.training.config import SAEConfig as SAEConfig
    from saes.training.cross_layer import CrossLayerTranscoder as CrossLayerTranscoder
    from saes.training.cross_layer import load_cross_layer as load_cross_layer
    from saes.training.cross_layer import train_cross_layer as train_cross_layer
    from saes.training.crosscoders import Specificity as Specificity
    from saes.training.crosscoders import side_by_side as side_by_side
    from saes.training.crosscoders import specificity as specificity
    from saes.training.crosscoders import train_crosscoder as train_crosscoder
    from saes.training.grids import train_grid as train_grid
    from saes.training.sae import TrainedSAE as TrainedSAE
    from saes.training.sae import TrainingRecord as TrainingRecord
    from saes.training.sae import train_sae as train_sae
    from saes.training.transcoders import train_transcoder as train_transcoder
    from saes.truth.alignment import Alignment as Alignment
    from saes.truth.alignment import align as align
    from saes.truth.alignment import truth as truth
    from saes.truth.causal import Effects as Effects
    from saes.truth.causal import effects as effects
    from saes.truth.choosing import Choice as Choice
    from saes.truth.choosing import choose as choose
    from saes.truth.dashboard import dashboard as dashboard
    from saes.truth.interchange import Swap as Swap
    from saes.truth.interchange import interchange as interchange
    from saes.truth.recovered import Fidelity as Fidelity
    from saes.truth.recovered import fidelity as fidelity
    from saes.truth.stability import SeedStability as SeedStability
    from saes.truth.stability import stability as stability
    from saes.truth.watching import RoleWatch as RoleWatch

__all__ = lazy_exports(
    __name__,
    {
        "activations": ["Activations", "record", "record_many"],
        "training.cross_layer": ["CrossLayerTranscoder", "load_cross_layer", "train_cross_layer"],
        "training.crosscoders": ["Specificity", "side_by_side", "specificity", "train_crosscoder"],
        "disk": ["load", "save"],
        "training.combinations": ["grid"],
        "training.grids": ["train_grid"],
        "recipes": ["batchtopk", "default_hook", "gated", "jumprelu", "matryoshka", "standard", "topk"],
        "sparsify": ["load_sparsify"],
        "stored": ["open_recording", "record_to"],
        "training.sae": ["TrainedSAE", "TrainingRecord", "train_sae"],
        "training.config": ["SAEConfig"],
        "training.transcoders": ["train_transcoder"],
        "truth.alignment": ["Alignment", "align", "truth"],
        "truth.causal": ["Effects", "effects"],
        "truth.choosing": ["Choice", "choose"],
        "truth.dashboard": ["dashboard"],
        "truth.interchange": ["Swap", "interchange"],
        "truth.recovered": ["Fidelity", "fidelity"],
        "truth.stability": ["SeedStability", "stability"],
        "truth.watching": ["RoleWatch"],
    },
)
