"""`tinysql ask`: a question and a schema -> SQL."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_gen.errors import InputError
from data_gen.files import refusal
from data_gen.seeding import read_seed
from tinysql.device_names import read_device

if TYPE_CHECKING:
    from data_gen.read.create import Created

SUFFIXES = (".sql", ".json", ".db")
"""How files that hold a schema are called."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("question", help='in English, such as "show me the price and the name"')
    parser.add_argument(
        "--schema",
        required=True,
        help='CREATE TABLE statements, or a file with them: "CREATE TABLE t ( a TEXT )"',
    )
    parser.add_argument(
        "--constrain", action="store_true", help="let the answer use only the schema's tables and columns"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 gives the likeliest answer (the default), 1 draws from the model's own distribution",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="draw from the likeliest tokens that together have this probability (default: 1, from all)",
    )
    parser.add_argument(
        "--seed", type=read_seed, default=0, help="another seed draws another answer (default: 0)"
    )
    parser.add_argument(
        "--device", type=read_device, default="cpu", help="where to run the model (default: cpu)"
    )
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> None:
    from data_gen.example import prompt_string
    from data_gen.read.parse import parse_sql
    from data_gen.schema import write_schema
    from tinysql.answering.sampling import Sampling
    from tinysql.runs import open_run

    try:
        arguments.question.encode()
    except UnicodeEncodeError as error:
        raise InputError("the question is no text", hint="write it in UTF-8") from error
    if not arguments.question.strip():
        raise InputError(
            "the question is empty", hint='ask something, such as "show me the price and the name"'
        )
    created = created_by(arguments.schema)
    schema = created.schema
    if created.left_out:
        print(f"the model is not told of {'; '.join(created.left_out)}", file=sys.stderr)
    prompt = prompt_string(" ".join(arguments.question.split()), write_schema(schema).string)
    sampling = Sampling(temperature=arguments.temperature, top_p=arguments.top_p, seed=arguments.seed)
    run = open_run(arguments.run)
    run.check_whole()
    # What computes is loaded behind what can be refused without it: it takes seconds.
    from tinysql.answering.generation import stream

    (model, tokenizer), newest = run.load(arguments.device), run.data.command_sets[-1]
    tokens: list[int] = []
    sql, kept_to = "", schema if arguments.constrain else None
    for piece in stream(model, tokenizer, prompt, sampling=sampling, schema=kept_to, heard=tokens):
        print(piece, end="", flush=True)
        sql += piece
    print(flush=True)
    if not sql.strip():
        print("warning: the model answered nothing", file=sys.stderr)
        return
    if kept_to is not None and arguments.temperature == 0:
        from tinysql.answering.replaced import replaced_names

        say_what_was_replaced(replaced_names(model, tokenizer, prompt, kept_to, tokens))
    try:
        parse_sql(sql, schema, newest)
    except InputError as error:
        print(f"warning: the answer does not fit the schema ({error.message})", file=sys.stderr)


def say_what_was_replaced(names: dict[str, str]) -> None:
    """Warn in one line of names that the schema lacks and the model would have written, and what stands there."""
    places = [
        f"`{wanted}` where the answer {f'has `{said}`' if said else 'ends'}" for wanted, said in names.items()
    ]
    if places:
        print(
            f"warning: the schema lacks what the model would have written: {', '.join(places)}",
            file=sys.stderr,
        )


def created_by(given: str) -> Created:
    """The schema that a statement creates, or those in the file of that name; `InputError` names such a file."""
    from data_gen.read.create import read_create

    text = read_schema(given)
    if text == given:  # a file whose content is its own name holds no schema either
        return read_create(text)
    if not text.strip():
        raise InputError(f"schema file `{given}` is empty", hint="give a file with a CREATE TABLE statement")
    try:
        return read_create(text)
    except InputError as error:
        raise InputError(f"schema file `{given}`: {error.message}", hint=error.hint) from error


def read_schema(given: str) -> str:
    """The statement itself, or what the file of that name holds; `InputError` where such a file cannot be read."""
    file = Path(given)
    try:
        if file.is_file():
            return file.read_text()
        is_directory = bool(given) and file.is_dir()
    except UnicodeDecodeError as error:
        raise InputError(
            f"schema file `{given}` is no text", hint="give a file with a CREATE TABLE statement"
        ) from error
    except OSError as error:  # one of a statement is that it is too long for a name
        if is_path(given):
            raise refusal("read", file, error) from error
        return given
    except ValueError:  # no file has such a name
        return given
    if is_directory:
        raise InputError(
            f"`{given}` is a directory, expected a file with a CREATE TABLE statement",
            hint="name the file, or give the statement itself",
        )
    if is_path(given):
        raise InputError(
            f"there is no file `{given}` to read the schema from",
            hint='check the path, or give the statement itself: "CREATE TABLE t ( a TEXT )"',
        )
    return given


def is_path(given: str) -> bool:
    """Whether a text can only be meant as the name of a file: no statement is one word, or ends as files do."""
    return not any(char.isspace() or char in "()" for char in given) or given.endswith(SUFFIXES)
