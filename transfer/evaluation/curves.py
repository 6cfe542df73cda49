"""Bench -> curves: native and transferred effect by layer, and transferred effect by the rank of the map.

What is published where no single setting is enough: at which depth a behaviour can be steered at all, and how many
dimensions of the source a map has to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from tinysql.answering.shares import Share
from transfer.asked import check_ranks, layer_pairs
from transfer.behaviours.gates import verdicts_of
from transfer.behaviours.shares import share
from transfer.choosing import Setting
from transfer.evaluation.bench import Bench
from transfer.evaluation.scales import choose_scale, setting_of
from transfer.parts import NOTHING_KEPT, Parts, Say
from transfer.steering import SteeringVector


@dataclass(frozen=True, kw_only=True)
class Point:
    """One vector at its best scale, on test prompts."""

    vector: str
    """`native`, `transferred`, or `none` without steering."""
    source_hook: str
    target_hook: str
    rank: int | None
    """Of a low-rank map; None for the plan's own map."""
    setting: Setting | None
    """The scale that was chosen on validation; None without steering."""
    allowed: bool | None
    """Whether the guard allowed it; where it allowed none, the first is measured. None without steering."""
    right: Share
    shown: Share
    kept: Share
    """Of the prompts to be left alone, those answered as was taught."""
    cosine: float | None = None
    """With the native vector at the same hook."""
    latent: int | None = None
    """Of the SAE at the vector's own hook, where the vector is one; None for other vectors."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        shares = {name: getattr(self, name).to_json() for name in ("right", "shown", "kept")}
        return {**asdict(self), **shares}


def layer_curve(bench: Bench, *, say: Say = lambda _: None, parts: Parts = NOTHING_KEPT) -> Iterator[Point]:
    """No steering, and then native and transferred at every depth, scale by scale chosen anew."""
    yield parts.find("none", Point, partial(_point, bench, "none", None))
    for source, target in layer_pairs(bench.source.taught, bench.target.taught):
        say(f"{source} -> {target}")
        here = replace(bench, plan=replace(bench.plan, source_hook=source, target_hook=target))
        native, transferred = here.native(), here.transferred(here.fit(here.pairs()))
        cosine = transferred.cosine(native)
        yield parts.find(f"native at {target}", Point, partial(_point, here, "native", native))
        yield parts.find(
            f"transferred to {target}",
            Point,
            partial(_point, here, "transferred", transferred, cosine=cosine),
        )


def rank_curve(
    bench: Bench, ranks: Sequence[int], *, say: Say = lambda _: None, parts: Parts = NOTHING_KEPT
) -> Iterator[Point]:
    """The transferred vector through low-rank maps at the plan's hooks. Raises `InputError` for an impossible rank."""
    check_ranks(bench.source.taught, bench.target.taught, ranks)
    pairs, native = bench.pairs(), bench.native()
    for rank in ranks:
        say(f"rank {rank}")
        here = replace(bench, plan=replace(bench.plan, method="low-rank", rank=rank))
        transferred = here.transferred(here.fit(pairs))
        point = partial(
            _point, here, "transferred", transferred, rank=rank, cosine=transferred.cosine(native)
        )
        yield parts.find(f"rank {rank}", Point, point)


def _point(
    bench: Bench,
    name: str,
    vector: SteeringVector | None,
    *,
    rank: int | None = None,
    cosine: float | None = None,
) -> Point:
    aim, target, rows = bench.aim, bench.target, bench.test_rows
    setting: Setting | None = None
    allowed: bool | None = None
    on: AbstractContextManager[None] = nullcontext()
    made: Mapping[str, Any] = {}
    if vector is not None:
        choice = choose_scale(bench, vector)
        setting, allowed = setting_of(choice), choice.best is not None
        on = vector.apply(target.model, setting.scale, bench.where, operator=setting.operator)
        made = vector.metadata.get("of", vector.metadata)
    with on:
        start, guard = (verdicts_of(target, rows, one) for one in (aim.start, aim.guard))
    return Point(
        vector=name,
        source_hook=bench.plan.source_hook,
        target_hook=bench.plan.target_hook,
        rank=rank,
        setting=setting,
        allowed=allowed,
        right=share(one.right for one in start),
        shown=share(one.shown for one in start),
        kept=share(one.taught for one in guard),
        cosine=cosine,
        latent=made.get("latent"),
    )
