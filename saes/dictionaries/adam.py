"""Gradients -> new parameters: Adam in one pass, with clipping and a guard against what is not finite.

Clipping costs no pass of its own, as the fused kernel divides by a scale; nor does the guard, as the kernel leaves
parameters and moments alone once `broken` is set. Both stay on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from saes.dictionaries.parameters import Parameters

MAX_NORM = 1.0
"""Longest gradient, all parameters together (sae-lens')."""


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The optimiser of one dictionary; parameters are changed in place."""

    parameters: Parameters
    optimizer: torch.optim.Adam
    broken: Bool[Tensor, ""]
    """Whether a gradient was not finite; from then on nothing changes any more."""


def start(parameters: Parameters, lr: float) -> Adam:
    """An optimiser that has seen nothing; betas 0.9 and 0.999."""
    device = next(iter(parameters.values())).device
    optimizer = torch.optim.Adam(list(parameters.values()), lr=lr, fused=True)
    return Adam(
        parameters=parameters, optimizer=optimizer, broken=torch.zeros((), dtype=torch.bool, device=device)
    )


@torch.no_grad()
def update(adam: Adam, of: Mapping[str, Tensor], lr: float | Tensor) -> None:
    """One step of rate `lr` along the gradients, which are overwritten; a recording reads its rate from a tensor."""
    gradients = [of[name] for name in adam.parameters]
    norms = torch._foreach_norm(gradients)
    norm = torch.stack(norms).norm()
    adam.broken.logical_or_(~norm.isfinite())
    for parameter, gradient in zip(adam.parameters.values(), gradients, strict=True):
        parameter.grad = gradient
    kernel: Any = adam.optimizer
    # What PyTorch's loss scaling hands to the fused kernel: it divides by the one and stops at the other.
    kernel.grad_scale = ((norm + 1e-6) / MAX_NORM).clamp(min=1.0).float()
    kernel.found_inf = adam.broken.float()
    for group in adam.optimizer.param_groups:
        group["lr"] = lr
        # PyTorch asks for this word in a recording and warns of it elsewhere; the fused kernel does the same.
        group["capturable"] = norm.is_cuda and torch.cuda.is_current_stream_capturing()
    adam.optimizer.step()
    adam.optimizer.zero_grad()


def state(adam: Adam) -> dict[str, Tensor]:
    """Moments and step counts by `parameter/key`, for a file."""
    return {
        f"{name}/{key}": value
        for name, parameter in adam.parameters.items()
        for key, value in adam.optimizer.state[parameter].items()
    }


def restore(adam: Adam, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state` gave."""
    for name, parameter in adam.parameters.items():
        adam.optimizer.state[parameter] = {
            key.split("/", 1)[1]: value.clone().to(parameter.device)
            for key, value in tensors.items()
            if key.split("/", 1)[0] == name
        }
