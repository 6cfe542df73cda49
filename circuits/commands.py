"""`tinysql circuit find`, `eval`, `show`, `compare` and `export`: parse, call one function, print."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.arguments import add_compare, add_eval, add_export, add_find, add_show
from data_gen.errors import InputError

if TYPE_CHECKING:
    from tinysql.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of the noun `circuit`."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for name, help, add, call in (
        ("find", "score every edge on counterfactual pairs and choose some", add_find, call_find),
        ("eval", "run the circuit alone on pairs it was not found on", add_eval, call_eval),
        ("show", "draw a run's circuits as one interactive page", add_show, call_show),
        (
            "compare",
            "what two circuits share: of two runs, or two edits of one run",
            add_compare,
            call_compare,
        ),
        ("export", "write a circuit or its scores for other programs", add_export, call_export),
    ):
        verb = verbs.add_parser(name, help=help)
        add(verb)
        verb.set_defaults(call=call)


def call_find(arguments: argparse.Namespace) -> None:
    """Find a circuit, write it and print its strongest edges."""
    from circuits.graph import Graph
    from circuits.places import check_free
    from circuits.settings import FindSettings
    from data_gen.pairs.counterfactual import sets_without
    from tinysql.runs import open_run

    given = {field.name: getattr(arguments, field.name) for field in fields(FindSettings)}
    settings = FindSettings(**{name: value for name, value in given.items() if value is not None})
    for name, value, of in (
        ("edges", arguments.edges, ("top", "greedy")),
        ("q", arguments.q, ("significant",)),
    ):
        if value is not None and arguments.select not in of:
            raise InputError(
                f"--{name} says nothing with --select {arguments.select}",
                hint=f"it belongs to {' and '.join(of)}",
            )
    run = open_run(arguments.run)
    check_free(run.path, settings.edit, arguments.overwrite)
    settings.check_fits(Graph.of_config(run.shape), run.path)
    sets_without(run.split("test"), settings.edit)  # refused where all are
    run.check_whole()
    # What computes is loaded behind what can be refused without it, here and below: it takes seconds.
    from circuits.finding import find_on_run
    from circuits.methods.eap_ig import left_out
    from circuits.tables import edge_table, flow_table, role_table

    found = find_on_run(run, settings, device=arguments.device, overwrite=arguments.overwrite)
    print(found.directory)
    print(edge_table(found.scores, found.circuit))
    if (said := left_out(found.scores)) is not None:
        print(said)
    if found.roles is not None:
        print(f"\n{role_table(found.roles)}")
    if found.flows is not None:
        print(f"\n{flow_table(found.flows)}")


def call_eval(arguments: argparse.Namespace) -> None:
    """Evaluate a found circuit, write `report.json` and print it."""
    from circuits.places import (
        check_by_role_stays,
        check_scored,
        load_found_by_role,
        load_found_circuit,
        settings_of,
    )
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    if arguments.circuit is not None:
        _eval_file(arguments, run)
        return
    if arguments.edit is None:
        raise InputError("eval has no --edit", hint="name the one whose circuit was found, or --circuit FILE")
    by_role, overwrite = arguments.by_role, arguments.overwrite
    if by_role:
        load_found_by_role(run.path, arguments.edit)
    load_found_circuit(run.path, arguments.edit)
    check_scored(run.path, arguments.edit, by_role=by_role)
    settings_of(run.path, arguments.edit)
    check_by_role_stays(run.path, arguments.edit, by_role=by_role, overwrite=overwrite)
    run.check_whole()
    from circuits.artefacts import eval_on_run
    from circuits.tables import area_table, by_role_table, curve_table

    evaluated = eval_on_run(
        run,
        arguments.edit,
        pairs=arguments.pairs,
        random_circuits=arguments.random,
        oracle_pairs=16 if arguments.oracle_pairs is None else arguments.oracle_pairs,
        minimality=arguments.minimality,
        answers=arguments.answers,
        by_role=by_role,
        overwrite=overwrite,
        seed=arguments.seed,
        device=arguments.device,
    )
    print(curve_table(evaluated.curve))
    print(area_table(evaluated.curve))
    print(evaluated.report)
    print(f"found again when the pairs are drawn anew: {evaluated.stability}")
    if evaluated.agreement is not None:
        print(evaluated.agreement)
    if evaluated.accuracy is not None:
        print(evaluated.accuracy)
    if evaluated.by_role is not None:
        print(f"\n{by_role_table(evaluated.by_role)}")


def _eval_file(arguments: argparse.Namespace, run: Run) -> None:
    """Evaluate the circuit of a file and print it; its scores are not there, nor what is made of them."""
    in_run = "leave it out, or evaluate a circuit that was found in the run"
    for option, is_given, hint in (
        (
            "--oracle-pairs",
            arguments.oracle_pairs is not None,
            "a circuit without its scores cannot be compared with the oracle: leave it out",
        ),
        ("--answers", arguments.answers, in_run),
        ("--by-role", arguments.by_role, f"{in_run} with --by-role"),
        ("--overwrite", arguments.overwrite, "nothing is written: leave it out"),
    ):
        if is_given:
            raise InputError(f"{option} says nothing with --circuit", hint=hint)
    from circuits.files.given import edit_of, given_circuit

    circuit = given_circuit(arguments.circuit, run)
    edit = edit_of(circuit, arguments.circuit, arguments.edit)
    run.check_whole()
    from circuits.artefacts import eval_circuit

    if (metric := circuit.metadata.get("metric", "logit_diff")) != "logit_diff":
        print(f"{arguments.circuit} was found by {metric}, and is run by logit_diff", file=sys.stderr)
    if "settings" not in circuit.metadata:
        print(
            f"{arguments.circuit} does not say on which pairs it was found: none is left out", file=sys.stderr
        )
    report = eval_circuit(
        run,
        edit,
        circuit,
        pairs=arguments.pairs,
        random_circuits=arguments.random,
        minimality=arguments.minimality,
        seed=arguments.seed,
        device=arguments.device,
    )
    print(report)


def call_show(arguments: argparse.Namespace) -> None:
    """Draw found circuits and print where."""
    from circuits.places import check_scored, directories_shown, found_in, graph_of, load_circuit
    from data_gen.outputs import claim_file
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    if arguments.circuit is not None:
        _show_file(arguments, run)
        return
    if arguments.edit is None:
        path = run.path / "circuits" / "circuits.html"
    else:
        path = found_in(run.path, arguments.edit) / "graph.html"
    if arguments.out is not None:
        path = _output(arguments, [run.path])
    for directory in directories_shown(run.path, arguments.edit):
        load_circuit(directory, graph_of(run.path))
        check_scored(run.path, directory.name, by_role=True)
    from circuits.pages import write_page

    path = claim_file(path) if arguments.out is None else path
    write_page(run.path, path, edit=arguments.edit)
    print(path)


def _show_file(arguments: argparse.Namespace, run: Run) -> None:
    """Draw the circuit of a file and print where."""

    if arguments.edit is not None:
        raise InputError(
            "--edit says nothing with --circuit: it chooses among the run's own, and a file is drawn as it is",
            hint="leave one of them out",
        )
    if arguments.out is None:
        raise InputError(
            "--circuit has no place of its own in the run", hint="say where to draw it with --out"
        )
    path = _output(arguments, [run.path, arguments.circuit])
    from circuits.files.given import given_circuit

    circuit = given_circuit(arguments.circuit, run)
    from circuits.pages import write_circuit_page

    write_circuit_page(circuit, arguments.circuit.name, path)
    print(path)


def call_compare(arguments: argparse.Namespace) -> None:
    """Compare two circuits, draw their difference and print where."""
    from circuits.places import load_found_circuit
    from data_gen.outputs import claim_file
    from tinysql.runs import open_run

    runs, edits = [open_run(run) for run in arguments.runs], arguments.edit
    file = arguments.circuit
    if (len(runs), len(edits)) not in (((1, 2), (2, 1)) if file is None else ((1, 1),)):
        more = "" if file is None else " with --circuit"
        raise InputError(
            f"{len(runs)} runs and {len(edits)} edits{more} are no two circuits",
            hint="give RUN_A RUN_B --edit EDIT, or RUN --edit EDIT_A --edit EDIT_B, or RUN --edit EDIT --circuit FILE",
        )
    circuits = [load_found_circuit(run.path, edit) for run in runs for edit in edits]
    if file is not None:
        from circuits.files.given import given_circuit

        circuits.append(given_circuit(file, runs[0]))
        names = (edits[0], file.name)
    elif len(edits) == 2:
        names = (edits[0], edits[1])
    else:
        names = (runs[0].path.name, runs[1].path.name)
        if names[0] == names[1]:
            names = (str(runs[0].path), str(runs[1].path))
    if names[0] == names[1]:
        raise InputError(f"both circuits are `{names[0]}`", hint="name two edits, or two runs")
    of = edits if len(runs) == 2 else ()
    usual = "--".join([*of, *(name.replace("/", "_") for name in names)])
    read = [run.path for run in runs] + ([] if file is None else [file])
    place = runs[0].path / "circuits" / f"{usual}.html"
    path = claim_file(place) if arguments.out is None else _output(arguments, read)
    from circuits.judging.compare import compare
    from circuits.pages import write_difference
    from circuits.tables import difference_table

    shared = compare(*circuits)
    write_difference(circuits[0], circuits[1], names, path)
    print(shared)
    print(difference_table(shared, circuits[0], circuits[1], names))
    print(path)


def call_export(arguments: argparse.Namespace) -> None:
    """Write a circuit, or its scores, in a format of other programs."""
    from circuits.places import check_scored, load_found_by_role, load_found_circuit
    from data_gen.files import write_atomic
    from tinysql.runs import open_run

    run, edit = open_run(arguments.run), arguments.edit
    path = None if arguments.out is None else _output(arguments, [run.path])
    if arguments.by_role:
        found = load_found_by_role(run.path, edit)
        from circuits.files.export import exported_by_role

        text = exported_by_role(found, arguments.format)
    else:
        load_found_circuit(run.path, edit)
        check_scored(run.path, edit)
        from circuits.files.export import exported
        from circuits.finding import load_found

        text = exported(*load_found(run.path, edit), arguments.format, d_model=run.shape.d_model)
    if path is None:
        sys.stdout.write(text)
    else:
        write_atomic(path, text)
        print(path)


def _output(arguments: argparse.Namespace, read: list[Path]) -> Path:
    """What `--out` names. Raises `InputError` before the work if it is not free, or in a run that is `read`."""
    from data_gen.outputs import check_output

    check_output(arguments.out, overwrite=arguments.overwrite, sources=read)
    return Path(arguments.out)
