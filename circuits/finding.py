"""Run + edit -> RUN/circuits/EDIT: scores and a circuit, each saying what made it.

A directory holds `config.json` (settings, command, versions), `scores.safetensors`, `scores.json`, `circuit.json`, and
where asked for `roles.safetensors`, `roles.json`, `flows.json` and `role_circuit.json`. `artefacts` adds what the
evaluation says of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from circuits.methods.table import METHODS, UNSIGNED
from circuits.places import (
    CIRCUIT,
    ROLE_CIRCUIT,
    check_free,
    directory_of,
    found_by_role,
    found_in,
    graph_of,
)
from circuits.role_circuit import RoleCircuit
from circuits.scores import EdgeScores
from circuits.select import greedy_edges, significant_edges, top_edges
from data_gen.errors import InputError, nearest
from data_gen.files import atomic_directory, write_atomic
from data_gen.outputs import claim_directory
from data_gen.pairs.counterfactual import CounterfactualPair, counterfactuals
from data_gen.pairs.edits import edit_named
from tinysql.devices import find_device
from tinysql.progress import progress
from tinysql.runs import provenance

if TYPE_CHECKING:
    from tinysql.models.hybrid import HybridLM
    from tinysql.runs import Run
    from tinysql.tokens import Tokenizer, TokenPairs

FOLLOWED = 20
"""Edges of a circuit, the strongest, whose flows between roles are told."""
MOST_PAIRS = 10_000
"""Every pair is drawn, run and held with a number for each edge; a few hundred tell circuits apart."""
SELECTIONS = ("top", "greedy", "significant")
"""How a circuit is chosen from the scores: `circuits.select`."""


@dataclass(frozen=True, kw_only=True)
class FindSettings:
    """How a circuit is found."""

    edit: str
    method: str = "eap-ig"
    pairs: int = 64
    select: str = "top"
    edges: int = 50
    """Edges of the circuit, all of them where the model has fewer; `significant` takes what it finds."""
    q: float = 0.05
    """False-discovery rate of `significant`."""
    steps: int | None = None
    """Integration steps, of methods that take some; `None` is the method's own number."""
    check_steps: bool = False
    """Score again with twice the steps, and say how far that moves the scores."""
    whole_answers: bool = False
    """Ask for every token in which the answers differ, not for the first alone."""
    by_role: bool = False
    """Share every edge's score out to the roles of the tokens too, and follow the strongest between them."""
    seed: int = 0
    """Draws the pairs."""

    def __post_init__(self) -> None:
        edit_named(self.edit)
        for what, name, known in (("method", self.method, METHODS), ("selection", self.select, SELECTIONS)):
            if name not in known:
                raise InputError(
                    f"unknown {what} `{name}`{nearest(name, known)}", hint=f"known: {', '.join(known)}"
                )
        for name in ("pairs", "edges", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(
                    f"{name} is {value}, expected at least 1", hint=f"leave --{name} out: it has a default"
                )
        if self.pairs > MOST_PAIRS:
            raise InputError(
                f"pairs is {self.pairs:,}, expected at most {MOST_PAIRS:,}: every pair is drawn, run and held",
                hint="a few hundred are many; `pairs_needed` says from how many on a circuit stays the same",
            )
        if not 0 < self.q < 1:
            raise InputError(
                f"q is {self.q}, expected a false-discovery rate between 0 and 1", hint=".05 is usual"
            )
        if self.select == "significant" and self.method in UNSIGNED:
            raise InputError(
                f"method `{self.method}` gives an edge one number for all pairs, so no edge is significant by it",
                hint="choose top or greedy edges, or a method that scores each pair, such as `eap-ig`",
            )


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

    Raises `InputError` when the directory is not empty (unless `overwrite`), when no edge is chosen, when steps are
    given to a method that has none, or as the parts do.
    """
    directory = directory_of(run.path, settings.edit)
    if (settings.steps is not None or settings.check_steps) and "steps" not in _parameters(settings.method):
        asked = "--steps" if settings.steps is not None else "--check-steps"
        raise InputError(
            f"method `{settings.method}` has no steps", hint=f"leave {asked} out, or take `eap-ig`"
        )
    check_free(run.path, settings.edit, overwrite)
    model, tokenizer = run.load(find_device(device))
    most = len(Graph.of(model).edges)
    if most < settings.edges != FindSettings.edges:
        raise InputError(
            f"edges is {settings.edges:,}, and the graph of {run.path} has {most:,}", hint="ask for fewer"
        )
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


def load_found_by_role(run: Path, edit: str) -> RoleCircuit:
    """The role-aware circuit that `find_on_run` wrote if asked for roles. Raises `InputError` as `load_found` does."""
    file, graph = found_by_role(run, edit), graph_of(run)
    circuit = RoleCircuit.load(file)
    if graph is not None:
        circuit.check_belongs(graph, f"the role-aware circuit in {file.parent}")
    return circuit


def read_found(directory: Path, graph: Graph | None) -> tuple[Circuit, EdgeScores]:
    """The circuit and its scores in a directory; `graph` is that of the run's model, where it is known."""
    circuit = Circuit.load(directory / CIRCUIT)
    if graph is not None:
        circuit.check_belongs(graph, f"the circuit in {directory}")
    return circuit, EdgeScores.load(directory)


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
