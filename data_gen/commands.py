"""`tinysql data ...` -> datasets and pairs on disk and on the hub, examples on the screen."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from data_gen.config import DataConfig
from data_gen.draw.splits import SPLITS
from data_gen.errors import InputError
from data_gen.files import read_path
from data_gen.pairs.edits import EDITS
from data_gen.progress import progress
from data_gen.query import COMMAND_SETS
from data_gen.review_commands import add_review
from data_gen.say.style import VARIANTS
from data_gen.seeding import read_count, read_rows, read_seed
from data_gen.store.formats import FORMATS
from data_gen.vocabulary.lexicon import LEXICONS

HUB = "hub:"
"""What a target on the hub begins with."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the verbs of `tinysql data`; each sets `call` to its function."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for add in (_add_make, _add_pairs, _add_show, _add_export, add_review):
        add(verbs)


def _add_make(verbs: Any) -> None:
    make = verbs.add_parser("make", help="write a dataset")
    _add_config(make, split="train")
    _add_output(make)
    make.add_argument(
        "--databases",
        action="store_true",
        help="a column of databases that tell right answers from wrong ones",
    )
    make.set_defaults(call=make_dataset)


def _add_pairs(verbs: Any) -> None:
    pairs = verbs.add_parser("pairs", help="write counterfactual pairs")
    _add_config(pairs, split="test")
    pairs.add_argument("--edit", required=True, metavar="EDIT", help=f"what differs: {', '.join(EDITS)}")
    pairs.add_argument(
        "--tokenizer",
        type=read_path,
        metavar="FILE",
        help="tokenizer.json under which both sides have equally many tokens",
    )
    pairs.add_argument("--novel", action="store_true", help="change the name to one that training never sees")
    _add_output(pairs)
    pairs.set_defaults(call=make_pairs)


def _add_show(verbs: Any) -> None:
    show = verbs.add_parser("show", help="print a few examples")
    _add_config(show, split="train", shown=5)
    show.set_defaults(call=show_examples)


def _add_export(verbs: Any) -> None:
    export = verbs.add_parser("export", help="convert a dataset, or push it to the hub")
    export.add_argument(
        "dataset", type=read_path, metavar="DIR", help="directory that `tinysql data make` or `pairs` wrote"
    )
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--out", type=read_path, metavar="FILE", help="file to write (with --format arrow a directory)"
    )
    target.add_argument("--to", metavar=f"{HUB}NAME", help="repository of the hub to push to")
    export.add_argument("--format", default="parquet", help=f"{', '.join(FORMATS)} (default parquet)")
    export.add_argument(
        "--columns", default="all", help="all, or published: those of the published datasets (default all)"
    )
    export.add_argument("--overwrite", action="store_true", help="replace what is there")
    export.set_defaults(call=export_rows)


def _add_config(verb: argparse.ArgumentParser, *, split: str, shown: int | None = None) -> None:
    verb.add_argument("sets", nargs="+", metavar="SET", help=f"command sets: {', '.join(COMMAND_SETS)}")
    many = "how many" if shown is None else f"how many of each set (default {shown})"
    verb.add_argument("--rows", type=read_rows, required=shown is None, default=shown, metavar="N", help=many)
    verb.add_argument("--variant", default="base", help=f"{', '.join(VARIANTS)} (default base)")
    verb.add_argument("--split", default=split, help=f"{', '.join(SPLITS)} (default {split})")
    verb.add_argument("--seed", type=read_seed, default=0, help="another seed gives other rows (default 0)")
    verb.add_argument("--lexicon", default="full", help=f"{', '.join(LEXICONS)} (default full)")
    verb.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other field of DataConfig, for example max_columns=6",
    )


def _add_output(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--out", required=True, type=read_path, metavar="DIR", help="directory to write; must be empty"
    )
    verb.add_argument("--format", default="parquet", help=f"{', '.join(FORMATS)} (default parquet)")
    verb.add_argument("--overwrite", action="store_true", help="replace what is in DIR")
    verb.add_argument("--resume", action="store_true", help="go on with what was interrupted")
    verb.add_argument(
        "--shard-rows", type=read_rows, metavar="N", help="rows of a file (by default up to 10,000)"
    )
    verb.add_argument(
        "--shards",
        metavar="I/N",
        help="write part I of N alone (0/N to N-1/N); together the parts are the whole",
    )
    verb.add_argument(
        "--workers", type=read_count, default=1, metavar="N", help="processes to write with (default 1)"
    )
    verb.add_argument(
        "--engine", default="local", help="local, or ray: the cores of a Ray cluster (default local)"
    )


def _config(arguments: argparse.Namespace) -> DataConfig:
    _check_settings(arguments)
    return DataConfig(
        command_sets=tuple(arguments.sets),
        variant=arguments.variant,
        seed=arguments.seed,
        split=arguments.split,
        lexicon=arguments.lexicon,
    ).with_settings(arguments.settings)


def _check_settings(arguments: argparse.Namespace) -> None:
    """Refuse a setting or a command set that is given twice, of which one would be forgotten."""
    sets = arguments.sets
    twice = next((name for name in sets if sets.count(name) > 1), None)
    if twice is not None:
        raise InputError(
            f"command set `{twice}` is named twice", hint="name each set once; rows take the sets in turn"
        )
    given = [setting.partition("=")[0] for setting in arguments.settings]
    # The seed of pairs is another one than that of the config.
    options = {"variant", "split", "lexicon"} | (set() if "edit" in arguments else {"seed"})
    for key in given:
        if key == "command_sets":
            raise InputError(
                "command sets are given twice, by name and by --set command_sets",
                hint="leave out --set command_sets, and name every set behind the verb",
            )
        if key in options:
            raise InputError(f"setting `{key}` has an option of its own", hint=f"write --{key} VALUE for it")
        if given.count(key) > 1:
            raise InputError(f"setting `{key}` is given twice", hint=f"write --set {key}=VALUE once")


def _output(arguments: argparse.Namespace) -> dict[str, Any]:
    from data_gen.store.job import Part

    names = ("format", "overwrite", "resume", "shard_rows", "workers", "engine")
    part = None if arguments.shards is None else Part.parse(arguments.shards)
    return {"part": part, **{name: getattr(arguments, name) for name in names}}


def make_dataset(arguments: argparse.Namespace) -> None:
    """Write a dataset and print its directory."""
    from data_gen.store.dataset import write_dataset

    with progress("rows") as report:
        path = write_dataset(
            _config(arguments),
            arguments.rows,
            arguments.out,
            databases=arguments.databases,
            report=report,
            **_output(arguments),
        )
    print(path)


def make_pairs(arguments: argparse.Namespace) -> None:
    """Write counterfactual pairs and print their directory.

    `--seed` is that of `counterfactuals`, so the same number gives the same pairs there.
    """
    from data_gen.pairs.counterfactual import sets_without
    from data_gen.store.dataset import write_pairs

    seed, arguments.seed = arguments.seed, 0
    config = _config(arguments)
    left_out = ", ".join(sets_without(config, arguments.edit))
    if left_out:
        print(f"no pairs of {left_out}: edit `{arguments.edit}` has no slot there", file=sys.stderr)
    with progress("pairs") as report:
        path = write_pairs(
            config,
            arguments.edit,
            arguments.rows,
            arguments.out,
            report=report,
            tokenizer=arguments.tokenizer,
            seed=seed,
            novel=arguments.novel,
            **_output(arguments),
        )
    print(path)


def show_examples(arguments: argparse.Namespace) -> None:
    """Print the first rows of each command set: the question, the schema, the right SQL."""
    from data_gen.example import make_example

    config = _config(arguments)
    if arguments.rows < 1:
        raise InputError(
            f"rows is {arguments.rows}, expected at least 1", hint="pass how many to show of each set"
        )
    # The sets take turns, so the first rows have equally many of each.
    for index in range(arguments.rows * len(config.command_sets)):
        example = make_example(config, index)
        print(f"row {index}, {example.query.command_set}")
        print(f"  English: {example.english.string}")
        print(f"  schema:  {example.schema_text.string}")
        print(f"  SQL:     {example.sql.string}")


def export_rows(arguments: argparse.Namespace) -> None:
    """Convert a dataset and print the file, or push it and print the address."""
    from data_gen.store.export import export_dataset, push_dataset

    if arguments.to is None:
        print(
            export_dataset(
                arguments.dataset,
                arguments.out,
                format=arguments.format,
                columns=arguments.columns,
                overwrite=arguments.overwrite,
            )
        )
        return
    name = arguments.to.removeprefix(HUB)
    if name in ("", arguments.to):
        raise InputError(
            f"target `{arguments.to}` is no repository of the hub", hint=f"write --to {HUB}USER/NAME"
        )
    print(push_dataset(arguments.dataset, name, columns=arguments.columns))
