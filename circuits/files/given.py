"""A file and a run -> the circuit that a command was given with `--circuit`, held against the run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from circuits.circuit import Circuit, RoleAwareError
from circuits.files.exchange import read_circuit
from circuits.graph import Graph
from circuits.methods.names import METRIC_NAMES
from circuits.settings import FindSettings
from data_gen.errors import InputError, nearest
from data_gen.pairs.edits import edit_named
from tinysql.config import from_json

if TYPE_CHECKING:
    from tinysql.runs import Run


def given_circuit(file: Path, run: Run) -> Circuit:
    """The plain circuit of a file.

    Raises `InputError` as `read_circuit`, for one of another model than the run's, and for one without an edge.

    A file does not know whose it is, so it is here that a role-aware one is told of the run, or of its other model.
    """
    graph = Graph.of_config(run.shape)
    try:
        circuit = read_circuit(file)
    except RoleAwareError as error:
        if error.graph is not None and error.graph != graph:
            raise InputError(
                f"{file} is a role-aware circuit of a model of {error.graph}, and {run.path} has {graph}",
                hint=error.hint,
            ) from error
        raise InputError(error.message, hint=error.hint.replace(" RUN", f" {run.path}")) from error
    circuit.check_belongs(graph, f"the circuit in {file}")
    if not len(circuit):
        raise InputError(
            f"the circuit in {file} has no edge, expected at least one",
            hint=f"find one with `tinysql circuit find {run.path} --edit EDIT`, and export it",
        )
    return circuit


def edit_of(circuit: Circuit, file: Path, edit: str | None = None) -> str:
    """The edit on whose pairs the circuit of a file is run: `edit`, or what the file says where that is None.

    Raises `InputError` where neither says one, for one that does not exist, and for what else the file says of how the
    circuit was found, where that cannot be: a metric that there is not, settings that nothing can be found with.
    """
    about = circuit.metadata
    if edit is not None:
        edit_named(edit)
    metric = about.get("metric", METRIC_NAMES[0])
    if metric not in METRIC_NAMES:
        raise InputError(
            f"{file} says of its circuit that the metric is {metric!r:.60}, expected one of {', '.join(METRIC_NAMES)}"
            f"{nearest(str(metric), METRIC_NAMES)}",
            hint=f"correct `metric` in its metadata, or leave that out: a circuit is run by {METRIC_NAMES[0]} here;"
            " in Python `circuits.evaluate` runs it by a metric of your own",
        )
    said = about.get("edit")
    if said is not None and not isinstance(said, str):
        raise InputError(
            f"{file} says of its circuit that the edit is {said!r:.60}, expected text",
            hint="correct `edit` in its metadata, or leave that out and pass --edit",
        )
    part = "edit"
    try:
        if said is not None:
            edit_named(said)
        part = "settings"
        if part in about:
            from_json(FindSettings, about["settings"], where="the circuit's settings")
    except InputError as error:  # what a part of it is told does not name the file
        raise InputError(
            f"{file}: {error.message}", hint=f"correct `{part}` in its metadata; {error.hint}"
        ) from error
    found = said if edit is None else edit
    if found is None:
        raise InputError(
            f"{file} does not say of which edit it is, and a circuit is run on pairs of one",
            hint="name it with --edit",
        )
    return found
