"""RUN/saes/*/ -> the report's sections on SAEs: roles covered beside controls, and the best latents."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.files import read_json
from saes import choices
from saes.places import found
from saes.truth.artefacts import read_truth
from tinysql.report import Section, figure_html

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from saes.truth.alignment import Alignment
    from saes.truth.context import TopToken
    from saes.truth.scoring import LatentScore, Scores

ORDER = 50
LATENTS = 24
"""Latents listed per SAE."""
EXAMPLES = 4
"""Example tokens shown per latent."""

MARKS = {
    "SAE": ("#0072B2", "circle"),
    "random SAE": ("#D55E00", "diamond-open"),
    "neurons": ("#009E73", "square-open"),
    "label permutation": ("#6e7781", "x-thin-open"),
    "principal components": ("#CC79A7", "triangle-up-open"),
    "SAE of untrained model": ("#E69F00", "diamond-tall-open"),
    "dense probe": ("#000000", "line-ns-open"),
}
"""Okabe and Ito's colours, and a shape each, so that no meaning hangs on colour alone."""


def sections(run: Path) -> list[Section]:
    """One section for every grid that one was chosen of, and for every SAE of the run that was scored."""
    return choices.sections(run) + [
        _section(run / "saes" / name, name)
        for name in found(run)
        if (run / "saes" / name / "truth.json").exists()
    ]


def _section(path: Path, name: str) -> Section:
    alignment = read_truth(path)
    looks = read_json(path / "metrics.json").get("watched", [])
    watched = figure_html(choices.watched_figure(looks)) if looks else ""
    body = _intro(path, alignment) + figure_html(role_figure(alignment)) + watched + _latents(alignment)
    return Section(f"Sparse autoencoder {name}", body, ORDER)


def _intro(path: Path, alignment: Alignment) -> str:
    metrics, own = read_json(path / "metrics.json"), alignment.sae
    best = {scores.name: scores for scores in (*alignment.controls, *alignment.ceilings)}
    beside = ", ".join(f"{name} {_share(scores)}" for name, scores in best.items())
    return (
        f"<p>{len(own.roles)} roles and {alignment.n_latents} latents at "
        f"<code>{html.escape(alignment.hook)}</code>, trained on {metrics['tokens']:,} tokens of the training split; "
        f"scored on {alignment.tokens:,} tokens of {alignment.examples:,} test rows with unseen schemas. "
        f"Fraction of variance unexplained {own.fvu:.3f}, {own.l0:.1f} latents active per token, "
        f"{alignment.dead} never active. "
        f"<b>Mean F1 of the best latent per role: {_share(own)}</b>; beside it {html.escape(beside)}.</p>"
        "<p>A latent detects a role when it is active above a threshold. Threshold, latent and role are chosen on one "
        "half of the rows and everything shown is measured on the other; intervals are 95 %, from resampling rows. "
        f"The random {alignment.form} has random directions, the label permutation shuffles roles within each row, and "
        "neurons are the two signs of each dimension of the activation. Probes are logistic regressions, of the "
        "latents that detect a role best or of the whole activation: what there is to find.</p>"
    )


def _share(scores: Scores) -> str:
    low, high = scores.coverage_interval
    return f"{scores.coverage:.2f} ({low:.2f} to {high:.2f})"


def role_figure(alignment: Alignment) -> Figure:
    """F1 of the best latent for every role family: the SAE beside its controls."""
    from plotly.graph_objects import Figure, Scatter

    own = {role.role: role for role in alignment.sae.roles if role.family}
    order = sorted(own, key=lambda role: own[role].f1)
    figure = Figure()
    for scores in (alignment.ceilings[-1], *reversed(alignment.controls), alignment.sae):
        colour, symbol = MARKS[scores.name.replace(alignment.form, "SAE")]
        roles = {role.role: role for role in scores.roles}
        shown = [roles[name] for name in order]
        marks = Scatter(x=[role.f1 for role in shown], y=order, name=scores.name, mode="markers")
        marks.update(
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 2, "color": colour}}
        )
        marks.update(
            customdata=[[role.latent, role.precision, role.recall, role.tokens] for role in shown],
            hovertemplate="%{y}: F1 %{x:.3f}<br>latent %{customdata[0]}, precision %{customdata[1]:.2f}, "
            "recall %{customdata[2]:.2f}, %{customdata[3]} tokens",
        )
        if scores.name in (alignment.form, f"random {alignment.form}"):
            above = [role.interval[1] - role.f1 for role in shown]
            below = [role.f1 - role.interval[0] for role in shown]
            marks.update(
                error_x={
                    "symmetric": False,
                    "array": above,
                    "arrayminus": below,
                    "thickness": 1.2,
                    "width": 3,
                }
            )
        figure.add_trace(marks)
    figure.update_layout(
        title="Best latent per role, measured on rows not used to choose it",
        template="plotly_white",
        height=230 + 24 * len(order),
        margin={"l": 10, "t": 60, "b": 170},
        xaxis={"title": "F1 (whiskers: bootstrap 95 %)", "range": [-0.03, 1.03]},
        yaxis={"title": "role (numbers dropped)", "automargin": True, "dtick": 1},
        legend={
            "title": "latents",
            "orientation": "h",
            "y": -60 / (24 * len(order)),  # below the axis, where it may take several lines on a narrow page
            "yanchor": "top",
            "traceorder": "reversed",
        },
    )
    return figure


def _latents(alignment: Alignment) -> str:
    best: dict[str, LatentScore] = {}
    for latent in alignment.latents:
        if latent.top:
            best.setdefault(latent.role, latent)
    listed = sorted(list(best.values())[:LATENTS], key=lambda latent: -latent.f1)
    head = "".join(
        f"<th{' class=number' if number else ''}>{title}</th>"
        for title, number in (
            ("latent", True),
            ("role it tracks", False),
            ("F1", True),
            ("precision", True),
            ("recall", True),
            ("AUROC", True),
            ("active", True),
            ("strongest tokens in context, one per row of the test split", False),
        )
    )
    return (
        f"<h3>The {len(listed)} latents that match a role best, one per role, by F1</h3><div class='scroll'>"
        f"<table><tr>{head}</tr>{''.join(map(_row, listed))}</table></div>"
    )


def _row(latent: LatentScore) -> str:
    numbers = (latent.f1, latent.precision, latent.recall, latent.auroc)
    cells = "".join(f"<td class=number>{value:.3f}</td>" for value in numbers)
    return (
        f"<tr><td class=number>{latent.latent}</td><td><code>{html.escape(latent.role)}</code></td>{cells}"
        f"<td class=number>{latent.density:.1%}</td>"
        f"<td class=mono>{''.join(map(_excerpt, latent.top[:EXAMPLES]))}</td></tr>"
    )


def _excerpt(top: TopToken) -> str:
    about = html.escape(f"{top.role}, activation {top.activation:.2f}", quote=True)
    style = "background:#ffe08a;border-radius:2px"
    return (
        f'<span class=line>{html.escape(top.before)}<mark style="{style}" title="{about}">'
        f"{html.escape(top.token)}</mark>{html.escape(top.after)}</span>"
    )
