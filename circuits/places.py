"""Run + edit -> where its circuit stands, without anything that computes: a command that finds none ends at once."""

from __future__ import annotations

from pathlib import Path

from circuits.graph import Graph
from data_gen.errors import InputError
from data_gen.files import find_json
from data_gen.outputs import check_directory
from data_gen.pairs.edits import edit_named
from tinysql.runs import open_run

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
