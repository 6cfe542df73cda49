"""Directory of a dataset -> a recipe that trains on its rows, or a refusal before anything that computes is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.files import read_json
from data_gen.store.dataset import read_dataset
from tinysql.recipes import Recipe

COLUMNS = ("prompt", "sql_statement")
"""Of a dataset, what is trained on."""


def read_about(dataset: Path) -> dict[str, Any]:
    """What a dataset says of its rows: `config`, how they were made, and `rows`, how many they are.

    Raises `InputError` for a directory that is no dataset.
    """
    header = read_json(dataset / "config.json") if (dataset / "config.json").is_file() else {}
    if not isinstance(header.get("config"), dict) or not isinstance(header.get("rows"), int):
        raise InputError(
            f"`{dataset}` is no dataset: it has no config.json that says how its rows were made",
            hint="name a directory that `tinysql data make` wrote",
        )
    return header


def on_dataset(recipe: Recipe, dataset: Path) -> Recipe:
    """The recipe with the rows of a dataset directory in place of its own."""
    header = read_about(dataset)
    recipe = replace(recipe, data=DataConfig.from_dict(header["config"]), rows=header["rows"], variants=())
    # The first row is read, so that a damaged dataset is refused before an older run is emptied.
    first = next(iter(read_dataset(dataset)), {})
    missing = [name for name in COLUMNS if name not in first]
    if missing:
        raise InputError(
            f"the rows of `{dataset}` have no `{missing[0]}`, so they are no training rows",
            hint="name a directory that `tinysql data make` wrote",
        )
    return recipe
