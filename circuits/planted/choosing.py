"""Seed -> models in which one word of the question chooses the answer, in attention, Mamba and experts.

Eight words ask for two directions, or for four aggregates. A head carries the word to where the answer is due,
and a look-up, in an MLP or in experts, stands behind it or before it.
"""

from __future__ import annotations

import torch
from einops import repeat

from circuits.planted.draft import EXPERTS, N_PAIRS, Draft, Planted
from circuits.planted.stream import axes
from circuits.planted.wiring import (
    Rows,
    rest_with,
    wire_attention_head,
    wire_decoy_experts,
    wire_expert,
    wire_mamba_head,
    wire_mlp,
)
from circuits.planted.words import (
    AGGREGATE_CUES,
    AGGREGATES,
    ASK,
    DIRECTION_CUES,
    DIRECTIONS,
    FILLERS,
    cue_prompts,
)
from tinysql.tokens import TokenPairs

DIRECTION, AGGREGATE = "order_by.0.direction", "select.0.aggregate"


@torch.no_grad()
def direction(name: str, seed: int, *, mixer: str) -> Planted:
    """A head carries the cue to the end, and an MLP there knows which direction each cue means."""
    draft = Draft(f"{mixer}-{mixer}-", seed)
    head = draft.shuffled(4)[0]
    code = axes("found")
    carries = carry(draft, 2, head, takes=words(DIRECTION_CUES), writes=code)
    wire_mlp(draft.mlp(3), reads=code, writes=spread(words(DIRECTIONS, "output"), len(code)))
    edges = [f"embed -> {carries.value}", f"{carries.head} -> blocks.3.mlp", "blocks.3.mlp -> logits"]
    return draft.finish(name, direction_prompts(draft), edges)


@torch.no_grad()
def direction_experts(name: str, seed: int) -> Planted:
    """The router alone tells the cues apart: any cue makes an expert say its direction, and a head carries that.

    So the path into the experts themselves carries nothing, and that through the router everything. One of two decoys
    that fire beside them does tell the cues apart, and what it says is read by a head whose writing nobody reads.
    """
    draft = Draft("*E*-", seed)
    (head, idle, *_), cues = draft.shuffled(4), words(DIRECTION_CUES)
    down, up, rest, unread, off_path, *_ = draft.shuffled(EXPERTS)
    moe, said, aside = draft.moe(1), axes("found")[:2], axes("found")[2:4]
    for place, expert in enumerate((down, up)):
        routes = cues.chunk(2)[place].sum(0)
        wire_expert(moe, expert, routes=routes, reads=cues.sum(0)[None], writes=said[place][None])
    rest_with(moe, rest)
    wire_decoy_experts(
        moe,
        (unread, off_path),
        routes=cues.sum(0),
        reads=cues,
        writes=spread(aside, len(cues)),
    )
    carries = carry(draft, 2, head, takes=said, writes=words(DIRECTIONS, "output"), cues=cues)
    carry(draft, 2, idle, takes=aside, writes=axes("unread")[:2], cues=cues)
    edges = ["embed -> blocks.1.moe.router", f"{carries.head} -> logits"]
    edges += [f"blocks.1.moe.expert.{expert} -> {carries.value}" for expert in (down, up)]
    decoys = [f"blocks.1.moe.expert.{expert}" for expert in (unread, off_path)]
    return draft.finish(name, direction_prompts(draft), edges, decoys=decoys)


@torch.no_grad()
def aggregate(name: str, seed: int, *, mixer: str) -> Planted:
    """An MLP knows at the cue which aggregate it means, and a head carries that to the end."""
    draft = Draft(f"{mixer}-{mixer}-", seed)
    head, cues, said = draft.shuffled(4)[0], words(AGGREGATE_CUES), axes("found")[: len(AGGREGATES)]
    wire_mlp(draft.mlp(1), reads=cues, writes=spread(said, len(cues)))
    carries = carry(draft, 2, head, takes=said, writes=words(AGGREGATES, "output"), cues=cues)
    edges = ["embed -> blocks.1.mlp", f"blocks.1.mlp -> {carries.value}", f"{carries.head} -> logits"]
    return draft.finish(name, aggregate_prompts(draft), edges)


@torch.no_grad()
def aggregate_experts(name: str, seed: int) -> Planted:
    """A head carries the cue to the end, whose router sends it to the one expert that knows what it means.

    Of two decoys that fire beside it one lowers words that are no answers, by what the head carries.
    """
    draft = Draft("*-*E", seed)
    head, code = draft.shuffled(4)[0], axes("found")
    *speakers, rest, unread, off_path = draft.shuffled(EXPERTS)
    carries = carry(draft, 2, head, takes=words(AGGREGATE_CUES), writes=code)
    moe, output = draft.moe(3), words(AGGREGATES, "output")
    edges = [f"embed -> {carries.value}", f"{carries.head} -> blocks.3.moe.router"]
    for place, expert in enumerate(speakers):
        its = code[2 * place : 2 * place + 2]
        wire_expert(moe, expert, routes=its.sum(0), reads=its, writes=spread(output[place][None], len(its)))
        edges += [
            f"{carries.head} -> blocks.3.moe.expert.{expert}",
            f"blocks.3.moe.expert.{expert} -> logits",
        ]
    rest_with(moe, rest)
    wire_decoy_experts(
        moe,
        (unread, off_path),
        routes=code.sum(0),
        reads=code,
        writes=-spread(words(FILLERS, "output"), len(code)),
    )
    decoys = [f"blocks.3.moe.expert.{expert}" for expert in (unread, off_path)]
    return draft.finish(name, aggregate_prompts(draft), edges, decoys=decoys)


class Carrying:
    """Names of a wired head: what it reads by, and itself."""

    def __init__(self, kind: str, block: int, head: int) -> None:
        mixer, port = {"*": ("attn", "v"), "M": ("mamba", "x")}[kind]
        self.value = f"blocks.{block}.{mixer}.{port}.{head}"
        self.head = f"blocks.{block}.{mixer}.head.{head}"


def carry(
    draft: Draft, block: int, head: int, *, takes: Rows, writes: Rows, cues: Rows | None = None
) -> Carrying:
    """Let a head carry what `takes` says at the cue to the word `answer`, and write it there as `writes`.

    Where the cue stands is known by `cues`, by `takes` itself where it is None.
    """
    cues = takes if cues is None else cues
    kind, ask, cue = draft.model.cfg.pattern[block], axes("token")[ASK], cues.sum(0)
    if kind == "*":
        wire_attention_head(
            draft.attention(block), head, asks=ask[None], offers=cue[None], reads=takes, writes=writes
        )
    else:
        wire_mamba_head(
            draft.mamba(block),
            head,
            takes=takes,
            opens=cue,
            keys=axes("token").sum(0)[None],
            queries=ask[None],
            gate=ask,
            writes=writes,
        )
    return Carrying(kind, block, head)


def words(ids: range, part: str = "token") -> Rows:
    """The axes of some words, as `token` or as `output`."""
    return axes(part)[ids.start : ids.stop]


def spread(rows: Rows, n: int) -> Rows:
    """Each row over and over, `n` in all, in order: what each of `n` cues means."""
    return repeat(rows, "meaning d_model -> (meaning cue) d_model", cue=n // len(rows))


def direction_prompts(draft: Draft, *, clean_is_first: bool = False) -> TokenPairs:
    """Pairs whose cues ask for different directions."""
    return cue_prompts(
        DIRECTION, DIRECTION_CUES, DIRECTIONS, N_PAIRS, draft.generator, clean_is_first=clean_is_first
    )


def aggregate_prompts(draft: Draft) -> TokenPairs:
    """Pairs whose cues ask for different aggregates."""
    return cue_prompts(AGGREGATE, AGGREGATE_CUES, AGGREGATES, N_PAIRS, draft.generator)
