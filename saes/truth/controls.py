"""SAE -> controls: what the same search finds where nothing was learned, or nothing is to be found.

The random SAE shows what k-sparse codes of these activations give away by themselves, the label permutation
what the search finds by chance, and the neurons what the activation's own axes do without any SAE. Principal
components are the axes that variance chooses, and an SAE of the untrained model shows what needs no learned model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.dictionaries.inference import calibrate
from saes.disk import SAE, stock
from saes.truth.firing import Firings
from saes.truth.forms import Coder

CHUNK = 8192
"""Tokens encoded at once: bounds the dense [token latent] matrix."""


@torch.no_grad()
def random_sae(sae: SAE, mean: Float[Tensor, " d_in"], seed: int) -> SAE:
    """An SAE of the same shape and k that learned nothing.

    Decoder rows are random directions of length 1, the encoder is their transpose, activations are centred
    on `mean` before and after, and the encoder has no bias. Where no k decides how many latents are active, it is a
    JumpReLU SAE, whose threshold `equally_active` sets.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(sae.W_dec.shape, generator=generator).to(sae.W_dec)
    directions = directions / directions.norm(dim=1, keepdim=True)
    control: Any = copy.deepcopy(sae)
    if not _has_k(sae):
        shape = {"d_in": sae.cfg.d_in, "d_sae": sae.cfg.d_sae, "metadata": sae.cfg.metadata}
        with torch.random.fork_rng(devices=[]):
            control = stock().JumpReLUSAE(stock().JumpReLUSAEConfig(**shape)).to(sae.W_dec.device)
        control.requires_grad_(False)
    control.W_dec.copy_(directions)
    control.W_enc.copy_(directions.T)
    control.b_enc.zero_()
    control.b_dec.copy_(mean)
    return control


def equally_active(control: SAE, values: Float[Tensor, "token d_in"], l0: float) -> SAE:
    """The control, as active as the SAE it stands beside: `l0` latents per token of `values`, unless its k says so."""
    if not _has_k(control):
        calibrate(control, values, l0)
    return control


def _has_k(sae: SAE) -> bool:
    return bool(sae.cfg.architecture() == "topk")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """The latents of every token, and what their reconstruction leaves over."""

    firings: Firings
    error: Float[Tensor, " token"]
    """Squared distance to the reconstruction."""
    spread: Float[Tensor, " token"]
    """Squared distance to the mean of all tokens."""

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained: a ratio of sums over tokens."""
        return float(self.error.sum() / self.spread.sum())


@torch.no_grad()
def encode_sparse(
    coder: Coder, values: Float[Tensor, "token d_in"], wanted: Float[Tensor, "token d_out"]
) -> Encoded:
    """Encode and predict a chunk of tokens at a time; only latents above zero are kept.

    `wanted` is what is to be written: `values` again, for an SAE.
    """
    error, spread = [], []
    mean = wanted.mean(0)

    def look(rows: slice, latents: Tensor) -> None:
        y = wanted[rows]
        error.append((y - coder.predict(values[rows], latents)).double().square().sum(1))
        spread.append((y - mean).double().square().sum(1))

    firings = latents_of(coder, values, look)
    return Encoded(firings=firings, error=torch.cat(error), spread=torch.cat(spread))


def check_encoded(encoded: Encoded, form: str, hook: str) -> None:
    """`InputError` where nothing can be scored: no latent fires, or there is no finite variance to explain."""
    bad = int((~encoded.error.isfinite()).sum())
    if bad:
        raise InputError(
            f"the {form} of `{hook}` makes NaN or infinity of {bad} of {encoded.firings.n_tokens} tokens",
            hint="its weights are damaged, or were trained to no end: train it again, with a lower lr",
        )
    if not len(encoded.firings.value):
        raise InputError(
            f"none of the {encoded.firings.n_latents} latents of the {form} of `{hook}` fires at any of "
            f"{encoded.firings.n_tokens} tokens",
            hint="score it on the hook and model it was trained on, or train it again with a lower lr or sparsity",
        )
    if float(encoded.spread.sum()) == 0:
        raise InputError(
            f"hook `{hook}` carries the same at all {encoded.firings.n_tokens} tokens, so nothing can be told by it",
            hint="choose another hook, and check that the model was trained",
        )


@torch.no_grad()
def latents_of(
    coder: Coder,
    values: Float[Tensor, "token d_in"],
    look: Callable[[slice, Tensor], None] = lambda rows, latents: None,
) -> Firings:
    """The latents of every token; `look` is shown them, densely, for some rows at a time."""
    token, latent, value = [], [], []
    for start in range(0, len(values), CHUNK):
        some = slice(start, start + CHUNK)
        latents = coder.encode(values[some])
        look(some, latents)
        rows, columns = (latents > 0).nonzero(as_tuple=True)
        token.append(rows + start)
        latent.append(columns)
        value.append(latents[rows, columns].float())
    return Firings.of(
        torch.cat(token),
        torch.cat(latent),
        torch.cat(value),
        n_tokens=len(values),
        n_latents=len(coder.decoder),
    )


def neurons(values: Float[Tensor, "token d_in"], mean: Float[Tensor, " d_in"]) -> Firings:
    """Every dimension as two latents, what it has above its mean (0 .. d_in-1) and below it (d_in .. 2 d_in - 1)."""
    centred = values - mean
    return Firings.from_dense(torch.cat([centred, -centred], dim=1))


def principal(values: Float[Tensor, "token d_in"], choose: Int[Tensor, " chosen"]) -> Firings:
    """The same of the principal components, found on the tokens `choose`."""
    mean = values[choose].mean(0)
    axes = torch.linalg.eigh(torch.cov((values[choose] - mean).double().T)).eigenvectors.flip(1)
    turned = (values - mean) @ axes.to(values)
    return neurons(turned, turned.new_zeros(turned.shape[1]))
