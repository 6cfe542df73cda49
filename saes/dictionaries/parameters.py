"""Architecture and widths -> the first parameters of a dictionary, and what one step says about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saes.dictionaries.architectures import Architecture

DECODER_NORM = 0.1
"""First length of a decoder row (Anthropic's April 2024 update; sae-lens' `decoder_init_norm`)."""
FIRST_THRESHOLD = 0.01
"""First threshold of a JumpReLU latent (sae-lens' `jumprelu_init_threshold`)."""

Parameters = Mapping[str, Tensor]
"""By name: `encoder` and `decoder` [d_sae d_in], `decoder_bias` [d_in]; `encoder_bias` [d_sae], for the gated kind
`gate_bias`, `magnitude_bias` and `magnitude_scale` [d_sae] in its stead; `threshold` [d_sae] of JumpReLU; `skip`
[d_out d_in] of a skip transcoder. A transcoder's decoder is [d_sae d_out] and its decoder bias [d_out]."""


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """What one batch says: nothing here has been read back from the device."""

    losses: Mapping[str, Float[Tensor, ""]]
    """The parts of the loss, whose sum the gradients are of."""
    of: Mapping[str, Tensor]
    """The gradient of each parameter, by its name."""
    fired: Int[Tensor, " d_sae"]
    """In how many rows of the batch each latent was above 0."""


def first_parameters(
    architecture: Architecture,
    *,
    d_in: int,
    d_sae: int,
    d_out: int | None = None,
    skip: bool = False,
    hooks: tuple[int, ...] | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Random decoder rows of length 0.1, the encoder their copy, and no biases: what sae-lens draws from that seed.

    With `d_out`, a transcoder: encoder rows of their own, as its input is another space. With the widths of several
    `hooks`, which add up to d_in, a crosscoder: rows of that length at each.

    Example:
        >>> first_parameters("topk", d_in=16, d_sae=64)["decoder"].shape
        torch.Size([64, 16])
    """
    generator = torch.Generator().manual_seed(seed)
    widths = hooks or (d_out or d_in,)
    decoder = torch.cat([_rows(d_sae, width, generator, dtype) for width in widths], dim=1)
    made = {
        "encoder": decoder.clone() if d_out is None else _rows(d_sae, d_in, generator, dtype),
        "decoder": decoder,
        "decoder_bias": torch.zeros(d_out or d_in, dtype=dtype),
    }
    names = (
        ("gate_bias", "magnitude_bias", "magnitude_scale") if architecture == "gated" else ("encoder_bias",)
    )
    made.update({name: torch.zeros(d_sae, dtype=dtype) for name in names})
    if architecture == "jumprelu":
        made["threshold"] = torch.full((d_sae,), FIRST_THRESHOLD, dtype=dtype)
    if skip:
        made["skip"] = torch.zeros(d_out or d_in, d_in, dtype=dtype)
    return {name: tensor.to(device) for name, tensor in made.items()}


def _rows(n: int, width: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    rows = torch.empty(n, width, dtype=dtype)
    torch.nn.init.kaiming_uniform_(rows, generator=generator)
    return rows / rows.norm(dim=1, keepdim=True) * DECODER_NORM
