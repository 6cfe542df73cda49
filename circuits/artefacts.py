"""Run + edit -> RUN/circuits/EDIT: scores, circuit and report, each saying what made it.

A directory holds `config.json` (settings, command, versions), `scores.safetensors`, `scores.json`, `circuit.json`,
where asked for `roles.safetensors`, `roles.json` and `flows.json`, and, once evaluated, `report.json`. Scoring and
evaluation draw test pairs with different seeds, and a pair with a prompt that was scored is left out of the evaluation.
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
from circuits.judging.agreement import Agreement, agreement
from circuits.judging.faithfulness import Curve, Report, evaluate, faithfulness_curve
from circuits.judging.generation import CircuitAccuracy, circuit_accuracy
from circuits.judging.significance import check_enough
from circuits.judging.stability import Stability, resampled
from circuits.methods.eap_ig import change_of
from circuits.methods.edge_flows import EdgeFlows, edge_flows
from circuits.methods.exact import exact
from circuits.methods.role_scores import RoleScores, role_scores
from circuits.methods.table import METHODS, UNSIGNED
from circuits.places import CIRCUIT, check_free, directory_of, found_in, graph_of
from circuits.scores import EdgeScores
from circuits.select import greedy_edges, significant_edges, top_edges
from data_gen.errors import InputError, nearest
from data_gen.files import atomic_directory, read_json, write_atomic
from data_gen.outputs import claim_directory, claim_file
from data_gen.pairs.counterfactual import CounterfactualPair, counterfactuals
from data_gen.pairs.edits import edit_named
from tinysql.config import from_json
from tinysql.devices import find_device
from tinysql.progress import progress
from tinysql.runs import provenance

if TYPE_CHECKING:
    from tinysql.models.hybrid import HybridLM
    from tinysql.runs import Run
    from tinysql.tokens import Tokenizer, TokenPairs

FOLLOWED = 20
"""Edges of a circuit, the strongest, whose flows between roles are told."""
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


class Evaluated(NamedTuple):
    """What `eval` wrote."""

    report: Report
    curve: Curve
    agreement: Agreement | None
    """With `exact`; None when the circuit was found by `exact` itself, or no pair was set apart for it."""
    stability: Stability
    """Of the top edges, as many as the circuit has, when the pairs it was found on are drawn anew."""
    accuracy: CircuitAccuracy | None
    """Of whole answers, by execution; None when none were asked for."""


def find_on_run(run: Run, settings: FindSettings, *, device: str = "cpu", overwrite: bool = False) -> Found:
    """Score a run's edges on test pairs, choose some, and write the directory, whole or not at all.

    Raises `InputError` when the directory is not empty (unless `overwrite`), when no edge is chosen, when steps are
    given to a method that has none, or as the parts do.
    """
    directory = directory_of(run.path, settings.edit)
    if (settings.steps is not None or settings.check_steps) and "steps" not in _parameters(settings.method):
        raise InputError(f"method `{settings.method}` has no steps", hint="leave them out, or take `eap-ig`")
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
    scores = _score(model, pairs, settings)
    if settings.check_steps:
        scores = _with_step_error(scores, model, pairs, settings)
    made = {"settings": asdict(settings), "refused": list(pairs.refused), "made_by": provenance()}
    scores = replace(scores, metadata={**scores.metadata, **made})
    chosen = _choose(scores, settings)
    roles = flows = None
    if settings.by_role:
        roles = role_scores(model, pairs, track=_bar("scoring by role"))
        strongest = sorted(chosen.edges, key=lambda edge: -abs(scores[edge]))[:FOLLOWED]
        flows = edge_flows(model, pairs, strongest, track=_bar("following edges between roles"))
    circuit = replace(chosen, metadata={**chosen.metadata, **made})
    with atomic_directory(directory) as part:
        scores.save(part)
        circuit.save(part / CIRCUIT)
        if roles is not None:
            save_roles(roles, part)
        if flows is not None:
            save_flows(flows, part)
        write_atomic(part / "config.json", json.dumps(made, indent=1))
        # Only now: whatever ends the process before leaves the circuit that was there.
        claim_directory(directory, overwrite)
    return Found(directory, scores, circuit, roles, flows)


def eval_on_run(
    run: Run,
    edit: str,
    *,
    pairs: int = 64,
    random_circuits: int = 20,
    oracle_pairs: int = 16,
    minimality: bool = False,
    answers: int = 0,
    seed: int | None = None,
    device: str = "cpu",
) -> Evaluated:
    """Evaluate the circuit that `find_on_run` wrote, on pairs it was not found on, and write `report.json`.

    `seed` draws the pairs, the random circuits and the bootstrap; `None` takes the finding's seed + 1.
    The first `oracle_pairs` of them are scored by `exact` too, to say how well the circuit's method estimates it.
    `minimality` leaves out each edge in turn, which takes longer than the rest together.
    On the first `answers` pairs that this seed draws, but for those seen in finding, the circuit writes whole answers,
    and the model and the random circuits beside it.
    Raises `InputError` for the finding's own seed, or as the parts do.
    """
    if answers < 0:
        raise InputError(f"answers is {answers}, expected 0 or more", hint="0 leaves them out")
    if oracle_pairs < 0:
        raise InputError(f"oracle_pairs is {oracle_pairs}, expected 0 or more", hint="0 leaves them out")
    directory = directory_of(run.path, edit)
    circuit, scores = load_found(run.path, edit)
    settings = _settings(directory / "config.json")
    seed = _other_seed(settings, seed)
    out = claim_file(directory / "report.json")
    model, tokenizer = run.load(find_device(device))
    drawn = _held_out(run, edit, pairs, seed, settings, tokenizer)
    asked = _held_out(run, edit, answers, seed, settings, tokenizer) if answers else []
    held_out = tokenizer.encode_pairs(drawn, drop_misaligned=True, whole_answers=settings.whole_answers)
    report = evaluate(
        model,
        circuit,
        held_out,
        random_circuits=random_circuits,
        minimality=minimality,
        seed=seed,
        track=_bar("running the circuit and random ones"),
    )
    curve = faithfulness_curve(
        model,
        scores,
        held_out,
        random_circuits=random_circuits,
        seed=seed,
        track=_bar("running circuits of every size"),
    )
    agreed = _agreement(model, held_out[:oracle_pairs], settings) if oracle_pairs else None
    accuracy = (
        circuit_accuracy(model, tokenizer, circuit, asked, random_circuits=random_circuits, seed=seed)
        if asked
        else None
    )
    found = Evaluated(report, curve, agreed, resampled(scores, max(1, len(circuit))), accuracy)
    about = {
        "seen_in_finding": pairs - len(drawn),
        "refused": list(held_out.refused),
        "made_by": provenance(),
    }
    parts = {name: None if part is None else part.to_json() for name, part in found._asdict().items()}
    write_atomic(out, json.dumps({**parts, **about}, indent=1))
    return found


def eval_circuit(
    run: Run,
    edit: str,
    circuit: Circuit,
    *,
    pairs: int = 64,
    random_circuits: int = 20,
    minimality: bool = False,
    seed: int | None = None,
    device: str = "cpu",
) -> Report:
    """Evaluate a circuit that came from elsewhere on a run's pairs of an edit; nothing is written.

    The settings in its metadata say on which pairs it was found, and these are left out. Where it has none, no pair is
    left out, and `None` for the seed is 1. Raises `InputError` as `eval_on_run` does, and for a circuit of another
    model.
    """
    edit_named(edit)
    found = circuit.metadata.get("settings")
    settings = None if found is None else from_json(FindSettings, found, where="the circuit's settings")
    seed = (1 if seed is None else seed) if settings is None else _other_seed(settings, seed)
    circuit.check_belongs(Graph.of_config(run.shape))
    model, tokenizer = run.load(find_device(device))
    if settings is None:
        drawn = draw(run, edit, pairs, seed, tokenizer)
    else:
        drawn = _held_out(run, edit, pairs, seed, settings, tokenizer)
    whole = settings is not None and settings.whole_answers
    return evaluate(
        model,
        circuit,
        tokenizer.encode_pairs(drawn, drop_misaligned=True, whole_answers=whole),
        random_circuits=random_circuits,
        minimality=minimality,
        seed=seed,
        track=_bar("running the circuit and random ones"),
    )


def _other_seed(settings: FindSettings, seed: int | None) -> int:
    """The seed of the evaluation. Raises `InputError` for that of the finding."""
    if seed == settings.seed:
        raise InputError(
            f"seed {seed} drew the pairs on which the circuit of `{settings.edit}` was found",
            hint="choose another seed",
        )
    return settings.seed + 1 if seed is None else seed


def _held_out(
    run: Run, edit: str, pairs: int, seed: int, settings: FindSettings, tokenizer: Tokenizer
) -> list[CounterfactualPair]:
    """Of newly drawn pairs those on which the circuit was not found."""
    seen = draw(run, settings.edit, settings.pairs, settings.seed, tokenizer)
    drawn = unseen(draw(run, edit, pairs, seed, tokenizer), seen)
    if not drawn:
        raise InputError(
            f"all {pairs} pairs were seen in finding the circuit of `{edit}`",
            hint="take more --pairs or another --seed",
        )
    return drawn


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
    circuit = Circuit.load(directory / CIRCUIT)
    if graph is not None:
        circuit.check_belongs(graph, f"the circuit in {directory}")
    return circuit, EdgeScores.load(directory)


def _settings(file: Path) -> FindSettings:
    found = read_json(file)
    if "settings" not in found:
        raise InputError(
            f"{file} has no `settings`", hint="find the circuit again with `tinysql circuit find`"
        )
    return from_json(FindSettings, found["settings"], where=f"{file}: settings")


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


def _score(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> EdgeScores:
    """Scores by the settings' method, which is told what it can be told."""
    method: Callable[..., EdgeScores] = METHODS[settings.method]
    told: dict[str, Any] = {"track": _bar(f"scoring by {settings.method}")}
    if settings.steps is not None:
        told["steps"] = settings.steps
    known = _parameters(settings.method)
    return method(model, pairs, **{name: value for name, value in told.items() if name in known})


def _with_step_error(
    scores: EdgeScores, model: HybridLM, pairs: TokenPairs, settings: FindSettings
) -> EdgeScores:
    """The scores, with what twice the steps change in their metadata: `integration_error`, whose half is known."""
    steps = settings.steps or _parameters(settings.method)["steps"].default
    many = _score(model, pairs, replace(settings, steps=2 * steps))
    error = change_of(scores.values, many.values)
    return replace(scores, metadata={**scores.metadata, "integration_error": error})


def _parameters(method: str) -> Mapping[str, Parameter]:
    """What a method of the table can be told besides model and pairs."""
    return signature(METHODS[method]).parameters


def _agreement(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> Agreement | None:
    if settings.method == "exact":
        return None
    oracle = exact(model, pairs, track=_bar("patching every edge"))
    return agreement(_score(model, pairs, settings), oracle)


def _bar(title: str) -> Callable[[list[Any]], Iterable[Any]]:
    return lambda batches: progress(batches, total=len(batches), title=title)
