"""A batch -> loss and gradients of the kinds without a k: ReLU with L1, gated, and JumpReLU.

Their number of active latents is not known beforehand, so these are dense products: five (gated: eight), none of them
the gradient with respect to x. Definitions are sae-lens', with n_j the length of decoder row j and c the coefficient:

    standard   mean |e|^2 + c mean_b sum_j n_j a_j                         a = relu(pre)
    jumprelu   mean |e|^2 + c mean_b sum_j [pre_j > t_j]                   a = pre [pre > t]
    gated      mean |e|^2 + c mean_b sum_j n_j relu(gate_j) + mean |relu(gate) @ decoder + bias - x|^2

The gradient of a JumpReLU threshold is the straight-through estimate of Rajamanoharan et al. (2024b, eq. 11-12), with
a rectangle of width `BANDWIDTH` as the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from saes.dictionaries.architectures import Architecture
from saes.dictionaries.parameters import Gradients, Parameters
from saes.dictionaries.select import decoder_norms

BANDWIDTH = 0.05
"""Width of the kernel that a threshold's gradient is estimated with (sae-lens' `jumprelu_bandwidth`)."""


CHUNK = {"cpu": 512}
"""Rows at once, so that what one pass writes the next finds in the cache; a GPU takes the whole batch."""


def step(
    architecture: Architecture,
    parameters: Parameters,
    x: Float[Tensor, "batch d_in"],
    y: Float[Tensor, "batch d_out"] | None = None,
    *,
    sparsity: float | Tensor,
    hooks: tuple[int, ...] | None = None,
) -> Gradients:
    """One batch of a `standard`, `gated` or `jumprelu` dictionary, whose penalty has the weight `sparsity`.

    `y` and `hooks` are as in `topk.step`; a gated dictionary has none, and an L0 penalty does not ask for lengths.
    """
    kind = partial(standard, hooks=hooks) if architecture == "standard" else KINDS[architecture]
    size = CHUNK.get(x.device.type, len(x))
    total: Gradients | None = None
    for start in range(0, len(x), size):
        target = None if y is None else y[start : start + size]
        part = kind(parameters, x[start : start + size], target, sparsity=sparsity, rows=len(x))
        total = part if total is None else _add(total, part)
    assert total is not None, "a batch has rows"
    return total


def standard(
    parameters: Parameters,
    x: Float[Tensor, "batch d_in"],
    y: Float[Tensor, "batch d_out"] | None,
    *,
    sparsity: float | Tensor,
    rows: int,
    hooks: tuple[int, ...] | None = None,
) -> Gradients:
    """What these rows add to a batch of `rows`: a ReLU dictionary with an L1 penalty."""
    decoder, norms = parameters["decoder"], decoder_norms(parameters["decoder"], hooks)
    inputs = x - parameters["decoder_bias"] if y is None else x
    latents = torch.addmm(parameters["encoder_bias"], inputs, parameters["encoder"].T).relu_()
    error = _reconstruct(parameters, latents, x).sub_(x if y is None else y)
    total, active = latents.sum(0), latents.sign()
    losses = {
        "reconstruction": error.square().sum() / rows,
        "sparsity": sparsity * (total @ norms) / rows,
    }
    into = error.mul_(2 / rows)
    of = {"decoder": torch.addmm(_lengthening(decoder, hooks, sparsity / rows * total), latents.T, into)}
    toward = torch.addmm(sparsity / rows * norms, into, decoder.T, out=latents).mul_(active)
    _input_side(parameters, of, toward, inputs, into, x, centred=y is None)
    return Gradients(losses=losses, of=of, fired=active.sum(0).long())


def jumprelu(
    parameters: Parameters,
    x: Float[Tensor, "batch d_in"],
    y: Float[Tensor, "batch d_out"] | None,
    *,
    sparsity: float | Tensor,
    rows: int,
) -> Gradients:
    """What these rows add to a batch of `rows`: a JumpReLU dictionary with an L0 penalty."""
    # Below 0 the gate would let negative pre-activations through; sae-lens projects at the same place.
    threshold = parameters["threshold"].clamp_(min=0)
    inputs = x - parameters["decoder_bias"] if y is None else x
    pre = torch.addmm(parameters["encoder_bias"], inputs, parameters["encoder"].T)
    # Masks as numbers: sums and products of booleans are several times slower on a CPU.
    beyond = pre - threshold
    active = (beyond > 0).to(x.dtype)
    near = (beyond.abs_() < BANDWIDTH / 2).to(x.dtype)
    latents, count = pre.mul_(active), active.sum(0)
    error = _reconstruct(parameters, latents, x).sub_(x if y is None else y)
    losses = {
        "reconstruction": error.square().sum() / rows,
        "sparsity": sparsity * count.sum() / rows,
    }
    into = error.mul_(2 / rows)
    of = {"decoder": latents.T @ into}
    toward = torch.mm(into, parameters["decoder"].T, out=latents)
    edge = near.sum(0) * (sparsity / rows) + near.mul_(toward).sum(0) * threshold
    of["threshold"] = edge / -BANDWIDTH
    _input_side(parameters, of, toward.mul_(active), inputs, into, x, centred=y is None)
    return Gradients(losses=losses, of=of, fired=active.sum(0).long())


def gated(
    parameters: Parameters, x: Float[Tensor, "batch d"], y: None, *, sparsity: float | Tensor, rows: int
) -> Gradients:
    """What these rows add to a batch of `rows`: a gated SAE with an L1 penalty on its gate."""
    encoder, decoder, bias = (parameters[name] for name in ("encoder", "decoder", "decoder_bias"))
    norms, scale = decoder_norms(decoder), parameters["magnitude_scale"].exp()
    inputs = x - bias
    shared = inputs @ encoder.T
    gate = (shared + parameters["gate_bias"]).relu_()
    opened = gate.sign()
    magnitude = torch.addcmul(parameters["magnitude_bias"], shared, scale).relu_()
    latents, total = magnitude.mul_(opened), gate.sum(0)
    active = latents.sign()
    error, by_gate = (torch.addmm(bias, made, decoder).sub_(x) for made in (latents, gate))
    losses = {
        "reconstruction": error.square().sum() / rows,
        "sparsity": sparsity * (total @ norms) / rows,
        "auxiliary": by_gate.square().sum() / rows,
    }
    into, into_gate = error.mul_(2 / rows), by_gate.mul_(2 / rows)
    of = {"decoder": torch.addmm((sparsity / rows * total / norms)[:, None] * decoder, latents.T, into)}
    of["decoder"].addmm_(gate.T, into_gate)
    toward = torch.mm(into, decoder.T, out=latents).mul_(active)
    of["magnitude_bias"] = toward.sum(0)
    of["magnitude_scale"] = shared.mul_(toward).sum(0) * scale
    toward_gate = torch.addmm(sparsity / rows * norms, into_gate, decoder.T, out=gate).mul_(opened)
    of["gate_bias"] = toward_gate.sum(0)
    toward_shared = toward_gate.addcmul_(toward, scale)
    of["encoder"] = toward_shared.T @ inputs
    through_input = (of["gate_bias"] + of["magnitude_bias"] * scale) @ encoder
    of["decoder_bias"] = into.sum(0) + into_gate.sum(0) - through_input
    return Gradients(losses=losses, of=of, fired=active.sum(0).long())


KINDS: dict[Architecture, Callable[..., Gradients]] = {
    "standard": standard,
    "jumprelu": jumprelu,
    "gated": gated,
}


def _add(one: Gradients, other: Gradients) -> Gradients:
    """The sum of both; the tensors of the first are overwritten."""
    for name, gradient in one.of.items():
        gradient.add_(other.of[name])
    losses = {name: loss + other.losses[name] for name, loss in one.losses.items()}
    return Gradients(losses=losses, of=one.of, fired=one.fired.add_(other.fired))


def _lengthening(
    decoder: Float[Tensor, "d_sae d"], hooks: tuple[int, ...] | None, weight: Float[Tensor, " d_sae"]
) -> Float[Tensor, "d_sae d"]:
    """The gradient of `sum_j weight_j norms_j` with respect to the decoder."""
    # A latent may come to write nothing at all to a hook; there the length has no gradient, and 0 stands for it.
    parts = [
        (weight / part.norm(dim=1).clamp_min(1e-30))[:, None] * part
        for part in decoder.split(hooks or decoder.shape[1], dim=1)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _reconstruct(
    parameters: Parameters, latents: Float[Tensor, "batch d_sae"], x: Float[Tensor, "batch d_in"]
) -> Float[Tensor, "batch d_out"]:
    y_hat = torch.addmm(parameters["decoder_bias"], latents, parameters["decoder"])
    return y_hat.addmm_(x, parameters["skip"].T) if "skip" in parameters else y_hat


def _input_side(
    parameters: Parameters,
    of: dict[str, Tensor],
    toward: Float[Tensor, "batch d_sae"],
    inputs: Float[Tensor, "batch d_in"],
    into: Float[Tensor, "batch d_out"],
    x: Float[Tensor, "batch d_in"],
    *,
    centred: bool,
) -> None:
    """The encoder's gradients and the bias's, from those at the pre-activations and at the output."""
    of["encoder"] = toward.T @ inputs
    of["encoder_bias"] = toward.sum(0)
    of["decoder_bias"] = into.sum(0)
    if centred:
        of["decoder_bias"] = of["decoder_bias"] - of["encoder_bias"] @ parameters["encoder"]
    if "skip" in parameters:
        of["skip"] = into.T @ x
