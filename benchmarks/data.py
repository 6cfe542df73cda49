"""How many rows a second one core makes: in memory with their spans, and to Parquet with all columns.

    python benchmarks/data.py
    python benchmarks/data.py --predecessor PATH/TO/TinySQL --json speed.json
    python benchmarks/data.py --stream 2000000 --sets cs1 --variants base

Times are process CPU time, medians of several repeats; all columns of the table come from one run, in turns, so
that other work on the machine slows all of them. With `--predecessor` the generators of a checkout of TinySQL
(github.com/withmartian/TinySQL) run in the same process. Their rows have no spans and no checks; they go to Parquet
the way their `generate_dataset` builds its data set. Nothing of that project is needed here or installed; its
`datasets` and `pandas` are.

With `--stream ROWS` nothing is timed: rows are streamed as records with all columns, and the process's peak memory is
shown after a part of them, and after more, for each set and variant in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import resource
import shlex
import subprocess
import sys
import time
import types
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# NumPy's threads would wait for work on the processor's time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.store.dataset import write_dataset
from data_gen.store.formats import encode_table
from data_gen.store.job import MOST_ROWS
from data_gen.store.stream import stream_records
from data_gen.store.tables import SPAN_COLUMNS, rows_table

SETS = ("cs1", "cs2", "cs3", "cs4", "cs5")
VARIANTS = ("base", "syn")


def seconds(work: Callable[[], object]) -> float:
    """CPU time of `work`, of all threads of the process."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def stages(config: DataConfig, rows: int, scratch: Path) -> dict[str, Callable[[], object]]:
    """What is timed of ours; each of the first three contains the one before."""
    table, out = rows_table(config, range(rows)), scratch / "ours"
    return {
        "drawing": lambda: rows_table(config, range(rows), ("index",)),
        "memory": lambda: rows_table(config, range(rows), SPAN_COLUMNS),
        "columns": lambda: rows_table(config, range(rows)),
        "file": lambda: encode_table(table, "parquet"),
        # Files as large as those of long data sets.
        "parquet": lambda: write_dataset(
            config, rows, out, overwrite=out.exists(), shard_rows=min(rows, MOST_ROWS)
        ),
        "one by one": lambda: deque(make_examples(config, 0, rows), maxlen=0),
    }


def predecessor_stages(
    checkout: Path, config: DataConfig, rows: int, scratch: Path
) -> dict[str, Callable[[], object]]:
    """The same two things of the predecessor's generator for this set."""
    # Its packages import torch and more on import; their modules do not.
    for name, folder in (("TinySQL", "TinySQL"), ("TinySQL.training_data", "TinySQL/training_data")):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(checkout / folder)]
            sys.modules[name] = package
    [name] = config.command_sets
    generate: Any = getattr(import_module(f"TinySQL.training_data.generate_{name}"), f"generate_{name}")
    to_dict = import_module("TinySQL.training_data.generate_datasets").batchitem_to_dict
    synonyms = config.variant == "syn"

    def memory() -> Any:
        random.seed(config.seed)
        return generate(rows, use_synonyms_table=synonyms, use_synonyms_field=synonyms)

    def parquet() -> None:
        import pandas
        from datasets import Dataset

        frame = pandas.DataFrame([to_dict(item) for item in memory()])
        Dataset.from_pandas(frame).to_parquet(str(scratch / "theirs.parquet"))

    return {"their memory": memory, "their parquet": parquet}


def measure(config: DataConfig, options: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Microseconds a row of every stage: medians of the repeats, which take turns."""
    rows_table(config, range(10**9, 10**9 + options.rows))
    timed = stages(config, options.rows, scratch)
    if options.predecessor is not None:
        timed |= predecessor_stages(options.predecessor, config, options.rows, scratch)
    for work in timed.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(options.repeats):
        for name, work in timed.items():
            found[name].append(seconds(work) / options.rows * 1e6)
    return {name: median(times) for name, times in found.items()}


def memory(config: DataConfig, rows: int) -> dict[int, float]:
    """Rows streamed so far -> the peak memory of this process until then, in MiB."""
    found, records, done = {}, stream_records(config), 0
    for count in sorted({max(1, rows * percent // 100) for percent in (1, 5, 10, 25, 50, 100)}):
        deque(islice(records, count - done), maxlen=0)
        done = count
        # Linux counts in KiB, macOS in bytes.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        found[count] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    return found


def memory_table(results: list[dict[str, Any]]) -> Any:
    """The results of `--stream` for a person."""
    from rich.table import Table

    table = Table("set", "variant", title="peak memory in MiB after so many rows")
    for count in results[0]["peak_mib"]:
        table.add_column(f"{count:,}", justify="right")
    for result in results:
        table.add_row(result["set"], result["variant"], *map(str, result["peak_mib"].values()))
    return table


def table_of(results: list[dict[str, Any]]) -> Any:
    """The results for a person: rows a second, ratios, and where a row's microseconds go."""
    from rich.table import Table

    theirs = "their memory" in results[0]["us_per_row"]
    table = Table(title="rows per second of CPU time, one core")
    heads = ["set", "variant", "in memory", "to Parquet"]
    heads += ["theirs, memory", "ratio", "theirs, Parquet", "ratio"] if theirs else []
    for head in (*heads, "us per row: drawing", "texts, spans", "JSON", "Parquet", "total"):
        table.add_column(head, justify="left" if head in ("set", "variant") else "right")
    for result in results:
        us = result["us_per_row"]
        cells = [
            result["set"],
            result["variant"],
            f"{1e6 / us['memory']:,.0f}",
            f"{1e6 / us['parquet']:,.0f}",
        ]
        if theirs:
            for kind in ("memory", "parquet"):
                cells += [f"{1e6 / us[f'their {kind}']:,.0f}", f"{us[f'their {kind}'] / us[kind]:.1f}"]
        steps = [us[name] for name in ("drawing", "memory", "columns")]
        parts = [steps[0], *[after - before for before, after in pairwise(steps)], us["file"], us["parquet"]]
        table.add_row(*cells, *[f"{part:.1f}" for part in parts])
    return table


def circumstances(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    git = ["git", "-C", str(Path(__file__).parent)]
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain"], capture_output=True, text=True, check=False
    ).stdout
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit + (" and changes" if changed.strip() else ""),
        "seed": options.seed,
        "rows": options.rows,
        "repeats": options.repeats,
        "device": f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores",
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("msgspec", "numpy", "pyarrow")},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def main() -> None:
    """Measure, print the table and the JSON."""
    from rich.console import Console

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="SET")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, metavar="VARIANT")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of each repeat (default 10000)")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median counts (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--predecessor", type=Path, metavar="PATH", help="a checkout of TinySQL")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes too")
    parser.add_argument("--stream", type=int, metavar="ROWS", help="measure memory and no times")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    with TemporaryDirectory() as scratch:
        for name in options.sets:
            for variant in options.variants:
                config = DataConfig(command_sets=(name,), variant=variant, seed=options.seed)
                result = {"set": name, "variant": variant}
                if options.stream is None:
                    result["us_per_row"] = measure(config, options, Path(scratch))
                else:
                    # A peak never sinks, so each has a process of its own.
                    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                        result["peak_mib"] = process.submit(memory, config, options.stream).result()
                results.append(result)
    report = {**circumstances(options), "results": results}
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table_of(results) if options.stream is None else memory_table(results))
    console.print_json(json.dumps(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
