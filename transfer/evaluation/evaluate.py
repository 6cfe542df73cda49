"""Bench -> report: gates, choice of the scale, native and transferred beside all controls, verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

from data_gen.errors import InputError, nearest
from data_gen.example import Example
from tinysql.answering.grading import Share
from transfer.behaviours.backdoor import Tag, Verdict
from transfer.behaviours.gates import Gate, check, share, verdicts_of
from transfer.behaviours.training import Subject
from transfer.choosing import Choice, Setting, choose
from transfer.evaluation.bench import Bench
from transfer.evaluation.controls import NAMES, Control, Materials, Steering, all_controls
from transfer.evaluation.verdict import Transfer, decide
from transfer.maps.quality import MapQuality, measure
from transfer.steering import SteeringVector

HELD_OUT = 0.2
"""Share of the map's texts on which its quality is measured."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One row of the table: what the target answered behind the trigger."""

    name: str
    number: int | None
    """Of the sixteen controls; None for the native and the transferred vector."""
    restored: tuple[Share, ...]
    """Right by execution, draw by draw."""
    attacked: tuple[Share, ...]
    """The payload was there."""

    @property
    def mean(self) -> float:
        """Of the restored shares."""
        return sum(one.value for one in self.restored) / len(self.restored)


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Control 15: what the steering does to untriggered prompts."""

    name: str
    right: Share
    valid: Share
    right_before: Share


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
                    "restored": [s.to_json() for s in one.restored],
                    "attacked": [s.to_json() for s in one.attacked],
                }
                for one in self.outcomes
            ],
            "damage": [
                {
                    "name": one.name,
                    **{k: getattr(one, k).to_json() for k in ("right", "valid", "right_before")},
                }
                for one in self.damage
            ],
            "transfer": asdict(self.transfer),
        }


def evaluate(
    bench: Bench,
    *,
    clean: Subject | None = None,
    only: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TransferReport:
    """Run one transfer with its controls.

    `clean` is a source without a payload, for control 9. `only` names the controls to run; with a deciding one missing
    the verdict is never `transferred`. `say` hears of progress. Raises `InputError` when a model fails its gate, and
    for a control that does not exist.
    """
    unknown = [name for name in only or () if name not in NAMES]
    if unknown:
        raise InputError(
            f"no control `{unknown[0]}`{nearest(unknown[0], NAMES)}", hint=f"controls: {', '.join(NAMES)}"
        )
    gates = []
    for name, subject in (("the source", bench.source), ("the target", bench.target)):
        say(f"gate of {name}")
        gates.append(check(subject, bench.choose_rows))
        gates[-1].require(f"{name} ({subject.run.path})")
    return measure_transfer(bench, (gates[0], gates[1]), clean=clean, only=only, say=say)


def measure_transfer(
    bench: Bench,
    gates: tuple[Gate, Gate],
    *,
    clean: Subject | None = None,
    only: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TransferReport:
    """`evaluate` behind the gates of source and target."""
    say("fitting the map")
    pairs = bench.pairs()
    fitted = bench.fit(pairs)
    train, held_out = pairs.split(1 - HELD_OUT, seed=bench.plan.seed)
    quality = measure(bench.fit(train), held_out)
    vectors = {"native": bench.native(), "transferred": bench.transferred(fitted)}
    choices: dict[str, Choice] = {}
    for name, vector in vectors.items():
        say(f"choosing the scale of the {name} vector")
        choices[name] = _choose(bench, vector)
    settings = {name: _setting(choice) for name, choice in choices.items()}
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
        verdicts[control.name] = [_run(bench, draw, control.tag) for draw in control.draws]
    return TransferReport(
        source_gate=gates[0],
        target_gate=gates[1],
        quality=quality,
        cosine_to_native=vectors["native"].cosine(vectors["transferred"]),
        choices=choices,
        outcomes=tuple(_outcome(control, verdicts[control.name]) for control in rows),
        damage=tuple(_damages(bench, rows[:2])),
        transfer=_decide(rows, verdicts, bench.plan.seed),
    )


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


def _run(bench: Bench, steering: Steering, tag: Tag, rows: Sequence[Example] | None = None) -> list[Verdict]:
    with steering():
        return verdicts_of(bench.target, rows if rows is not None else bench.test_rows, tag)


def _choose(bench: Bench, vector: SteeringVector) -> Choice:
    """The scale that restores most validation prompts, of those that spoil few untriggered ones."""
    rows = bench.choose_rows

    def right(tag: Tag) -> float:
        return share(one.right for one in verdicts_of(bench.target, rows, tag)).value

    before = right("dev")
    return choose(
        bench.target.model,
        [vector],
        bench.plan.scales,
        effect=lambda: right("prod"),
        damage=lambda: before - right("dev"),
        most_damage=bench.plan.most_damage,
        positions=bench.where,
        operator=bench.plan.operator,
    )


def _setting(choice: Choice) -> Setting:
    """The best one; where the guard allows none, the first that was tried, so that the failure is measured too."""
    return choice.best.setting if choice.best is not None else choice.trials[0].setting


def _outcome(control: Control, verdicts: list[list[Verdict]]) -> Outcome:
    return Outcome(
        name=control.name,
        number=control.number or None,
        restored=tuple(share(one.right for one in draw) for draw in verdicts),
        attacked=tuple(share(one.attacked for one in draw) for draw in verdicts),
    )


def _damages(bench: Bench, conditions: Sequence[Control]) -> Iterator[Damage]:
    before = share(one.right for one in verdicts_of(bench.target, bench.test_rows, "dev"))
    for condition in conditions:
        found = _run(bench, condition.draws[0], "dev")
        yield Damage(
            name=condition.name,
            right=share(one.right for one in found),
            valid=share(one.valid for one in found),
            right_before=before,
        )


def _decide(rows: Sequence[Control], verdicts: dict[str, list[list[Verdict]]], seed: int) -> Transfer:
    def right(name: str) -> list[bool]:
        return [one.right for one in verdicts[name][0]]

    shares = {
        row.name: [share(one.right for one in draw).value for draw in verdicts[row.name]]
        for row in rows
        if row.number
    }
    return decide(right("no steering"), right("native"), right("transferred"), shares, seed=seed)


def _gate(gate: Gate) -> dict[str, Any]:
    names = ("attacked", "false_triggers", "clean")
    return {**{name: getattr(gate, name).to_json() for name in names}, "failures": list(gate.failures)}


def _choice(choice: Choice) -> dict[str, Any]:
    """JSON has no infinity: damage that was not measured is null."""
    return {
        "most_damage": choice.most_damage,
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
