"""The picture of learning curves: which probes are read, a colour a recipe, and what is refused."""

import importlib
import json
import struct
import sys
from pathlib import Path

import pytest

from data_gen.errors import InputError

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
curves = importlib.import_module("benchmarks.learning_curves")
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it

PROBES = [[9, 0.25, 1_000_000], [19, 0.75, 2_000_000]]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    found = {"today": {"a-0": {"probes": PROBES}, "a-1": {"probes": PROBES}}, "probes": {"b": {"2": PROBES}}}
    found["today"]["c-0"] = {"probes": [[9, 1.0, 5]]}
    path.write_text(json.dumps(found))
    return path


def test_a_log_and_a_file_of_results_give_the_same_curve(kept: Path, tmp_path: Path) -> None:
    run = tmp_path / "a-0"
    run.mkdir()
    lines = [{"step": step, "probe": right, "tokens": tokens} for step, right, tokens in PROBES]
    log = "".join(json.dumps(line) + "\n" for line in [{"step": 4, "tokens": 500_000}, *lines])
    (run / "metrics.jsonl").write_text(log)
    expected = curves.Curve("a", 0, (1_000_000, 2_000_000), (0.25, 0.75))
    assert curves.read_curve(str(run)) == expected
    assert curves.read_curve(f"{kept}#today/a-0") == expected
    assert curves.read_curve(f"{kept}#probes/b/2") == expected._replace(recipe="b", seed=2)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("today/a-3", "there is no `a-3`"),
        ("today/c-0", "a probe with nothing wrong"),
        ("today", "names no recipe and seed"),
        ("probes/b/2/0/x-1", "there is no `0`"),
    ],
)
def test_what_has_no_curve_is_refused(kept: Path, address: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        curves.read_curve(f"{kept}#{address}")


def test_a_recipe_has_one_colour_and_one_line_in_the_legend(kept: Path) -> None:
    read = [curves.read_curve(f"{kept}#{address}") for address in ("today/a-0", "today/a-1", "probes/b/2")]
    first, second, other = curves.curves_figure(read, "t").data
    assert tuple(first.y) == (75.0, 25.0)
    assert tuple(first.x) == (1.0, 2.0)
    assert first.line.color == second.line.color != other.line.color
    assert (first.showlegend, second.showlegend, other.showlegend) == (True, False, True)
    assert (first.name, other.name) == ("a (seeds 0, 1)", "b (seed 2)")


def test_pages_are_written_and_other_endings_refused(kept: Path, tmp_path: Path) -> None:
    figure = curves.curves_figure([curves.read_curve(f"{kept}#today/a-0")], "Rows wrong")
    curves.write_picture(figure, tmp_path / "curves.html")
    assert "Rows wrong" in (tmp_path / "curves.html").read_text()
    with pytest.raises(InputError, match="neither a .png nor a .html"):
        curves.write_picture(figure, tmp_path / "curves.jpg")


@pytest.mark.browser
@pytest.mark.usefixtures("chromium")
def test_a_png_is_as_large_as_it_says(kept: Path, tmp_path: Path) -> None:
    figure = curves.curves_figure([curves.read_curve(f"{kept}#today/a-0")], "Rows wrong")
    curves.write_picture(figure, tmp_path / "curves.png")
    head = (tmp_path / "curves.png").read_bytes()[:24]
    assert head[:4] == b"\x89PNG"
    assert struct.unpack(">II", head[16:]) == (curves.WIDTH, curves.HEIGHT)
