"""Seed -> models on which methods are known to fail: redundant paths, and two parts that undo each other."""

from __future__ import annotations

import torch

from circuits.planted.choosing import carry, direction_prompts, spread, words
from circuits.planted.draft import Draft, Planted
from circuits.planted.stream import axes
from circuits.planted.wiring import wire_mlp
from circuits.planted.words import ASK, DIRECTION_CUES, DIRECTIONS


@torch.no_grad()
def redundant(name: str, seed: int, *, mixer: str) -> Planted:
    """Two heads say that a word asked for descending order, either is enough; without one the answer is ascending.

    With `f` the sum of what they say and `s` what one says, the MLP writes `relu(f) - relu(f - s)`, the same for `s`
    and for `2 s`. So patching either path changes nothing, a gradient at the clean run is zero, and one of the paths is
    needed all the same. The clean side always asks for descending order: with sides the other way round both paths
    would be needed.
    """
    draft = Draft(f"{mixer}-{mixer}-", seed, activation="relu")
    down_or_up = torch.stack([half.sum(0) for half in words(DIRECTION_CUES).chunk(2)])
    seen, always = axes("found")[0], axes("token")[ASK]
    # A head hears both, lest the norm of a Mamba head makes its silent neighbours loud, and says one.
    says = torch.stack([seen / 2, torch.zeros_like(seen)])
    heads = draft.shuffled(4)
    # Mamba heads of one group share their norm, so that two of them would not add up.
    pair = heads[:2] if mixer == "*" else [heads[0], (heads[0] + 2) % 4]
    carries = [
        carry(draft, 2, head, takes=down_or_up, writes=says, cues=words(DIRECTION_CUES)) for head in pair
    ]
    descending, ascending = words(DIRECTIONS, "output")
    wire_mlp(
        draft.mlp(3),
        reads=torch.stack([seen, seen - always / 2, always]),
        writes=torch.stack([2 * descending, -2 * descending, ascending / 2]),
    )
    return draft.finish(
        name,
        direction_prompts(draft, clean_is_first=True),
        ["blocks.3.mlp -> logits"],
        alternatives=[[f"embed -> {one.value}", f"{one.head} -> blocks.3.mlp"] for one in carries],
    )


@torch.no_grad()
def cancelling(name: str, seed: int, *, mixer: str) -> Planted:
    """`direction`, and beside it two heads that say the direction twice as loudly, for it and against it.

    Patching an edge of either moves the answer more than the mechanism does, and no subset of single effects tells
    that the two undo each other. The truth is the mechanism alone: patching all edges of the pair together changes
    nothing.
    """
    draft = Draft(f"{mixer}-{mixer}-", seed)
    head, plus, minus, *_ = draft.shuffled(4)
    if mixer == "M":
        head, plus, minus = 0, 2, 3
    cues, code = words(DIRECTION_CUES), axes("found")
    means = spread(words(DIRECTIONS, "output"), len(cues))
    carries = carry(draft, 2, head, takes=cues, writes=code)
    pair = [carry(draft, 2, one, takes=cues, writes=sign * means) for one, sign in ((plus, 2), (minus, -2))]
    wire_mlp(draft.mlp(3), reads=code, writes=means)
    edges = [f"embed -> {carries.value}", f"{carries.head} -> blocks.3.mlp", "blocks.3.mlp -> logits"]
    undone = [edge for one in pair for edge in (f"embed -> {one.value}", f"{one.head} -> logits")]
    return draft.finish(name, direction_prompts(draft), edges, cancelling=undone)
