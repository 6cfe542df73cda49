"""data_gen: what is asked, what is the right SQL, what does each word mean, was an answer right?

The names below are loaded when first used, so `import data_gen` costs nothing. `grade` lives in
`data_gen.grade`, which would hide a function of the same name here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_gen.config import DataConfig
    from data_gen.counterfactual import CounterfactualPair, counterfactuals, make_pair
    from data_gen.database import Database, fill, run_sql
    from data_gen.dataset import read_dataset, write_dataset
    from data_gen.edits import EDITS
    from data_gen.english import Style, write_english
    from data_gen.errors import InputError
    from data_gen.example import Example, make_example
    from data_gen.grade import Grade
    from data_gen.lexicon import LEXICONS, Lexicon
    from data_gen.query import COMMAND_SETS, CommandSet, OrderBy, Query, SelectItem
    from data_gen.sampling import sample_query, sample_schema, sample_style
    from data_gen.schema import Column, Schema, Table, write_schema
    from data_gen.sql import parse_sql, write_sql
    from data_gen.text import Span, Text

_HOMES = {
    "config": ("DataConfig",),
    "counterfactual": ("CounterfactualPair", "counterfactuals", "make_pair"),
    "database": ("Database", "fill", "run_sql"),
    "dataset": ("read_dataset", "write_dataset"),
    "edits": ("EDITS",),
    "english": ("Style", "write_english"),
    "errors": ("InputError",),
    "example": ("Example", "make_example"),
    "grade": ("Grade",),
    "lexicon": ("LEXICONS", "Lexicon"),
    "query": ("COMMAND_SETS", "CommandSet", "OrderBy", "Query", "SelectItem"),
    "sampling": ("sample_query", "sample_schema", "sample_style"),
    "schema": ("Column", "Schema", "Table", "write_schema"),
    "sql": ("parse_sql", "write_sql"),
    "text": ("Span", "Text"),
}

__all__ = [
    "COMMAND_SETS",
    "EDITS",
    "LEXICONS",
    "Column",
    "CommandSet",
    "CounterfactualPair",
    "DataConfig",
    "Database",
    "Example",
    "Grade",
    "InputError",
    "Lexicon",
    "OrderBy",
    "Query",
    "Schema",
    "SelectItem",
    "Span",
    "Style",
    "Table",
    "Text",
    "counterfactuals",
    "fill",
    "make_example",
    "make_pair",
    "parse_sql",
    "read_dataset",
    "run_sql",
    "sample_query",
    "sample_schema",
    "sample_style",
    "write_dataset",
    "write_english",
    "write_schema",
    "write_sql",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"data_gen.{module}"), name)
    raise AttributeError(f"module `data_gen` has no attribute `{name}`")


def __dir__() -> list[str]:
    return sorted(__all__)
