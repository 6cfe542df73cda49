"""A page of circuits is one file that opens from disk: a browser draws it without an error, and the slider moves."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from circuits.circuit import Circuit
from circuits.files.role_files import save_roles
from circuits.graph import Edge, Graph
from circuits.judging.compare import chance_jaccard, compare
from circuits.methods.role_scores import RoleScores
from circuits.pages import ROWS, sentence, write_difference, write_page
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
    return re.sub(r"<script>.*?</script>|<wbr>", "", page.read_text(), flags=re.DOTALL)


def test_a_page_has_every_edit_and_loads_nothing_from_elsewhere(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "page.html")
    text = without_scripts(tmp_path / "page.html")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [*(f"Circuit: {edit}" for edit in EDITS), "Circuits side by side"]
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", text) == []
    assert (tmp_path / "page.html").read_text().count("plotly.js v") == 1, "the library stands in it once"


def test_a_page_of_one_edit_has_that_alone(run: Path, tmp_path: Path) -> None:
    write_page(run, tmp_path / "all.html")
    assert "<title>Circuits of run</title>" in (tmp_path / "all.html").read_text()
    write_page(run, tmp_path / "page.html", edit=EDITS[1])
    assert f"<title>Circuit of run: {EDITS[1]}</title>" in (tmp_path / "page.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", without_scripts(tmp_path / "page.html")) == [f"Circuit: {EDITS[1]}"]
    with pytest.raises(
        InputError, match="holds no circuit of edit `schema.tabel`; did you mean `schema.table`"
    ):
        write_page(run, tmp_path / "page.html", edit="schema.tabel")


def table(text: str, number: int = 0) -> list[list[str]]:
    """A page's table as text, line by line."""
    found = re.findall(r"<table.*?</table>", text, re.DOTALL)[number]
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", found)
    ]


def test_the_table_holds_the_strongest_edges_with_interval_sign_and_q(run: Path, tmp_path: Path) -> None:
    found = scores(0)
    top_edges(found, ROWS + 5).save(run / "circuits" / EDITS[0] / "circuit.json")
    write_page(run, tmp_path / "page.html", edit=EDITS[0])
    head, *rows = table(without_scripts(tmp_path / "page.html"))
    assert head == ["edge", "score (logit_diff)", "95 % interval", "same sign", "q"]
    assert rows == [
        [
            row["edge"].replace("->", "→"),
            f"{row['score']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            f"{row['same_sign']:.0%}",
            f"{row['q']:.2g}",
        ]
        for row in found.table(ROWS)
    ]
    assert {float(row[1]) > 0 for row in rows} == {True, False}


def test_with_roles_the_table_says_where_an_edge_is_read_most(run: Path, tmp_path: Path) -> None:
    found = scores(0)
    parts = torch.stack([0.25 * found.values, 0.75 * found.values])
    save_roles(
        RoleScores(
            graph=GRAPH,
            roles=("english", "sql"),
            values=parts,
            errors=parts.abs() / 7,
            metric="logit_diff",
            edit=EDITS[0],
            n_pairs=4,
        ),
        run / "circuits" / EDITS[0],
    )
    write_page(run, tmp_path / "page.html", edit=EDITS[0])
    head, *rows = table(without_scripts(tmp_path / "page.html"))
    assert head[5] == "read most at (score there)"
    drawn = (tmp_path / "page.html").read_text()
    assert "most at sql: " in drawn, "the drawn edges say it too"
    assert "same sign in " in drawn
    assert [row[5] for row in rows] == [f"sql ({0.75 * found[edge]:.2f})" for edge in found.ranked()[:12]]


def test_circuits_side_by_side_say_their_sizes_and_how_alike_they_are(run: Path, tmp_path: Path) -> None:
    second = top_edges(scores(1), 7)
    second.save(run / "circuits" / EDITS[1] / "circuit.json")
    write_page(run, tmp_path / "page.html")
    text = without_scripts(tmp_path / "page.html")
    found = compare(top_edges(scores(0), 12), second)
    cell = f"{found.jaccard:.2f} ({found.chance_jaccard:.2f})"
    own = [f"1.00 ({chance_jaccard(n, n, len(GRAPH.edges)):.2f})" for n in (12, 7)]
    assert table(text, 2) == [
        ["circuit", "edges", *EDITS],
        [EDITS[0], "12", own[0], cell],
        [EDITS[1], "7", cell, own[1]],
    ]
    assert f"{found.shared} edges are in all of them." in text


def paragraphs(page: Path) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<p>(.*?)</p>", without_scripts(page))]


@pytest.mark.parametrize(
    ("select", "how"),
    [
        ("top", ""),
        ("greedy", ", grown backwards from the logits"),
        ("significant", ", the significant ones"),
        (["?"], ""),
    ],
)
def test_a_section_says_how_its_circuit_was_found_and_its_strongest_edge(
    run: Path, tmp_path: Path, select: object, how: str
) -> None:
    edges = (Edge("embed", "logits"), Edge("embed", "blocks.1.attn.q.0"))
    about = {
        "scores": {str(edges[0]): 1.5, str(edges[1]): -2.5},
        "method": "eap & <co>",
        "metric": "logit_diff",
        "settings": {"select": select, "pairs": 48, "seed": 3},
        "made_by": {"commit": "abc123", "date": "2026-11-26", "device": "cpu", "versions": {}},
    }
    Circuit(GRAPH, edges, about).save(run / "circuits" / EDITS[0] / "circuit.json")
    write_page(run, tmp_path / "page.html", edit=EDITS[0])
    assert (
        f"2 of {len(GRAPH.edges)} edges{how}, by eap & <co> on 48 pairs drawn with seed 3. The strongest is embed →"
        " blocks.1.attn.q.0, -2.5 in logit_diff."
    ) in paragraphs(tmp_path / "page.html")
    text = without_scripts(tmp_path / "page.html")
    assert "<co>" not in text
    assert all(fact in text for fact in ("commit: abc123", "date: 2026-11-26", "device: cpu"))


def test_a_leftover_of_a_finding_that_was_stopped_has_no_page(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "circuits" / EDITS[0], run / "circuits" / ".half.1.tmp")
    write_page(run, tmp_path / "page.html")
    assert "half" not in without_scripts(tmp_path / "page.html")


def test_a_difference_says_how_much_is_shared_against_chance(tmp_path: Path) -> None:
    first, second = top_edges(scores(0), 12), top_edges(scores(1), 7)
    found = compare(first, second)
    write_difference(first, second, EDITS, tmp_path / "page.html")
    drawn = (tmp_path / "page.html").read_text()
    assert f"<title>Two circuits: {EDITS[0]} and {EDITS[1]}</title>" in drawn
    assert f"only {EDITS[0]}: {len(found.only_first)}" in drawn
    assert f"only {EDITS[1]}: {len(found.only_second)}" in drawn
    assert paragraphs(tmp_path / "page.html") == [
        f"{found.shared} edges are in both circuits, of 12 and 7 among {len(GRAPH.edges)}: a Jaccard index of"
        f" {found.jaccard:.3f}. Two random circuits of these sizes share {found.chance_shared:.1f} edges on average"
        f" (index {found.chance_jaccard:.3f}), and at least as many as these with probability {found.p:.2g}."
    ]


def test_a_report_is_told_number_by_number() -> None:
    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    def mean(value: float) -> dict[str, float]:
        return {"mean": value, "low": value - 0.01, "high": value + 0.01}

    report = {
        "n_pairs": 24,
        "n_edges": 12,
        "random_circuits": 20,
        "faithfulness": estimate(0.9),
        "completeness": estimate(0.1),
        "random": mean(0.2),
        "matched": mean(0.3),
        "sufficiency": {"share": 0.95, "p": 2 / 21},
        "minimality": {"share": 0.75, "tested": 8, "redundant": ["embed -> logits"]},
    }
    written = {
        "report": report,
        "curve": {"areas": {"cmd": {"value": estimate(0.25)}, "cpr": {"value": estimate(0.75)}}},
        "stability": {"jaccard": 0.85, "chance": 0.05, "stable": True, "bar": 0.8},
        "agreement": {
            "method": "eap-ig",
            "n_pairs": 6,
            "pearson": estimate(0.7),
            "top": 20,
            "top_shared": 0.65,
        },
    }
    assert sentence(written) == (
        "On 24 held-out pairs the circuit alone reaches a faithfulness of 0.900 (95 % interval 0.850 to 0.950); 1 is"
        " the full model, 0 the corrupt run. 20 random circuits of 12 edges reach on average 0.200 (5-95 %: 0.190 to"
        " 0.210), 20 with as many edges between every two blocks 0.300 (5-95 %: 0.290 to 0.310); the circuit is more"
        " faithful than 95% of these (p = 0.095). Everything outside the circuit reaches 0.100 (95 % interval 0.050 to"
        " 0.150). 75% of 8 edges, left out alone, change more than 90 % of random edges do, and 1 are redundant. CMD is"
        " 0.250 (95 % interval 0.200 to 0.300) and CPR 0.750 (95 % interval 0.700 to 0.800). When the pairs it was"
        " found on are drawn anew, the top edges have a mean Jaccard index of 0.850 (0.050 by chance), at least the bar"
        " of 0.8. On 6 of these pairs every edge was patched one at a time: the Pearson correlation of eap-ig with what"
        " was measured is 0.700 (95 % interval 0.650 to 0.750), and 65% of the top 20 edges are the same."
    )
    alone = {**written["report"], "n_pairs": 1, "random_circuits": 1, "n_edges": 1}
    assert sentence({**written, "report": alone}).startswith("On 1 held-out pair the circuit alone ")
    assert " 1 random circuit of 1 edge reaches on average 0.200 " in sentence({**written, "report": alone})
    unstable = {**written, "stability": {**written["stability"], "stable": False, "jaccard": 0.5}}
    assert "0.500 (0.050 by chance), below the bar of 0.8" in sentence(unstable)
    bare = {"report": {**report, "minimality": None}, "curve": {}}
    assert sentence(bare).endswith(
        "Everything outside the circuit reaches 0.100 (95 % interval 0.050 to 0.150)."
    )


def test_a_run_without_circuits_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no circuit\n.*--edit schema.table$"):
        write_page(tmp_path, tmp_path / "page.html")
    with pytest.raises(
        InputError, match="holds no circuit of edit `select.0.column`\n.*--edit select.0.column$"
    ):
        write_page(tmp_path, tmp_path / "page.html", edit="select.0.column")


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
    found, said, *_ = paragraphs(tmp_path / "page.html")
    assert found.startswith(f"12 of {len(GRAPH.edges)} edges")
    assert said == sentence(written)
    text = without_scripts(tmp_path / "page.html")
    assert text.index("held-out pairs") < text.index("plotly-graph-div"), "words stand before what is drawn"
    assert "reach on average 0.100 (5-95 %: 0.000 to 0.200)" in said
    assert (tmp_path / "page.html").read_text().count("Plotly.newPlot(") == 3, "two graphs and a curve"
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


MEASURE = """<script>window.addEventListener("load", () => {
  for (const table of document.querySelectorAll("table"))
    table.dataset.beyond = table.getBoundingClientRect().right - table.parentElement.getBoundingClientRect().right;
});</script>"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [800, 1200])
def test_in_a_browser_no_table_is_cut_off(
    run: Path, tmp_path: Path, in_browser: Callable[..., str], width: int
) -> None:
    page, roles = tmp_path / "page.html", ("english.order_by.0.direction", "sql.select.keyword")
    parts = torch.randn(2, *GRAPH.mask.shape, generator=torch.Generator().manual_seed(0)) * torch.from_numpy(
        GRAPH.mask
    )
    found_roles = RoleScores(
        graph=GRAPH,
        roles=roles,
        values=parts,
        errors=parts.abs(),
        metric="logit_diff",
        edit=EDITS[0],
        n_pairs=4,
    )
    save_roles(found_roles, run / "circuits" / EDITS[0])
    write_page(run, page)
    page.write_text(page.read_text().replace("<head>", f"<head>{MEASURE}", 1))
    found = in_browser(page.as_uri(), f"--window-size={width},1600")
    beyond = [float(end) for end in re.findall(r'<table[^>]* data-beyond="([^"]+)"', found)]
    assert "read most at" in found
    assert len(beyond) >= 3
    assert max(beyond) < 1
