"""Run directory -> the report's sections on circuits, and pages of their own: all from the files alone."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from circuits.circuit import Circuit, why
from circuits.drawing.curve import faithfulness_figure
from circuits.drawing.facts import edge_rows, main_role
from circuits.files.flow_files import load_flows
from circuits.files.role_files import load_roles
from circuits.finding import read_found
from circuits.graph import Graph
from circuits.judging.compare import Overlap, compare, compare_all
from circuits.judging.faithfulness import Curve
from circuits.judging.ratios import Band, Estimate, counted, span, three_digits
from circuits.judging.role_curves import ByRole
from circuits.methods.eap_ig import left_out
from circuits.methods.role_scores import RoleScores
from circuits.places import REPORT, directories, directories_shown, graph_of
from circuits.scores import EdgeScores
from circuits.show import show, show_difference
from circuits.tables import reached
from data_gen.errors import InputError
from data_gen.files import write_atomic
from tinysql.report import Section, figure_html, page
from tinysql.written import read_measured

ROWS = 15
"""Edges in a page's table."""
AGAIN = "make it again with `tinysql circuit eval RUN --edit EDIT`, by role with `tinysql circuit eval ... --by-role`"


def sections(run: Path) -> list[Section]:
    """For every edit under RUN/circuits: its numbers in words, the graph, and the curve; last, what they share.

    Raises `InputError` for a file there that is cut short, a circuit of another model than the run's, or
    scores or roles of another than the circuit's.
    """
    found = directories(run)
    graph = graph_of(run)
    return [*(_section(directory, graph) for directory in found), *_shared(found)]


def write_page(run: Path, path: Path, *, edit: str | None = None) -> None:
    """Write the sections of all edits, or of one, as a page that needs no network, whole or not at all.

    Raises `InputError` when the run holds no circuit, or none of `edit`, and as `sections` does.
    """
    from plotly.offline import get_plotlyjs

    found = directories_shown(run, edit)
    graph = graph_of(run)
    parts = [*(_section(directory, graph) for directory in found), *_shared(found)]
    facts = _made(Circuit.load(found[0] / "circuit.json"))
    title = (
        f"Circuits of {run.resolve().name}" if edit is None else f"Circuit of {run.resolve().name}: {edit}"
    )
    write_atomic(path, page(title, facts, parts, get_plotlyjs()))


def write_circuit_page(circuit: Circuit, file: str, path: Path) -> None:
    """Write one circuit that stands in no run as a page that needs no network, whole or not at all.

    Its title is what the circuit says of itself; the name of the `file` that it is from stands below.
    """
    from plotly.offline import get_plotlyjs

    about, pattern = circuit.metadata, circuit.graph.pattern
    of, by = (
        f" {word} {about[name]}" if name in about else "" for word, name in (("of", "edit"), ("by", "method"))
    )
    facts = [f"file: {file}", *_made(circuit)]
    text = f"<p>{html.escape(_found(circuit))}</p>{figure_html(show(circuit))}"
    section = Section(f"Circuit: {about.get('edit', file)}", text, 40)
    title = f"Circuit{of}: {counted(len(circuit), 'edge')}{by}, model {pattern}"
    write_atomic(path, page(title, facts, [section], get_plotlyjs()))


def write_difference(first: Circuit, second: Circuit, names: tuple[str, str], path: Path) -> None:
    """Write the drawn difference of two circuits as a page that needs no network, whole or not at all.

    Raises `InputError` when the circuits are of different graphs.
    """
    from plotly.offline import get_plotlyjs

    shared = compare(first, second)
    figure = figure_html(show_difference(first, second, names=names))
    section = Section(
        "What one has and the other has not", f"<p>{html.escape(_overlap(shared))}</p>{figure}", 1
    )
    write_atomic(path, page(f"Two circuits: {names[0]} and {names[1]}", [], [section], get_plotlyjs()))


def _section(directory: Path, graph: Graph | None) -> Section:
    circuit, scores = read_found(directory, graph)
    roles = load_roles(directory)
    said = left_out(scores)
    text = _found(circuit) if said is None else f"{_found(circuit)} {said[0].upper()}{said[1:]}."
    parts = [
        f"<p>{html.escape(text)}</p>",
        figure_html(show(circuit, scores=scores, roles=roles, flows=load_flows(directory))),
        _table(circuit, scores, roles),
    ]
    evaluated = directory / REPORT
    if evaluated.is_file():
        told, curve = _evaluated(evaluated)
        parts[1:1] = [f"<p>{html.escape(paragraph)}</p>" for paragraph in told]
        parts.append(figure_html(curve))
    return Section(f"Circuit: {directory.name}", "".join(parts), 40)


def _evaluated(file: Path) -> tuple[list[str], go.Figure]:
    """What a `report.json` says in words, a paragraph each, and its curve.

    Raises `InputError` for a file that is no report.
    """
    written = read_measured(file, AGAIN)
    try:
        told = written.get("by_role")
        found = None if told is None else ByRole.from_json(told)
        said = [sentence(written), *([] if found is None else [_by_role(found)])]
        roles = None if found is None else found.curve
        return said, faithfulness_figure(Curve.from_json(written["curve"]), by_role=roles)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{file} is no report on a circuit: {why(error)}",
            hint=AGAIN,
        ) from error


def _table(circuit: Circuit, scores: EdgeScores, roles: RoleScores | None) -> str:
    """The strongest edges, with what is also under the mouse: for printing, and for those who do not use one."""
    edges = sorted(circuit.edges, key=lambda edge: -abs(scores[edge]))[:ROWS]
    heads = ["edge", f"score ({scores.metric})", "95 % interval", "same sign", "q"]
    heads += ["read most at (score there)"] if roles is not None else []
    lines = []
    for row in edge_rows(scores, edges) if edges else []:
        cells = [
            str(row.edge).replace("->", "→"),
            f"{row.score:.3f}",
            span(row.low, row.high),
            f"{row.same_sign:.0%}",
            "" if row.q is None else f"{row.q:.2g}",
        ]
        if roles is not None:
            role, part, _ = main_role(roles, row.edge)
            cells.append(f"{role} ({part:.2f})")
        lines.append(_row(cells, "td"))
    return f'<div class="scroll"><table>{_row(heads, "th")}{"".join(lines)}</table></div>'


def _row(cells: list[str], tag: str) -> str:
    kinds = ["" if number in (0, 5) else ' class="number"' for number in range(len(cells))]
    # Long names may be broken behind their dots, where the window is narrow.
    texts = [re.sub(r"\.(?=[a-z])", ".<wbr>", html.escape(cell)) for cell in cells]
    inside = "".join(f"<{tag}{kind}>{text}</{tag}>" for kind, text in zip(kinds, texts, strict=True))
    return f"<tr>{inside}</tr>"


def _shared(found: list[Path]) -> list[Section]:
    """How alike the circuits of several edits are; nothing for a single one, or for models of unlike shape."""
    circuits = {directory.name: Circuit.load(directory / "circuit.json") for directory in found}
    if len(circuits) < 2 or len({circuit.graph for circuit in circuits.values()}) > 1:
        return []
    every = compare_all(circuits)
    head = _row(["circuit", "edges", *every.names], "th")
    rows = [
        _row(
            [
                name,
                str(every.sizes[line]),
                *(
                    f"{value:.2f} ({chance:.2f})"
                    for value, chance in zip(every.jaccard[line], every.chance_jaccard[line], strict=True)
                ),
            ],
            "td",
        )
        for line, name in enumerate(every.names)
    ]
    text = (
        f"<p>Jaccard index of every two circuits, in brackets what random circuits of their sizes share on average."
        f" {len(every.shared_by_all)} edges are in all of them.</p>"
    )
    return [Section("Circuits side by side", f"{text}<table>{head}{''.join(rows)}</table>", 41)]


def _overlap(shared: Overlap) -> str:
    return (
        f"{shared.shared} edges are in both circuits, of {shared.n_first} and {shared.n_second} among"
        f" {shared.n_edges_model}: a Jaccard index of {shared.jaccard:.3f}. Two random circuits of these sizes share"
        f" {shared.chance_shared:.1f} edges on average (index {shared.chance_jaccard:.3f}), and at least as many as"
        f" these with probability {shared.p:.2g}."
    )


def _made(circuit: Circuit) -> list[str]:
    """What a circuit says of what made it."""
    made = circuit.metadata.get("made_by", {})
    return [f"{key}: {made[key]}" for key in ("commit", "date", "device") if made.get(key)]


def _found(circuit: Circuit) -> str:
    about = circuit.metadata
    settings, weights = about.get("settings", {}), about.get("scores", {})
    how = {"greedy": ", grown backwards from the logits", "significant": ", the significant ones"}
    drawn = (
        f" on {settings['pairs']} pairs drawn with seed {settings['seed']}"
        if {"pairs", "seed"} <= settings.keys()
        else ""
    )
    by = f", by {about['method']}{drawn}" if "method" in about else ""
    text = (
        f"{len(circuit)} of {len(circuit.graph.edges)} edges{how.get(str(settings.get('select')), '')}{by}."
    )
    if not weights:
        return text
    edge, score = max(weights.items(), key=lambda item: abs(item[1]))
    return f"{text} The strongest is {edge.replace('->', '→')}, {score:.3g} in {about.get('metric')}."


def sentence(written: dict[str, Any]) -> str:
    """A report in words, but for what it says of role-aware edges."""
    report, curve = written["report"], written["curve"]
    band, matched = (Band.from_json(report[kind]) for kind in ("random", "matched"))
    better = report["sufficiency"]
    n = report["random_circuits"]
    parts = [
        f"On {counted(report['n_pairs'], 'held-out pair')} the circuit alone reaches a faithfulness of"
        f" {_with_interval(report['faithfulness'])}; 1 is the full model, 0 the corrupt run.",
        f"{counted(n, 'random circuit')} of {counted(report['n_edges'], 'edge')} reach{'es' if n == 1 else ''} on"
        f" average {band}, {n} with as many edges between every two blocks {matched}; the circuit is more"
        f" faithful than {better['share']:.0%} of these (p = {better['p']:.2g}).",
        f"Everything outside the circuit reaches {_with_interval(report['completeness'])}.",
        *_more(report.get("minimality"), curve.get("areas"), written.get("stability")),
    ]
    agreed = written.get("agreement")
    if agreed:
        parts.append(
            f"On {agreed['n_pairs']} of these pairs every edge was patched one at a time: the Pearson correlation of"
            f" {agreed['method']} with what was measured is {_with_interval(agreed['pearson'])}, and"
            f" {agreed['top_shared']:.0%} of the top {agreed['top']} edges are the same."
        )
    if written.get("accuracy"):
        parts.append(_accuracy(written["accuracy"]))
    return " ".join(parts)


def _by_role(found: ByRole) -> str:
    """Sentences on role-aware edges."""
    here, n = found.circuit, found.curve.random_circuits
    return (
        f"{counted(here.n_parts, 'role-aware edge')}, each kept at the tokens of one role and parts of"
        f" {counted(here.n_edges, 'edge')}, reach{'es' if here.n_parts == 1 else ''} a faithfulness of"
        f" {here.faithfulness}; the same edges at {counted(n, 'draw')} of random roles on average"
        f" {here.other_roles}, {counted(n, 'layer-matched circuit')} of role-aware edges {here.matched}."
        f" {(told := reached(found.reach))[0].upper()}{told[1:]}."
    )


def _accuracy(written: dict[str, Any]) -> str:
    """A sentence on a `CircuitAccuracy`."""
    clean, corrupt, model, floor = (
        f"{three_digits(share['share'])} ({span(*share['interval95'])})"
        for share in (written[name] for name in ("clean", "corrupt", "model", "floor"))
    )
    uniform, matched = (Band.from_json(written[kind]) for kind in ("random", "matched"))
    asked, draws = written["clean"]["total"], written["random_circuits"]
    return (
        f"Writing whole answers to {counted(asked, 'held-out prompt')} alone, the circuit is right by"
        f" execution on a share of {clean}; the whole model on {model}, no edge on {floor},"
        f" {counted(draws, 'random circuit')} on average on {uniform}, layer-matched ones on {matched}. On"
        f" {corrupt} it gives the corrupt prompt's answer. Brackets behind shares are Wilson's 95 % intervals."
    )


def _more(
    minimality: dict[str, Any] | None, areas: dict[str, Any] | None, stability: dict[str, Any] | None
) -> list[str]:
    """Sentences on what not every report holds."""
    found = []
    if minimality:
        found.append(
            f"{minimality['share']:.0%} of {minimality['tested']} edges, left out alone, change more than 90 % of"
            f" random edges do, and {len(minimality['redundant'])} are redundant."
        )
    if areas:
        found.append(
            f"CMD is {_with_interval(areas['cmd']['value'])} and CPR {_with_interval(areas['cpr']['value'])}."
        )
    if stability:
        found.append(
            f"When the pairs it was found on are drawn anew, the top edges have a mean Jaccard index of"
            f" {three_digits(stability['jaccard'])} ({three_digits(stability['chance'])} by chance),"
            f" {'at least' if stability['stable'] else 'below'} the bar of {stability['bar']}."
        )
    return found


def _with_interval(estimate: dict[str, float | None]) -> str:
    return str(Estimate.from_json(estimate))
