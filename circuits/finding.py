"""Run + edit -> RUN/circuits/EDIT: scores and a circuit, each saying what made it.

A directory holds `config.json` (settings, command, versions), `scores.safetensors`, `scores.json`, `circuit.json`, and
where asked for `roles.safetensors`, `roles.json`, `flows.json` and `role_circuit.json`. `artefacts` adds what the
evaluation says of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from circuits.circuit import Circuit
from circuits.files.flow_files import save_flows
from circuits.files.role_files import save_roles
from circuits.graph import Graph
from circuits.judging.role_curves import top_role_edges
from circuits.judging.significance import check_enough
from circuits.methods.eap_ig import change_of
from circuits.methods.edge_flows import EdgeFlows, edge_flows
from circuits.methods.role_scores import RoleScores, role_scores
from circuits.methods.table import METHODS
from circuits.places import (
    CIRCUIT,
    ROLE_CIRCUIT,
    check_free,
    directory_of,
    found_in,
    graph_of,
    load_circuit,
)
from circuits.scores import EdgeScores
from circuits.select import greedy_edges, significant_edges, top_edges
from circuits.settings import FindSettings
from data_gen.errors import InputError
from data_gen.files import atomic_directory, write_atomic
from data_gen.outputs import claim_directory
from data_gen.pairs.counterfactual import CounterfactualPair, counterfactuals
from tinysql.devices import find_device
from tinysql.progress import progress
from tinysql.runs import provenance

if TYPE_CHECKING:
    from tinysql.models.hybrid import HybridLM
    from tinysql.runs import Run
    from tinysql.tokens import Tokenizer, TokenPairs

FOLLOWED = 20
"""Edges of a circuit, the strongest, whose flows between roles are told."""


class Found(NamedTuple):
    """What `find` wrote."""

    directory: Path
    scores: EdgeScores
    circuit: Circuit
    roles: RoleScores | None
    """None unless they were asked for."""
    flows: EdgeFlows | None
    """Of the circuit's strongest edges; None unless roles were asked for."""


def find_on_run(run: Run, settings: FindSettings, *, device: str = "cpu", overwrite: bool = False) -> Found:
    """Score a run's edges on test pairs, choose some, and write the directory, whole or not at all.

    Raises `InputError` when the directory is not empty (unless `overwrite`), when the model has fewer edges than are
    asked for, when no edge is chosen, or as the parts do.
    """
    directory = directory_of(run.path, settings.edit)
    check_free(run.path, settings.edit, overwrite)
    settings.check_fits(Graph.of_config(run.shape), run.path)
    model, tokenizer = run.load(find_device(device))
    drawn = draw(run, settings.edit, settings.pairs, settings.seed, tokenizer)
    pairs = tokenizer.encode_pairs(drawn, drop_misaligned=True, whole_answers=settings.whole_answers)
    if settings.select == "significant":
        check_enough(len(pairs), settings.q)
    scores = score(model, pairs, settings)
    if settings.check_steps:
        scores = _with_step_error(scores, model, pairs, settings)
    made = {"settings": asdict(settings), "refused": list(pairs.refused), "made_by": provenance()}
    scores = replace(scores, metadata={**scores.metadata, **made})
    chosen = _choose(scores, settings)
    roles = flows = None
    if settings.by_role:
        roles = role_scores(model, pairs, track=bar("scoring by role"))
        strongest = sorted(chosen.edges, key=lambda edge: -abs(scores[edge]))[:FOLLOWED]
        flows = edge_flows(model, pairs, strongest, track=bar("following edges between roles"))
    circuit = replace(chosen, metadata={**chosen.metadata, **made})
    with atomic_directory(directory) as part:
        scores.save(part)
        circuit.save(part / CIRCUIT)
        if roles is not None:
            save_roles(roles, part)
            most = int((roles.values != 0).sum())
            top_role_edges(roles, min(len(circuit), most), {"method": "eap-ig", **made}).save(
                part / ROLE_CIRCUIT
            )
        if flows is not None:
            save_flows(flows, part)
        write_atomic(part / "config.json", json.dumps(made, indent=1))
        # Only now: whatever ends the process before leaves the circuit that was there.
        claim_directory(directory, overwrite)
    return Found(directory, scores, circuit, roles, flows)


def unseen(
    pairs: Sequence[CounterfactualPair], seen: Sequence[CounterfactualPair]
) -> list[CounterfactualPair]:
    """Those of `pairs` of which neither prompt is one of the `seen` pairs', on either side."""
    prompts = {side.prompt.string for pair in seen for side in (pair.clean, pair.corrupt)}
    return [
        pair for pair in pairs if prompts.isdisjoint((pair.clean.prompt.string, pair.corrupt.prompt.string))
    ]


def load_found(run: Path, edit: str) -> tuple[Circuit, EdgeScores]:
    """What `find_on_run` wrote. Raises `InputError` when there is none, it is cut short, or of another model."""
    return read_found(found_in(run, edit), graph_of(run))


def read_found(directory: Path, graph: Graph | None) -> tuple[Circuit, EdgeScores]:
    """The circuit and its scores in a directory; `graph` is that of the run's model, where it is known."""
    return load_circuit(directory, graph), EdgeScores.load(directory)


def draw(run: Run, edit: str, n: int, seed: int, tokenizer: Tokenizer) -> list[CounterfactualPair]:
    """`n` pairs from the test split of a run's data, aligned under its tokenizer."""
    return counterfactuals(run.split("test"), edit=edit, n=n, seed=seed, encode=tokenizer.encode_text)


def _choose(scores: EdgeScores, settings: FindSettings) -> Circuit:
    """The circuit of `settings`; `InputError` when it has no edge."""
    if settings.select == "significant":
        circuit = significant_edges(scores, settings.q)
    else:
        choose = greedy_edges if settings.select == "greedy" else top_edges
        circuit = choose(scores, min(settings.edges, len(scores.graph.edges)))
    if not len(circuit):
        why = (
            f"no edge is significant at q = {settings.q} on {len(scores.per_example)} pairs"
            if settings.select == "significant"
            else f"no {settings.edges} edges hold a path from `embed` to `logits`"
        )
        raise InputError(why, hint="take more pairs or edges, or --select top")
    return circuit


def score(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> EdgeScores:
    """Scores by the settings' method, which is told what it can be told."""
    method: Callable[..., EdgeScores] = METHODS[settings.method]
    told: dict[str, Any] = {"track": bar(f"scoring by {settings.method}")}
    if settings.steps is not None:
        told["steps"] = settings.steps
    known = _parameters(settings.method)
    return method(model, pairs, **{name: value for name, value in told.items() if name in known})


def _with_step_error(
    scores: EdgeScores, model: HybridLM, pairs: TokenPairs, settings: FindSettings
) -> EdgeScores:
    """The scores, with what twice the steps change in their metadata: `integration_error`, whose half is known."""
    steps = settings.steps or _parameters(settings.method)["steps"].default
    many = score(model, pairs, replace(settings, steps=2 * steps))
    error = change_of(scores.values, many.values)
    return replace(scores, metadata={**scores.metadata, "integration_error": error})


def _parameters(method: str) -> Mapping[str, Parameter]:
    """What a method of the table can be told besides model and pairs."""
    return signature(METHODS[method]).parameters


def bar(title: str) -> Callable[[list[Any]], Iterable[Any]]:
    return lambda batches: progress(batches, total=len(batches), title=title)
