"""A model -> its wider twin: the same function, every activation of its stream gone through one known linear map.

What a map between the two has to find, and what a mapped vector has to be, is known exactly: `x W` and `v W`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM

READERS = {"W_Q": 1, "W_K": 1, "W_V": 1, "W_in": 0, "W_gate": 0, "W_U": 0}
"""Weights that read the stream, and their axis of it."""
WRITERS = {"W_E": 1, "W_pos": 1, "W_O": 2, "W_out": 1, "b_O": 0, "b_out": 0}
"""Weights that write to it."""


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A model and the map that its stream is known to have gone through."""

    model: HybridLM
    weight: Float[Tensor, "d_in d_out"]
    """`stream of the twin = stream of the source @ weight`, at every residual hook."""


def wider_twin(source: HybridLM, d_model: int, *, seed: int) -> Twin:
    """A model of width `d_model` with the logits of `source`.

    Its writers are multiplied with W, its readers with W^T / c^2, where W has orthogonal rows of length
    c = sqrt(d_model / source width); then W W^T / c^2 = 1, and RMSNorm divides both streams by the same number. The
    norm weights of the source go into the readers behind them. Raises `InputError` for a smaller width and models with
    other blocks than `*` and `-`, LayerNorm, norm biases or tied embeddings, whose twins are no such models.
    """
    cfg = source.cfg
    odd = set(cfg.pattern) - set("*-") or cfg.norm != "rms" or "norm" in cfg.biases or cfg.tied
    if odd or d_model < cfg.d_model:
        raise InputError(
            f"a model of pattern {cfg.pattern!r}, norm `{cfg.norm}` and width {cfg.d_model} "
            f"has no twin of width {d_model}",
            hint="choose blocks `*` and `-`, RMSNorm without biases, untied embeddings, and no smaller width",
        )
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d_model, cfg.d_model, generator=generator, dtype=torch.float64))[0].T
    weight = basis * (d_model / cfg.d_model) ** 0.5
    back = weight.T * (cfg.d_model / d_model)
    shape = replace(cfg, d_model=d_model, d_head=cfg.head_width, d_mlp=cfg.mlp_width)
    twin = HybridLM(shape).to(source.device).eval()
    weights = source.state_dict()
    twin.load_state_dict({name: _moved(name, weights, weight, back) for name in weights})
    return Twin(model=twin, weight=weight.float())


def _moved(name: str, weights: dict[str, Tensor], weight: Tensor, back: Tensor) -> Tensor:
    kind, value = name.rsplit(".", 1)[-1], weights[name].double()
    if kind == "w":
        return torch.ones(weight.shape[1])
    if kind in WRITERS:
        return (
            torch.tensordot(value.movedim(WRITERS[kind], -1), weight, dims=1)
            .movedim(-1, WRITERS[kind])
            .float()
        )
    if kind in READERS:
        norm = "ln_final.w" if kind == "W_U" else ".".join([*name.split(".")[:2], "ln1.w"])
        last = value.movedim(READERS[kind], -1) * weights[norm].double()
        return torch.tensordot(last, back.T, dims=1).movedim(-1, READERS[kind]).float()
    return weights[name]
