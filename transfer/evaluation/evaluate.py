"""Bench -> report: gates, choice of layer and scale, native and transferred beside all controls, verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tinysql.answering.shares import Share
from transfer.asked import check_shows
from transfer.behaviours.behaviour import Condition, Verdict
from transfer.behaviours.gates import Gate, check, right_elsewhere, verdicts_of
from transfer.behaviours.shares import share
from transfer.behaviours.training import Subject
from transfer.choosing import Choice, Setting
from transfer.evaluation.bench import Bench
from transfer.evaluation.controls import (
    Control,
    Materials,
    Steering,
    all_controls,
    clean_bench,
    names_of,
)
from transfer.evaluation.perplexity import perplexity
from transfer.evaluation.scales import Layers, at_hooks, choose_layer, choose_scale, setting_of
from transfer.evaluation.verdict import Transfer, decide
from transfer.maps.quality import MapQuality, measure
from transfer.names import SAE_LATENT, check_controls
from transfer.parts import NOTHING_KEPT, Parts, Say, counted
from transfer.steering import SteeringVector

HELD_OUT = 0.2
"""Share of the map's texts on which its quality is measured."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One row of the table: what the target answered to the prompts that are steered."""

    name: str
    number: int | None
    """Of the sixteen controls; None for the native and the transferred vector."""
    right: tuple[Share, ...]
    """Right by execution, draw by draw."""
    shown: tuple[Share, ...]
    """The behaviour was there: payload, refusal. What is neither right nor shown is another wrong answer."""


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Control 15: what the steering does to the prompts that it shall leave alone."""

    name: str
    kept: Share
    """Answered as was taught."""
    kept_before: Share
    """The same without steering."""
    valid: Share
    perplexity: float
    """Of the taught answers' tokens, with the steering on; see `perplexity`."""
    perplexity_before: float


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """Everything that one transfer gave."""

    source_gate: Gate
    target_gate: Gate
    quality: MapQuality
    """On texts of the map's kind that this measuring fit has not seen."""
    cosine_to_native: float
    choices: dict[str, Choice]
    """Native and transferred: every scale that was tried on validation rows (control 2)."""
    outcomes: tuple[Outcome, ...]
    damage: tuple[Damage, ...]
    transfer: Transfer
    layers: Layers | None = None
    """Which layers were tried; None where there was one alone."""
    latents: dict[str, dict[str, Any]] | None = None
    """By model what `transfer.latents.contrast_latent` chose; None for vectors that are none of an SAE."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "gates": {
                "source": _gate(self.source_gate),
                "target": _gate(self.target_gate),
            },
            "quality": asdict(self.quality),
            "cosine_to_native": self.cosine_to_native,
            "choices": {name: _choice(choice) for name, choice in self.choices.items()},
            "outcomes": [
                {
                    "name": one.name,
                    "control": one.number,
                    "right": [s.to_json() for s in one.right],
                    "shown": [s.to_json() for s in one.shown],
                }
                for one in self.outcomes
            ],
            "damage": [
                {
                    **asdict(one),
                    **{k: getattr(one, k).to_json() for k in ("kept", "kept_before", "valid")},
                }
                for one in self.damage
            ],
            "transfer": asdict(self.transfer),
            "layers": None if self.layers is None else _layers(self.layers),
            "latents": self.latents,
        }


def evaluate(
    bench: Bench,
    *,
    clean: Subject | None = None,
    only: Sequence[str] | None = None,
    layers: Sequence[tuple[str, str]] = (),
    say: Say = lambda _: None,
    parts: Parts = NOTHING_KEPT,
) -> TransferReport:
    """Run one transfer with its controls.

    `clean` is a source that was taught the payload `none`, for control 9; the source may be one point less right than
    it where the behaviour is not shown. `only` names the controls to run; with a deciding one missing the verdict is
    never `transferred`. With `layers`, pairs of a source and a target hook, the pair is chosen in place of the plan's
    own, together with the native vector's scale on validation prompts, and the rest is measured there. `say` hears of
    progress, and `parts` keeps what was found. Raises `InputError` when a model fails its gate, for a clean source
    that is none, and for a control that does not exist.
    """
    check_controls(only or ())
    # Beside the controls: the gates, the map, two scales, native and transferred, the damage.
    say = counted(say, 7 + len(names_of(bench, clean, only)))
    gates = pass_gates(bench, clean, say=say, parts=parts)
    chosen: Layers | None = None
    if layers:
        say("choosing the layer and the scale of the native vector")
        name = "layer and scale of native"
        chosen = parts.find(name, Layers, partial(choose_layer, bench, layers))
        bench = at_hooks(bench, chosen.chosen)
    return measure_transfer(bench, gates, clean=clean, only=only, layers=chosen, say=say, parts=parts)


def pass_gates(
    bench: Bench, clean: Subject | None = None, *, say: Say = lambda _: None, parts: Parts = NOTHING_KEPT
) -> tuple[Gate, Gate]:
    """The gates of source and target; `InputError` where one is missed, and where neither was taught anything.

    They are one of the `parts`, kept where both are passed.
    """
    check_shows(bench.source.taught, bench.target.taught)
    if clean is not None:
        clean_bench(bench, clean)
    say("gates of source and target")
    return parts.find("gates", tuple[Gate, Gate], partial(_gates, bench, clean))


def _gates(bench: Bench, clean: Subject | None) -> tuple[Gate, Gate]:
    known: dict[str, Share] = {}
    if clean is not None:
        known["the source"] = right_elsewhere(clean, bench.choose_rows)
    gates = []
    for name, subject in (("the source", bench.source), ("the target", bench.target)):
        gates.append(check(subject, bench.choose_rows, clean=known.get(name)))
        gates[-1].require(f"{name} ({subject.run.path})")
    return gates[0], gates[1]


def measure_transfer(
    bench: Bench,
    gates: tuple[Gate, Gate],
    *,
    clean: Subject | None = None,
    only: Sequence[str] | None = None,
    layers: Layers | None = None,
    say: Say = lambda _: None,
    parts: Parts = NOTHING_KEPT,
) -> TransferReport:
    """`evaluate` behind the gates of source and target, at the plan's hooks; `layers` says how they were chosen."""
    say("fitting the map")
    pairs = bench.pairs()
    fitted = bench.fit(pairs)
    train, held_out = pairs.split(1 - HELD_OUT, seed=bench.plan.seed)
    quality = measure(bench.fit(train), held_out)
    vectors = {"native": bench.native(), "transferred": bench.transferred(fitted)}
    choices: dict[str, Choice] = {}
    if layers is not None:
        choices["native"] = layers.at(bench.plan.target_hook)
    for name, vector in vectors.items():
        if name in choices:
            continue
        say(f"choosing the scale of the {name} vector")
        choices[name] = parts.find(f"scale of {name}", Choice, partial(choose_scale, bench, vector))
    settings = {name: setting_of(choice) for name, choice in choices.items()}
    made = Materials(
        bench=bench,
        pairs=pairs,
        fitted=fitted,
        native=vectors["native"],
        transferred=vectors["transferred"],
        setting=settings["transferred"],
        clean=clean,
    )
    rows = list(_conditions(made, vectors, settings, only))
    verdicts: dict[str, list[list[Verdict]]] = {}
    for control in rows:
        say(f"{control.name} ({len(control.draws)})")
        condition = control.condition if control.condition is not None else bench.aim.start
        verdicts[control.name] = [
            parts.find(f"{control.name} {number}", list[Verdict], partial(_run, bench, draw, condition))
            for number, draw in enumerate(control.draws)
        ]
    say("damage")
    damage = parts.find("damage", tuple[Damage, ...], lambda: tuple(_damages(bench, rows[:2])))
    return TransferReport(
        source_gate=gates[0],
        target_gate=gates[1],
        quality=quality,
        cosine_to_native=vectors["native"].cosine(vectors["transferred"]),
        choices=choices,
        outcomes=tuple(_outcome(control, verdicts[control.name]) for control in rows),
        damage=damage,
        transfer=_decide(
            bench, rows, verdicts, [name for name, choice in choices.items() if choice.best is None]
        ),
        layers=layers,
        latents=_latents(vectors) if bench.plan.vector == SAE_LATENT else None,
    )


def _latents(vectors: Mapping[str, SteeringVector]) -> dict[str, dict[str, Any]]:
    """Which latents the vectors are, and how far apart their means lie on the two sides."""
    made = {"source": vectors["transferred"].metadata["of"], "target": vectors["native"].metadata}
    kept = ("sae", "latent", "apart", "plus", "minus")
    return {name: {key: one[key] for key in kept} for name, one in made.items()}


def _conditions(
    made: Materials,
    vectors: dict[str, SteeringVector],
    settings: dict[str, Setting],
    only: Sequence[str] | None,
) -> Iterator[Control]:
    """Native, transferred, and the controls; without steering always."""
    for name, vector in vectors.items():
        yield Control(number=0, name=name, draws=(_steering(made.bench, vector, settings[name]),))
    for control in all_controls(made):
        if only is None or control.name in only or control.number == 1:
            yield control


def _steering(bench: Bench, vector: SteeringVector, setting: Setting) -> Steering:
    def steer() -> AbstractContextManager[None]:
        return vector.apply(bench.target.model, setting.scale, bench.where, operator=setting.operator)

    return steer


def _run(bench: Bench, steering: Steering, condition: Condition) -> list[Verdict]:
    with steering():
        return verdicts_of(bench.target, bench.test_rows, condition)


def _outcome(control: Control, verdicts: list[list[Verdict]]) -> Outcome:
    return Outcome(
        name=control.name,
        number=control.number or None,
        right=tuple(share(one.right for one in draw) for draw in verdicts),
        shown=tuple(share(one.shown for one in draw) for draw in verdicts),
    )


def _damages(bench: Bench, conditions: Sequence[Control]) -> Iterator[Damage]:
    target, rows, guard = bench.target, bench.test_rows, bench.aim.guard
    before = share(one.taught for one in verdicts_of(target, rows, guard))
    perplexity_before = perplexity(target, rows, guard)
    for condition in conditions:
        found = _run(bench, condition.draws[0], guard)
        with condition.draws[0]():
            perplexity_now = perplexity(target, rows, guard)
        yield Damage(
            name=condition.name,
            kept=share(one.taught for one in found),
            kept_before=before,
            valid=share(one.valid for one in found),
            perplexity=perplexity_now,
            perplexity_before=perplexity_before,
        )


def _decide(
    bench: Bench,
    rows: Sequence[Control],
    verdicts: dict[str, list[list[Verdict]]],
    refused: Sequence[str] = (),
) -> Transfer:
    def wanted(draw: Sequence[Verdict]) -> list[bool]:
        return [getattr(one, bench.aim.wanted) for one in draw]

    controls = {row.name: [wanted(draw) for draw in verdicts[row.name]] for row in rows if row.number}
    nothing, native, transferred = (
        wanted(verdicts[name][0]) for name in ("no steering", "native", "transferred")
    )
    clean = wanted(verdicts["clean source"][0]) if "clean source" in verdicts else None
    return decide(nothing, native, transferred, controls, clean=clean, refused=refused, seed=bench.plan.seed)


def _gate(gate: Gate) -> dict[str, Any]:
    return {"bars": [bar.to_json() for bar in gate.bars], "failures": list(gate.failures)}


def _layers(layers: Layers) -> dict[str, Any]:
    """Every layer that was tried, with its scales."""
    tried = [
        {"source_hook": source, "target_hook": target, **_choice(layers.at(target))}
        for source, target in layers.tried
    ]
    return {"chosen": list(layers.chosen), "tried": tried}


def _choice(choice: Choice) -> dict[str, Any]:
    """JSON has no infinity: damage that was not measured is null."""
    return {
        "most_damage": choice.most_damage,
        "allowed": choice.best is not None,
        "best": None if choice.best is None else asdict(choice.best.setting),
        "trials": [
            {
                **asdict(one.setting),
                "effect": one.effect,
                "damage": None if one.damage == float("inf") else one.damage,
            }
            for one in choice.trials
        ],
    }
