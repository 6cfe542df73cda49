"""Run + edit -> where its circuit stands, and the circuit, without anything that computes.

A command that finds none, or one that cannot be read, ends at once.
"""

from __future__ import annotations

from pathlib import Path

from circuits.circuit import Circuit
from circuits.files.about_roles import read_about_roles
from circuits.files.about_scores import read_about
from circuits.graph import Graph
from circuits.role_circuit import RoleCircuit
from circuits.settings import FindSettings
from data_gen.errors import InputError, nearest
from data_gen.files import find_json, read_json
from data_gen.outputs import check_directory
from data_gen.pairs.edits import edit_named
from tinysql.config import from_json
from tinysql.runs import open_run
from tinysql.written import mended_by

CIRCUIT, ROLE_CIRCUIT, REPORT = "circuit.json", "role_circuit.json", "report.json"


def directory_of(run: Path, edit: str) -> Path:
    """`RUN/circuits/EDIT`. Raises `InputError` for an unknown edit."""
    edit_named(edit)
    return run / "circuits" / edit


def graph_of(run: Path) -> Graph | None:
    """The residual graph of a run's model, read off its `config.json`; None for a directory that has none."""
    return Graph.of_config(open_run(run).shape) if (run / "config.json").exists() else None


def check_free(run: Path, edit: str, overwrite: bool) -> None:
    """Raise `InputError` where the run holds a circuit of this edit, unless `overwrite`, or there can be none."""
    directory = directory_of(run, edit)
    if not overwrite and directory.is_dir() and any(directory.iterdir()):
        raise InputError(
            f"{run} holds a circuit of edit `{edit}` already",
            hint="pass --overwrite to replace it",
        )
    check_directory(directory, overwrite)


def found_in(run: Path, edit: str, options: str = "") -> Path:
    """The directory of a circuit that was found. Raises `InputError`, whose hint has `options`, when there is none."""
    directory = directory_of(run, edit)
    if not (directory / CIRCUIT).is_file():
        raise InputError(
            f"{run} holds no circuit of edit `{edit}`",
            hint=f"find it with: tinysql circuit find {run} --edit {edit}{options}",
        )
    return directory


def found_by_role(run: Path, edit: str) -> Path:
    """The file of a role-aware circuit that was found. Raises `InputError` when there is none."""
    file = found_in(run, edit, " --by-role") / ROLE_CIRCUIT
    if not file.is_file():
        raise InputError(
            f"{run} holds no role-aware circuit of edit `{edit}`",
            hint=f"find it with: tinysql circuit find {run} --edit {edit} --by-role --overwrite",
        )
    return file


def directories(run: Path) -> list[Path]:
    """Those of all circuits that were found in a run."""
    return sorted(path.parent for path in (run / "circuits").glob(f"[!.]*/{CIRCUIT}"))


def directories_shown(run: Path, edit: str | None) -> list[Path]:
    """Those of all circuits, or of that of one edit. Raises `InputError` when there is none."""
    every = directories(run)
    found = [directory for directory in every if edit in (None, directory.name)]
    if not found:
        others = [directory.name for directory in every]
        of_edit = "" if edit is None else f" of edit `{edit}`{nearest(edit, others)}"
        raise InputError(
            f"{run} holds no circuit{of_edit}",
            hint=f"find one with: tinysql circuit find {run} --edit {edit or 'schema.table'}",
        )
    return found


def _again(directory: Path, options: str = "") -> str:
    """What finds the circuit of this directory again."""
    run = directory.parent.parent
    return f"find it again: tinysql circuit find {run} --edit {directory.name}{options} --overwrite"


def settings_of(run: Path, edit: str) -> FindSettings:
    """How the circuit of an edit was found. Raises `InputError` as `found_in`, and for a damaged `config.json`."""
    directory = found_in(run, edit)
    file = directory / "config.json"
    with mended_by(directory, hint=_again(directory)):
        found = read_json(file)
        if "settings" not in found:
            raise InputError(f"{file} has no `settings`, expected those that the circuit was found with")
        return from_json(FindSettings, found["settings"], where=f"{file}: settings")


def load_circuit(directory: Path, graph: Graph | None) -> Circuit:
    """The circuit that was found; `graph` is that of the run's model, where it is known.

    Raises `InputError` when it is cut short, or of another model.
    """
    with mended_by(directory, hint=_again(directory)):
        circuit = Circuit.load(directory / CIRCUIT)
    if graph is not None:
        circuit.check_belongs(graph, f"the circuit in {directory}")
    return circuit


def load_found_circuit(run: Path, edit: str) -> Circuit:
    """The circuit of an edit, without its scores. Raises `InputError` as `found_in` and `load_circuit` do."""
    return load_circuit(found_in(run, edit), graph_of(run))


def check_scored(run: Path, edit: str, *, by_role: bool = False) -> None:
    """Raise `InputError` where the scores that a circuit was chosen by are missing, cut short or of unlike shape.

    So for those `by_role`, where they are asked for and there are some.
    """
    directory = found_in(run, edit)
    read_about(directory)
    if by_role:
        read_about_roles(directory)


def load_found_by_role(run: Path, edit: str) -> RoleCircuit:
    """The role-aware circuit of an edit. Raises `InputError` as `found_by_role` does, and as `load_circuit`."""
    file, graph = found_by_role(run, edit), graph_of(run)
    with mended_by(file.parent, hint=_again(file.parent, " --by-role")):
        circuit = RoleCircuit.load(file)
    if graph is not None:
        circuit.check_belongs(graph, f"the role-aware circuit in {file.parent}")
    return circuit


def check_by_role_stays(run: Path, edit: str, *, by_role: bool, overwrite: bool) -> None:
    """Raise `InputError` where an evaluation without roles would replace one by role, unless `overwrite`."""
    file = directory_of(run, edit) / REPORT
    if by_role or overwrite:
        return
    try:
        found = find_json(file)
    except InputError:  # what cannot be read holds nothing that could be lost
        return
    if found is not None and found.get("by_role") is not None:
        raise InputError(
            f"{file} holds an evaluation by role, which one without roles would replace",
            hint="pass --by-role to make both anew, or --overwrite to lose it",
        )
