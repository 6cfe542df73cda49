"""What a hint tells its reader to type exists: commands, their options, and options of the command that gives it."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from data_gen.errors import InputError
from tinysql.cli import NOUNS, OPTION, Parser
from tinysql.floors import load_ours

ROOT = Path(__file__).parents[2]
PACKAGES = ("data_gen", "tinysql", "saes", "circuits", "transfer")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TYPED = re.compile(r": tinysql ([^;,`\n]+)")
"""A command to be typed as it stands, `X` where the code fills something in."""
NAMED = re.compile(r"`tinysql ([a-z]+)(?: ([a-z]+))?([^`]*)`")
"""A command that is spoken of."""


class Hint(NamedTuple):
    module: str
    line: int
    text: str


def text_of(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be, with `X` for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
        yield "".join(map(str, parts))
    elif isinstance(node, ast.IfExp):
        yield from text_of(node.body)
        yield from text_of(node.orelse)
    elif isinstance(node, ast.BinOp):
        yield from (left + right for left in text_of(node.left) for right in text_of(node.right))


def hints(module: str, tree: ast.Module) -> Iterator[Hint]:
    """Every `hint=` of a module, and what stands second in an `InputError` or in a table of remedies."""
    for node in ast.walk(tree):
        given = [word.value for word in getattr(node, "keywords", []) if word.arg == "hint"]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError":
            given += node.args[1:2]
        for each in given:
            yield from (Hint(module, each.lineno, text) for text in text_of(each))


def imported(tree: ast.Module) -> set[str]:
    """The modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys()


TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}
IMPORTS = {name: imported(tree) for name, tree in TREES.items()}
HINTS = [hint for name, tree in TREES.items() for hint in hints(name, tree)]


def reached(module: str) -> set[str]:
    """All that a module imports, and what those import."""
    found, new = set[str](), {module}
    while new:
        found |= new
        new = {other for each in new for other in IMPORTS[each]} - found
    return found


def parser_of(noun: str) -> Parser:
    parser = Parser(prog=noun)
    load_ours(NOUNS[noun].module).add_arguments(parser)
    return parser


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a noun's verbs."""
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: verb for action in actions for name, verb in action.choices.items()}


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """The options of a noun and of its verbs."""
    own = {option for action in parser._actions for option in action.option_strings}
    return own.union(*(options_of(verb) for verb in verbs_of(parser).values()))


PARSERS = {noun: parser_of(noun) for noun in NOUNS}
REACHED = {noun: reached(NOUNS[noun].module) for noun in NOUNS}


def faults(hint: Hint) -> list[str]:
    """What is wrong with what a hint says, each in a few words."""
    found = []
    nouns = [noun for noun in NOUNS if hint.module in REACHED[noun]] or list(NOUNS)
    known = set().union(*(options_of(PARSERS[noun]) for noun in nouns))
    typed = TYPED.findall(hint.text)
    # An option beside a command is that command's.
    alone = NAMED.sub("", TYPED.sub("", hint.text))
    found += [
        f"{option} is no option of {', '.join(nouns)}"
        for option in OPTION.findall(alone)
        if option not in known
    ]
    for noun, verb, rest in NAMED.findall(hint.text):
        parser = PARSERS.get(noun)
        verbs = verbs_of(parser) if parser is not None else {}
        if parser is None:
            found.append(f"no command {noun}")
        elif verb and verbs and verb not in verbs:
            found.append(f"{noun} has no verb {verb}")
        else:
            known = options_of(verbs.get(verb, parser))
            found += [
                f"{option} is no option of {noun} {verb}"
                for option in OPTION.findall(rest)
                if option not in known
            ]
    for command in typed:
        noun, *rest = shlex.split(command)
        try:
            if noun not in NOUNS or not hasattr(parser_of(noun).parse_args(rest), "call"):
                found.append(f"`{command}` is no command")
        except InputError as error:
            found.append(f"`{command}`: {error.message}")
    return found


def test_hints_are_found() -> None:
    assert len(HINTS) > 300
    assert sum(bool(OPTION.search(hint.text)) for hint in HINTS) > 50
    assert sum(bool(TYPED.search(hint.text)) for hint in HINTS) > 4
    assert sum(bool(NAMED.search(hint.text)) for hint in HINTS) > 12


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("tinysql.answering.grading", "leave out --spilt", "--spilt is no option"),
        # Right in `sae eval`, from whose modules this one is not.
        ("circuits.judging.curves", "pass --untrained", "--untrained is no option of circuit, bench"),
        ("saes.disk", "name one that `tinysql sea train` made", "no command sea"),
        ("saes.disk", "name one that `tinysql sae trian` made", "sae has no verb trian"),
        (
            "saes.disk",
            "train one with `tinysql sae train RUN --edit EDIT`",
            "--edit is no option of sae train",
        ),
        ("saes.disk", "train one with: tinysql sae train", "the following arguments are required"),
        ("saes.disk", "train one with: tinysql sae train X --edit Y", "unrecognized arguments: --edit Y"),
    ],
)
def test_a_hint_that_names_what_is_not_there_is_a_fault(module: str, text: str, fault: str) -> None:
    (found,) = faults(Hint(module, 0, text))
    assert fault in found


def test_what_a_hint_names_is_there() -> None:
    assert [f"{hint.module}:{hint.line}: {fault}" for hint in HINTS for fault in faults(hint)] == []
