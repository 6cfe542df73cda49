"""No test may wait for the network, and none shares threads with its neighbours; pages are opened in one browser.

Where there is no GPU, kernels run in Triton's interpreter, which has to be said before Triton is first imported.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
if not os.path.exists("/dev/nvidiactl"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[..., str]:
    """`in_browser(uri, *options)`: the page's DOM behind its scripts; skips the test where there is no Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")

    def dom(uri: str, *options: str) -> str:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", *QUIET]
        command += [f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=15000", *options]
        command += ["--dump-dom", uri]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return dom
