"""Name of a behaviour -> the behaviour."""

from __future__ import annotations

from transfer.behaviours.backdoor import Backdoor
from transfer.behaviours.behaviour import Behaviour
from transfer.behaviours.facts import Facts
from transfer.behaviours.full_sql import FullSql
from transfer.behaviours.locked import Locked
from transfer.behaviours.names import check_names
from transfer.behaviours.refusal import Refusal

BEHAVIOURS: dict[str, type[Behaviour]] = {
    one.kind: one for one in (Backdoor, Refusal, Locked, Facts, FullSql)
}


def find_behaviour(kind: str, payload: str | None = None, *, seed: int = 0) -> Behaviour:
    """The behaviour of that name, with its first payload unless another is named.

    Raises `InputError` with the nearest name where there is no such behaviour or payload.
    """
    check_names(kind, payload)
    made = BEHAVIOURS[kind]
    return made(payload=payload if payload is not None else made.payloads[0], seed=seed)
