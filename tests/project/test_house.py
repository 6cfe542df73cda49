"""Habits that hold for the whole house."""

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("data_gen", "tinysql", "saes", "circuits", "transfer")
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_begins_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert re.search(r"[.?:]$", docstring.splitlines()[0]), docstring.splitlines()[0]


def test_no_room_is_called_utils() -> None:
    banned = {"utils", "common", "helpers", "misc", "configs", "scripts"}
    assert [name for name in names(MODULES) if banned & set(Path(name).with_suffix("").parts)] == []


def test_files_stay_readable() -> None:
    # Lists of words are looked things up in, not read.
    lists = {"words.py", "wording.py"}
    assert [
        name
        for name, path in zip(names(MODULES), MODULES, strict=True)
        if len(path.read_text().splitlines()) > 400 and path.name not in lists
    ] == []


def test_nothing_is_unpickled() -> None:
    pickled = re.compile(r"\bpickle\b|(?<!safetensors\.)torch\.(load|save)\(|\bjoblib\b|\bdill\b")
    assert [
        name for name, path in zip(names(MODULES), MODULES, strict=True) if pickled.search(path.read_text())
    ] == []


def test_tests_are_no_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_exists(package: str) -> None:
    from importlib import import_module

    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    # Also after the modules of the same names were imported: `circuits.eap` is the function.
    assert [name for name in module.__all__ if inspect.ismodule(getattr(module, name))] == []
