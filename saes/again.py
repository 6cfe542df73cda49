"""`config.json` of a dictionary -> the options of `tinysql sae train` that train another like it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from data_gen.errors import InputError
from saes.recipes import find_recipe
from saes.training.config import SAEConfig
from tinysql.config import from_json


def options_again(made: Mapping[str, Any]) -> str | None:
    """Everything behind `--name NAME`; None where the file does not say what the dictionary was trained with.

    The recipe is not kept, but each form and architecture has one. Where an L0 was asked for, it is again, since
    another weight of the penalty gives it on other activations.
    """
    hooks, rows, l0 = made.get("hooks"), made.get("rows"), made.get("l0")
    try:
        config = from_json(SAEConfig, made.get("sae"), where="sae")
    except InputError:
        return None
    if not isinstance(hooks, list) or not isinstance(rows, int):
        return None
    name = config.architecture if config.form == "sae" else config.form
    recipe = find_recipe(name)
    words = ["--recipe", name, *(word for hook in hooks for word in ("--hook", str(hook)))]
    words += ["--rows", str(rows), "--seed", str(config.seed)]
    for field in fields(SAEConfig):
        value = getattr(config, field.name)
        is_found = field.name == "sparsity" and l0 is not None
        if field.name != "seed" and not is_found and value != getattr(recipe, field.name):
            given = ",".join(map(str, value)) if isinstance(value, tuple) else value
            words += ["--set", f"{field.name}={given}"]
    return shlex.join([*words, *(() if l0 is None else ("--l0", str(l0)))])
