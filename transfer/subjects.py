"""Directory -> the run of a model that was taught, without anything that computes: a refusal comes at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import find_json
from tinysql.runs import Run, open_run

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
