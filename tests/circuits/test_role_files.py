"""Role scores come back as they were written; what is cut short or of another shape is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from circuits.files.role_files import load_roles, save_roles
from circuits.graph import Graph
from circuits.methods.role_scores import RoleScores
from data_gen.errors import InputError

GRAPH = Graph("*-", n_heads=2)


@pytest.fixture
def roles() -> RoleScores:
    """Three roles whose names are in no order."""
    generator = torch.Generator().manual_seed(0)
    values, errors = (torch.randn(3, *GRAPH.mask.shape, generator=generator) for _ in range(2))
    return RoleScores(
        graph=GRAPH,
        roles=("schema.table", "english.table", "sql.table"),
        values=values,
        errors=errors.abs(),
        metric="logit_diff",
        edit="schema.table",
        n_pairs=5,
    )


def test_role_scores_come_back_as_they_were_written(roles: RoleScores, tmp_path: Path) -> None:
    save_roles(roles, tmp_path)
    found = load_roles(tmp_path)
    assert torch.equal(found.values, roles.values)
    assert torch.equal(found.errors, roles.errors)
    for name in ("graph", "roles", "metric", "edit", "n_pairs"):
        assert getattr(found, name) == getattr(roles, name)
    assert json.loads((tmp_path / "roles.json").read_text())["top"] == roles.table()


def test_a_directory_without_role_scores_has_none(tmp_path: Path) -> None:
    assert load_roles(tmp_path) is None


@pytest.mark.parametrize(("name", "wrong"), [("values", float("nan")), ("errors", float("inf"))])
def test_role_scores_that_are_not_finite_are_refused_by_their_file(
    roles: RoleScores, tmp_path: Path, name: str, wrong: float
) -> None:
    save_roles(roles, tmp_path)
    getattr(roles, name)[0, 0, 0] = wrong
    tensors = {"values": roles.values, "errors": roles.errors}
    save_file(tensors, tmp_path / "roles.safetensors")
    with pytest.raises(InputError, match=rf"roles\.safetensors: `{name}` has a number that is not finite"):
        load_roles(tmp_path)


def changed(**fields: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        about = json.loads((folder / "roles.json").read_text())
        (folder / "roles.json").write_text(json.dumps({**about, **fields}))

    return change


def without(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        about = json.loads((folder / "roles.json").read_text())
        del about[name]
        (folder / "roles.json").write_text(json.dumps(about))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "roles.json").write_text('{"graph"'), "is not whole JSON"),
        (lambda folder: (folder / "roles.json").write_text("[]"), "holds a JSON list"),
        (lambda folder: (folder / "roles.safetensors").unlink(), "holds no whole role scores"),
        (
            lambda folder: (folder / "roles.safetensors").write_bytes(
                (folder / "roles.safetensors").read_bytes()[:-9]
            ),
            "holds no whole role scores",
        ),
        (changed(graph=None), "a graph is None, expected names and values"),
        *(
            (
                changed(n_pairs=wrong),
                rf"roles\.json: `n_pairs` is {wrong!r}, expected a whole number of at least 1$",
            )
            for wrong in ("x", 0, -3, 2.5, True, None)
        ),
        (changed(metric=3), "`metric` is 3, expected the name of a metric"),
        (changed(edit=None), "`edit` is None, expected the name of an edit"),
        (changed(roles="sql.table"), "`roles` is 'sql.table', expected a list of roles' names"),
        (changed(roles=[1]), r"`roles` is \[1\], expected a list of roles' names"),
        (without("n_pairs"), "roles.json: `n_pairs` is not there, expected a whole number of at least 1"),
        (changed(roles=["sql.table"]), r"has shape \(3, .*\), expected \(1, "),
        (changed(graph=Graph("*", n_heads=1).to_json()), r"has shape .*, expected \(3, 2, 4\)"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(roles: RoleScores, tmp_path: Path, damage, reason) -> None:
    save_roles(roles, tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as refused:
        load_roles(tmp_path)
    assert re.search(reason, refused.value.message)
