"""Schema -> CREATE TABLE text, and back."""

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.query import Query, SelectItem
from data_gen.schema import KINDS, SQL_TYPES, Column, Schema, Table, parse_schema, split_create, write_schema

ORDERS = Table("orders", (Column("price", "INTEGER"), Column("name", "TEXT")))
SCHEMA = Schema((ORDERS,))
KEYED = Schema(
    (
        Table("shops", (Column("id", "INTEGER", primary=True), Column("city", "VARCHAR"))),
        Table("cars", (Column("shop_id", "BIGINT", references="shops"), Column("sold", "BOOLEAN"))),
    )
)


def test_a_schema_is_one_line_whose_names_all_have_a_space_before_them():
    text = write_schema(SCHEMA)
    assert text.string == "CREATE TABLE orders ( price INTEGER, name TEXT )"
    named = [piece for piece, role in text.pieces() if role.endswith((".name", ".table", ".type"))]
    assert named == [" orders", " price", " INTEGER", " name", " TEXT"]


def test_keys_and_a_second_table_have_roles_of_their_own():
    text = write_schema(KEYED)
    assert text.string == (
        "CREATE TABLE shops ( id INTEGER PRIMARY KEY, city VARCHAR ); "
        "CREATE TABLE cars ( shop_id BIGINT REFERENCES shops ( id ), sold BOOLEAN )"
    )
    pieces = {role: piece for piece, role in text.pieces()}
    assert pieces["schema.table"] == " shops"
    assert pieces["schema.columns.0.key"] == " PRIMARY KEY"
    assert pieces["schema.tables.1.table"] == " cars"
    assert pieces["schema.tables.1.columns.0.references"] == " shops"
    assert pieces["schema.tables.1.columns.1.type"] == " BOOLEAN"


@pytest.mark.parametrize("command_set", ["cs1", "cs5", "cs8", "cs9"])
def test_reading_undoes_writing(command_set):
    config = DataConfig(command_sets=(command_set,), random_names=0.3)
    schemas = [example.query.schema for example in make_examples(config, 0, 150)]
    assert [parse_schema(write_schema(schema).string) for schema in schemas] == schemas
    # Some have what makes reading hard.
    columns = [column for schema in schemas for table in schema.tables for column in table.columns]
    assert any(len(schema.tables) > 1 for schema in schemas) == (command_set != "cs1")
    assert any(column.references for column in columns) == (command_set == "cs8")
    assert parse_schema(write_schema(KEYED).string) == KEYED


@pytest.mark.parametrize(
    "spelled",
    [
        "create table T(a text,b\nInteger primary  key) ;\n",
        "CREATE TABLE T ( a TEXT, b INTEGER PRIMARY KEY )",
    ],
)
def test_case_and_spacing_make_no_difference(spelled):
    assert parse_schema(spelled) == Schema(
        (Table("T", (Column("a", "TEXT"), Column("b", "INTEGER", None, True))),)
    )


@pytest.mark.parametrize("kind", SQL_TYPES)
def test_every_type_can_be_read_and_has_a_kind(kind):
    [column] = parse_schema(f"CREATE TABLE t ( a {kind.lower()} )").tables[0].columns
    assert column == Column("a", kind)
    assert column.kind == KINDS[kind]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("", "is not CREATE TABLE statements"),
        ("SELECT 1", "is not CREATE TABLE statements"),
        ("CREATE TABLE t ( a TEXT ); DROP TABLE t", "is not CREATE TABLE statements"),
        ("CREATE TABLE t ( a )", "is not a name and a type"),
        ("CREATE TABLE t ( )", "is not a name and a type"),
        ("CREATE TABLE t ( a TEXT, )", "is not a name and a type"),
        ("CREATE TABLE t ( a TXT )", "did you mean `TEXT`"),
        ("CREATE TABLE t ( a TEXT NOT NULL )", "is not a name and a type"),
        ("CREATE TABLE t ( a INTEGER REFERENCES u ( key ) )", "is not a name and a type"),
        ("CREATE TABLE t ( a-b TEXT )", "is not a name and a type"),
    ],
)
def test_a_schema_that_cannot_be_read_is_one_sentence(statement, reason):
    with pytest.raises(InputError) as caught:
        parse_schema(statement)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


SAME = [
    (
        Schema((Table("t", (Column("a", "TEXT"), Column("A", "DATE"))),)),
        "table `t` has two columns of one name, `a`",
    ),
    (
        Schema((ORDERS, Table("Orders", (Column("a", "TEXT"),)))),
        "schema has two tables of one name, `orders`",
    ),
    (Schema((Table("t", ()),)), "table `t` has no columns"),
    (Schema(()), "schema has no tables"),
]


@pytest.mark.parametrize(("schema", "reason"), SAME)
def test_names_that_sql_cannot_tell_apart_are_refused_wherever_they_come_from(schema, reason):
    with pytest.raises(InputError, match=reason):
        schema.check()
    if schema.tables and schema.tables[0].columns:
        with pytest.raises(InputError, match=reason):
            parse_schema(write_schema(schema).string)
    query = Query(command_set="cs1", schema=schema, table="t", select=(SelectItem("a"),))
    with pytest.raises(InputError, match=reason):
        Query.from_json(query.to_json())


def test_a_missing_name_is_answered_with_the_names_there_are():
    assert SCHEMA.table("orders").column("name").type == "TEXT"
    with pytest.raises(InputError, match="price, name"):
        SCHEMA.table("orders").column("prize")
    with pytest.raises(InputError, match="orders"):
        SCHEMA.table("order")


def test_a_comma_in_brackets_ends_no_column():
    statements = "CREATE TABLE t ( a DECIMAL(10, 2), b CHAR ( 2 ),c TEXT );\nCREATE TABLE u (d INTEGER);"
    assert split_create(statements) == [
        ("t", ["a DECIMAL(10, 2)", "b CHAR ( 2 )", "c TEXT"]),
        ("u", ["d INTEGER"]),
    ]
