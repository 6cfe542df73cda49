"""The command line: one `tinysql`, nouns then verbs.

Each noun's arguments and functions live in the package that answers them, and are imported only when the
noun is asked for, so `tinysql --help` and `tinysql data` never wait for torch. This table of names is the
one place where the command line knows of the packages above it.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from data_gen.errors import InputError, nearest
from tinysql.floors import load_ours


class Noun(NamedTuple):
    module: str
    help: str


NOUNS = {
    "demo": Noun("tinysql.demo", "data, model, circuits, SAE and report, in minutes on two CPU cores"),
    "data": Noun("data_gen.commands", "make, check and convert datasets and counterfactual pairs"),
    "train": Noun("tinysql.commands.train", "train a recipe from scratch"),
    "eval": Noun("tinysql.commands.eval", "grade a run's answers by parsing and by executing them"),
    "ask": Noun("tinysql.commands.ask", "ask a run one question about one schema"),
    "circuit": Noun("circuits.commands", "find, evaluate and draw circuits"),
    "sae": Noun("saes.commands", "train sparse autoencoders and score them against known roles"),
    "transfer": Noun("transfer.commands", "carry steering vectors from one model to another, with controls"),
    "bench": Noun("circuits.bench_commands", "score methods against known truth"),
    "report": Noun("tinysql.commands.report", "write a run's report.html"),
}


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
"""An option in a text."""


TOO_LARGE = (
    "there is not enough memory for what was asked; what is complete is kept"
    "\nhint: ask for fewer rows, or for smaller models and batches"
)


REFUSED = (
    "the GPU refused to compute an attention; most likely its memory is full; what is complete is kept"
    "\nhint: see with nvidia-smi what else it computes, or ask for smaller models and batches"
)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence and a hint."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 1 when a check failed, 2 for bad input, 130 when interrupted."""
    # OpenMP's threads spin while they wait. Where other programs share the cores, a spinning thread keeps its
    # partner from running, and training becomes ten to thirty times slower; so they spin briefly, then sleep.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    with plain_warnings():
        return answer(list(sys.argv[1:] if arguments is None else arguments))


def answer(arguments: list[str]) -> int:
    """Run one command and say what it was refused; its exit code."""
    try:
        return run(arguments)
    except InputError as error:
        say(str(error))
        return 2
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output went away, as `| head` does
            sys.stderr.close()
            return 0
        say(refusal(error))
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError):
            from tinysql.devices import is_attention_refused, is_out_of_memory

            if is_attention_refused(error):
                say(REFUSED)
                return 2
            if not is_out_of_memory(error):
                raise
        say(TOO_LARGE)
        return 2
    except KeyboardInterrupt:
        say("interrupted; what is complete is kept\nhint: repeat the command, with --resume where it has it")
        return 130


def say(sentence: str) -> None:
    """Print a sentence, of several processes of torchrun the first one's alone; its summary has that of each."""
    summary = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if summary is not None:
        try:
            with open(summary, "w", encoding="utf-8") as file:
                json.dump({"message": f"tinysql: {sentence}", "timestamp": int(time.time())}, file)
        except OSError:
            summary = None
    if summary is None or os.environ.get("RANK", "0") == "0":
        print(f"tinysql: {sentence}", file=sys.stderr)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Within it, a warning is one line that names no source of ours."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"tinysql: warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def refusal(error: OSError) -> str:
    """What the system refused, as one sentence and a hint."""
    reason = error.strerror or next(iter(str(error).splitlines()), type(error).__name__)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return (
            f"cannot write {error.filename or 'the output'}: {reason}; what is complete is kept"
            "\nhint: make room or choose another directory, then repeat the command, with --resume where it has it"
        )
    named = "" if error.filename is None else f" of `{error.filename}`"
    return (
        f"the system refused the use{named}: {reason}; what is complete is kept"
        "\nhint: check the paths of the command, or give others"
    )


def run(arguments: list[str]) -> int:
    """Parse and run one command, letting `InputError` through; what it returns, or 0."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"tinysql {version('tinysql')}")
        return 0
    noun = arguments[0]
    if noun not in NOUNS:
        raise InputError(
            f"unknown command `{noun}`{nearest(noun, list(NOUNS))}", hint=f"known: {', '.join(NOUNS)}"
        )
    parser = Parser(
        prog=f"tinysql {noun}", description=NOUNS[noun].help[0].upper() + NOUNS[noun].help[1:] + "."
    )
    load_ours(NOUNS[noun].module).add_arguments(parser)
    parsed = parser.parse_args(arguments[1:])
    if not hasattr(parsed, "call"):
        parser.print_help()
        return 0
    return parsed.call(parsed) or 0


def run_step(arguments: list[str], whole: argparse.Namespace) -> None:
    """Run one of the commands that a longer one is made of, whose own options are those of `whole`.

    Raises `InputError` as the command does, saying of options in the hint that the whole lacks whose they are.
    """
    try:
        run(arguments)
    except InputError as error:
        known = {f"--{name.replace('_', '-')}" for name in vars(whole)}
        lacking = [option for option in OPTION.findall(error.hint) if option not in known]
        if not lacking:
            raise
        raise InputError(error.message, hint=f"of `tinysql {' '.join(arguments)}`: {error.hint}") from error


def overview() -> str:
    """What `tinysql --help` prints."""
    width = max(map(len, NOUNS))
    lines = [f"  {name:<{width}}  {noun.help}" for name, noun in NOUNS.items()]
    return "\n".join(
        ["usage: tinysql COMMAND ...", "", *lines, "", "Say `tinysql COMMAND --help` for its options."]
    )


if __name__ == "__main__":
    sys.exit(main())
