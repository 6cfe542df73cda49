"""Report of a transfer, of any age -> what today's rule says of it, from the shares that it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_gen.errors import InputError
from transfer.evaluation.margin import Margin, percentile, unpaired_margin
from transfer.evaluation.verdict import (
    DECIDING,
    Measured,
    Ratio,
    Transfer,
    exceeds_least,
    highest,
    judge,
)
from transfer.reports import kind_of

HINT = "run it again: `tinysql transfer eval`"


def todays_transfer(report: Mapping[str, Any]) -> Transfer:
    """The verdict of `verdict.judge` on a report, whichever rule it was written under; `report` as JSON has it.

    A report keeps shares and no prompts. So margins are those that the report has, or else `unpaired_margin`s, and the
    ratio's interval, which is of pairs, is the one that it has. Where nothing is right without steering, as in every
    behaviour here, an effect is a share and its interval follows from the count. Raises `InputError` for a
    report of another kind, where something is right without steering, and where the rule asks for a ratio that the
    report does not have.
    """
    if (kind := kind_of(report)) != "transfer":
        raise InputError(
            f"a verdict is of a transfer, and this report is of {kind or 'nothing known'}",
            hint="give what `tinysql transfer eval` wrote",
        )
    wanted, seed, stored = report["aim"]["wanted"], report["plan"]["seed"], report["transfer"]
    found = {one["name"]: one[wanted] for one in report["outcomes"]}
    (before,), (native,), (transferred,) = (found[name] for name in ("no steering", "native", "transferred"))
    if before["right"]:
        raise InputError(
            f"{before['right']} of {before['total']} prompts need no steering, and the report does not say which",
            hint=HINT,
        )
    draws = {name: _shares(values) for name, values in found.items() if name in DECIDING}
    bars = {name: percentile(values) for name, values in draws.items()}
    nearest = draws.get(highest(bars))
    acts = exceeds_least(_flags(native), _flags(before), seed)
    is_asked = acts and native["share"] > max(bars.values(), default=0.0)
    if is_asked and stored["ratio"] is None:
        raise InputError("the report has no ratio to native, which today's rule asks for", hint=HINT)
    return judge(
        Measured(
            acts=acts,
            native=native["share"],
            transferred=transferred["share"],
            bars=bars,
            margin=_margin(stored.get("margin"), transferred, nearest),
            native_margin=_margin(stored.get("native_margin"), native, nearest),
            ratio=_ratio(stored["ratio"], stored["interval"]),
            # Older reports do not say.
            clean=_ratio(stored.get("clean_ratio"), stored.get("clean_interval", ())),
            refused=tuple(name for name, choice in report["choices"].items() if choice["best"] is None),
        )
    )


def _margin(
    stored: Mapping[str, Any] | None, found: Mapping[str, Any], nearest: Sequence[float] | None
) -> Margin | None:
    if stored is not None:
        return Margin(**{**stored, "interval": tuple(stored["interval"])})
    return None if nearest is None else unpaired_margin(found["share"], nearest, found["total"])


def _ratio(value: float | None, interval: Sequence[float]) -> Ratio | None:
    return None if value is None else Ratio(value=value, interval=tuple(interval))


def _shares(values: Sequence[Mapping[str, Any]]) -> list[float]:
    return [one["share"] for one in values]


def _flags(share: Mapping[str, Any]) -> list[bool]:
    """As many prompts of either kind; which is which does not matter where nothing is paired with them."""
    return [i < share["right"] for i in range(share["total"])]
