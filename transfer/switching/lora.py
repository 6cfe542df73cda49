"""Model + texts with the answers it shall give -> low-rank adapters on its blocks' matrices (arXiv 2106.09685)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from data_gen.errors import InputError
from tinysql.devices import precision_on, products
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokens
from transfer.alignment import Reading
from transfer.switching.adapters import Adapters, as_matrix
from transfer.switching.weights import Weights

BATCH = 32
"""Texts of a step."""
LR = 5e-3
"""Of Adam at the first step; it falls linearly to zero."""


def train_adapters(
    model: HybridLM, taught: Reading, *, rank: int, steps: int = 200, seed: int = 0
) -> Adapters:
    """A step `A B` for each matrix of every block, so that the model gives the answers of `taught`.

    The loss is the mean cross-entropy of the answers' tokens and their end tokens. A is drawn with deviation
    1/sqrt(d_in) and B is zero, so that training begins at the model itself, whose own weights stay as they are.
    Raises `InputError` for a rank or a number of steps below 1.
    """
    for name, value in (("rank", rank), ("steps", steps)):
        if value < 1:
            raise InputError(f"{name} is {value}, expected at least 1", hint="give a larger number")
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: tuple(part.to(model.device).requires_grad_() for part in _drawn(name, one, rank, generator))
        for name, one in model.state_dict().items()
        if name.startswith("blocks.") and name.rsplit(".", 1)[-1].startswith("W_")
    }
    adapters = Adapters(factors={name: (a, b) for name, (a, b) in drawn.items()})
    parts = [part for pair in drawn.values() for part in pair]
    optimizer = torch.optim.Adam(parts, lr=LR)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
        rows = torch.randint(len(taught), (min(BATCH, len(taught)),), generator=generator)
        with torch.enable_grad():
            weights = adapters.weights(model)  # in float32, as they will be used
            with products(model.device, precision_on(model.device)):
                loss = _loss(model, weights, taught.tokens[rows])
        # Not `backward`: the model's own weights get no gradient.
        for part, gradient in zip(parts, torch.autograd.grad(loss, parts), strict=True):
            part.grad = gradient
        optimizer.step()
    return Adapters(factors={name: (a.detach(), b.detach()) for name, (a, b) in adapters.factors.items()})


def _drawn(name: str, weight: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    d_in, d_out = as_matrix(name, weight).shape
    return torch.randn(d_in, rank, generator=generator) * d_in**-0.5, torch.zeros(rank, d_out)


def _loss(model: HybridLM, weights: Weights, taught: Tokens) -> Tensor:
    """Nats per token of the answers, the end token among them, with these weights in place of the model's."""
    width = int(taught.mask.sum(1).max())
    ids = taught.ids[:, :width]
    is_answer = (torch.arange(width) >= taught.answer_start[:, None]) & taught.mask[:, :width]
    logits = functional_call(model, dict(weights), (ids.to(model.device),))
    places = is_answer[:, 1:].flatten().nonzero()[:, 0].to(model.device)
    wanted = ids[:, 1:].flatten().to(model.device)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1)[places].float(), wanted[places])
