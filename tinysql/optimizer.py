"""Gradients -> weights: AdamW in groups, and the mean of the last weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tinysql.models.hybrid import HybridLM

UNDECAYED = {"w", "b", "W_E", "W_pos", "A_log", "D", "dt_bias", "conv_bias", "norm_weight"}
"""Parameters that weight decay leaves alone, with all biases `b_*`."""


def make_optimizer(
    model: HybridLM, *, lr: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves norms, biases, embeddings and Mamba's scalars alone."""

    def is_plain(name: str) -> bool:
        last = name.rsplit(".", 1)[-1]
        return last in UNDECAYED or last.startswith("b_")

    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not is_plain(name)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if is_plain(name)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


class Average:
    """The running mean of a model's weights."""

    def __init__(self, model: HybridLM) -> None:
        self.count = 0
        self.mean: dict[str, Tensor] = {
            name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def add(self, model: HybridLM) -> None:
        """Take the present weights in."""
        self.count += 1
        for name, tensor in model.state_dict().items():
            self.mean[name] += (tensor - self.mean[name]) / self.count

    def restore(self, count: int, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved mean."""
        self.count = count
        for name, tensor in tensors.items():
            self.mean[name].copy_(tensor)

    def put_into(self, model: HybridLM) -> None:
        """Replace the weights by their mean."""
        model.load_state_dict(self.mean)
