"""Pairs of activations -> map, by the name of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from data_gen.errors import InputError, nearest
from transfer.maps import closed_form
from transfer.maps.activation_map import ActivationMap, Made
from transfer.maps.lookup import lookup_map
from transfer.maps.moments import Moments
from transfer.maps.trained import PAPER, WIDE, Guide, SGDConfig, affine_sgd_map, autoencoder_map
from transfer.names import METHODS
from transfer.points import ActivationPairs

HELD_OUT = 0.1
"""Share of the texts that ridge chooses its penalty on."""

CLOSED: dict[str, Callable[[Moments, Made], ActivationMap]] = {
    "mean": closed_form.mean_map,
    "identity": closed_form.identity_map,
    "procrustes": closed_form.procrustes_map,
    "affine": closed_form.affine_map,
}
TRAINED: dict[str, SGDConfig] = {
    "affine-sgd": PAPER,
    "autoencoder": PAPER,
    "autoencoder-wide": WIDE,
    "autoencoder-kl": PAPER,
}
LOOKUPS = {"token": False, "position-token": True}
RANKED: dict[str, Callable[..., ActivationMap]] = {
    "low-rank": closed_form.low_rank_map,
    "low-rank-step": closed_form.low_rank_step_map,
}
STREAMED = (*CLOSED, *RANKED)
"""Maps that need the moments of their pairs alone, so that they can be fitted a batch at a time."""


def fit(
    method: str,
    pairs: ActivationPairs,
    *,
    rank: int = 16,
    sgd: SGDConfig | None = None,
    guide: Guide | None = None,
    seed: int = 0,
) -> ActivationMap:
    """The map of that method, fitted on `pairs`.

    `rank` is that of `low-rank` and `low-rank-step`; `sgd` replaces the recipe of a trained map; `guide` is the further
    loss that `autoencoder-kl` needs (see `KLGuide`). `seed` draws initial weights, batches and the texts that `ridge`
    holds out. Raises `InputError` for an unknown method, and for widths, ranks and guides that do not fit it.

    Example:
        >>> fit("affine", record_pairs(...)).map_points(points).shape
        torch.Size([1234, 256])
    """
    made = _made(method, pairs, len(pairs))
    if method in STREAMED:
        return _of_moments(Moments.of(pairs), made, rank)
    if method in LOOKUPS:
        return lookup_map(pairs, made, by_position=LOOKUPS[method])
    if method == "ridge":
        train, held_out = pairs.split(1 - HELD_OUT, seed=seed)
        return closed_form.chosen_ridge_map(Moments.of(train), Moments.of(held_out), made)
    if method in TRAINED:
        return _trained(method, pairs, made, sgd, guide, seed)
    raise InputError(f"no map `{method}`{nearest(method, METHODS)}", hint=f"maps: {', '.join(METHODS)}")


def fit_stream(method: str, batches: Iterable[ActivationPairs], *, rank: int = 16) -> ActivationMap:
    """`fit` on pairs that are read a batch at a time and not kept, so that memory does not grow with their number.

    Raises `InputError` where there is no batch, for a method that needs all pairs at hand (see `STREAMED`), and as
    `fit` does.

    Example:
        >>> fit_stream("affine", stream_pairs(source, target, match_spans(source.reading, target.reading)))
    """
    if method not in STREAMED:
        kept = "is not fitted a batch at a time" if method in METHODS else "is not known"
        raise InputError(
            f"map `{method}` {kept}{nearest(method, STREAMED)}",
            hint=f"choose {', '.join(STREAMED)}; or `fit` on pairs that `record_pairs` gives",
        )
    made: list[Made] = []

    def noted() -> Iterator[ActivationPairs]:
        for batch in batches:
            made[:] = [_made(method, batch, 0)]
            yield batch

    moments = Moments.stream(noted())
    return _of_moments(moments, replace(made[0], pairs=moments.count), rank)


def _made(method: str, pairs: ActivationPairs, count: int) -> Made:
    return Made(method=method, source_hook=pairs.source_hook, target_hook=pairs.target_hook, pairs=count)


def _of_moments(moments: Moments, made: Made, rank: int) -> ActivationMap:
    if made.method in CLOSED:
        return CLOSED[made.method](moments, made)
    return RANKED[made.method](moments, replace(made, settings={"rank": rank}), rank=rank)


def _trained(
    method: str,
    pairs: ActivationPairs,
    made: Made,
    sgd: SGDConfig | None,
    guide: Guide | None,
    seed: int,
) -> ActivationMap:
    if (method == "autoencoder-kl") != (guide is not None):
        raise InputError(
            f"map `{method}` {'needs' if guide is None else 'takes no'} guide",
            hint="pass guide=KLGuide(...) with `autoencoder-kl`, and with no other map",
        )
    config = replace(sgd or TRAINED[method], seed=seed)
    if method == "autoencoder-wide" and config.hidden is None:
        widest = max(pairs.source.values.shape[1], pairs.target.values.shape[1])
        config = replace(config, hidden=4 * widest)
    settings: dict[str, Any] = asdict(config)
    made = replace(made, settings=settings)
    train = affine_sgd_map if method == "affine-sgd" else autoencoder_map
    return train(pairs, made, config, guide)
