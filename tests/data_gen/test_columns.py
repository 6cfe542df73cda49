"""Examples -> an Arrow table: every column says what the example says."""

import json
from itertools import pairwise

import pyarrow as pa
import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples, write_example
from data_gen.query import COMMAND_SETS, Query, SelectItem
from data_gen.say.style import VARIANTS, Style, spoken
from data_gen.schema import parse_schema
from data_gen.store import columns
from data_gen.store.columns import COLUMNS, PUBLISHED, arrow_schema, example_table, published_table
from data_gen.text import Span, Text

SETS = (*COMMAND_SETS, "cs4+limit-where")
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def rows_of(config, count, **settings):
    examples = list(make_examples(config, 0, count))
    table = example_table(examples, seed=config.seed, split=config.split, **settings)
    return examples, table


@every_variant
def test_a_row_says_what_its_example_says(variant):
    examples, table = rows_of(DataConfig(command_sets=SETS, variant=variant, seed=7), 5 * len(SETS))
    assert table.column_names == list(COLUMNS)
    for example, row in zip(examples, table.to_pylist(), strict=True):
        assert row["english_prompt"] == example.english.string
        assert row["create_statement"] == example.schema_text.string
        assert row["sql_statement"] == example.sql.string
        assert row["prompt"] == example.prompt.string
        assert row["command_set"] == example.query.command_set
        assert (row["index"], row["seed"]) == (example.index, 7)
        assert (row["split"], row["variant"]) == ("train", variant)


@every_variant
def test_a_row_can_be_made_again_from_itself(variant):
    _, table = rows_of(DataConfig(command_sets=SETS, variant=variant), 3 * len(SETS))
    for row in table.to_pylist():
        style = Style(**json.loads(row["style"]))
        again = write_example(row["index"], Query.from_json(row["query"]), style)
        assert example_table([again], seed=row["seed"], split=row["split"]).to_pylist() == [row]


@every_variant
def test_roles_are_the_spans_of_prompt_and_answer(variant):
    examples, table = rows_of(DataConfig(command_sets=SETS, variant=variant), 5 * len(SETS))
    for example, row in zip(examples, table.to_pylist(), strict=True):
        spans = tuple(Span(**span) for span in row["roles"])
        # `Text` refuses gaps and overlaps.
        assert Text(f"{row['prompt']} {row['sql_statement']}", spans) == example.text
        assert all(a.role != b.role for a, b in pairwise(spans))


def test_the_size_of_a_batch_makes_no_difference(monkeypatch):
    config = DataConfig(command_sets=("cs2", "cs5"))
    _, whole = rows_of(config, 50)
    monkeypatch.setattr(columns, "BATCH", 7)
    assert rows_of(config, 50)[1].equals(whole)


def test_what_was_written_before_makes_no_difference():
    examples = list(make_examples(DataConfig(command_sets=("cs3",), split="test"), 0, 20))
    before = example_table(examples, seed=0, split="test")
    rows_of(DataConfig(command_sets=tuple(COMMAND_SETS), variant="nat"), 50)
    after = example_table(examples, seed=0, split="test")
    names, again = (table["roles"].chunk(0).values.field("role").dictionary for table in (before, after))
    assert names.equals(again)
    assert names.to_pylist() == sorted(names.to_pylist())


def test_letters_outside_ascii_keep_their_places():
    query = Query(
        command_set="cs1",
        table="straße",
        select=(SelectItem("größe"), SelectItem("名前")),
        schema=parse_schema("CREATE TABLE straße ( größe INTEGER, 名前 TEXT )"),
    )
    example = write_example(0, query, Style())
    [row] = example_table([example], seed=0, split="train").to_pylist()
    assert row["sql_statement"] == "SELECT größe, 名前 FROM straße"
    assert row["create_statement"] == "CREATE TABLE straße ( größe INTEGER, 名前 TEXT )"
    assert tuple(Span(**span) for span in row["roles"]) == example.text.spans
    assert json.loads(row["select"])[1]["name"] == "名前"


def test_empty_pieces_leave_no_spans():
    import numpy as np

    # Two rows, of the pieces "ab" "" "c" and "" "d"; the mark of an empty piece must not part its neighbours.
    spans = columns.merge_pieces(np.array([0, 3, 4]), np.array([0, 2, 2, 3, 3, 4]), np.array([1, 2, 1, 3, 1]))
    assert spans.counts.tolist() == [1, 1]
    assert list(zip(spans.starts, spans.ends, spans.roles, strict=True)) == [(0, 3, 1), (0, 1, 1)]


@every_variant
def test_the_published_json_has_the_published_shapes(variant):
    examples, table = rows_of(
        DataConfig(command_sets=("cs1", "cs2", "cs3", "cs4", "cs5"), variant=variant), 100
    )
    for example, row in zip(examples, table.to_pylist(), strict=True):
        query, style = example.query, example.style
        fields = json.loads(row["table_fields"])
        assert all(list(field) == ["name", "type", "synonym", "use_synonym"] for field in fields)
        named = [(column.name, column.type) for table in query.schema.tables for column in table.columns]
        assert [(field["name"], field["type"]) for field in fields] == named
        items = json.loads(row["select"])
        assert all(list(item) == ["name", "aggregate", "synonym", "use_synonym"] for item in items)
        for item, shown in zip(query.select, items, strict=True):
            said = spoken(style, item.column)
            assert (shown["name"], shown["aggregate"]) == (item.column, item.aggregate or "")
            assert shown["use_synonym"] == (said != item.column)
            assert not shown["use_synonym"] or shown["synonym"] == said
        said = spoken(style, query.table, table=True)
        assert (row["table_name"], row["table_name_use_synonym"]) == (query.table, said != query.table)
        assert not row["table_name_use_synonym"] or row["table_name_synonym"] == said
        if query.command_set == "cs1":
            assert row["order_by"] is None
        else:
            keys = [{"name": key.column, "asc": key.direction == "ASC"} for key in query.order_by]
            assert json.loads(row["order_by"]) == keys


def test_published_rows_have_the_published_columns_and_numbers():
    _, table = rows_of(DataConfig(command_sets=("cs1", "cs10")), 4)
    published = published_table(table)
    assert published.column_names == list(PUBLISHED)
    assert published["command_set"].to_pylist() == [1, 10, 1, 10]
    with pytest.raises(InputError, match=r"`cs2\+limit` has no number"):
        published_table(rows_of(DataConfig(command_sets=("cs2+limit",)), 1)[1])


def test_the_schema_is_what_the_table_has():
    _, table = rows_of(DataConfig(), 3)
    for field, wanted in zip(table.schema, arrow_schema(), strict=True):
        assert field.name == wanted.name
        assert field.name == "roles" or field.type == wanted.type
    assert pa.types.is_dictionary(table.schema.field("roles").type.value_type.field("role").type)
