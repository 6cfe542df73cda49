"""Our own reader and sqlglot read the same."""

import random

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_example
from data_gen.query import COMMAND_SETS
from data_gen.read.lexing import KEYWORDS, tokenize
from data_gen.read.parse import SqlError, _read_with_sqlglot
from data_gen.read.reader import read_tokens
from data_gen.read.rewrites import rewrites
from data_gen.sql import sql_string


def read(sql):
    return read_tokens(tokenize(sql))


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_both_readings_of_a_right_answer_and_of_its_rewrites_are_equal(name):
    config = DataConfig(command_sets=(name,), seed=2)
    for index in range(8):
        query = make_example(config, index).query
        for sql in [sql_string(query), *[sql for _, sql in rewrites(query)]]:
            fast = read(sql)
            assert fast is not None, sql
            assert fast == _read_with_sqlglot(sql)
            assert repr(fast) == repr(_read_with_sqlglot(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t JOIN s",
        "SELECT a FROM t CROSS JOIN s, r",
        "SELECT a FROM t JOIN s ON t.a > s.b AND s.c = 5 OR NOT s.d IS NULL",
        "SELECT a FROM t WHERE ((a)) > ((5)) AND (SELECT MAX(b) FROM s) >= a AND NOT (a < b OR NOT (a IN (-1, 2.50)))",
        "SELECT a A, COUNT(*) N FROM t AS T GROUP BY t.a HAVING 2 <= COUNT(*) ORDER BY COUNT(*) DESC, A LIMIT 2;",
        "SELECT a FROM t WHERE EXISTS (SELECT * FROM s) AND NOT EXISTS (SELECT b, c FROM s LIMIT 1)",
    ],
)
def test_both_readings_of_what_a_wrong_answer_may_have_are_equal(sql):
    assert read(sql) == _read_with_sqlglot(sql)
    assert read(sql).outside is None


EXTRA = "( ) , . = <> AND OR NOT IN 'x' 5 a AS ASC DESC NULL IS ; BETWEEN LIKE - * \"q\" [b] JOIN LEFT ON 1 TRUE SELECT"


def test_what_our_reader_reads_of_garbled_sql_sqlglot_reads_alike():
    rng = random.Random(0)
    config = DataConfig(command_sets=tuple(COMMAND_SETS))
    taken = 0
    for index in range(150):
        query = make_example(config, index).query
        spellings = [sql_string(query), *[sql for _, sql in rewrites(query)]]
        for _ in range(10):
            tokens = tokenize(rng.choice(spellings))
            place, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
            match rng.randrange(4):
                case 0:
                    del tokens[place]
                case 1:
                    tokens.insert(place, rng.choice(EXTRA.split()))
                case 2:
                    tokens[place] = rng.choice(EXTRA.split())
                case _:
                    tokens[place], tokens[other] = tokens[other], tokens[place]
            sql = " ".join(tokens)
            fast = read(sql)
            if fast is not None:
                taken += 1
                assert fast == _read_with_sqlglot(sql), sql
    assert taken > 50


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT price -- why\nFROM orders",
        "SELECT price /* why */ FROM orders",
        "SELECT price FROM orders WHERE price > 1e3",
        "SELECT price FROM orders WHERE price > .5",
        "SELECT price FROM orders WHERE price > 5 > 6",
        'SELECT "a""b" FROM orders',
        "SELECT price FROM orders NATURAL JOIN shops",
        "SELECT price FROM orders LIMIT 3 OFFSET 1",
        "SELECT price FROM orders ORDER BY price NULLS LAST",
        "SELECT price FROM orders UNION ALL SELECT price FROM orders",
        "SELECT price FROM orders UNION SELECT price FROM orders ORDER BY price",
        "SELECT price FROM orders WHERE price IN ((SELECT price FROM orders))",
        "SELECT price FROM orders WHERE x²= 1",
        "SELECT price FROM orders WHERE price = ٣",
        "SELECT price FROM orders WHERE price = 5٣",
        "SELECT\xa0price FROM orders",
        "SELECT order FROM orders",
        "SELECT price FROM orders extra tokens",
    ],
)
def test_what_our_reader_does_not_know_it_leaves_to_sqlglot(sql):
    assert read(sql) is None


def test_no_keyword_is_taken_for_a_name():
    for word in KEYWORDS - {"distinct", "exists"}:
        assert read(f"SELECT {word} FROM orders") is None
        assert read(f"SELECT price FROM {word}") is None


def test_our_reader_refuses_what_no_database_runs():
    for sql in (
        "SELECT price, FROM t",
        "SELECT price FROM t WHERE a IN (1,)",
        "SELECT price FROM t GROUP BY a,",
    ):
        assert read(sql) is None
        with pytest.raises(SqlError):
            _read_with_sqlglot(sql)
