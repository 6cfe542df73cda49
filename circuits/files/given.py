"""A file and a run -> the circuit that a command was given with `--circuit`, held against the run's model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from circuits.circuit import Circuit, RoleAwareError
from circuits.files.exchange import read_circuit
from circuits.graph import Graph
from data_gen.errors import InputError

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
