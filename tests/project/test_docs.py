"""Documents cannot drift: their commands parse, their paths exist, their figures are the code's."""

import re
import shlex
from pathlib import Path

import nbformat
import pytest

from tinysql import recipes as trained
from tinysql.cli import NOUNS, Parser
from tinysql.config import override
from tinysql.floors import load_ours
from transfer import recipes as taught

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RECIPES = {("train", ""): trained.find_recipe, ("transfer", "teach"): taught.find_recipe}
"""Where the settings of a command belong."""


def fenced(path: Path) -> list[str]:
    """The lines of a document's code blocks."""
    blocks = path.read_text().replace("\\\n", "").split("```")[1::2]
    return [line for block in blocks for line in block.splitlines()[1:]]


def indented(path: Path) -> list[str]:
    """The commands in a notebook's prose, which stand indented."""
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"^    (tinysql \w.*)", prose, re.MULTILINE)


COMMANDS = [
    *((path.name, line) for path in DOCUMENTS for line in fenced(path) if re.match(r"tinysql \w", line)),
    *((path.name, line) for path in NOTEBOOKS for line in indented(path)),
]


def test_the_documents_show_commands() -> None:
    assert {command.split()[1] for _, command in COMMANDS} == set(NOUNS)


def test_what_a_notebook_finds_by_role_it_evaluates_by_role_too() -> None:
    shown = [
        line.split()[1:3] for name, line in COMMANDS if name == "04_circuits.ipynb" and "--by-role" in line
    ]
    assert shown == [["circuit", "find"], ["circuit", "eval"]]


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=[command for _, command in COMMANDS])
def test_a_command_in_a_document_parses(document: str, command: str) -> None:
    noun, *arguments = shlex.split(command.partition("  #")[0])[1:]
    parser = Parser(prog=noun)
    load_ours(NOUNS[noun].module).add_arguments(parser)
    parsed = parser.parse_args(arguments)
    assert hasattr(parsed, "call")
    if (find_recipe := RECIPES.get((noun, arguments[0] if noun == "transfer" else ""))) is not None:
        override(find_recipe(parsed.recipe), parsed.set)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_a_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_module_of_the_flow_table_exists() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text()
    rooms = re.findall(r"`((?:data_gen|tinysql|saes|circuits|transfer)/[\w/]*(?:\.py)?)`", table)
    assert len(rooms) >= 15
    assert [room for room in rooms if not (ROOT / room).exists()] == []
