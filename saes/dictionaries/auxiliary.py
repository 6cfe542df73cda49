"""Dead latents and what the live ones leave over -> the auxiliary loss and its gradients (Gao et al. 2024, A.2).

The d_in / 2 dead latents with the largest pre-activations reconstruct the residual, without a bias and without ReLU;
the loss shrinks with the number of dead latents below that (sae-lens' definition). How many are dead is not read from
the device in the step: `Dead.room` is a bound that was read before, and the mask decides within it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saes.dictionaries.parameters import Parameters
from saes.dictionaries.select import largest


@dataclass(frozen=True, kw_only=True)
class Dead:
    """Which latents have not fired for long."""

    mask: Bool[Tensor, " d_sae"]
    room: int
    """At least the number of dead latents; work and memory grow with it."""
    coefficient: float = 1.0
    """Weight of the auxiliary loss."""


def auxiliary(
    parameters: Parameters,
    inputs: Float[Tensor, "batch d_in"],
    residual: Float[Tensor, "batch d_out"],
    norms: Float[Tensor, " d_sae"],
    dead: Dead,
    of: dict[str, Tensor],
) -> Float[Tensor, ""]:
    """The loss; its gradients are added to `of` in place.

    `inputs` are what the encoder reads, `residual` is the target minus the reconstruction, which counts as constant.
    """
    latent = dead.mask.to(norms.dtype).topk(dead.room, sorted=False).indices
    is_dead = dead.mask[latent]
    encoder, decoder = parameters["encoder"][latent], parameters["decoder"][latent]
    pre = torch.addmm(parameters["encoder_bias"][latent], inputs, encoder.T)
    k_aux = inputs.shape[1] // 2
    kept = is_dead.expand_as(pre)
    if dead.room > k_aux:
        ranked = torch.where(is_dead, pre * norms[latent], -torch.inf)
        chosen = largest(ranked, k_aux)
        kept = torch.zeros_like(kept).scatter_(1, chosen, True) & is_dead
    latents = pre.mul_(kept)
    missing = (latents @ decoder).sub_(residual)
    weight = dead.coefficient * (dead.mask.sum().to(pre.dtype) / k_aux).clamp(max=1.0)
    loss = weight * missing.square().sum() / len(inputs)
    into = missing.mul_(2 * weight / len(inputs))
    of["decoder"].index_add_(0, latent, latents.T @ into)
    toward = (into @ decoder.T).mul_(kept)
    of["encoder"].index_add_(0, latent, toward.T @ inputs)
    of["encoder_bias"].index_add_(0, latent, toward.sum(0))
    return loss
