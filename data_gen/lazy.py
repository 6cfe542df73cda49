"""A package's public names -> the modules that hold them, imported on first use.

Importing a package then costs nothing, though some of its modules need torch, which takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, Sequence[str]]) -> list[str]:
    """Give `package` the names in `homes` (module -> names) and return them, sorted, for its `__all__`.

    A function may bear its module's name: `circuits.eap` is the function, also after the module was imported.
    """
    home_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in home_of:
                raise AttributeError(f"module `{package}` has no attribute `{name}`")
            return getattr(import_module(home_of[name]), name)

        def __setattr__(self, name: str, value: object) -> None:
            # Importing a module makes Python bind it to its name, which would hide the function of that name.
            if not (name in home_of and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted(home_of)

    sys.modules[package].__class__ = Package
    return sorted(home_of)
