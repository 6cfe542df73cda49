"""A batch -> loss and gradients of a cross-layer transcoder (Ameisen et al. 2025, section 2).

Layer l of L has an encoder of its own, and its latents write to the outputs of layer l and of all later ones:

    a_l = activation(x_l @ encoder_l.T + encoder_bias_l)        y_hat_m = sum_{l <= m} a_l @ decoder_{l,m} + bias_m
    loss = sum_m mean_b |y_hat_m - y_m|^2  (+ c mean_b sum_l sum_j n_lj a_lj)  (+ auxiliary losses of dead latents)

The decoders of one layer lie side by side, `decoder.l` [d_sae, (L - l) d_out], and n_lj is the length of a whole row.
So a layer is a transcoder to a longer and longer end of all outputs, and all share one error. `k` is per layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from saes.dictionaries import pairs as sparse
from saes.dictionaries.architectures import Architecture
from saes.dictionaries.auxiliary import Dead, auxiliary
from saes.dictionaries.pairs import Pairs
from saes.dictionaries.parameters import Gradients, Parameters, first_parameters
from saes.dictionaries.select import decoder_norms, top_of_batch, top_of_rows
from saes.dictionaries.topk import backward

OF_LAYER = ("encoder", "encoder_bias", "decoder")
"""Parameters that each layer has: `encoder.0`, `encoder.1`, ...; `decoder_bias` [L d_out] is everybody's."""


def first_layers(
    architecture: Architecture,
    *,
    layers: int,
    d_in: int,
    d_out: int,
    d_sae: int,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Each layer as a transcoder to all that it writes, drawn from a seed of its own; no biases."""
    made = {"decoder_bias": torch.zeros(layers * d_out, dtype=dtype, device=device)}
    for layer in range(layers):
        one = first_parameters(
            architecture,
            d_in=d_in,
            d_sae=d_sae,
            d_out=(layers - layer) * d_out,
            seed=seed * layers + layer,
            device=device,
            dtype=dtype,
        )
        made.update({f"{name}.{layer}": one[name] for name in OF_LAYER})
    return made


def of_layer(parameters: Parameters, layer: int) -> dict[str, Tensor]:
    """The parameters of one layer, by their plain names."""
    return {name: parameters[f"{name}.{layer}"] for name in OF_LAYER}


def step(
    architecture: Architecture,
    parameters: Parameters,
    x: Float[Tensor, "batch reads"],
    y: Float[Tensor, "batch writes"],
    *,
    layers: int,
    k: int,
    sparsity: float | Tensor,
    dead: Dead | None = None,
) -> Gradients:
    """One batch; x and y hold the inputs and outputs of all layers side by side.

    `dead` has a mask over the latents of all layers, layer by layer.
    """
    inputs, rows = x.chunk(layers, dim=1), len(x)
    d_out = y.shape[1] // layers
    error = parameters["decoder_bias"] - y
    made: list[_Layer] = []
    for layer in range(layers):
        one = of_layer(parameters, layer)
        made.append(_encode(architecture, one, inputs[layer].contiguous(), k))
        error[:, layer * d_out :] += made[-1].decoded(one["decoder"])
    losses = {"reconstruction": error.square().sum() / rows}
    into = error * (2 / rows)
    of = {"decoder_bias": into.sum(0)}
    penalty, revival = error.new_zeros(()), error.new_zeros(())
    for layer, active in enumerate(made):
        one = of_layer(parameters, layer)
        ours = into[:, layer * d_out :].contiguous()
        gradients = active.backward(one, ours, sparsity / rows)
        penalty = penalty + sparsity / rows * (active.total @ active.norms)
        if dead is not None:
            mask = dead.mask.chunk(layers)[layer]
            there = replace(dead, mask=mask, room=min(dead.room, len(mask)))
            left = error[:, layer * d_out :].neg()
            revival = revival + auxiliary(one, active.inputs, left, active.norms, there, gradients)
        of.update({f"{name}.{layer}": gradient for name, gradient in gradients.items()})
    if architecture == "standard":
        losses["sparsity"] = penalty
    if dead is not None:
        losses["auxiliary"] = revival
    return Gradients(losses=losses, of=of, fired=torch.cat([active.fired for active in made]))


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """What one layer made of its input: pairs of a k-sparse kind, or a matrix of latents."""

    inputs: Float[Tensor, "batch d_in"]
    latents: Pairs | Float[Tensor, "batch d_sae"]
    norms: Float[Tensor, " d_sae"]
    """Lengths of the decoder's whole rows."""

    @property
    def fired(self) -> Int[Tensor, " d_sae"]:
        """In how many rows each latent is above 0."""
        if isinstance(self.latents, Pairs):
            return sparse.fired(self.latents)
        return self.latents.sign().sum(0).long()

    @property
    def total(self) -> Float[Tensor, " d_sae"]:
        """The sum of each latent over the rows."""
        if isinstance(self.latents, Pairs):
            return sparse.per_latent(self.latents, self.latents.value)
        return self.latents.sum(0)

    def decoded(self, decoder: Float[Tensor, "d_sae d"]) -> Float[Tensor, "batch d"]:
        """What the layer writes, without a bias."""
        if isinstance(self.latents, Pairs):
            return sparse.decode(self.latents, decoder)
        return self.latents @ decoder

    def backward(
        self, parameters: Parameters, into: Float[Tensor, "batch d"], penalty: float | Tensor
    ) -> dict[str, Tensor]:
        """The layer's gradients; `penalty` is the weight of one row's L1 norm, which k-sparse kinds have not."""
        if isinstance(self.latents, Pairs):
            return backward(parameters, self.latents, self.inputs, into)
        decoder, active = parameters["decoder"], self.latents.sign()
        of_length = (penalty * self.total / self.norms)[:, None] * decoder
        toward = torch.addmm(penalty * self.norms, into, decoder.T).mul_(active)
        return {
            "decoder": torch.addmm(of_length, self.latents.T, into),
            "encoder": toward.T @ self.inputs,
            "encoder_bias": toward.sum(0),
        }


def _encode(
    architecture: Architecture, one: Parameters, inputs: Float[Tensor, "batch d_in"], k: int
) -> _Layer:
    norms = decoder_norms(one["decoder"])
    if architecture == "standard":
        latents = torch.addmm(one["encoder_bias"], inputs, one["encoder"].T).relu_()
        return _Layer(inputs=inputs, latents=latents, norms=norms)
    choose = top_of_rows if architecture == "topk" else top_of_batch
    active = choose(inputs, one["encoder"], one["encoder_bias"], norms, k)
    return _Layer(inputs=inputs, latents=active, norms=norms)


def plain_loss(
    architecture: Architecture,
    parameters: Mapping[str, Tensor],
    x: Float[Tensor, "batch reads"],
    y: Float[Tensor, "batch writes"],
    *,
    layers: int,
    k: int,
    sparsity: float | Tensor,
) -> Float[Tensor, ""]:
    """The same loss as it is written down, for autograd and without dead latents: what `step` is tested against."""
    d_out, loss = y.shape[1] // layers, x.new_zeros(())
    y_hat = list(parameters["decoder_bias"].split(d_out))
    for layer in range(layers):
        one, inputs = of_layer(parameters, layer), x.chunk(layers, dim=1)[layer]
        norms = one["decoder"].norm(dim=1)
        latents = ((inputs @ one["encoder"].T + one["encoder_bias"]) * norms).relu()
        if architecture == "topk":
            top = latents.topk(k, dim=1)
            latents = torch.zeros_like(latents).scatter(1, top.indices, top.values)
        elif architecture == "batchtopk":
            flat = latents.flatten().topk(k * len(x))
            latents = torch.zeros(latents.numel(), dtype=x.dtype).scatter(0, flat.indices, flat.values)
            latents = rearrange(latents, "(row latent) -> row latent", row=len(x))
        else:
            loss = loss + sparsity * latents.sum() / len(x)
        to_each = rearrange(one["decoder"], "latent (to d) -> to latent d", d=d_out)
        for target, decoder in enumerate(to_each, start=layer):
            y_hat[target] = y_hat[target] + (latents / norms) @ decoder
    return loss + (torch.cat(y_hat, dim=1) - y).square().sum(1).mean()
