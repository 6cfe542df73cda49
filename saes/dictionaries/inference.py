"""Trained parameters -> an inference SAE of sae-lens that reads and writes raw activations.

Training sees z = (x - mean) * scale. With n the lengths of the decoder rows, the same dictionary on x, with decoder
rows of length 1 and latents in units of the activation, has

    W_enc = encoder.T * n    W_dec = decoder / n    b_dec = decoder_bias / scale + mean
    biases of latents and thresholds * n / scale

BatchTopK and Matryoshka become JumpReLU, whose one threshold `calibrate` sets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saes.dictionaries.architectures import Architecture
from saes.dictionaries.parameters import Parameters
from saes.dictionaries.select import decoder_norms
from saes.disk import SAE, stock

CLASSES: dict[Architecture, str] = {
    "topk": "TopKSAE",
    "batchtopk": "JumpReLUSAE",
    "matryoshka": "JumpReLUSAE",
    "standard": "StandardSAE",
    "gated": "GatedSAE",
    "jumprelu": "JumpReLUSAE",
}
"""What each kind is saved as; the names are sae-lens'."""
PER_LATENT = {
    "encoder_bias": "b_enc",
    "gate_bias": "b_gate",
    "magnitude_bias": "b_mag",
    "threshold": "threshold",
}
CHUNK = 2048
"""Activations encoded at once while a threshold is sought."""


@torch.no_grad()
def to_sae(
    parameters: Parameters,
    architecture: Architecture,
    *,
    k: int,
    mean: Float[Tensor, " d_in"],
    scale: float | Float[Tensor, " d_in"],
    metadata: dict[str, Any],
    hooks: tuple[int, ...] | None = None,
) -> SAE:
    """The finished SAE; `metadata` goes into its `cfg.json`.

    A crosscoder has the widths of its `hooks` and a scale per dimension; its latents are in units of training's z.
    """
    sae_lens = stock()
    decoder = parameters["decoder"]
    lengths = decoder_norms(decoder, hooks).clamp(min=1e-8)
    unit = scale if isinstance(scale, float) else 1.0
    relative = torch.as_tensor(scale / unit, device=decoder.device, dtype=decoder.dtype)
    about = sae_lens.saes.sae.SAEMetadata(**metadata, training_architecture=architecture)
    shape = {"d_sae": decoder.shape[0], "d_in": decoder.shape[1], "metadata": about}
    if architecture == "topk":
        shape |= {"k": k, "rescale_acts_by_decoder_norm": False}
    name = CLASSES[architecture]
    # sae-lens draws first weights from the global generator of the CPU.
    with torch.random.fork_rng(devices=[]):
        sae = getattr(sae_lens, name)(getattr(sae_lens, f"{name}Config")(**shape)).to(decoder.device)
    sae.W_enc.copy_((parameters["encoder"] * lengths[:, None] * relative).T)
    sae.W_dec.copy_(decoder / lengths[:, None] / relative)
    sae.b_dec.copy_(parameters["decoder_bias"] / scale + mean)
    for ours, theirs in PER_LATENT.items():
        if ours in parameters:
            value = parameters[ours].clamp(min=0) if ours == "threshold" else parameters[ours]
            getattr(sae, theirs).copy_(value * lengths / unit)
    if "magnitude_scale" in parameters:
        sae.r_mag.copy_(parameters["magnitude_scale"])
    return sae.requires_grad_(False)


@torch.no_grad()
def calibrate(sae: SAE, values: Float[Tensor, "token d_in"], l0: float) -> float:
    """Give every latent of a JumpReLU SAE the one threshold at which `l0` latents are active per token of `values`."""
    jump: Any = sae
    jump.threshold.zero_()
    jump.threshold.fill_(threshold_at(sae.encode, values, l0))
    return float(jump.threshold[0])


def threshold_at(
    encode: Callable[[Tensor], Tensor], values: Float[Tensor, "token d_in"], l0: float
) -> Float[Tensor, ""]:
    """What `l0` of the latents that `encode` gives are above, per token of `values`.

    It lies half-way between the last activation that counts and the next; 0 when there are too few positive ones.
    The result is exact on `values`, whatever their number: only the largest are held at any time.
    """
    wanted = round(l0 * len(values))
    largest = values.new_zeros(0)
    for part in values.split(CHUNK):
        active = encode(part).flatten()
        largest = torch.cat([largest, active.topk(min(wanted + 1, len(active)), sorted=False).values])
        largest = largest.topk(min(wanted + 1, len(largest))).values
    return largest[wanted - 1 :].mean() if len(largest) > wanted > 0 else values.new_zeros(())
