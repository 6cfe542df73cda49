"""Pairs of activations -> affine map or autoencoder, trained step by step as the paper did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from transfer.maps.activation_map import Made
from transfer.maps.kinds import AffineMap, Autoencoder
from transfer.points import ActivationPairs

Layers = list[Tensor]
"""Weights `[d_in d_out]` and biases `[d_out]` by turns."""
Guide = Callable[[Callable[[Tensor], Tensor], torch.Generator], Tensor]
"""A map in training and a source of random numbers -> a further loss, such as `KLGuide`'s."""


@dataclass(frozen=True, kw_only=True)
class SGDConfig:
    """How a map is trained; the defaults are those of arXiv 2503.04429, section 3 and appendix.

    The loss is the mean squared error over tokens and dimensions, plus `guide_weight` times a guide's loss.
    """

    lr: float = 1e-4
    """Of AdamW."""
    weight_decay: float = 0.01
    """torch's default, which the paper does not change."""
    batch_tokens: int = 4096
    """Pairs per step: the paper's 16 x 4 texts are some 4,000 tokens of ours."""
    epochs: int = 3
    hidden: int | None = None
    """Width of the autoencoder; derived: sqrt(d_in d_out), rounded."""
    standardise: bool = False
    """Whether both sides are centred and divided by their deviations while training; folded into the weights after."""
    decay: bool = False
    """Whether the learning rate falls linearly to zero."""
    guide_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "epochs", "lr", "hidden"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} is {value}, expected above 0", hint="give a larger number")


PAPER = SGDConfig()
WIDE = SGDConfig(lr=1e-3, epochs=20, standardise=True, decay=True)
"""Long enough to converge on standardised rows; `wide_autoencoder` gives it four times the larger width."""


def affine_sgd_map(
    pairs: ActivationPairs, made: Made, config: SGDConfig = PAPER, guide: Guide | None = None
) -> AffineMap:
    """`y = x W + b`, trained."""
    d_in, d_out = pairs.source.values.shape[1], pairs.target.values.shape[1]
    layers = _train(pairs, [d_in, d_out], config, guide)
    return AffineMap(made=made, weight=layers[0], bias=layers[1])


def autoencoder_map(
    pairs: ActivationPairs, made: Made, config: SGDConfig = PAPER, guide: Guide | None = None
) -> Autoencoder:
    """`y = relu(x W_enc + b_enc) W_dec + b_dec`, trained."""
    d_in, d_out = pairs.source.values.shape[1], pairs.target.values.shape[1]
    hidden = config.hidden or round(math.sqrt(d_in * d_out))
    W_enc, b_enc, W_dec, b_dec = _train(pairs, [d_in, hidden, d_out], config, guide)
    return Autoencoder(made=made, W_enc=W_enc, b_enc=b_enc, W_dec=W_dec, b_dec=b_dec)


def _train(pairs: ActivationPairs, widths: list[int], config: SGDConfig, guide: Guide | None) -> Layers:
    device = pairs.source.values.device
    generator = torch.Generator().manual_seed(config.seed)
    layers = [layer.to(device).requires_grad_() for layer in _drawn(widths, generator)]
    x, y = pairs.source.values, pairs.target.values
    scales = [_scale(side) if config.standardise else None for side in (x, y)]
    inputs, targets = (_scaled(side, scale) for side, scale in zip((x, y), scales, strict=True))
    optimizer = torch.optim.AdamW(layers, lr=config.lr, weight_decay=config.weight_decay)
    steps, done = config.epochs * math.ceil(len(pairs) / config.batch_tokens), 0
    for _ in range(config.epochs):
        order = torch.randperm(len(pairs), generator=generator).to(device)
        for rows in order.split(config.batch_tokens):
            if config.decay:
                optimizer.param_groups[0]["lr"] = config.lr * (1 - done / steps)
            loss = F.mse_loss(_run(layers, inputs[rows]), targets[rows])
            if guide is not None:
                folded = _folded(layers, scales[0], scales[1])
                loss = loss + config.guide_weight * guide(partial(_run, folded), generator)
            # Not `backward`: a guide's loss runs through models whose weights are not ours to move.
            for layer, gradient in zip(layers, torch.autograd.grad(loss, layers), strict=True):
                layer.grad = gradient
            optimizer.step()
            done += 1
    return [layer.detach() for layer in _folded(layers, scales[0], scales[1])]


def _drawn(widths: list[int], generator: torch.Generator) -> Layers:
    """torch's own initialisation of a linear layer, which the paper starts from: uniform in +-1/sqrt(d_in)."""
    layers = []
    for d_in, d_out in pairwise(widths):
        for shape in ((d_in, d_out), (d_out,)):
            layers.append((2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(d_in))
    return layers


def _run(layers: Layers, x: Float[Tensor, "token d_in"]) -> Float[Tensor, "token d_out"]:
    for i in range(0, len(layers), 2):
        x = (torch.relu(x) if i else x) @ layers[i] + layers[i + 1]
    return x


def _scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each dimension; a dimension that never varies is only centred."""
    mean, deviation = rows.double().mean(0), rows.double().std(0, correction=0)
    return mean.float(), torch.where(deviation > 0, deviation, 1.0).float()


def _scaled(rows: Tensor, scale: tuple[Tensor, Tensor] | None) -> Tensor:
    return rows if scale is None else (rows - scale[0]) / scale[1]


def _folded(layers: Layers, x: tuple[Tensor, Tensor] | None, y: tuple[Tensor, Tensor] | None) -> Layers:
    """The same map of rows that are not standardised."""
    if x is None or y is None:
        return layers
    folded = list(layers)
    folded[0] = layers[0] / x[1][:, None]
    folded[1] = layers[1] - x[0] @ folded[0]
    folded[-2], folded[-1] = folded[-2] * y[1], folded[-1] * y[1] + y[0]
    return folded
