"""Seed -> models that copy the table's name from the schema, in attention, Mamba and experts.

Each comes with three edits of the same model: another `name`, the markers' other `place`, the other `question`.
They travel different ways into the head that carries the name: its values, its keys and its queries.
"""

from __future__ import annotations

import torch

from circuits.planted.draft import EXPERTS, N_PAIRS, Draft, Planted
from circuits.planted.stream import axes
from circuits.planted.wiring import (
    Rows,
    rest_with,
    wire_attention_head,
    wire_decoy_experts,
    wire_expert,
    wire_mamba_head,
    wire_mamba_shift,
)
from circuits.planted.words import COLUMN, FILLERS, NAMES, TABLE, naming_prompts

MARKERS = slice(TABLE, COLUMN + 1)
NAMED = slice(NAMES.start, NAMES.stop)
SILENT = slice(FILLERS.start, FILLERS.stop - 1)
"""Three words that are never an answer, one for each two names."""


@torch.no_grad()
def copy_attention(name: str, seed: int, *, edit: str) -> Planted:
    """A previous-token head, then an induction head that looks for the word behind the last word's twin."""
    draft = Draft("*-*-", seed)
    found, source = _wire_induction(draft, writes=axes("output")[NAMED])
    edges = [*source[edit], f"{found} -> logits"]
    return draft.finish(name, naming_prompts(edit, N_PAIRS, draft.generator), edges)


@torch.no_grad()
def copy_mamba(name: str, seed: int, *, edit: str) -> Planted:
    """One Mamba head: it keeps each name under the marker before it, and the last word asks for one of them.

    `B`, shifted by the convolution, is the marker before; `x` the name; `C` the marker asked for. `dt` takes in
    nothing but names, and `z` lets nothing out but at markers.
    """
    draft = Draft("M-M-", seed, positions="none")
    head = draft.shuffled(4)[0]
    token = axes("token")
    wire_mamba_head(
        draft.mamba(2),
        head,
        takes=token[NAMED],
        opens=token[NAMED].sum(0),
        keys=token[MARKERS],
        queries=token[MARKERS],
        gate=token[MARKERS].sum(0),
        writes=axes("output")[NAMED],
        key_is_previous=True,
    )
    reader = {"name": f"x.{head}", "place": f"B.{head // 2}", "question": f"C.{head // 2}"}[edit]
    edges = [f"embed -> blocks.2.mamba.{reader}", f"blocks.2.mamba.head.{head} -> logits"]
    return draft.finish(name, naming_prompts(edit, N_PAIRS, draft.generator), edges)


@torch.no_grad()
def gated_copy_mamba(name: str, seed: int, *, edit: str) -> Planted:
    """Two Mamba heads: one says which word stands before, by its convolution; the other opens `dt` behind `table`.

    Its `B` and `C` are the same everywhere, so what is kept is chosen by `dt` alone.
    """
    draft = Draft("M-M-", seed, positions="none")
    before, head = draft.shuffled(4)[0], draft.shuffled(4)[0]
    token, previous, anything = axes("token"), axes("previous"), axes("token").sum(0)
    wire_mamba_shift(draft.mamba(0), before, takes=token[: len(previous)], gate=anything, writes=previous)
    wire_mamba_head(
        draft.mamba(2),
        head,
        takes=token[NAMED],
        opens=previous[TABLE],
        keys=anything[None],
        queries=anything[None],
        gate=token[TABLE],
        writes=axes("output")[NAMED],
    )
    ways = {
        "name": [f"embed -> blocks.2.mamba.x.{head}"],
        "place": [
            f"embed -> blocks.0.mamba.x.{before}",
            f"blocks.0.mamba.head.{before} -> blocks.2.mamba.dt.{head}",
        ],
    }
    edges = [*ways[edit], f"blocks.2.mamba.head.{head} -> logits"]
    return draft.finish(name, naming_prompts(edit, N_PAIRS, draft.generator), edges)


@torch.no_grad()
def copy_experts(name: str, seed: int, *, edit: str) -> Planted:
    """The induction head of `copy_attention` finds the name; the expert it is routed to says it.

    Three experts know two names each and nothing of the others', so both the router and the chosen expert must hear
    the head. Of two decoys that fire beside them one lowers words that are no answers, by what the head found.
    """
    draft = Draft("*-*E", seed)
    names = len(NAMES)
    code = axes("found")[:names]
    found, source = _wire_induction(draft, writes=code)
    *speakers, rest, unread, off_path, _ = draft.shuffled(EXPERTS)
    moe, output = draft.moe(3), axes("output")[NAMED]
    for place, expert in enumerate(speakers):
        its = slice(2 * place, 2 * place + 2)
        wire_expert(moe, expert, routes=code[its].sum(0), reads=code[its], writes=output[its])
    rest_with(moe, rest)
    lowers = -axes("output")[SILENT].repeat_interleave(2, dim=0)
    wire_decoy_experts(
        moe,
        (unread, off_path),
        routes=code.sum(0),
        reads=code,
        writes=lowers,
    )
    edges = [*source[edit], f"{found} -> blocks.3.moe.router"]
    for expert in speakers:
        edges += [f"{found} -> blocks.3.moe.expert.{expert}", f"blocks.3.moe.expert.{expert} -> logits"]
    decoys = [f"blocks.3.moe.expert.{expert}" for expert in (unread, off_path)]
    return draft.finish(name, naming_prompts(edit, N_PAIRS, draft.generator), edges, decoys=decoys)


def _wire_induction(draft: Draft, writes: Rows) -> tuple[str, dict[str, list[str]]]:
    """Blocks 0 and 2 -> the head that finds the name, and by edit the edges on the way into it.

    Position j offers itself under the number j + 1, which is what position j + 1 asks for.
    """
    before, head = draft.shuffled(4)[0], draft.shuffled(4)[0]
    token, previous, position = axes("token"), axes("previous"), axes("position")
    wire_attention_head(
        draft.attention(0),
        before,
        asks=position,
        offers=position.roll(1, dims=0),
        reads=token[: len(previous)],
        writes=previous,
    )
    wire_attention_head(
        draft.attention(2),
        head,
        asks=token[MARKERS],
        offers=previous[MARKERS],
        reads=token[NAMED],
        writes=writes,
    )
    return f"blocks.2.attn.head.{head}", {
        "name": [f"embed -> blocks.2.attn.v.{head}"],
        "place": [
            f"embed -> blocks.0.attn.v.{before}",
            f"blocks.0.attn.head.{before} -> blocks.2.attn.k.{head}",
        ],
        "question": [f"embed -> blocks.2.attn.q.{head}"],
    }
