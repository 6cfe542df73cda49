"""data_gen: what is asked, what is the right SQL, what does each word mean, was an answer right?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_gen.lazy import lazy_exports

if TYPE_CHECKING:
    from data_gen.config import DataConfig as DataConfig
    from data_gen.draw.sampling import sample_query as sample_query
    from data_gen.draw.sampling import sample_style as sample_style
    from data_gen.draw.schemas import sample_schema as sample_schema
    from data_gen.errors import InputError as InputError
    from data_gen.example import Example as Example
    from data_gen.example import make_example as make_example
    from data_gen.pairs.counterfactual import CounterfactualPair as CounterfactualPair
    from data_gen.pairs.counterfactual import counterfactuals as counterfactuals
    from data_gen.pairs.counterfactual import make_pair as make_pair
    from data_gen.pairs.edits import EDITS as EDITS
    from data_gen.query import COMMAND_SETS as COMMAND_SETS
    from data_gen.query import CommandSet as CommandSet
    from data_gen.query import OrderBy as OrderBy
    from data_gen.query import Query as Query
    from data_gen.query import SelectItem as SelectItem
    from data_gen.read.parse import parse_sql as parse_sql
    from data_gen.run.database import Database as Database
    from data_gen.run.database import run_sql as run_sql
    from data_gen.run.grade import Grade as Grade
    from data_gen.run.grade import grade as grade
    from data_gen.say.english import write_english as write_english
    from data_gen.say.style import Style as Style
    from data_gen.schema import Column as Column
    from data_gen.schema import Schema as Schema
    from data_gen.schema import Table as Table
    from data_gen.schema import parse_schema as parse_schema
    from data_gen.schema import write_schema as write_schema
    from data_gen.sql import write_sql as write_sql
    from data_gen.store.dataset import read_dataset as read_dataset
    from data_gen.store.dataset import write_dataset as write_dataset
    from data_gen.store.stream import stream as stream
    from data_gen.store.stream import stream_records as stream_records
    from data_gen.text import Span as Span
    from data_gen.text import Text as Text
    from data_gen.vocabulary.lexicon import LEXICONS as LEXICONS
    from data_gen.vocabulary.lexicon import Lexicon as Lexicon

__all__ = lazy_exports(
    __name__,
    {
        "config": ["DataConfig"],
        "pairs.counterfactual": ["CounterfactualPair", "counterfactuals", "make_pair"],
        "run.database": ["Database", "run_sql"],
        "store.dataset": ["read_dataset", "write_dataset"],
        "store.stream": ["stream", "stream_records"],
        "pairs.edits": ["EDITS"],
        "say.english": ["write_english"],
        "say.style": ["Style"],
        "errors": ["InputError"],
        "example": ["Example", "make_example"],
        "run.grade": ["Grade", "grade"],
        "vocabulary.lexicon": ["LEXICONS", "Lexicon"],
        "query": ["COMMAND_SETS", "CommandSet", "OrderBy", "Query", "SelectItem"],
        "draw.sampling": ["sample_query", "sample_style"],
        "draw.schemas": ["sample_schema"],
        "schema": ["Column", "Schema", "Table", "parse_schema", "write_schema"],
        "read.parse": ["parse_sql"],
        "sql": ["write_sql"],
        "text": ["Span", "Text"],
    },
)
