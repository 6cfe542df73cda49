"""Names of the packages above -> their modules, found at run time.

`tinysql` never imports `saes`, `circuits` or `transfer`; the command line and the report ask them, by name,
for their commands and their pages.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from data_gen.errors import InputError

PACKAGES = ("data_gen", "tinysql", "saes", "circuits", "transfer")


def load_ours(module: str) -> ModuleType:
    """Import a module of ours; `InputError` when another distribution's package of that name is in the way.

    The package index holds unrelated projects called `circuits` and `saes`; installed over ours they
    replace files silently.
    """
    package = module.partition(".")[0]
    spec = find_spec(package)
    found = Path(spec.origin).parent if spec and spec.origin else None
    if found is None or not (found / "py.typed").exists() or find_spec(module) is None:
        raise InputError(
            f"package `{package}` at {found} is not tinysql's",
            hint="install tinysql in an environment of its own",
        )
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in PACKAGES:
            raise
        raise InputError(
            f"`{module}` needs `{error.name}`, which is not installed", hint="pip install 'tinysql[interp]'"
        ) from error
