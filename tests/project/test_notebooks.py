"""Every notebook runs from top to bottom, on a model that takes seconds to train."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tinysql.cli import main

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PATIENCE = 1800
"""Seconds for a cell, and for the start of a kernel: they end what hangs; a full machine takes five times as long."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("notebooks") / "run"
    assert main(["train", "tiny", "--out", str(path)]) == 0
    assert main(["sae", "train", str(path), "--rows", "200", "--set", "steps=20"]) == 0
    return path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def test_a_notebook_runs(path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYSQL_RUN", str(run))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=PATIENCE, startup_timeout=PATIENCE, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("application/vnd.plotly.v1+json" in output.get("data", {}) for output in outputs)
    # A page begins with no warning of a library about what is not installed.
    assert [output["text"] for output in outputs if "Warning" in output.get("text", "")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
