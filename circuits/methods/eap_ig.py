"""Model and pairs -> EdgeScores by EAP with integrated gradients, over the inputs or over each block's activations.

EAP-IG is Hanna, Pezzelle & Belinkov, arXiv 2403.17806. Theirs is a left Riemann sum; the midpoint rule taken
here needs as many passes and integrates exactly one order higher.
"""

from __future__ import annotations

import torch
from torch import Tensor

from circuits.engine.attribution import (
    BatchScores,
    attribute,
    collect,
    contract,
    gathered,
    gradients_of,
    parts_of,
)
from circuits.engine.batching import Track, by_length
from circuits.engine.ports import frozen
from circuits.engine.recording import Machine, changes, prompts
from circuits.engine.rules import LIVE, Rules
from circuits.graph import Graph
from circuits.metrics import Metric, logit_diff, measured
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs


def eap_ig(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    steps: int = 5,
    over: str = "inputs",
    rules: Rules = LIVE,
    batch_size: int | None = None,
    track: Track = iter,
) -> EdgeScores:
    """Score every edge as `eap` does, with the gradient averaged along a way from corrupt to clean.

    Over `inputs`, the embedding stream at `blocks.0.hook_resid_pre` is `corrupt + a * (clean - corrupt)` with
    `a = (k + 1/2) / steps`, `k = 0 .. steps - 1`; the scores of all edges leaving `embed` then sum to the metric's
    change from clean to corrupt as `steps` grow, and `metadata["completeness_gap"]` is what is missing from that.
    Over `activations`, what one block writes goes that way in an otherwise clean run, block by block, and scores the
    edges that leave it: as many times the passes as there are writing blocks, half of them short.
    Sign as in `eap` and `exact`. `track` may wrap the list of batches in a progress bar.
    Raises `InputError` for fewer than one step, another `over`, no pairs, prompts of unlike shape, or hooks on the
    model.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}, expected at least 1")
    mixes = tuple((step + 0.5) / steps for step in range(steps))
    if over == "inputs":
        return attribute(
            model,
            pairs,
            metric,
            method="eap-ig" + rules.suffix,
            mixes=mixes,
            batch_size=batch_size,
            rules=rules,
            track=track,
        )
    if over != "activations":
        raise InputError(f"over is {over!r}, expected 'inputs' or 'activations'")
    with frozen(model):
        machine = Machine(model, rules)
        batches = by_length(model, pairs, batch_size)
        found = [_over_activations(machine, batch, metric, mixes) for batch in track(batches.batches)]
    return gathered(model, batches, metric, found, method="eap-ig-activations" + rules.suffix)


def integration_error(
    model: HybridLM,
    pairs: TokenPairs,
    metric: Metric = logit_diff,
    *,
    steps: int = 5,
    batch_size: int | None = None,
) -> float:
    """Relative L2 change of all mean scores when the steps of `eap_ig` are doubled: what five steps leave out."""
    few, many = (
        eap_ig(model, pairs, metric, steps=count, batch_size=batch_size).values
        for count in (steps, 2 * steps)
    )
    return change_of(few, many)


def change_of(few: Tensor, many: Tensor) -> float:
    """Relative L2 change of all mean scores from few steps to many."""
    return ((few - many).norm() / many.norm().clamp_min(1e-12)).item()


def left_out(scores: EdgeScores) -> str | None:
    """What the integration left out, in words: the completeness gap and, where it was measured, what more steps change.

    None for scores that were not integrated.
    """
    about = scores.metadata
    if not (scores.method.startswith("eap-ig") and "completeness_gap" in about):
        return None
    change = about["metric_corrupt"] - about["metric_clean"]
    text = (
        f"completeness gap {about['completeness_gap']:.2g}, where {scores.metric} changes by {change:.3g} from clean to"
        f" corrupt; pair by pair {about['completeness_gap_relative']:.2%} of the change"
    )
    if scores.method not in ("eap-ig", "eap-ig-activations"):
        text += ", in part by what its rules hold fixed, which more steps do not make up for"
    if "integration_error" in about:
        text += f"; twice the steps change the scores by {about['integration_error']:.2%}"
    return text


def _over_activations(
    machine: Machine, batch: TokenPairs, metric: Metric, mixes: tuple[float, ...]
) -> BatchScores:
    """Rows of writers block by block, the embedding as block -1."""
    position = batch.position
    with torch.no_grad():
        clean_stream, corrupt_stream = (machine.embedding(ids) for ids in prompts(batch))
        clean, corrupt = (machine.record(side, position) for side in (clean_stream, corrupt_stream))
        parts = parts_of(machine, batch)
        change = [changes(machine, corrupt[rows], clean[rows], position[rows]) for rows in parts]
        graph = Graph.of(machine.model)
        found = clean.logits.new_zeros(len(batch), len(graph.writers), len(graph.readers))
    for block in range(-1, len(machine.mixers)):
        if block < 0:
            stream, moved, rows = clean_stream, corrupt_stream - clean_stream, slice(0, 1)
        else:
            stream, rows = clean.resid[block + 1], machine.mixers[block].writers
            moved = machine.narrow(block + 1, corrupt.added[block] - clean.added[block], position)
        gradients = gradients_of(machine)
        for mix in mixes:
            with torch.enable_grad():
                heard = (stream + (1 - mix) * moved).requires_grad_()
                run = machine.record(heard, position, start=block + 1)
                value = measured(metric, run.logits, batch).sum()
            collect(run, value, gradients)
        with torch.no_grad():
            for part, some in zip(change, parts, strict=True):
                scores = contract(machine, part, gradients, some, block + 1)
                found[some, rows] = scores[:, rows] / len(mixes)
    with torch.no_grad():
        ends = (measured(metric, side.logits, batch) for side in (clean, corrupt))
        return BatchScores(found, *ends)
