"""Name and seed -> a planted model: the table of all of them.

    copy-*            the table's name from the schema, three edits each
    gated-copy-*      the same where the step size dt of a Mamba head alone chooses
    direction-*       a cue decides between DESC and ASC, behind a head, or by the router
    aggregate-*       a cue selects one of four aggregates, before a head, or by router and expert
    redundant-*       two heads carry the same and either suffices
    cancelling-*      two heads that undo each other beside the mechanism

Seeds choose the decoys, the rotation, the heads and experts that are wired, and the prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from circuits.planted.choosing import aggregate, aggregate_experts, direction, direction_experts
from circuits.planted.copying import copy_attention, copy_experts, copy_mamba, gated_copy_mamba
from circuits.planted.draft import Planted
from circuits.planted.pitfalls import cancelling, redundant
from data_gen.errors import InputError, nearest

COPY_EDITS = ("name", "place", "question")
PLANTED: dict[str, Callable[[str, int], Planted]] = {
    **{f"copy-attention-{edit}": partial(copy_attention, edit=edit) for edit in COPY_EDITS},
    **{f"copy-mamba-{edit}": partial(copy_mamba, edit=edit) for edit in COPY_EDITS},
    **{f"copy-experts-{edit}": partial(copy_experts, edit=edit) for edit in COPY_EDITS},
    **{f"gated-copy-mamba-{edit}": partial(gated_copy_mamba, edit=edit) for edit in ("name", "place")},
    "direction-attention": partial(direction, mixer="*"),
    "direction-mamba": partial(direction, mixer="M"),
    "direction-experts": direction_experts,
    "aggregate-attention": partial(aggregate, mixer="*"),
    "aggregate-mamba": partial(aggregate, mixer="M"),
    "aggregate-experts": aggregate_experts,
    "redundant-attention": partial(redundant, mixer="*"),
    "redundant-mamba": partial(redundant, mixer="M"),
    "cancelling-attention": partial(cancelling, mixer="*"),
    "cancelling-mamba": partial(cancelling, mixer="M"),
}
"""Every planted model by name."""


def planted(name: str, seed: int) -> Planted:
    """The planted model `name` of a seed; the same arguments give the same model, bit for bit.

    Raises `InputError` for a name that is not in `PLANTED`.
    """
    if name not in PLANTED:
        raise InputError(
            f"no planted model `{name}`{nearest(name, PLANTED)}", hint=f"known: {', '.join(PLANTED)}"
        )
    return PLANTED[name](name, seed)
