"""Run + edit -> RUN/circuits/EDIT: scores, circuit and report, each saying what made it.

A directory holds `config.json` (settings, command, versions), `scores.safetensors`, `scores.json`,
`circuit.json` and, once evaluated, `report.json`. Scoring and evaluation draw test pairs with different seeds,
and a pair that both would draw is left out of the evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from circuits.circuit import Circuit
from circuits.judging.agreement import Agreement, agreement
from circuits.judging.faithfulness import Curve, Report, evaluate, faithfulness_curve
from circuits.methods.eap import eap
from circuits.methods.eap_ig import eap_ig
from circuits.methods.exact import exact
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError, nearest
from data_gen.files import atomic_directory, claim_directory, read_json, write_atomic
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

METHODS = ("eap-ig", "eap", "exact")


@dataclass(frozen=True, kw_only=True)
class FindSettings:
    """How a circuit is found."""

    edit: str
    method: str = "eap-ig"
    pairs: int = 64
    edges: int = 50
    """Edges of the circuit; all of them where the model has fewer."""
    steps: int = 5
    """Integration steps of `eap-ig`."""
    seed: int = 0
    """Draws the pairs."""

    def __post_init__(self) -> None:
        edit_named(self.edit)
        if self.method not in METHODS:
            raise InputError(
                f"unknown method `{self.method}`{nearest(self.method, METHODS)}",
                hint=f"known: {', '.join(METHODS)}",
            )
        for name in ("pairs", "edges", "steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least 1")


class Found(NamedTuple):
    """What `find` wrote."""

    directory: Path
    scores: EdgeScores
    circuit: Circuit


class Evaluated(NamedTuple):
    """What `eval` wrote."""

    report: Report
    curve: Curve
    agreement: Agreement | None
    """With `exact`; None when the circuit was found by `exact` itself."""


def find_on_run(run: Run, settings: FindSettings, *, device: str = "cpu", overwrite: bool = False) -> Found:
    """Score a run's edges on test pairs, choose the top ones, and write the directory, whole or not at all.

    Raises `InputError` when the directory is not empty (unless `overwrite`), or as the parts do.
    """
    directory = directory_of(run.path, settings.edit)
    if not overwrite:
        claim_directory(directory)
    model, tokenizer = run.load(find_device(device))
    drawn = draw(run, settings.edit, settings.pairs, settings.seed, tokenizer)
    pairs = tokenizer.encode_pairs(drawn, drop_misaligned=True)
    scores = _score(model, pairs, settings)
    made = {"settings": asdict(settings), "refused": list(pairs.refused), "made_by": provenance()}
    scores = replace(scores, metadata={**scores.metadata, **made})
    chosen = top_edges(scores, min(settings.edges, len(scores.graph.edges)))
    circuit = replace(chosen, metadata={**chosen.metadata, **made})
    claim_directory(directory, overwrite)
    with atomic_directory(directory) as part:
        scores.save(part)
        circuit.save(part / "circuit.json")
        write_atomic(part / "config.json", json.dumps(made, indent=1))
    return Found(directory, scores, circuit)


def eval_on_run(
    run: Run,
    edit: str,
    *,
    pairs: int = 64,
    random_circuits: int = 20,
    oracle_pairs: int = 16,
    seed: int | None = None,
    device: str = "cpu",
) -> Evaluated:
    """Evaluate the circuit that `find_on_run` wrote, on pairs it was not found on, and write `report.json`.

    `seed` draws the pairs, the random circuits and the bootstrap; `None` takes the finding's seed + 1.
    The first `oracle_pairs` of them are scored by `exact` too, to say how well the circuit's method estimates it.
    Raises `InputError` for the finding's own seed, or as the parts do.
    """
    directory = directory_of(run.path, edit)
    circuit, scores = load_found(run.path, edit)
    settings = _settings(directory / "config.json")
    seed = settings.seed + 1 if seed is None else seed
    if seed == settings.seed:
        raise InputError(
            f"seed {seed} drew the pairs on which the circuit of `{edit}` was found",
            hint="choose another seed",
        )
    model, tokenizer = run.load(find_device(device))
    seen = {_text(pair) for pair in draw(run, edit, settings.pairs, settings.seed, tokenizer)}
    drawn = [pair for pair in draw(run, edit, pairs, seed, tokenizer) if _text(pair) not in seen]
    held_out = tokenizer.encode_pairs(drawn, drop_misaligned=True)
    report = evaluate(model, circuit, held_out, random_circuits=random_circuits, seed=seed)
    curve = faithfulness_curve(model, scores, held_out, random_circuits=random_circuits, seed=seed)
    agreed = _agreement(model, held_out[:oracle_pairs], settings)
    written = {
        "report": report.to_json(),
        "curve": curve.to_json(),
        "agreement": agreed.to_json() if agreed is not None else None,
        "seen_in_finding": pairs - len(drawn),
        "refused": list(held_out.refused),
        "made_by": provenance(),
    }
    write_atomic(directory / "report.json", json.dumps(written, indent=1))
    return Evaluated(report, curve, agreed)


def directory_of(run: Path, edit: str) -> Path:
    """`RUN/circuits/EDIT`. Raises `InputError` for an unknown edit."""
    edit_named(edit)
    return run / "circuits" / edit


def load_found(run: Path, edit: str) -> tuple[Circuit, EdgeScores]:
    """What `find_on_run` wrote. Raises `InputError` when there is none, or it is cut short."""
    directory = directory_of(run, edit)
    if not (directory / "circuit.json").is_file():
        raise InputError(
            f"{run} holds no circuit of edit `{edit}`",
            hint=f"find it with: tinysql circuit find {run} --edit {edit}",
        )
    return Circuit.load(directory / "circuit.json"), EdgeScores.load(directory)


def _settings(file: Path) -> FindSettings:
    found = read_json(file)
    if "settings" not in found:
        raise InputError(f"{file} has no `settings`", hint="find the circuit again: tinysql circuit find")
    return from_json(FindSettings, found["settings"], where=f"{file}: settings")


def draw(run: Run, edit: str, n: int, seed: int, tokenizer: Tokenizer) -> list[CounterfactualPair]:
    """`n` pairs from the test split of a run's data, aligned under its tokenizer."""
    return counterfactuals(run.split("test"), edit=edit, n=n, seed=seed, encode=tokenizer.encode_text)


def _score(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> EdgeScores:
    if settings.method == "exact":
        return exact(model, pairs, track=_bar("patching every edge"))
    if settings.method == "eap":
        return eap(model, pairs)
    return eap_ig(model, pairs, steps=settings.steps)


def _agreement(model: HybridLM, pairs: TokenPairs, settings: FindSettings) -> Agreement | None:
    if settings.method == "exact":
        return None
    oracle = exact(model, pairs, track=_bar("patching every edge"))
    return agreement(_score(model, pairs, settings), oracle)


def _bar(title: str) -> Callable[[list[Any]], Iterable[Any]]:
    return lambda batches: progress(batches, total=len(batches), title=title)


def _text(pair: CounterfactualPair) -> tuple[str, str]:
    return pair.clean.prompt.string, pair.corrupt.prompt.string
