"""Activations -> the latents that may be active: the k largest of every row, or the k B largest of the batch.

What is compared is the pre-activation in units of the output, `pre * |decoder row|`, as sae-lens does by default
(`rescale_acts_by_decoder_norm`): what a latent would add to the output, not how its two rows share that length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saes.dictionaries.pairs import Pairs, activations, equal_bags, on_kernels

CHUNK = {"cpu": 256}
"""Rows encoded at once, so that what is searched is still in the cache; a GPU takes the whole batch."""
GROUP = 16
"""Numbers of which only the largest is looked at in a first search: near the root of d_sae / k."""
SAMPLED_ROWS = 64
"""Rows that the lower bound of a batch's threshold is guessed from."""
SPARE = 1.5
"""How many times the wanted number of candidates the guess aims at; too few are noticed and mended."""


def decoder_norms(
    decoder: Float[Tensor, "d_sae d"], hooks: tuple[int, ...] | None = None
) -> Float[Tensor, " d_sae"]:
    """Lengths of the decoder rows; with the widths of several `hooks`, the sum of the lengths at each (a crosscoder's).

    The sum is what Lindsey et al. (2024) penalise: it costs a latent nothing to write to one hook alone.
    """
    if hooks is None:
        return decoder.norm(dim=1)
    return torch.stack([part.norm(dim=1) for part in decoder.split(hooks, dim=1)]).sum(0)


def top_of_rows(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
    k: int,
) -> Pairs:
    """The k largest latents of every row (TopK); `value` is ReLU of the pre-activation itself.

    On a GPU they are chosen by products in tf32, ten bits of mantissa, and then computed in float32.
    """
    if on_kernels(x):
        latent = largest(_coarse(x, encoder, bias, norms), k)
        space = torch.empty_like(latent, dtype=x.dtype)
        return _exact(equal_bags(latent, space, len(encoder)), x, encoder, bias)
    parts = [part.topk(k, dim=1, sorted=False) for _, part in _encode(x, encoder, bias, norms)]
    latent = torch.cat([part.indices for part in parts])
    value = torch.cat([part.values for part in parts])
    return equal_bags(latent, value.relu_() / norms[latent], len(encoder))


def top_of_batch(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
    k: int,
) -> Pairs:
    """The k B largest positive latents of the whole batch (BatchTopK), in the order of rows and latents.

    On a GPU non-positive ones fill up what is missing, with the value 0, so that all shapes are known beforehand; and
    they are chosen as in `top_of_rows`.
    """
    if on_kernels(x):
        place = _places(_coarse(x, encoder, bias, norms), k)
        return _exact(_at(place, torch.empty_like(place, dtype=x.dtype), x, encoder), x, encoder, bias)
    search = _search_some if x.device.type == "cpu" else _search_all
    value, place = search(x, encoder, bias, norms, k)
    pairs = _at(place, value.relu_(), x, encoder)
    return replace(pairs, value=pairs.value / norms[pairs.latent])


def _at(
    place: Int[Tensor, " pair"],
    value: Float[Tensor, " pair"],
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
) -> Pairs:
    """Pairs at ascending places of the encoded batch."""
    row = torch.div(place, len(encoder), rounding_mode="floor")
    return Pairs(
        latent=torch.sub(place, row, alpha=len(encoder)),
        bag=row,
        start=torch.searchsorted(row, torch.arange(len(x), device=x.device)),
        value=value,
        d_sae=len(encoder),
    )


def largest(x: Float[Tensor, "row latent"], k: int) -> Int[Tensor, "row k"]:
    """Places of the k largest numbers of every row, in no order."""
    if on_kernels(x):
        from saes.dictionaries import searching

        return searching.largest(x, k)
    return x.topk(k, dim=1, sorted=False).indices


def nested(pairs: Pairs, widths: tuple[int, ...]) -> Pairs:
    """The same pairs with one bag per row and level: level 0 holds latents below `widths[0]`, and so on (Matryoshka).

    Pairs of a row must be in the order of their latents, as `top_of_batch` gives them.
    """
    bag = pairs.bag * len(widths)
    for width in widths[:-1]:
        bag += pairs.latent >= width
    bags = torch.arange(len(pairs.start) * len(widths), device=bag.device)
    return replace(pairs, bag=bag, start=torch.searchsorted(bag, bags))


def _encode(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
) -> Iterator[tuple[int, Float[Tensor, "chunk d_sae"]]]:
    """Chunks of `(x @ encoder.T + bias) * norms` with their first row; the next one overwrites the one before."""
    # Scaling the rows of the encoder is cheaper than scaling what comes out: B F numbers against F d.
    rows, scaled_bias = encoder * norms[:, None], bias * norms
    size = min(CHUNK.get(x.device.type, len(x)), len(x))
    space = x.new_empty(size, len(encoder))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        yield start, torch.addmm(scaled_bias, part, rows.T, out=space[: len(part)])


def _coarse(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
) -> Float[Tensor, "batch d_sae"]:
    """`(x @ encoder.T + bias) * norms` of a whole batch, in tf32 where only the order counts and `_exact` follows."""
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if on_kernels(x) else before
    try:
        return torch.addmm(bias * norms, x, (encoder * norms[:, None]).T)
    finally:
        products.fp32_precision = before


def _exact(
    pairs: Pairs,
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
) -> Pairs:
    """The same pairs with ReLU of their pre-activations as values."""
    return replace(pairs, value=activations(pairs, x, encoder, bias))


def _search_all(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
    k: int,
) -> tuple[Float[Tensor, " pair"], Int[Tensor, " pair"]]:
    """The k B largest entries of the encoded batch and their places, ascending, without waiting for the device."""
    whole = _coarse(x, encoder, bias, norms)
    place = _places(whole, k)
    return whole.flatten()[place], place


def _places(encoded: Float[Tensor, "batch d_sae"], k: int) -> Int[Tensor, " pair"]:
    """Where its k B largest numbers are, ascending."""
    numbers, n = encoded.flatten(), k * len(encoded)
    if on_kernels(encoded):
        from saes.dictionaries import ranking

        return ranking.largest_of_all(numbers, n)
    place = largest_of_all(numbers, n)
    if len(numbers) < 2**31:  # sorting takes time by the bits of what is sorted
        place = place.int()
    return place.sort().values.long()


def largest_of_all(x: Float[Tensor, " number"], n: int) -> Int[Tensor, " n"]:
    """Places of the n largest numbers, in no order, by searching a fraction of them.

    The n groups of the largest maxima hold n of the largest: a number above the least of those maxima is in one of
    them, and each of them has one that is no less. Which of equal numbers are taken is left open, as by `topk`.
    """
    size = len(x) // GROUP
    if 2 * n > size:  # the groups would hold nearly everything
        return x.topk(n, sorted=False).indices
    groups, rest = x[: size * GROUP].unflatten(0, (size, GROUP)), x[size * GROUP :]
    best = groups.amax(1).topk(n, sorted=False).indices
    candidates = groups[best].flatten()
    place = (torch.cat([candidates, rest]) if len(rest) else candidates).topk(n, sorted=False).indices
    group = torch.div(place, GROUP, rounding_mode="floor")
    if not len(rest):
        return torch.add(place % GROUP, best[group], alpha=GROUP)
    inside = torch.add(place % GROUP, best[group.clamp(max=n - 1)], alpha=GROUP)
    return torch.where(group < n, inside, place + (size - n) * GROUP)


def _search_some(
    x: Float[Tensor, "batch d"],
    encoder: Float[Tensor, "d_sae d"],
    bias: Float[Tensor, " d_sae"],
    norms: Float[Tensor, " d_sae"],
    k: int,
) -> tuple[Float[Tensor, " pair"], Int[Tensor, " pair"]]:
    """The k B largest positive entries of the encoded batch and their places, ascending, for a CPU.

    Only entries above a lower bound are kept for the search. It is guessed from some rows, and 0 if it was too high.
    """
    total, d_sae = k * len(x), len(encoder)
    few = x[:: max(len(x) // SAMPLED_ROWS, 1)]
    wanted = min(int(SPARE * k * len(few)) + 1, len(few) * d_sae)
    guesses = [part.flatten() for _, part in _encode(few, encoder, bias, norms)]
    guess = float(torch.cat(guesses).topk(wanted, sorted=False).values.min())
    for bound in (max(guess, 0.0), 0.0):
        values, places = [], []
        for start, part in _encode(x, encoder, bias, norms):
            found = (part.flatten() > bound).nonzero()[:, 0]
            values.append(part.flatten()[found])
            places.append(found + start * d_sae)
        value, place = torch.cat(values), torch.cat(places)
        if len(value) >= total or bound == 0:
            break
    if len(value) > total:
        kept = value.topk(total, sorted=False).indices.sort().values
        value, place = value[kept], place[kept]
    return value, place
