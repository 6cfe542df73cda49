"""Gradients -> weights: AdamW in groups, Muon for matrices, and the mean of the last weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tinysql.models.hybrid import HybridLM
from tinysql.training.distributed import divided, own_part, part_of, wholes

UNDECAYED = {"w", "b", "W_E", "W_pos", "A_log", "D", "dt_bias", "conv_bias", "norm_weight"}
"""Parameters that weight decay leaves alone, with all biases `b_*`."""


BY_ADAM = {"W_U", "W_R", "W_dt", "conv_weight"}
"""Matrices that Muon leaves to AdamW: what scores tokens, experts and time steps, and the convolution's taps."""
MUON_STEPS = 5
MUON_MOMENTUM = 0.95


def make_optimizer(
    model: HybridLM, *, lr: float, betas: tuple[float, float], weight_decay: float, muon: bool = False
) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves norms, biases, embeddings and Mamba's scalars alone.

    With `muon`, matrices between residual streams get Muon's updates instead.
    """

    def kind(name: str) -> str:
        last = name.rsplit(".", 1)[-1]
        if last in UNDECAYED or last.startswith("b_"):
            return "plain"
        return "matrix" if muon and last not in BY_ADAM else "decayed"

    by_kind: dict[str, list[Tensor]] = {"matrix": [], "decayed": [], "plain": []}
    for name, parameter in model.named_parameters():
        by_kind[kind(name)].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": by_kind["decayed"], "weight_decay": weight_decay},
        {"params": by_kind["plain"], "weight_decay": 0.0},
    ]
    if not muon:
        return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
    groups.append({"params": by_kind["matrix"], "weight_decay": weight_decay, "matrices": True})
    return Muon(groups, lr=lr, betas=betas, fused=True)


class Muon(torch.optim.AdamW):
    """AdamW, but for groups marked `matrices`, whose momentum is orthogonalised before it is applied.

    Every matrix of a parameter's last two dimensions, so each head and each expert, moves by a matrix whose singular
    values are all near 1 (Jordan et al. 2024, kellerjordan.github.io/posts/muon), scaled so that its entries are as
    large as AdamW's: `0.2 sqrt(max(rows, columns))` (Liu et al., arXiv 2502.16982), and one learning rate fits both.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; gradients of matrices are used up."""
        for group in self.param_groups:
            if group.get("matrices"):
                self._move(group)
        super().step(closure)

    def _move(self, group: dict[str, Any]) -> None:
        moved = [p for p in group["params"] if p.grad is not None]
        if not moved:
            return
        for p in moved:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        gradients, momenta, weights = (
            [own_part(tensor) for tensor in tensors]
            for tensors in ([p.grad for p in moved], [self.state[p]["momentum"] for p in moved], moved)
        )
        torch._foreach_lerp_(momenta, gradients, 1 - MUON_MOMENTUM)
        mixed = torch._foreach_lerp(gradients, momenta, MUON_MOMENTUM)
        directions = wholes(moved, [_rounded(each) for each in mixed])
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, direction in enumerate(directions):
            by_shape.setdefault(tuple(sorted(direction.shape[-2:])), []).append(i)
        for (rows, columns), indices in by_shape.items():
            # All matrices of one shape in one product, or in one of each process.
            flat = [_lying(directions[i]).reshape(-1, rows, columns) for i in indices]
            turned = divided(orthogonal, torch.cat(flat)).split([len(f) for f in flat])
            updates = []
            for i, update in zip(indices, turned, strict=True):
                update = update.reshape(_lying(directions[i]).shape)
                update = update if update.shape == directions[i].shape else update.mT
                updates.append(part_of(update, moved[i]).to(weights[i].dtype))
            own = [weights[i] for i in indices]
            torch._foreach_add_(own, updates, alpha=-group["lr"] * 0.2 * columns**0.5)
        for p in moved:
            p.grad = None  # which AdamW passes over


def moments_of(optimizer: torch.optim.AdamW, parameter: Tensor) -> set[str]:
    """What an optimizer of `make_optimizer` remembers of a parameter once it has moved."""
    matrices = (group["params"] for group in optimizer.param_groups if group.get("matrices"))
    if any(parameter is p for params in matrices for p in params):
        return {"momentum"}
    return {"step", "exp_avg", "exp_avg_sq"}


def _rounded(matrices: Tensor) -> Tensor:
    """In the dtype that they are multiplied in."""
    return matrices.bfloat16() if matrices.is_cuda else matrices


def _lying(matrices: Tensor) -> Tensor:
    """No more rows than columns."""
    return matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT


def orthogonal(matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
    """Matrices with the same singular vectors, whose singular values are near 1 (five Newton-Schulz steps).

    There may be no more rows than columns. In bfloat16 on a GPU.
    """
    x = _rounded(matrices)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x


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
