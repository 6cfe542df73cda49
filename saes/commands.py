"""`tinysql sae train`, `eval`, `effects` and `show`: parse, call one function, print."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.seeding import read_count, read_seed
from saes.places import VALIDATION
from tinysql.device_names import read_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saes.places import Place
    from saes.training.config import SAEConfig
    from saes.truth.alignment import Alignment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of the noun `sae`."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    train = verbs.add_parser(
        "train", help="train an SAE, transcoder or crosscoder on a run's own model and training rows"
    )
    _add_training(train)
    train.set_defaults(call=call_train)
    score = _of_an_sae(verbs, "eval", "score an SAE's latents against the known role of every token")
    score.add_argument(
        "--rows", type=read_count, default=600, help="test examples to score on (default: 600)"
    )
    score.add_argument(
        "--seed", type=read_seed, default=0, help="seed of halves, controls and resamples (default: 0)"
    )
    score.add_argument(
        "--untrained",
        action="store_true",
        help="also train and score an SAE of the model before any training",
    )
    score.set_defaults(call=call_eval)
    do = _of_an_sae(verbs, "effects", "switch a scored SAE's latents off and on and compare the answers")
    do.add_argument("--rows", type=read_count, default=32, help="test examples to answer (default: 32)")
    do.add_argument(
        "--on", type=read_count, default=100, help="best latents to switch on as well (default: 100)"
    )
    do.add_argument(
        "--edit", action="append", default=[], metavar="EDIT", help="also swap latents on pairs of this edit"
    )
    do.set_defaults(call=call_effects)
    show = _of_an_sae(verbs, "show", "write a page that opens from disk, with every latent of a scored SAE")
    show.set_defaults(call=call_show)


def _add_training(train: argparse.ArgumentParser) -> None:
    train.add_argument("run", type=Path, help="a run directory")
    train.add_argument("--recipe", default="topk", help="how to train (default: topk)")
    train.add_argument(
        "--hook",
        action="append",
        default=[],
        metavar="HOOK",
        help="hook to read, repeated for those to read and then to write where a recipe has several "
        "(default for an SAE: the residual stream two thirds up the model)",
    )
    train.add_argument("--name", help="directory under RUN/saes (default: the recipe's name)")
    train.add_argument(
        "--rows", type=read_count, default=2000, help="training examples to record (default: 2000)"
    )
    train.add_argument(
        "--validation",
        type=read_count,
        default=VALIDATION,
        help="further training examples on which latents are scored against roles ten times on the way, and one of a "
        "grid is chosen; 0 leaves it out (default: %(default)s)",
    )
    train.add_argument("--seed", type=read_seed, default=0, help="seed of weights and order (default: 0)")
    train.add_argument(
        "--set", action="append", default=[], metavar="A=VALUE", help="override a field of the recipe"
    )
    train.add_argument(
        "--l0",
        type=float,
        help="search the penalty of a standard, gated or jumprelu SAE at which so many latents are active per token",
    )
    train.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="A=V,V",
        help="train an SAE for each value of a field, over one recording; repeat for every combination",
    )
    train.add_argument(
        "--on-disk", action="store_true", help="keep the activations on disk, for more than fit into memory"
    )
    train.add_argument("--device", type=read_device, default="cpu", help="where to train (default: cpu)")
    train.add_argument("--overwrite", action="store_true", help="replace an SAE of that name")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on where a training of that name was cut off; begin where none did",
    )


def _of_an_sae(verbs: Any, name: str, help: str) -> argparse.ArgumentParser:
    """A verb about one SAE of a run."""
    verb: argparse.ArgumentParser = verbs.add_parser(name, help=help)
    verb.add_argument("run", type=Path, help="a run directory")
    verb.add_argument("--name", default="topk", help="directory under RUN/saes (default: topk)")
    verb.add_argument("--device", type=read_device, default="cpu", help="where to run (default: cpu)")
    return verb


def call_train(arguments: argparse.Namespace) -> None:
    """Train a dictionary, or a grid of SAEs, write it and say how it went."""
    from dataclasses import replace

    from data_gen.errors import InputError
    from saes.finished import decisive
    from saes.places import Place, check_begin, check_free
    from saes.recipes import ABOUT_HOOKS, check_names, check_number, default_hooks, find_recipe
    from saes.training.penalty import check_l0
    from tinysql.config import override
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    place = Place.of(run.path, arguments.recipe if arguments.name is None else arguments.name)
    if arguments.grid and arguments.l0 is not None:
        raise InputError("--l0 and --grid are both given", hint="search for one SAE at a time")
    check_begin(
        place, arguments.rows, arguments.validation, overwrite=arguments.overwrite, resume=arguments.resume
    )
    if not arguments.grid and not arguments.resume:
        check_free(place, place.path, arguments.overwrite)
    config = override(replace(find_recipe(arguments.recipe), seed=arguments.seed), arguments.set)
    if arguments.grid and config.form != "sae":
        raise InputError(
            f"--grid trains SAEs, and the recipe `{arguments.recipe}` is of a {config.form.replace('_', ' ')}",
            hint="train each by itself, with --name",
        )
    if arguments.l0 is not None:
        check_l0(config, arguments.l0)
    members = read_grid(config, arguments.grid) if arguments.grid else {}
    for field in (setting.partition("=")[0] for setting in arguments.set):
        if any(setting.startswith(f"{field}=") for setting in arguments.grid):
            raise InputError(
                f"--set and --grid both give `{field}`",
                hint=f"leave --set {field} out: a grid has its own values",
            )
    hooks = tuple(arguments.hook) or default_hooks(run.shape, config.form)
    check_number(hooks, config.form, hint=ABOUT_HOOKS)
    check_names(hooks, run.shape)
    run.check_whole()
    if arguments.resume:
        paths = {place.of_member(name): one for name, one in members.items()} or {place.path: config}
        wanted = {path: decisive(run, one, hooks, arguments.rows) for path, one in paths.items()}
        _say_where_it_begins(place, wanted, arguments.l0)
    # What computes is loaded behind what can be refused without it, here and below: it takes seconds.
    from saes.artefacts import train_grid_on_run, train_on_run

    settings = {
        "name": place.path.name,
        "hooks": arguments.hook,
        "rows": arguments.rows,
        "device": arguments.device,
        "overwrite": arguments.overwrite,
        "resume": arguments.resume,
        "on_disk": arguments.on_disk,
        "validation": arguments.validation,
    }
    choice = None
    if arguments.grid:
        records, choice = train_grid_on_run(run, members, **settings)
        made = {f"{settings['name']},{member}": record for member, record in records.items()}
    else:
        made = {settings["name"]: train_on_run(run, config, l0=arguments.l0, say=_say, **settings)}
    for name, record in made.items():
        print(f"{run.path / 'saes' / name}")
        print(f"tokens {record.tokens}  FVU {record.fvu:.3f}  L0 {record.l0:.1f}  dead latents {record.dead}")
        for now in record.watched[-1:]:
            print(
                f"coverage of roles {now['coverage']:.3f} (95 % interval {now['coverage_low']:.3f} to "
                f"{now['coverage_high']:.3f}) on {arguments.validation} examples that it was not trained on"
            )
    if choice is not None:
        print(choice)
        print(f"score it on test rows: tinysql sae eval {run.path} --name {settings['name']},{choice.chosen}")


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def _say_where_it_begins(place: Place, made: Mapping[Path, Mapping[str, Any]], l0: float | None) -> None:
    """Say it where --resume has nothing to go on with; the same command may stand in a script from the start."""
    from saes.finished import is_finished
    from saes.places import check_free

    if is_finished(place, made, l0):
        _say(f"`{place.path.name}` in {place.run} is already finished: nothing is trained")
    elif not place.state.is_dir():
        for path in made:
            check_free(place, path, overwrite=False)
        _say(f"{place.run} holds nothing of `{place.path.name}` to go on with: training begins")


def read_grid(base: SAEConfig, settings: Sequence[str]) -> dict[str, SAEConfig]:
    """`["k=4,8", "seed=0,1"]` -> four configurations by their names; `InputError` for what is no such setting."""
    from data_gen.errors import InputError
    from saes.training.combinations import grid
    from tinysql.config import override

    choices = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not equals or not values:
            raise InputError(
                f"--grid `{setting}` is not a field and its values", hint="write it as --grid k=4,8"
            )
        if name in choices:
            raise InputError(
                f"--grid names `{name}` twice", hint=f"write all its values as one: --grid {name}=A,B,C"
            )
        choices[name] = [getattr(override(base, [f"{name}={value}"]), name) for value in values.split(",")]
    return grid(base, **choices)


def call_eval(arguments: argparse.Namespace) -> None:
    """Score an SAE, write `truth.json` and print the table."""
    from saes.places import directory_of, read_made
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    read_made(directory_of(run, arguments.name))
    run.check_whole()
    from saes.truth.artefacts import eval_on_run

    alignment = eval_on_run(
        run,
        name=arguments.name,
        rows=arguments.rows,
        seed=arguments.seed,
        device=arguments.device,
        untrained=arguments.untrained,
    )
    print(table(alignment))


def call_effects(arguments: argparse.Namespace) -> None:
    """Switch latents, write `effects.json` and print what was found."""
    from data_gen.pairs.edits import edit_named
    from saes.places import scored_in
    from tinysql.runs import open_run

    for edit in arguments.edit:
        edit_named(edit)
    run = open_run(arguments.run)
    scored_in(run, arguments.name)
    run.check_whole()
    from saes.truth.artefacts import effects_on_run

    effects, fidelity, swaps = effects_on_run(
        run,
        name=arguments.name,
        rows=arguments.rows,
        on=arguments.on,
        edits=arguments.edit,
        device=arguments.device,
    )
    print(
        f"recovered by reconstructions: loss {fidelity.loss.share:.3f}  accuracy {fidelity.accuracy.share:.3f}"
        f"  ({fidelity.answers} answers)"
    )
    for clause, rank in effects.alignment.items():
        print(f"fires for {clause} and changes it: rank correlation {rank:.3f}")
    for edit, each in swaps.items():
        for one in each:
            print(
                f"{edit}  {one.name} {one.size}: cause {one.cause:.3f}  isolation {one.isolation:.3f}"
                f"  disentanglement {one.disentanglement:.3f}"
            )


def call_show(arguments: argparse.Namespace) -> None:
    """Write `dashboard.html` and say where it is."""
    from saes.places import scored_in
    from tinysql.runs import open_run

    run = open_run(arguments.run)
    scored_in(run, arguments.name)
    run.check_whole()
    from saes.truth.artefacts import show_on_run

    print(show_on_run(run, name=arguments.name, device=arguments.device))


def table(alignment: Alignment) -> str:
    """One line per set of latents: coverage of role families and of slots with intervals, FVU and L0."""
    lines = [
        f"{'latents':<23}{'coverage':>9}{'95 % interval':>17}{'slots':>8}{'95 % interval':>17}{'FVU':>7}{'L0':>7}"
    ]
    for scores in (alignment.sae, *alignment.controls, *alignment.ceilings):
        fvu = "-" if scores.fvu is None else f"{scores.fvu:.3f}"
        # A probe's own answers are no latents.
        l0 = "-" if scores in alignment.ceilings else f"{scores.l0:.1f}"
        lines.append(
            f"{scores.name:<23}{scores.coverage:>9.3f}{_span(scores.coverage_interval):>17}"
            f"{scores.slot_coverage:>8.3f}{_span(scores.slot_coverage_interval):>17}{fvu:>7}{l0:>7}"
        )
    if alignment.sae.fvu is not None and alignment.sae.fvu > 1:
        lines.append("an FVU above 1 is worse than the mean: was this SAE trained on this model?")
    return "\n".join(lines)


def _span(interval: tuple[float, ...]) -> str:
    low, high = interval
    return f"{low:.3f} to {high:.3f}"
