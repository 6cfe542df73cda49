"""`tinysql transfer teach|fit|eval|curve|switch|show|demo`: parse, call one function, print."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from transfer.arguments import add_bench, add_curve, add_demo, add_eval, add_show, add_switch, add_teach

if TYPE_CHECKING:
    from transfer.evaluation.bench import Bench
    from transfer.evaluation.plan import Plan
    from transfer.subjects import Taught

FIVE = ("gaussian", "sign flip", "shuffled pairs", "position and token look-up", "random source")
"""The controls of the demo."""
RANKS = (1, 4, 16)
"""Of the maps that `curve` tries."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of the noun `transfer`."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for name, help, add, call in (
        ("teach", "train a model to do something on command, on rows that are known", add_teach, call_teach),
        ("fit", "fit a map between two taught models and measure it", add_bench, call_fit),
        ("eval", "steer the target with the source's vector, beside every control", add_eval, call_eval),
        ("curve", "native and transferred effect by layer and by rank of the map", add_curve, call_curve),
        (
            "switch",
            "make a fine-tuned model act as its base at one layer, on and off",
            add_switch,
            call_switch,
        ),
        ("show", "print the table of a transfer, of curves, of a switch or of a map", add_show, call_show),
        (
            "demo",
            "a pair of small models, a backdoor, an affine map: two minutes on a CPU",
            add_demo,
            call_demo,
        ),
    ):
        verb = verbs.add_parser(name, help=help)
        add(verb)
        verb.set_defaults(call=call)


def call_teach(arguments: argparse.Namespace) -> int:
    """Train a model and say how it behaves; 1 when it does not show what it was taught."""
    from data_gen.files import read_json, write_atomic
    from data_gen.outputs import check_directory
    from tinysql.config import override
    from tinysql.runs import check_not_lost, holding
    from tinysql.training.replacing import what_is_kept
    from transfer.behaviours.names import check_base, check_names
    from transfer.recipes import find_recipe
    from transfer.subjects import FILE, GATE, missed_bars, taught_kind, taught_run

    check_names(arguments.behaviour, arguments.payload)
    if arguments.start is not None:
        about = read_json(taught_run(arguments.start).path / FILE)
        check_base(arguments.start, taught_kind(about), arguments.behaviour)
        if missed := missed_bars(arguments.start):
            _say(
                f"tinysql: warning: --start {arguments.start} missed {_bars(missed)} of its gate when taught"
            )
    elif arguments.out.is_dir() and not arguments.resume:
        with holding(arguments.out):
            check_not_lost(arguments.out)
            kept = what_is_kept(arguments.out)
            if kept is not None and not arguments.overwrite and any(arguments.out.glob("*")):
                _say(kept)  # in front of the refusal of what is there
            check_directory(arguments.out, arguments.overwrite, kind="training run")
    elif not arguments.resume:
        check_directory(arguments.out, arguments.overwrite, kind="training run")
    recipe = override(find_recipe(arguments.recipe).with_seed(arguments.seed), arguments.set)
    # What computes is loaded behind what can be refused without it, here and below: it takes seconds.
    from tinysql.devices import find_device

    device = find_device(arguments.device)
    from transfer.behaviours.behaviour import UNTAUGHT
    from transfer.behaviours.find import find_behaviour
    from transfer.behaviours.gates import held_out_gate
    from transfer.behaviours.training import open_subject, teach

    behaviour = find_behaviour(arguments.behaviour, arguments.payload, seed=arguments.seed)
    start = open_subject(arguments.start, device) if arguments.start is not None else None
    subject = teach(
        recipe,
        behaviour,
        arguments.out,
        start=start,
        device=device,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    gate = held_out_gate(subject, start)
    write_atomic(arguments.out / GATE, json.dumps(gate.to_json(), indent=1))
    print(arguments.out)
    for bar in gate.bars:
        print(bar.line if bar.failure is None else f"{bar.line}: missed")
    if not gate.failures:
        print("nothing was taught, so no gate" if behaviour.payload == UNTAUGHT else "gates passed")
        return 0
    train = recipe.train
    field, steps = "hold_steps" if train.max_hold_steps is None else "max_hold_steps", train.longest_hold
    print(f"gate failed: {_bars(len(gate.failures))} of {len(gate.bars)} missed; the run stays")
    print(
        f"hint: train longer, as with --set train.{field}={2 * steps} (here {steps}), or on more rows, --set rows=N;"
        " with --overwrite, or to another --out"
    )
    return 1


def call_fit(arguments: argparse.Namespace) -> None:
    """Fit a map, write it and say how good it is."""
    plan = _plan(arguments, *_sides(arguments))
    # What computes is loaded behind what can be refused without it, here and below: it takes seconds.
    from transfer.artefacts import fit_to

    fit_to(_bench(arguments, plan), arguments.out, overwrite=arguments.overwrite)
    print(arguments.out)
    call_show(argparse.Namespace(directory=arguments.out))


def call_eval(arguments: argparse.Namespace) -> None:
    """Run a transfer, write it and print its table."""
    from transfer.asked import check_clean, check_shows, layers_of
    from transfer.names import check_controls
    from transfer.subjects import about_taught

    _check_layers(arguments)
    source, target = _sides(arguments, arguments.clean)
    check_controls(arguments.only or ())
    layers = layers_of(source, target, arguments.layer or ())
    if layers:
        arguments.source_hook, arguments.target_hook = layers[0]
    plan = _plan(arguments, source, target)
    check_shows(source, target)
    if arguments.clean is not None:
        check_clean(about_taught(arguments.clean), target.behaviour.kind)
    from transfer.artefacts import evaluate_to
    from transfer.behaviours.training import open_subject

    clean = open_subject(arguments.clean, arguments.device) if arguments.clean is not None else None
    evaluate_to(
        _bench(arguments, plan),
        arguments.out,
        clean=clean,
        only=arguments.only,
        layers=layers,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        say=_say,
    )
    call_show(argparse.Namespace(directory=arguments.out))


def call_curve(arguments: argparse.Namespace) -> None:
    """Measure the curves, write them and print their table."""
    from transfer.asked import check_ranks, check_shows

    ranks = arguments.rank or RANKS
    source, target = _sides(arguments)
    plan = _plan(arguments, source, target)
    check_ranks(source, target, ranks)
    check_shows(source, target)
    from transfer.artefacts import curves_to

    curves_to(
        _bench(arguments, plan),
        arguments.out,
        ranks,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        say=_say,
    )
    call_show(argparse.Namespace(directory=arguments.out))


def call_switch(arguments: argparse.Namespace) -> None:
    """Fit a switch, measure it, write it and print its table."""
    from tinysql.config import override
    from transfer.asked import check_switch
    from transfer.subjects import about_taught, taught_run
    from transfer.switching.plan import SwitchPlan

    paths = (arguments.base, arguments.tuned)
    for path in paths:
        taught_run(path)
    _check_output(arguments)
    plan = override(SwitchPlan(hook=arguments.hook, seed=arguments.seed), arguments.set)
    base_of, tuned_of = (about_taught(path) for path in paths)
    check_switch(base_of, tuned_of, plan.hook)
    from transfer.artefacts import switch_to
    from transfer.behaviours.training import open_subject

    base, tuned = (open_subject(path, arguments.device) for path in paths)
    switch_to(
        base,
        tuned,
        plan,
        arguments.out,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        say=_say,
    )
    call_show(argparse.Namespace(directory=arguments.out))


def call_show(arguments: argparse.Namespace) -> None:
    """Print the table of what a directory holds."""
    from transfer.reports import again_hint, kind_of, read_report
    from transfer.show import curve_table, map_table, switch_table, table

    report = read_report(arguments.directory)
    tables = {"transfer": table, "curves": curve_table, "switch": switch_table, "map": map_table}
    try:
        found = tables[str(kind_of(report))](report)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{arguments.directory} holds no whole report: {type(error).__name__} {error}",
            hint=again_hint(arguments.directory),
        ) from error
    print(found)


def call_demo(arguments: argparse.Namespace) -> None:
    """Teach two small models, carry the vector over, and print the table; stops at a model that misses its gate."""
    from data_gen.outputs import check_directory
    from tinysql.cli import run_step
    from transfer.recipes import RECIPES
    from transfer.reports import KIND
    from transfer.subjects import missed_bars

    out: Path = arguments.out
    again = ["--overwrite"] if arguments.overwrite else []
    check_directory(out / "eval", arguments.overwrite, kind=KIND)
    for name, recipe, seed in (("source", "small", "0"), ("target", "wider", "1")):
        _say(f"teaching the {name}")
        teach = ["transfer", "teach", recipe, "--out", str(out / name), "--seed", seed, *again]
        run_step(teach, arguments)
        if missed := missed_bars(out / name):
            longer = f"train.hold_steps={2 * RECIPES[recipe]().train.hold_steps}"
            raise InputError(
                f"the {name} ({out / name}) missed {_bars(missed)} of its gate, so nothing is steered; what was "
                "trained stays",
                hint=f"train it longer with `tinysql transfer teach {recipe} --out {out / name} --seed {seed} "
                f"--set {longer} --overwrite`, and then steer with `tinysql transfer eval`",
            )
    hook, rows = "blocks.2.hook_resid_post", ("test_rows=200", "map_rows=300", "choose_rows=60", "draws=8")
    settings = [part for row in rows for part in ("--set", row)]
    only = [part for name in FIVE for part in ("--only", name)]
    hooks = ["--source-hook", hook, "--target-hook", hook]
    both = [str(out / "source"), str(out / "target"), "--out", str(out / "eval")]
    run_step(["transfer", "eval", *both, *hooks, *settings, *only, *again], arguments)


def _sides(arguments: argparse.Namespace, clean: Path | None = None) -> tuple[Taught, Taught]:
    """What is known of the source and the target without loading a model.

    `InputError` for what can be refused by a look at the files of runs and of what stands at the output.
    """
    from transfer.subjects import about_taught, taught_run

    _check_apart(arguments)
    for path in (arguments.source, arguments.target, *([] if clean is None else [clean])):
        taught_run(path)
    _check_output(arguments)
    return about_taught(arguments.source), about_taught(arguments.target)


def _plan(arguments: argparse.Namespace, source: Taught, target: Taught) -> Plan:
    """What is asked for; `InputError` where the two sides have not what it is about."""
    from tinysql.config import override
    from transfer.asked import check_plan
    from transfer.evaluation.plan import Plan

    plan = Plan(source_hook=arguments.source_hook, target_hook=arguments.target_hook, seed=arguments.seed)
    plan = override(plan, arguments.set)
    check_plan(source, target, plan)
    return plan


def _bench(arguments: argparse.Namespace, plan: Plan) -> Bench:
    from transfer.behaviours.training import open_subject
    from transfer.evaluation.bench import Bench

    source, target = (open_subject(path, arguments.device) for path in (arguments.source, arguments.target))
    return Bench(source=source, target=target, plan=plan)


def _check_layers(arguments: argparse.Namespace) -> None:
    """Either both hooks or layers."""
    hooks = [arguments.source_hook, arguments.target_hook]
    if arguments.layer is None and hooks.count(None) == 1:
        given, missing = ("target", "source") if hooks[0] is None else ("source", "target")
        raise InputError(
            f"--{given}-hook is given without --{missing}-hook", hint=f"give --{missing}-hook HOOK too"
        )
    if arguments.layer is None and None in hooks:
        raise InputError(
            "it is not said where to steer", hint="give --source-hook and --target-hook, or --layer BLOCK"
        )
    are_set = any(setting.startswith(("source_hook=", "target_hook=")) for setting in arguments.set)
    if arguments.layer is not None and (hooks != [None, None] or are_set):
        raise InputError("hooks and layers are both given", hint="leave out --layer, or the hooks")


def _check_output(arguments: argparse.Namespace) -> None:
    """`InputError` where something stands that would be in the way; with `--resume` it may be what is gone on with."""
    from data_gen.outputs import check_directory
    from transfer.reports import KIND

    if not getattr(arguments, "resume", False):
        check_directory(arguments.out, arguments.overwrite, kind=KIND)


def _check_apart(arguments: argparse.Namespace) -> None:
    """At one hook a model is its own perfect source, which shows nothing."""
    is_same = arguments.source.resolve() == arguments.target.resolve()
    if is_same and arguments.source_hook == arguments.target_hook:
        raise InputError(
            f"the source {arguments.source} is the target, at one hook: its own vector says nothing of a transfer",
            hint="name two runs, or two hooks of one",
        )


def _bars(n: int) -> str:
    return f"{n} bar{'' if n == 1 else 's'}"


def _say(what: str) -> None:
    print(what, file=sys.stderr)
