"""Names of what a transfer chooses among, without what computes it: one that is unknown is refused at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from data_gen.errors import InputError, nearest

Alignment = Literal["spans", "positions"]
"""How tokens of two tokenizers become partners; see `match_spans` and `match_positions`."""
Mode = Literal["difference", "jacobian", "direct"]
"""What a direction becomes; see `ActivationMap.map_directions`."""
Operator = Literal["add", "ablate", "add-and-ablate"]
"""What is done with a direction; see `SteeringVector.apply`."""
SAE_LATENT = "sae-latent"
"""The kind of vector that needs an SAE of the model as well; see `transfer.latents`."""
VECTORS = ("difference-of-means", "prompt-contrast", "principal-component", SAE_LATENT)
"""Kinds of vectors: the keys of `transfer.vectors.OF_CONTRAST`, and the SAE's."""
METHODS = (
    "mean",
    "identity",
    "procrustes",
    "affine",
    "ridge",
    "low-rank",
    "low-rank-step",
    "token",
    "position-token",
    "affine-sgd",
    "autoencoder",
    "autoencoder-wide",
    "autoencoder-kl",
)
"""Every map there is: what `transfer.maps.fit.fit` knows."""
NOT_AFFINE = ("token", "position-token", "autoencoder", "autoencoder-wide", "autoencoder-kl")
"""Maps under which a direction becomes another wherever it stands; see `ActivationMap.is_affine`."""
CONTROLS = (
    "gaussian",
    "top components",
    "sign flip",
    "shuffled pairs",
    "shuffled within tokens",
    "token look-up",
    "position and token look-up",
    "map without the trigger",
    "random source",
    "clean source",
    "other concept",
    "wrong layer",
    "orthogonal to native",
    "mean ablation",
    "trigger deleted",
)
"""Controls that can be asked for by name; no steering, the sweep of scales and the damage are always there."""


def check_seed(seed: int) -> None:
    """Raise `InputError` for what is no seed of rows and controls."""
    if not 0 <= seed < 2**63:
        raise InputError(
            f"seed is {seed}, expected a whole number from 0 to 2^63 - 1",
            hint="any of these will do, such as 0",
        )


def check_controls(names: Iterable[str]) -> None:
    """Raise `InputError`, with the nearest name, for one that is no control's."""
    for name in names:
        if name not in CONTROLS:
            raise InputError(
                f"no control `{name}`{nearest(name, CONTROLS)}", hint=f"controls: {', '.join(CONTROLS)}"
            )
