"""The report is one file that needs no network, and a browser draws its figures."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tinysql.cli import main


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("report") / "run"
    assert main(["train", "tiny", "--out", str(run)]) == 0
    assert main(["eval", str(run), "--rows", "20"]) == 0
    assert main(["circuit", "find", str(run), "--edit", "select.0.column", "--pairs", "8"]) == 0
    assert main(["report", str(run)]) == 0
    return run / "report.html"


def test_the_report_loads_nothing_from_elsewhere(report: Path) -> None:
    page = re.sub(r"<script>.*?</script>", "", report.read_text(), flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", page) == []
    assert "Plotly.newPlot" in report.read_text()


def test_the_report_has_a_section_for_every_artefact(report: Path) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", report.read_text())
    assert titles == ["Sample rows", "Training", "Accuracy on unseen schemas", "Circuit: select.0.column"]


@pytest.mark.browser
def test_a_browser_draws_every_figure(report: Path, in_browser: Callable[..., str]) -> None:
    page = in_browser(report.as_uri())
    assert page.count('<svg class="main-svg"') >= page.count('class="plotly-graph-div') == 3
