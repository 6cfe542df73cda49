"""No test may wait for the network, and none shares threads with its neighbours; pages are opened in one browser.
The hint of every command that a test has refused names options of that command alone.

Where there is no GPU, kernels run in Triton's interpreter, which has to be said before Triton is first imported.
"""

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from data_gen.errors import InputError
from tinysql import cli
from tinysql.floors import load_ours

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked as a GPU's where there is none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")


@pytest.fixture
def chromium() -> str:
    """The program of a browser; skips the test where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    return program


@pytest.fixture
def in_browser(chromium: str, tmp_path: Path) -> Callable[..., str]:
    """`in_browser(uri, *options)`: the page's DOM behind its scripts."""

    def dom(uri: str, *options: str) -> str:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *QUIET]
        command += [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=15000", *options]
        command += ["--dump-dom", uri]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return dom


@pytest.fixture(autouse=True)
def hints_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test whose command is refused with a hint at options that the command lacks."""
    run = cli.run

    def checked(arguments: list[str]) -> int:
        try:
            return run(arguments)
        except InputError as error:
            # What stands beside the name of another command is its own.
            hint = re.sub(r"^of `tinysql .*|`tinysql [^`]*`|: tinysql [^;,`\n]*", "", error.hint)
            if not set(cli.OPTION.findall(hint)) <= _options(arguments):
                pytest.fail(f"{arguments} is told: {error.hint}")
            raise

    monkeypatch.setattr(cli, "run", checked)


def _options(arguments: list[str]) -> set[str]:
    """The options of the command that a command line begins with; of all its verbs where it names none."""
    parser: argparse.ArgumentParser = cli.Parser(prog=arguments[0])
    if arguments[0] in cli.NOUNS:
        load_ours(cli.NOUNS[arguments[0]].module).add_arguments(parser)
    known, parsers = set[str](), [parser]
    while parsers:
        for action in parsers.pop()._actions:
            known |= set(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                verbs = action.choices
                parsers += (
                    [verbs[arguments[1]]] if arguments[1:2] and arguments[1] in verbs else verbs.values()
                )
    return known
