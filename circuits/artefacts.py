"""Run + edit -> RUN/circuits/EDIT/report.json: the circuit that `finding` left there, run on other pairs.

Scoring and evaluation draw test pairs with different seeds, and a pair with a prompt that was scored is left out of
the evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from circuits.circuit import Circuit
from circuits.files.about_roles import SIDECAR
from circuits.files.role_files import load_roles
from circuits.finding import bar, draw, load_found, score, unseen
from circuits.graph import Graph
from circuits.judging.agreement import Agreement, agreement
from circuits.judging.faithfulness import Curve, Report, evaluate, faithfulness_curve
from circuits.judging.generation import CircuitAccuracy, circuit_accuracy
from circuits.judging.role_curves import ByRole, evaluate_by_role, reach, role_curve
from circuits.judging.stability import Stability, resampled
from circuits.methods.exact import exact
from circuits.methods.role_scores import RoleScores
from circuits.places import (
    REPORT,
    check_by_role_stays,
    directory_of,
    found_by_role,
    load_found_by_role,
    settings_of,
)
from circuits.role_circuit import RoleCircuit
from circuits.scores import EdgeScores
from circuits.settings import FindSettings
from data_gen.errors import InputError
from data_gen.files import write_atomic
from data_gen.outputs import claim_file
from data_gen.pairs.counterfactual import CounterfactualPair
from data_gen.pairs.edits import edit_named
from tinysql.config import from_json
from tinysql.devices import find_device
from tinysql.runs import provenance

if TYPE_CHECKING:
    from tinysql.models.hybrid import HybridLM
    from tinysql.runs import Run
    from tinysql.tokens import Tokenizer, TokenPairs


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
    by_role: ByRole | None
    """Of role-aware edges; None when not asked for."""


def eval_on_run(
    run: Run,
    edit: str,
    *,
    pairs: int = 64,
    random_circuits: int = 20,
    oracle_pairs: int = 16,
    minimality: bool = False,
    answers: int = 0,
    by_role: bool = False,
    overwrite: bool = False,
    seed: int | None = None,
    device: str = "cpu",
) -> Evaluated:
    """Evaluate the circuit that `find_on_run` wrote, on pairs it was not found on, and write `report.json`.

    `seed` draws the pairs, the random circuits and the bootstrap; `None` takes the finding's seed + 1.
    The first `oracle_pairs` of them are scored by `exact` too, to say how well the circuit's method estimates it.
    `minimality` leaves out each edge in turn, which takes longer than the rest together.
    On the first `answers` pairs that this seed draws, but for those seen in finding, the circuit writes whole answers,
    and the model and the random circuits beside it.
    `by_role` runs the role-aware circuit and those of every size too, beside as many random ones. Without it, a report
    that has these is replaced with `overwrite` alone; any other is replaced always.
    Raises `InputError` for the finding's own seed, such a report without `overwrite`, or as the parts do.
    """
    check_by_role_stays(run.path, edit, by_role=by_role, overwrite=overwrite)
    if answers < 0:
        raise InputError(f"answers is {answers}, expected 0 or more", hint="0 leaves them out")
    if oracle_pairs < 0:
        raise InputError(f"oracle_pairs is {oracle_pairs}, expected 0 or more", hint="0 leaves them out")
    directory = directory_of(run.path, edit)
    circuit, scores = load_found(run.path, edit)
    kept = _role_aware(run.path, edit) if by_role else None
    settings = settings_of(run.path, edit)
    seed = _other_seed(settings, seed)
    out = claim_file(directory / REPORT)
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
        track=bar("running the circuit and random ones"),
    )
    curve = faithfulness_curve(
        model,
        scores,
        held_out,
        random_circuits=random_circuits,
        seed=seed,
        track=bar("running circuits of every size"),
    )
    agreed = _agreement(model, held_out[:oracle_pairs], settings) if oracle_pairs else None
    accuracy = (
        circuit_accuracy(model, tokenizer, circuit, asked, random_circuits=random_circuits, seed=seed)
        if asked
        else None
    )
    found = Evaluated(
        report,
        curve,
        agreed,
        resampled(scores, max(1, len(circuit))),
        accuracy,
        None if kept is None else _by_role(model, scores, kept, held_out, curve),
    )
    about = {
        "seen_in_finding": pairs - len(drawn),
        "refused": list(held_out.refused),
        "made_by": provenance(),
    }
    parts = {name: None if part is None else part.to_json() for name, part in found._asdict().items()}
    write_atomic(out, json.dumps({**parts, **about}, indent=1))
    return found


def _role_aware(run: Path, edit: str) -> tuple[RoleCircuit, RoleScores]:
    """The role-aware circuit that was found, and what it was chosen by. Raises `InputError` when they are not there."""
    file, circuit = found_by_role(run, edit), load_found_by_role(run, edit)
    roles = load_roles(file.parent)
    if roles is None:
        raise InputError(
            f"{file} stands without {SIDECAR}",
            hint=f"find both again: tinysql circuit find {run} --edit {edit} --by-role --overwrite",
        )
    return circuit, roles


def _by_role(
    model: HybridLM,
    scores: EdgeScores,
    kept: tuple[RoleCircuit, RoleScores],
    pairs: TokenPairs,
    plain: Curve,
) -> ByRole:
    """What role-aware edges reach on the pairs of the `plain` curve, with its random circuits' number and seed."""
    circuit, roles = kept
    of_circuit = evaluate_by_role(
        model,
        circuit,
        roles,
        pairs,
        random_circuits=plain.random_circuits,
        seed=plain.seed,
        track=bar("running the role-aware circuit and random ones"),
    )
    curve = role_curve(
        model,
        roles,
        pairs,
        random_circuits=plain.random_circuits,
        seed=plain.seed,
        track=bar("running role-aware circuits of every size"),
    )
    return ByRole(circuit=of_circuit, curve=curve, reach=reach(model, scores, roles, pairs, (plain, curve)))


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
        track=bar("running the circuit and random ones"),
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


def _agreement(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> Agreement | None:
    if settings.method == "exact":
        return None
    oracle = exact(model, pairs, track=bar("patching every edge"))
    return agreement(score(model, pairs, settings), oracle)
