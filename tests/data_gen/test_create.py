"""What people's CREATE TABLE statements say reaches the schema, or the list of what does not."""

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.read.create import LONGEST, read_create
from data_gen.schema import SQL_TYPES, Column, Table, parse_schema, write_schema

DUMP = """
-- what a shop sold
CREATE TABLE IF NOT EXISTS "orders" (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  price DECIMAL(10,2) NOT NULL DEFAULT 0.0,  /* in euros; with tax */
  `name` VARCHAR(20),
  at TIMESTAMP,
  shop INT,
  CONSTRAINT sold_in FOREIGN KEY (shop) REFERENCES shops (id)
);
CREATE TABLE shops ( id BIGINT, city CHAR(3), seat INT REFERENCES cities, PRIMARY KEY (id) );
CREATE INDEX by_price ON orders (price);
INSERT INTO shops VALUES (1, 'Rom', 2);
"""


def test_a_dump_becomes_the_schema_it_describes() -> None:
    created = read_create(DUMP)
    orders, shops = created.schema.tables
    assert orders == Table(
        "orders",
        (
            Column("id", "INTEGER", primary=True),
            Column("price", "DECIMAL"),
            Column("name", "VARCHAR"),
            Column("at", "DATE"),
            Column("shop", "INTEGER", references="shops"),
        ),
    )
    seat = Column("seat", "INTEGER", references="cities")
    assert shops == Table("shops", (Column("id", "BIGINT", primary=True), Column("city", "TEXT"), seat))
    assert created.left_out == (
        "NOT NULL, DEFAULT, UNIQUE and the like",
        "statements that create no table (INDEX)",
        "statements that create no table (INSERT)",
    )


@pytest.mark.parametrize("command_set", ["cs1", "cs5", "cs8"])
def test_it_reads_what_the_generator_writes_as_the_other_reader_does(command_set: str) -> None:
    for example in make_examples(DataConfig(command_sets=(command_set,), random_names=0.3), 0, 60):
        written = write_schema(example.query.schema).string
        assert read_create(written).schema == parse_schema(written)
        assert read_create(written).left_out == ()


@pytest.mark.parametrize("kind", SQL_TYPES)
def test_every_type_is_read_as_itself(kind: str) -> None:
    assert read_create(f"CREATE TABLE t (a {kind.lower()})").schema.tables[0].columns[0].type == kind


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        ("SELECT 1", "`SELECT 1` is not CREATE TABLE statements"),
        ("CREATE TABLE t AS SELECT 1", "is not CREATE TABLE statements"),
        ("CREATE TABLE t (a INT", "is not CREATE TABLE statements"),
        ("(" * 5000, "is not CREATE TABLE statements"),
        ("CREATE TABLE t ()", "table `t` has no columns"),
        ("CREATE TABLE t (a)", "column `a` has no type"),
        ("CREATE TABLE t (a BLOB)", "column `a` has type"),
        ('CREATE TABLE t ("a b" INT)', "column `a b` of the schema is not a plain word"),
        ("CREATE TABLE t (a INT, A INT)", "two columns of one name"),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b))", "table `t` has no column `b`"),
        (" " * (LONGEST + 1), f"expected at most {LONGEST}"),
    ],
)
def test_what_is_no_schema_is_refused(statements: str, says: str) -> None:
    with pytest.raises(InputError, match="(?s)" + says.replace("(", r"\(")):
        read_create(statements)


def test_keys_of_several_columns_are_named_as_left_out() -> None:
    keyed = "CREATE TABLE t (a INT, b INT REFERENCES u (c), PRIMARY KEY (a, b), FOREIGN KEY (a, b) REFERENCES u (a, b))"
    created = read_create(keyed)
    assert created.schema.tables[0].columns == (Column("a", "INTEGER"), Column("b", "INTEGER"))
    assert created.left_out == (
        "references to another column than `id`",
        "primary keys of several columns",
        "foreign keys of several columns",
    )
