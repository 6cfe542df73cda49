"""Taught runs and what is asked of them -> a refusal, or the hooks of a layer, without anything that computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hook_names import check_hook_name
from transfer.behaviours.names import UNTAUGHT
from transfer.subjects import Taught

if TYPE_CHECKING:
    from transfer.evaluation.plan import Plan


def check_plan(source: Taught, target: Taught, plan: Plan) -> None:
    """Raise `InputError` for a hook that a side has not, for another aim, and for two that were not taught the same."""
    for side, one, hook in (("source", source, plan.source_hook), ("target", target, plan.target_hook)):
        check_hook_name(one.shape, hook, whose=f"the {side}, {one.path},")
    check_alike(source, target)
    target.behaviour.aim(plan.aim)


def check_alike(source: Taught, target: Taught) -> None:
    """Raise `InputError` for two that were taught other behaviours or payloads, or on rows of different kinds."""
    ones = [side.behaviour for side in (source, target)]
    for what, names in (
        ("behaviour", [one.kind for one in ones]),
        ("payload", [one.payload for one in ones]),
    ):
        if len(set(names)) > 1:
            raise InputError(
                f"the source has the {what} {names[0]}, the target {names[1]}",
                hint="give a source that was taught what the target was; one taught `none` is for --clean",
            )
    if source.data != replace(target.data, seed=source.data.seed):
        raise InputError(
            f"{source.path} and {target.path} were trained on rows of different kinds",
            hint="teach both with the same data settings; their seeds may differ",
        )


def check_shows(source: Taught, target: Taught) -> None:
    """Raise `InputError` for two that were taught nothing that could be steered."""
    if target.behaviour.payload == UNTAUGHT:
        raise InputError(
            f"{source.path} and {target.path} were taught the payload `{UNTAUGHT}`: there is no behaviour to steer",
            hint=f"teach both with `tinysql transfer teach --payload {target.behaviour.payloads[0]}`",
        )


def check_clean(clean: Taught, kind: str) -> None:
    """Raise `InputError` for a clean source that was not taught the payload `none` of the behaviour `kind`."""
    found = clean.behaviour
    if (found.kind, found.payload) != (kind, UNTAUGHT):
        raise InputError(
            f"the clean source ({clean.path}) was taught `{found.kind}` ({found.payload}), expected "
            f"`{kind}` ({UNTAUGHT})",
            hint=f"make one with `tinysql transfer teach --behaviour {kind} --payload {UNTAUGHT}`",
        )


def check_switch(base: Taught, tuned: Taught, hook: str) -> None:
    """Raise `InputError` for two that are no base, which was taught nothing, and one that was taught something.

    And for a hook that has no direct patch.
    """
    blocks_below(base.shape, hook)
    ones = [side.behaviour for side in (base, tuned)]
    if ones[0].kind != ones[1].kind or [one.payload == UNTAUGHT for one in ones] != [True, False]:
        raise InputError(
            f"the base was taught `{ones[0].kind}` ({ones[0].payload}), "
            f"the other `{ones[1].kind}` ({ones[1].payload})",
            hint="name a run made with `tinysql transfer teach --payload none`, and one that was started from it",
        )


def blocks_below(shape: ModelConfig, hook: str) -> int:
    """How many blocks decide what a residual hook carries, and they alone, with the embeddings.

    Raises `InputError` for a hook that is not the stream's, and for tied embeddings, which lie on both sides of it.
    """
    found = re.fullmatch(r"blocks\.(\d+)\.hook_resid_(pre|post)", hook)
    if found is None or int(found[1]) >= len(shape.pattern):
        last = len(shape.pattern) - 1
        raise InputError(
            f"`{hook}` is no hook of the stream",
            hint=f"as in blocks.{last // 2}.hook_resid_post, up to {last}",
        )
    if shape.tied:
        raise InputError(
            "a model with tied embeddings has no weights below a hook alone",
            hint="set train.model.tied=False",
        )
    return int(found[1]) + (found[2] == "post")


def layer_pairs(source: Taught, target: Taught) -> list[tuple[str, str]]:
    """Every block's end in the target, with that of the same relative depth in the source."""
    depths = [len(side.shape.pattern) for side in (source, target)]
    found = []
    for index in range(depths[1]):
        nearest = round((index + 1) / depths[1] * depths[0]) - 1
        found.append((f"blocks.{max(0, nearest)}.hook_resid_post", f"blocks.{index}.hook_resid_post"))
    return found


def layers_of(source: Taught, target: Taught, blocks: Sequence[int]) -> list[tuple[str, str]]:
    """The hooks behind some of the target's blocks, each once, with those of the source at the same relative depth.

    Raises `InputError` for a block that is not there.
    """
    pairs = layer_pairs(source, target)
    wrong = [block for block in blocks if not 0 <= block < len(pairs)]
    if wrong:
        raise InputError(
            f"the target, {target.path}, has no block {wrong[0]}", hint=f"give 0 to {len(pairs) - 1}"
        )
    return [pairs[block] for block in dict.fromkeys(blocks)]


def check_ranks(source: Taught, target: Taught, ranks: Sequence[int]) -> None:
    """Raise `InputError` for a rank that no map between the two models has."""
    most = min(side.shape.d_model for side in (source, target))
    wrong = [rank for rank in ranks if not 1 <= rank <= most]
    if wrong:
        raise InputError(f"rank is {wrong[0]}, expected 1 to {most}, the smaller width", hint="give others")
