"""`import circuits` is light, and its functions are not hidden by modules of the same name."""

from __future__ import annotations

import subprocess
import sys

import circuits


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, circuits; sys.exit('torch' in sys.modules or 'plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_function_stays_a_function_when_its_module_is_imported() -> None:
    import circuits.methods.eap
    import circuits.methods.exact
    import circuits.show

    for name in ("eap", "eap_ig", "exact", "show"):
        assert callable(getattr(circuits, name)), name


def test_every_export_exists() -> None:
    assert all(hasattr(circuits, name) for name in circuits.__all__)
