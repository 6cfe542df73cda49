"""`tinysql data check|stats|import` -> what a dataset holds and whether it holds what it promises."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from data_gen.errors import InputError
from data_gen.files import read_path
from data_gen.progress import progress
from data_gen.seeding import read_count, read_rows

ENGINES = ("sqlite", "duckdb")
DEFECTIVE = 1
"""Exit code of a check that found something; bad input ends with 2."""


def add_review(verbs: Any) -> None:
    """Give the verbs of `tinysql data` those that look at what is there."""
    check = verbs.add_parser("check", help="prove every property of a dataset, or find what breaks it")
    _add_dataset(check)
    check.add_argument(
        "--against",
        type=read_path,
        metavar="DIR",
        help="also report what the rows share with these (training) rows",
    )
    check.add_argument(
        "--engines", default=",".join(ENGINES), help="engines that run the SQL (default sqlite,duckdb)"
    )
    check.add_argument(
        "--workers",
        type=read_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one per core)",
    )
    check.add_argument(
        "--tokenizer",
        type=read_path,
        metavar="FILE",
        help="tokenizer.json of pairs: check what they say of tokens too",
    )
    check.add_argument("--out", type=read_path, metavar="FILE", help="write the report as JSON too")
    check.add_argument("--overwrite", action="store_true", help="replace FILE")
    check.set_defaults(call=check_dataset)

    stats = verbs.add_parser("stats", help="count clauses, lengths and roles of a dataset")
    _add_dataset(stats)
    stats.add_argument("--json", action="store_true", help="print JSON instead of a table")
    stats.set_defaults(call=show_stats)

    take = verbs.add_parser("import", help="read rows of the published datasets into ours")
    take.add_argument(
        "rows",
        type=read_path,
        metavar="FILE",
        help="published rows: a .parquet or .jsonl file, or a directory of them",
    )
    take.add_argument("--out", required=True, type=read_path, metavar="FILE", help="file to write")
    take.add_argument("--format", default="parquet", help="parquet, jsonl or arrow (default parquet)")
    take.add_argument("--overwrite", action="store_true", help="replace FILE")
    take.set_defaults(call=import_published)


def _add_dataset(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "dataset",
        type=read_path,
        metavar="DIR",
        help="directory that `tinysql data make` wrote, or Parquet or JSON-lines files",
    )
    verb.add_argument("--rows", type=read_rows, metavar="N", help="only the first N (default: all)")


def check_dataset(arguments: argparse.Namespace) -> int:
    """Audit a dataset and print the table; 1 if a property is broken."""
    from itertools import islice

    from data_gen.files import write_atomic
    from data_gen.outputs import check_output
    from data_gen.review.check import check_rows
    from data_gen.review.leakage import Reference, leakage
    from data_gen.review.rows import read_rows
    from data_gen.review.sides import single_rows

    engines = arguments.engines.split(",")
    if "sqlite" not in engines or not set(engines) <= set(ENGINES):
        raise InputError(
            f"engines are `{arguments.engines}`, expected sqlite, or sqlite,duckdb",
            hint="sqlite is always needed",
        )
    if arguments.out is not None:
        read = (arguments.dataset, arguments.against, arguments.tokenizer)
        sources = [path for path in read if path is not None]
        check_output(arguments.out, overwrite=arguments.overwrite, sources=sources)
    # An audit takes minutes, so what cannot be read or compared is found out before it, by one row.
    first = islice(single_rows(read_rows(arguments.dataset)), 1)
    if arguments.against is not None:
        leakage(first, Reference(islice(single_rows(read_rows(arguments.against)), 1)))
    reference = None
    # It takes seconds to the first row: processes begin, and with --against rows are read before.
    with progress("rows", begins=f"checking {arguments.dataset}") as report_done:
        if arguments.against is not None:
            reference = Reference(single_rows(read_rows(arguments.against)))
        audit = check_rows(
            arguments.dataset,
            duckdb="duckdb" in engines,
            workers=arguments.workers,
            rows=arguments.rows,
            tokenizer=arguments.tokenizer,
            report=report_done,
        )
    print(audit)
    report, clean = audit.to_json(), audit.is_clean
    if reference is not None:
        shared = leakage(single_rows(islice(read_rows(arguments.dataset), arguments.rows)), reference)
        print(shared)
        report["leakage"], clean = shared.to_dict(), clean and not shared.broken
    if arguments.out is not None:
        write_atomic(Path(arguments.out), json.dumps(report, indent=1) + "\n")
    return 0 if clean else DEFECTIVE


def show_stats(arguments: argparse.Namespace) -> None:
    """Print what a dataset is made of."""
    from itertools import islice

    from data_gen.review.rows import read_rows
    from data_gen.review.sides import single_rows
    from data_gen.review.stats import stats

    if arguments.rows is not None and arguments.rows < 1:
        raise InputError(
            f"rows is {arguments.rows}, expected at least 1", hint="leave out --rows to count all of them"
        )
    found = stats(single_rows(islice(read_rows(arguments.dataset), arguments.rows)))
    print(json.dumps(found.to_dict(), indent=1) if arguments.json else found)


def import_published(arguments: argparse.Namespace) -> None:
    """Read published rows, write those that can be recovered, and say what became of the others."""
    from data_gen.store.published import import_rows

    print(import_rows(arguments.rows, arguments.out, format=arguments.format, overwrite=arguments.overwrite))
