"""Schema -> CREATE TABLE text, and back."""

import pytest

from data_gen.errors import InputError
from data_gen.example import DataConfig, make_example
from data_gen.schema import Column, Schema, Table, parse_schema, write_schema

SCHEMA = Schema((Table("orders", (Column("price", "INTEGER"), Column("name", "TEXT"))),))


def test_a_schema_is_one_line_whose_names_all_have_a_space_before_them():
    text = write_schema(SCHEMA)
    assert text.string == "CREATE TABLE orders ( price INTEGER, name TEXT )"
    named = [piece for piece, role in text.pieces() if role.endswith((".name", ".table", ".type"))]
    assert named == [" orders", " price", " INTEGER", " name", " TEXT"]


def test_reading_undoes_writing():
    for index in range(200):
        schema = make_example(DataConfig(random_names=0.3), index).query.schema
        assert parse_schema(write_schema(schema).string) == schema


def test_a_second_table_has_roles_of_its_own():
    text = write_schema(Schema((*SCHEMA.tables, Table("cars", (Column("age", "INTEGER"),)))))
    roles = {role for _, role in text.pieces()}
    assert {"schema.table", "schema.tables.1.table", "schema.tables.1.columns.0.name"} <= roles


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELECT 1", "is not one CREATE TABLE statement"),
        ("CREATE TABLE t ( a )", "is not a name and a type"),
        ("CREATE TABLE t ( a TEXT, a TEXT )", "two columns of one name"),
        ("CREATE TABLE t ( a TEXT, A TEXT )", "two columns of one name"),
        ("CREATE TABLE t ( a TXT )", "did you mean `TEXT`"),
        ("CREATE TABLE t ( a TEXT ); DROP TABLE t", "is not one CREATE TABLE statement"),
        ("CREATE TABLE t ( a TEXT PRIMARY KEY )", "is not a name and a type"),
        ("CREATE TABLE t ( a-b TEXT )", "is not a name and a type"),
    ],
)
def test_a_schema_that_cannot_be_read_is_one_sentence(statement, reason):
    with pytest.raises(InputError, match=reason):
        parse_schema(statement)


def test_a_missing_name_is_answered_with_the_names_there_are():
    assert SCHEMA.table("orders").column("name").type == "TEXT"
    with pytest.raises(InputError, match="price, name"):
        SCHEMA.table("orders").column("prize")
    with pytest.raises(InputError, match="orders"):
        SCHEMA.table("order")
    with pytest.raises(InputError, match="no columns"):
        Table("empty", ())
