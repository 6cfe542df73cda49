"""A batch -> loss and gradients of TopK, BatchTopK and Matryoshka: one dense product, all the rest over active latents.

Loss, with z the active pre-activations and e = y_hat - y:

    mean_b sum_d e^2  (+ the same for every nested level of Matryoshka)  (+ the auxiliary loss of dead latents)

That latents are chosen and measured in units of the output changes which are active and nothing else: the decoder's
length cancels in (pre * length) / length. No gradient with respect to x is ever needed, as the one with respect to
`decoder_bias` through the input is -(sum_b dz) @ encoder.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from saes.dictionaries import pairs as sparse
from saes.dictionaries.auxiliary import Dead, auxiliary
from saes.dictionaries.pairs import Pairs
from saes.dictionaries.parameters import Gradients, Parameters
from saes.dictionaries.select import decoder_norms, nested, top_of_batch, top_of_rows


def step(
    parameters: Parameters,
    x: Float[Tensor, "batch d_in"],
    y: Float[Tensor, "batch d_out"] | None = None,
    *,
    k: int,
    per_batch: bool = False,
    widths: tuple[int, ...] | None = None,
    hooks: tuple[int, ...] | None = None,
    dead: Dead | None = None,
) -> Gradients:
    """One batch of a k-sparse dictionary.

    `y` is what to reconstruct when it is not x itself; then no bias is taken from x (a transcoder). `per_batch` keeps
    the k B largest of the batch, not k per row. `widths`, ascending to d_sae, does so too, and adds a loss for each
    nested prefix.
    `hooks` are the widths of what lies side by side in x (a crosscoder): a latent's length is then the sum of several.
    """
    encoder, decoder, bias = (parameters[name] for name in ("encoder", "decoder", "decoder_bias"))
    inputs = x - bias if y is None else x
    norms = decoder_norms(decoder, hooks)
    choose = top_of_batch if per_batch or widths else top_of_rows
    active = choose(inputs, encoder, parameters["encoder_bias"], norms, k)
    levels = widths or (len(encoder),)
    if len(levels) > 1:
        active = nested(active, levels)
    error, squares = sparse.errors(active, decoder, inputs if y is None else y - _base(parameters, x))
    losses, scale = _named(squares / len(x), levels), 2 / len(x)
    bags = rearrange(error, "row level d -> (row level) d")
    of = backward(parameters, active, inputs, bags, levels=len(levels), scale=scale)
    of["decoder_bias"] = error[:, 0].sum(0) * scale
    if "skip" in parameters:
        of["skip"] = (error[:, 0].T @ x) * scale
    if dead is not None:
        losses["auxiliary"] = auxiliary(parameters, inputs, error[:, -1].neg(), norms, dead, of)
    if y is None:
        of["decoder_bias"] = of["decoder_bias"] - of["encoder_bias"] @ encoder
    return Gradients(losses=losses, of=of, fired=sparse.fired(active))


def _base(parameters: Parameters, x: Float[Tensor, "batch d_in"]) -> Tensor:
    """What a transcoder writes where no latent is active."""
    bias = parameters["decoder_bias"]
    return torch.addmm(bias, x, parameters["skip"].T) if "skip" in parameters else bias


def _named(loss: Float[Tensor, " level"], widths: tuple[int, ...]) -> dict[str, Float[Tensor, ""]]:
    named = {"reconstruction": loss[-1]}
    named.update({f"reconstruction_{width}": loss[i] for i, width in enumerate(widths[:-1])})
    return named


def backward(
    parameters: Parameters,
    active: Pairs,
    inputs: Float[Tensor, "batch d_in"],
    error: Float[Tensor, "bag d_out"],
    *,
    levels: int = 1,
    scale: float = 1.0,
) -> dict[str, Tensor]:
    """Gradients of both matrices and of the encoder's bias.

    `scale * error` is the loss's gradient at what each bag adds; the encoder has seen `levels` bags as one row.
    """
    toward = sparse.toward(active, error, parameters["decoder"], scale)
    return {
        "decoder": sparse.outer(active, active.value, error, scale=scale),
        "encoder_bias": sparse.per_latent(active, toward),
        "encoder": sparse.outer(active, toward, inputs, share=levels),
    }


def plain_loss(
    parameters: Mapping[str, Tensor],
    x: Float[Tensor, "batch d_in"],
    y: Float[Tensor, "batch d_out"] | None = None,
    *,
    k: int,
    per_batch: bool = False,
    widths: tuple[int, ...] | None = None,
    hooks: tuple[int, ...] | None = None,
    dead: Dead | None = None,
) -> Float[Tensor, ""]:
    """The same loss as it is written down, dense and for autograd: the reference that `step` is tested against."""
    encoder, decoder, bias = (parameters[name] for name in ("encoder", "decoder", "decoder_bias"))
    inputs, target = (x - bias, x) if y is None else (x, y)
    norms = sum(part.norm(dim=1) for part in decoder.split(hooks or decoder.shape[1], dim=1))
    pre = (inputs @ encoder.T + parameters["encoder_bias"]) * norms
    if per_batch or widths:
        flat = pre.relu().flatten()
        top = flat.topk(k * len(x))
        latents = torch.zeros_like(flat).scatter(0, top.indices, top.values).reshape(pre.shape)
    else:
        top = pre.topk(k, dim=1)
        latents = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    latents = latents / norms
    base = bias + x @ parameters["skip"].T if "skip" in parameters else bias
    loss = x.new_zeros(())
    for width in widths or (len(encoder),):
        y_hat = latents[:, :width] @ decoder[:width] + base
        loss = loss + (y_hat - target).square().sum(1).mean()
    if dead is None or not bool(dead.mask.any()):
        return loss
    n_dead, k_aux = int(dead.mask.sum()), x.shape[1] // 2
    chosen = torch.where(dead.mask, pre, -torch.inf).topk(min(k_aux, n_dead), dim=1)
    revived = torch.zeros_like(pre).scatter(1, chosen.indices, chosen.values) / norms
    residual = (target - y_hat).detach()
    missing = (revived @ decoder - residual).square().sum(1).mean()
    return loss + dead.coefficient * min(n_dead / k_aux, 1.0) * missing
