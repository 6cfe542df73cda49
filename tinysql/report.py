"""Run directory -> one self-contained report.html that opens from disk without a network."""

from __future__ import annotations

import html
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from data_gen.errors import InputError
from data_gen.files import write_atomic
from data_gen.outputs import claim_file
from tinysql.floors import load_ours

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from tinysql.runs import Run

PAGES = ("tinysql.pages", "circuits.pages", "saes.pages")
"""Modules with `sections(run: Path) -> list[Section]`."""


class Section(NamedTuple):
    """One part of a report."""

    title: str
    html: str
    order: int
    """Sections appear by ascending order: 1 overall, 10 data, 20 training, 30 grades, 40 circuits, 50 SAEs."""


def figure_html(figure: Figure) -> str:
    """A plotly figure as a fragment, to be scrolled where the window is narrower than it is.

    The page carries plotly's script once, in its head.
    """
    settings = {"displaylogo": False, "responsive": True}
    inner = figure.to_html(full_html=False, include_plotlyjs=False, config=settings)
    return f'<div class="scroll">{inner}</div>'


def write_report(run: Run) -> Path:
    """Collect every package's sections about `run` and write `report.html`, whole or not at all."""
    from plotly.offline import get_plotlyjs

    path = claim_file(run.path / "report.html")
    sections = sorted((s for page in PAGES for s in _sections(page, run.path)), key=lambda s: s.order)
    made = run.config.get("made_by", {})
    facts = [f"{key}: {made[key]}" for key in ("command", "commit", "date", "device") if made.get(key)]
    write_atomic(path, page(f"tinysql run {run.path.name}", facts, sections, get_plotlyjs()))
    return path


def _sections(module: str, run: Path) -> list[Section]:
    """A package's sections; `InputError` when an artefact they are made from is not what its maker wrote."""
    try:
        found: list[Section] = load_ours(module).sections(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        reason = f"no {error}" if isinstance(error, KeyError) else f"{type(error).__name__} {error}"
        raise InputError(
            f"an artefact in {run} is not as it was written ({module}: {reason})",
            hint="make it again with the command that its `made_by` names",
        ) from error
    return found


def page(title: str, facts: list[str], sections: list[Section], script: str) -> str:
    """The whole document."""
    style = files("tinysql").joinpath("report.css").read_text()
    links = "".join(f'<a href="#s{i}">{html.escape(s.title)}</a>' for i, s in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{html.escape(s.title)}</h2>{s.html}</section>'
        for i, s in enumerate(sections)
    )
    made = "".join(f'<p class="made">{html.escape(fact)}</p>' for fact in facts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style><script>{script}</script></head>"
        f"<body><header><h1>{html.escape(title)}</h1>{made}</header>"
        f"<main><nav>{links}</nav><article>{body}</article></main></body></html>\n"
    )
