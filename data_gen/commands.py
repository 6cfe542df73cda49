"""`tinysql data ...` -> datasets and pairs on disk, examples on the screen."""

from __future__ import annotations

import argparse
import sys

from data_gen.config import SPLITS, DataConfig
from data_gen.edits import EDITS
from data_gen.errors import InputError
from data_gen.lexicon import LEXICONS
from data_gen.query import COMMAND_SETS
from data_gen.seeding import read_seed
from data_gen.shards import FORMATS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the verbs `make`, `pairs` and `show`; each sets `call` to its function."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    make = verbs.add_parser("make", help="write a dataset")
    _add_config(make, split="train")
    _add_output(make)
    make.set_defaults(call=make_dataset)

    pairs = verbs.add_parser("pairs", help="write counterfactual pairs")
    _add_config(pairs, split="test")
    pairs.add_argument("--edit", required=True, metavar="EDIT", help=f"what differs: {', '.join(EDITS)}")
    _add_output(pairs)
    pairs.set_defaults(call=make_pairs)

    show = verbs.add_parser("show", help="print a few examples")
    _add_config(show, split="train", rows=5)
    show.set_defaults(call=show_examples)


def _add_config(verb: argparse.ArgumentParser, *, split: str, rows: int | None = None) -> None:
    verb.add_argument("sets", nargs="+", metavar="SET", help=f"command sets: {', '.join(COMMAND_SETS)}")
    verb.add_argument("--rows", type=int, required=rows is None, default=rows, metavar="N", help="how many")
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
    verb.add_argument("--out", required=True, metavar="DIR", help="directory to write; must be empty")
    verb.add_argument("--format", default="parquet", help=f"{', '.join(FORMATS)} (default parquet)")
    verb.add_argument("--overwrite", action="store_true", help="replace what is in DIR")
    verb.add_argument("--resume", action="store_true", help="go on with what was interrupted")


def _config(arguments: argparse.Namespace) -> DataConfig:
    return DataConfig(
        command_sets=tuple(arguments.sets),
        seed=arguments.seed,
        split=arguments.split,
        lexicon=arguments.lexicon,
    ).with_settings(arguments.settings)


def _report(done: int, rows: int) -> None:
    print(f"{done:,} of {rows:,} rows", file=sys.stderr)


def make_dataset(arguments: argparse.Namespace) -> None:
    """Write a dataset and print its directory."""
    from data_gen.dataset import write_dataset

    path = write_dataset(
        _config(arguments),
        arguments.rows,
        arguments.out,
        format=arguments.format,
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        report=_report,
    )
    print(path)


def make_pairs(arguments: argparse.Namespace) -> None:
    """Write counterfactual pairs and print their directory."""
    from data_gen.dataset import write_pairs

    path = write_pairs(
        _config(arguments),
        arguments.edit,
        arguments.rows,
        arguments.out,
        format=arguments.format,
        overwrite=arguments.overwrite,
        resume=arguments.resume,
        report=_report,
    )
    print(path)


def show_examples(arguments: argparse.Namespace) -> None:
    """Print the first rows: the question, the schema, the right SQL."""
    from data_gen.example import make_example

    config = _config(arguments)
    if arguments.rows < 1:
        raise InputError(f"rows is {arguments.rows}, expected at least 1")
    for index in range(arguments.rows):
        example = make_example(config, index)
        print(f"row {index}, {example.query.command_set}")
        print(f"  English: {example.english.string}")
        print(f"  schema:  {example.schema_text.string}")
        print(f"  SQL:     {example.sql.string}")
