"""Two models that read the same texts -> pairs of activations, all at once or batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import HookedModel, capture, check_hook
from transfer.alignment import Matches, Reading
from transfer.points import ActivationPairs, Points


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model, one of its hooks, and texts as its tokenizer reads them."""

    model: HookedModel
    hook: str
    reading: Reading


def points_at(
    side: Side, example: Int[Tensor, " token"], position: Int[Tensor, " token"], *, batch_size: int = 64
) -> Points:
    """What the hook carries at these positions of these texts, in the order given."""
    if not len(example):
        raise InputError("there is no token to record", hint="name at least one position")
    order = example.argsort(stable=True)
    parts = list(_batches(side, example[order], position[order], batch_size))
    back = order.argsort()
    joined = _joined(parts)
    return joined[back.to(joined.values.device)]


def record_pairs(source: Side, target: Side, matches: Matches, *, batch_size: int = 64) -> ActivationPairs:
    """Both models' activations at every match. Raises `InputError` for an unknown hook.

    Example:
        >>> matches = match_spans(source.reading, target.reading)
        >>> len(record_pairs(source, target, matches)) == len(matches)
        True
    """
    parts = list(stream_pairs(source, target, matches, batch_size=batch_size))
    return ActivationPairs(
        source=_joined([part.source for part in parts]),
        target=_joined([part.target for part in parts]),
        example=torch.cat([part.example for part in parts]),
        source_hook=source.hook,
        target_hook=target.hook,
    )


def stream_pairs(
    source: Side, target: Side, matches: Matches, *, batch_size: int = 64
) -> Iterator[ActivationPairs]:
    """The same pairs, the texts of `batch_size` at a time, for `fit_stream`; texts without a match are left out.

    The matches have to be in the order of the texts, as `match_spans` gives them.
    """
    check_hook(source.model, source.hook)
    check_hook(target.model, target.hook)
    for start in range(0, len(source.reading), batch_size):
        here = (matches.example >= start) & (matches.example < start + batch_size)
        example = matches.example[here]
        if not len(example):
            continue
        sides = [
            _read_batch(side, start, batch_size, example, places[here])
            for side, places in ((source, matches.source), (target, matches.target))
        ]
        yield ActivationPairs(
            source=sides[0],
            target=sides[1],
            example=example.to(sides[0].values.device),
            source_hook=source.hook,
            target_hook=target.hook,
        )


def _joined(parts: list[Points]) -> Points:
    return Points(
        values=torch.cat([part.values for part in parts]),
        ids=torch.cat([part.ids for part in parts]),
        positions=torch.cat([part.positions for part in parts]),
    )


def _batches(side: Side, example: Tensor, position: Tensor, batch_size: int) -> Iterator[Points]:
    for start in range(0, len(side.reading), batch_size):
        here = (example >= start) & (example < start + batch_size)
        if bool(here.any()):
            yield _read_batch(side, start, batch_size, example[here], position[here])


def _read_batch(side: Side, start: int, size: int, example: Tensor, position: Tensor) -> Points:
    device = next(side.model.parameters()).device
    # What lies behind the last position asked for has no influence on it.
    ids = side.reading.tokens.ids[start : start + size, : int(position.max()) + 1].to(device)
    rows, at = (example - start).to(device), position.to(device)
    return Points(
        values=capture(side.model, ids, side.hook)[rows, at].float(), ids=ids[rows, at], positions=at
    )
