"""Directory -> the run of a model that was taught, without anything that computes: a refusal comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.files import find_json, read_json
from tinysql.models.config import ModelConfig
from tinysql.runs import Run, open_run
from transfer.behaviours.behaviour import Behaviour
from transfer.behaviours.find import find_behaviour

FILE, MODEL, GATE = "behaviour.json", "model.safetensors", "gate.json"


def taught_run(path: str | Path) -> Run:
    """The run of a directory that `teach` wrote and finished; `InputError` when it is another."""
    run = open_run(path)
    if not (run.path / FILE).is_file():
        raise InputError(
            f"{path} was taught no behaviour: it has no {FILE}", hint="make one with `tinysql transfer teach`"
        )
    if not (run.path / MODEL).is_file():
        raise InputError(
            f"{path} holds no finished model: it was stopped while it was taught",
            hint="repeat what taught it: `tinysql transfer teach ... --resume`",
        )
    return run


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What is known of a taught model before it is loaded."""

    path: Path
    shape: ModelConfig
    data: DataConfig
    """How its training rows were made."""
    behaviour: Behaviour


def about_taught(path: str | Path) -> Taught:
    """What a directory says that `teach` wrote; `InputError` as `taught_run`, and where no model can be loaded."""
    run = taught_run(path)
    behaviour = taught_behaviour(run)
    run.check_whole()
    return Taught(path=run.path, shape=run.shape, data=run.data, behaviour=behaviour)


def taught_behaviour(run: Run) -> Behaviour:
    """The behaviour that a run was taught; `InputError` where its `behaviour.json` does not say it."""
    values = read_json(run.path / FILE)
    for name, kind in (("payload", str), ("seed", int)):
        if not isinstance(values.get(name), kind):
            raise InputError(
                f"{run.path / FILE}: `{name}` is {values.get(name)!r}, expected {kind.__name__}",
                hint="restore the file, or teach again",
            )
    return find_behaviour(taught_kind(values), values["payload"], seed=values["seed"])


def taught_kind(about: Mapping[str, Any]) -> str:
    """The behaviour that a `behaviour.json` names; older ones name none, and there was one."""
    return str(about.get("behaviour", "backdoor"))


def missed_bars(path: Path) -> int:
    """How many bars of its gate a taught run missed when it was taught; 0 where that is not written."""
    try:
        found = find_json(path / GATE)
    except InputError:  # a gate that cannot be read stops no teaching: it is measured again where it matters
        return 0
    missed = None if found is None else found.get("missed")
    return missed if isinstance(missed, int) else 0
