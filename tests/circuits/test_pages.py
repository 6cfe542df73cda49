"""A page of circuits is one file that opens from disk: a browser draws it without an error, and the slider moves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph
from circuits.pages import write_difference, write_page
from circuits.scores import EdgeScores
from circuits.select import top_edges
from data_gen.errors import InputError

GRAPH = Graph("M*E", n_heads=2, n_kv_heads=1, mamba_heads=2, n_experts=3)
EDITS = ("order_by.0.direction", "schema.table")

WATCH = """<script>
window.said = [];
// A window that nobody looks at draws no frames, and the slider waits for one.
window.requestAnimationFrame = call => setTimeout(() => call(performance.now()), 16);
window.onerror = message => { window.said.push(String(message)); };
const complain = console.error;
console.error = (...words) => { window.said.push(words.join(" ")); complain(...words); };
</script>"""
"""Stands first in the page, and hears what goes wrong."""
MOVE = """<script>
const plot = document.querySelector(".plotly-graph-div");
const seen = () => plot.querySelectorAll(".scatterlayer .trace path.js-line").length;
setTimeout(() => {
  const before = seen(), rail = plot.querySelector(".slider-rail-touch-rect"), box = rail.getBoundingClientRect();
  const at = {bubbles: true, clientX: box.left + 1, clientY: box.top + box.height / 2};
  rail.dispatchEvent(new MouseEvent("mousedown", at));
  document.dispatchEvent(new MouseEvent("mouseup", at));
  setTimeout(() => {
    document.body.dataset.found = [before, seen(), window.said.length, window.said.join(";")].join("|");
  }, 3000);
}, 2000);
</script>"""
"""Stands last: takes the slider to its first stop, and writes down the drawn lines before and after, and the errors."""


def scores(seed: int) -> EdgeScores:
    values = torch.randn(4, *GRAPH.mask.shape, generator=torch.Generator().manual_seed(seed))
    return EdgeScores(
        graph=GRAPH,
        per_example=values * torch.from_numpy(GRAPH.mask),
        method="eap",
        metric="logit_diff",
        edit=EDITS[seed],
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of which only two circuits are there."""
    for seed, edit in enumerate(EDITS):
        folder = tmp_path / "run" / "circuits" / edit
        scores(seed).save(folder)
        top_edges(scores(seed), 12).save(folder / "circuit.json")
    return tmp_path / "run"


def without_scripts(page: Path) -> str:
    return re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)


def test_a_page_has_every_edit_and_loads_nothing_from_elsewhere(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "page.html")
    text = without_scripts(tmp_path / "page.html")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [*(f"Circuit: {edit}" for edit in EDITS), "Circuits side by side"]
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", text) == []
    assert (tmp_path / "page.html").read_text().count("plotly.js v") == 1, "the library stands in it once"


def test_a_page_of_one_edit_has_that_alone(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "page.html", edit=EDITS[1])
    assert re.findall(r"<h2>(.*?)</h2>", without_scripts(tmp_path / "page.html")) == [f"Circuit: {EDITS[1]}"]


def test_a_run_without_circuits_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no circuit"):
        write_page(tmp_path, tmp_path / "page.html")


def test_circuits_of_unlike_models_are_not_set_side_by_side(run: Path, tmp_path: Path) -> None:
    other = Graph("*", n_heads=1)
    Circuit(other, (Edge("embed", "logits"),)).save(run / "circuits" / EDITS[0] / "circuit.json")
    values = torch.ones(2, *other.mask.shape) * torch.from_numpy(other.mask)
    EdgeScores(graph=other, per_example=values, method="m", metric="m", edit=EDITS[0]).save(
        run / "circuits" / EDITS[0]
    )
    write_page(run, tmp_path / "page.html")
    assert "side by side" not in without_scripts(tmp_path / "page.html")


@pytest.mark.parametrize(
    "damage",
    [
        lambda written: {},
        lambda written: {**written, "curve": None},
        lambda written: {**written, "report": {**written["report"], "random": None}},
        lambda written: {**written, "report": {**written["report"], "faithfulness": {"value": "x"}}},
        lambda written: {
            **written,
            "report": {**written["report"], "n_pairs": None, "matched": {"mean": "x"}},
        },
    ],
)
def test_a_report_that_is_none_is_refused_with_its_name(run: Path, tmp_path: Path, damage) -> None:
    number, estimate = {"mean": 0.1, "low": 0.0, "high": 0.2}, {"value": 0.9, "low": 0.8, "high": 1.0}
    report = {"random_circuits": 3, "n_pairs": 4, "n_edges": 12, "random": number, "matched": number}
    report |= {"faithfulness": estimate, "completeness": estimate, "sufficiency": {"share": 1.0, "p": 0.25}}
    counts = {"n_pairs": 4, "n_edges_model": 30, "random_circuits": 3, "seed": 1}
    point = {"n_edges": 12, "faithfulness": estimate, "random": number}
    curve = {"edit": EDITS[0], "method": "m", "metric": "m", **counts, "points": [point]}
    written, file = {"report": report, "curve": curve}, run / "circuits" / EDITS[0] / "report.json"
    file.write_text(json.dumps(written))
    write_page(run, tmp_path / "page.html")
    assert "reach on average 0.100 (5-95 %: 0.000 to 0.200)" in (tmp_path / "page.html").read_text()
    file.write_text(json.dumps(damage(written)))
    with pytest.raises(InputError, match=r"report.json is no report on a circuit|not a faithfulness curve"):
        write_page(run, tmp_path / "page.html")


def visited(page: Path, in_browser: Callable[..., str]) -> list[str]:
    """Lines before and after the slider moved, the number of errors and the errors."""
    watched = page.with_name("watched.html")
    text = page.read_text().replace("<head>", f"<head>{WATCH}", 1)
    head, _, foot = text.rpartition("</body>")
    watched.write_text(f"{head}{MOVE}</body>{foot}")
    dom = in_browser(watched.as_uri(), "--window-size=1200,1600")
    (found,) = re.findall(r'data-found="(.*?)"', dom)
    return found.split("|")


@pytest.mark.browser
def test_in_a_browser_the_slider_leaves_the_strongest_edge_and_nothing_complains(
    run: Path, tmp_path: Path, in_browser: Callable[..., str]
) -> None:
    write_page(run, tmp_path / "page.html")
    before, after, errors, said = visited(tmp_path / "page.html", in_browser)
    assert (errors, said) == ("0", "")
    assert int(before) >= 12
    # One edge, perhaps with the bracket over what it is read by.
    assert int(after) in (1, 2)


@pytest.mark.browser
def test_in_a_browser_a_difference_is_drawn(tmp_path: Path, in_browser: Callable[..., str]) -> None:
    first, second = (top_edges(scores(seed), 12) for seed in (0, 1))
    write_difference(first, second, EDITS, tmp_path / "difference.html")
    before, after, errors, said = visited(tmp_path / "difference.html", in_browser)
    assert (errors, said) == ("0", "")
    assert int(before) >= len({*first.edges, *second.edges})
    assert int(after) in (1, 2)
