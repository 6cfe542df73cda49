"""Probes of training runs -> one picture: rows wrong against tokens trained on, a colour a recipe, a line a seed.

    python benchmarks/learning_curves.py runs/bm1-0 runs/t33-0 --out curves.html
    python benchmarks/learning_curves.py 'docs/results/training.json#today/1.57G tokens'/bm1-{0,1,2} --out curves.png

A run is a directory RECIPE-SEED with a `metrics.jsonl`, as `accuracy.py` makes it in `OUT/runs`, or what such runs
left in a JSON file: FILE#A/B is what stands there under `A`, then `B`, with or without `probes` of its own: lists that
begin with step, share right and tokens. A probe with nothing wrong has no place on a logarithmic axis and is refused.
A PNG is drawn by a headless Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from tinysql.training.loop import read_log

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#e69f00", "#009e73", "#56b4e9", "#0072b2", "#cc79a7", "#d55e00")
"""Okabe and Ito's, told apart by colour-blind readers."""
TICKS = tuple(leading * 10.0**power for power in range(-2, 6) for leading in (1, 2, 5))
WIDTH, HEIGHT = 1024, 560
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Curve(NamedTuple):
    """The probes of one run."""

    recipe: str
    seed: int
    tokens: tuple[int, ...]
    """Trained on when the probe was asked."""
    right: tuple[float, ...]
    """Share of the probe's rows whose whole answer was right, between 0 and 1."""


def read_curve(source: str) -> Curve:
    """The probes of a run directory, or of `FILE#A/B`.

    Raises:
        InputError: there are none, the name says neither recipe nor seed, or a probe had nothing wrong.
    """
    file, _, address = source.partition("#")
    parts = address.split("/") if address else [Path(source).name]
    recipe, _, seed = "-".join(parts[-2:] if parts[-1].isdigit() else parts[-1:]).rpartition("-")
    if not recipe or not seed.isdigit():
        raise InputError(
            f"`{source}` names no recipe and seed", hint="a run is called RECIPE-SEED, such as bm1-0"
        )
    probes = _addressed(Path(file), parts, source) if address else _logged(Path(source))
    if not probes:
        raise InputError(f"`{source}` has no probes", hint="train with train.probe_every below the steps")
    if any(right >= 1 for right, _ in probes):
        raise InputError(
            f"`{source}` has a probe with nothing wrong, which no logarithmic axis shows",
            hint="ask more rows: train.probe_rows",
        )
    return Curve(recipe, int(seed), tuple(int(tokens) for _, tokens in probes), tuple(r for r, _ in probes))


def _logged(run: Path) -> list[tuple[float, int]]:
    return [(one["probe"], one["tokens"]) for one in read_log(run / "metrics.jsonl") if "probe" in one]


def _addressed(file: Path, parts: Sequence[str], source: str) -> list[tuple[float, int]]:
    found = read_json(file)
    for part in parts:
        if not isinstance(found, dict) or part not in found:
            there = ", ".join(found) if isinstance(found, dict) else "a list"
            raise InputError(f"`{source}`: there is no `{part}`", hint=f"there: {there}")
        found = found[part]
    if isinstance(found, dict):
        found = found.get("probes", [])
    return [(right, tokens) for _, right, tokens, *_ in found]


def curves_figure(curves: Sequence[Curve], title: str) -> Figure:
    """Per cent of the probe's rows wrong against tokens, both axes logarithmic."""
    from plotly.graph_objects import Figure, Scatter

    recipes = list(dict.fromkeys(curve.recipe for curve in curves))
    figure = Figure()
    for curve in curves:
        seeds = [str(one.seed) for one in curves if one.recipe == curve.recipe]
        figure.add_trace(
            Scatter(
                x=[tokens / 1e6 for tokens in curve.tokens],
                y=[100 * (1 - right) for right in curve.right],
                name=f"{curve.recipe} (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})",
                legendgroup=curve.recipe,
                showlegend=str(curve.seed) == seeds[0],
                mode="lines+markers",
                opacity=0.8,
                marker={"size": 5},
                line={"color": COLOURS[recipes.index(curve.recipe) % len(COLOURS)], "width": 1.6},
            )
        )
    figure.update_layout(
        title={"text": title, "x": 0.02},
        template="plotly_white",
        font={"family": "sans-serif", "size": 14},
        width=WIDTH,
        height=HEIGHT,
        margin={"l": 80, "r": 30, "t": 60, "b": 70},
        legend={"x": 0.02, "y": 0.04, "yanchor": "bottom", "bgcolor": "white"},
        xaxis={"title": {"text": "tokens trained on (millions, log scale)"}, "type": "log"},
        yaxis={"title": {"text": "rows of the probe wrong (per cent, log scale)"}, "type": "log"},
    )
    marks = {"tickvals": TICKS, "ticktext": [f"{tick:,.10g}" for tick in TICKS]}
    figure.update_xaxes(marks)
    figure.update_yaxes(marks)
    return figure


def write_picture(figure: Figure, out: Path) -> None:
    """An HTML page that opens from disk, or a PNG of it, beside and then renamed.

    Raises:
        InputError: the name is of neither, or there is no Chromium for a PNG.
    """
    page = figure.to_html(include_plotlyjs=True, config={"displayModeBar": False})
    if out.suffix == ".html":
        write_atomic(out, page)
        return
    if out.suffix != ".png":
        raise InputError(f"`{out}` is neither a .png nor a .html", hint="give --out one of these endings")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise InputError(
            "a PNG needs Chromium, and there is none", hint="give --out a name that ends in .html"
        )
    with tempfile.TemporaryDirectory() as work:
        html, png = Path(work) / "page.html", Path(work) / "page.png"
        html.write_text(
            page.replace("<head>", "<head><style>body { margin: 0 }</style>", 1), encoding="utf-8"
        )
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += [f"--user-data-dir={work}/browser", f"--window-size={WIDTH},{HEIGHT}"]
        command += ["--no-first-run", "--virtual-time-budget=15000", f"--screenshot={png}", html.as_uri()]
        subprocess.run(command, capture_output=True, timeout=120, check=True)
        write_atomic(out, png.read_bytes())


def main() -> int:
    """Draw; 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a directory RECIPE-SEED, or FILE.json#A/B")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png or .html")
    parser.add_argument("--title", default="Held-back rows whose whole answer is not right, on the way")
    arguments = parser.parse_args()
    try:
        write_picture(
            curves_figure([read_curve(run) for run in arguments.runs], arguments.title), arguments.out
        )
    except InputError as error:
        print(f"learning_curves: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
