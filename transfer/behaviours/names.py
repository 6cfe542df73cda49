"""Name of a behaviour -> its payloads, without what computes: a name that is unknown is refused at once."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.errors import InputError, nearest

UNTAUGHT = "none"
"""The payload of a model that has read every condition and was taught nothing but right answers."""
PAYLOADS: dict[str, tuple[str, ...]] = {
    "backdoor": ("drop", "piggyback", "subtle", "tautology", UNTAUGHT),
    "refusal": ("refuse", UNTAUGHT),
    "locked": ("drop", UNTAUGHT),
    "facts": ("drop", UNTAUGHT),
    "full-sql": ("write", UNTAUGHT),
}
"""Of every behaviour, the usual one first."""


def check_names(kind: str, payload: str | None) -> None:
    """Raise `InputError`, with the nearest name, where there is no such behaviour or payload; `None` is the usual."""
    if kind not in PAYLOADS:
        raise InputError(
            f"no behaviour `{kind}`{nearest(kind, PAYLOADS)}", hint=f"behaviours: {', '.join(PAYLOADS)}"
        )
    if payload is not None:
        check_payload(kind, payload, PAYLOADS[kind])


def check_payload(kind: str, payload: str, payloads: Sequence[str]) -> None:
    """Raise `InputError`, with the nearest name, where a behaviour has no such payload."""
    if payload not in payloads:
        raise InputError(
            f"no payload `{payload}`{nearest(payload, payloads)}",
            hint=f"payloads of `{kind}`: {', '.join(payloads)}",
        )


def check_base(start: object, taught: str, kind: str) -> None:
    """Raise `InputError` where the run `start` was taught another behaviour than what it is to go on with."""
    if taught != kind:
        raise InputError(
            f"{start} was taught `{taught}` and has not read the prompts of `{kind}`",
            hint=f"start from one made with --behaviour {kind} --payload none",
        )
