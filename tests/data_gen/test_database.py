"""Query -> databases on which wrong answers differ from the right one."""

import sqlite3
from collections import Counter
from hashlib import sha256

import pytest

from data_gen.config import DataConfig
from data_gen.example import make_examples
from data_gen.query import COMMAND_SETS, ColumnRef, Condition, Join, OrderBy, Query, SelectItem
from data_gen.read.parse import parse_sql
from data_gen.run import discriminating, duck, scratch
from data_gen.run.database import run_sql, same_rows
from data_gen.run.discriminating import FEWEST, databases, find_evidence
from data_gen.run.duck import Duck
from data_gen.run.filling import fill
from data_gen.run.grade import EVERYTHING
from data_gen.run.mutations import mutants
from data_gen.run.scratch import Scratch
from data_gen.run.sqlite import run_statement
from data_gen.schema import SQL_TYPES, Column, Schema, Table, parse_schema, write_schema
from data_gen.sql import sql_string

every_set = pytest.mark.parametrize("name", COMMAND_SETS)


def rows(name, n, **settings):
    config = DataConfig(command_sets=(name,), split="test", seed=11, **settings)
    return [example.query for example in make_examples(config, 0, n)]


@every_set
def test_databases_are_a_function_of_the_query(name):
    (query,) = rows(name, 1)
    again = Query.from_json(query.to_json())
    assert databases(query) == databases(again)
    assert fill(query, 0) == fill(again, 0)
    assert fill(query, 0) != fill(query, 1)
    assert len(databases(query)) >= FEWEST


@every_set
def test_every_mistake_shows_on_the_databases_of_995_rows_in_1000(name):
    # 60 rows: one that hides a mistake would be too many, were it not for chance.
    found = [(find_evidence(query), sql_string(query)) for query in rows(name, 60)]
    hidden = [(evidence.hidden[0].mistake, sql) for evidence, sql in found if evidence.hidden]
    assert len(hidden) <= 1, hidden
    assert all(evidence.is_settled for evidence, _ in found)


def test_every_mistake_shows_in_the_last_sort_key_although_it_is_a_truth_value():
    columns = (Column("name", "TEXT"), Column("open", "BOOLEAN"))
    query = Query(
        select=(SelectItem("open"),),
        table="clubs",
        where=((Condition(column="name", operator="LIKE", values=("%r%",)),),),
        order_by=(OrderBy("name", "DESC"), OrderBy("open", "DESC")),
        schema=Schema((Table("clubs", columns),)),
        command_set="cs4",
    )
    assert find_evidence(query).hidden == ()


@pytest.mark.parametrize("name", ["gyms", "clubs"])
def test_groups_of_either_of_two_tables_with_the_same_columns_show_that_they_are_sorted(name):
    columns = (Column("city", "TEXT"), Column("rooms", "BIGINT"))
    query = Query(
        select=(SelectItem("city"), SelectItem("rooms", None, "SUM", alias="SUM_rooms")),
        table=name,
        group_by=(ColumnRef("city"),),
        order_by=(OrderBy("city", "ASC"),),
        schema=Schema((Table("gyms", columns), Table("clubs", columns))),
        command_set="cs3",
    )
    assert find_evidence(query).hidden == ()


THINGS = parse_schema(
    "CREATE TABLE things ( code TEXT, paid BOOLEAN, price INTEGER, age REAL, made DATE, kind TEXT, sent DATE, "
    "size BIGINT, weight DOUBLE, color TEXT )"
)


def of_things(sql):
    return parse_sql(sql, THINGS, EVERYTHING)


@pytest.mark.parametrize(
    "sql",
    [
        # The last sort key has two values.
        "SELECT age, paid FROM things WHERE code NOT LIKE '%n%' OR age <= {n}.5 ORDER BY code ASC, age ASC, paid ASC",
        # The one column that is no sort key is tested.
        "SELECT code, price FROM things WHERE kind NOT LIKE 's%' AND weight BETWEEN 36.5 AND 65.5 AND price < {n} "
        "ORDER BY code ASC, size ASC, made DESC, sent DESC, color ASC, paid DESC, kind ASC, weight ASC, age ASC",
        # Rows tie that share the largest value.
        "SELECT age, made FROM things WHERE age < {n}.5 AND price = (SELECT MAX(price) AS x FROM things) "
        "ORDER BY age ASC, paid ASC, code ASC",
        # What a set operation gives has two values.
        "SELECT paid FROM things WHERE price < {n} EXCEPT SELECT paid FROM things WHERE code = 'badger'",
        "SELECT paid FROM things WHERE price <= {n} UNION SELECT paid FROM things WHERE code LIKE '%m%'",
        "SELECT paid FROM things WHERE made = '2011-04-15' EXCEPT SELECT paid FROM things WHERE price <= {n}",
    ],
)
def test_every_mistake_shows_where_few_values_can_show_it(sql):
    for number in range(40, 60):
        evidence = find_evidence(of_things(sql.format(n=number)))
        assert evidence.is_settled
        assert [mutant.mistake for mutant in evidence.hidden] == [], number


def is_right_everywhere(mutant, query, found):
    for database in found:
        right, given = (run_sql(database, sql_string(one)) for one in (query, mutant.query))
        if given.error is not None or not same_rows(right.rows, given.rows, ordered=bool(query.order_by)):
            return False
    return True


UNDECIDED = (
    # Rows that pass differ from the filter of the subquery, and so from each other in nothing that is shown.
    "SELECT paid FROM things WHERE code LIKE '%a%' AND price > (SELECT MAX(price) AS x FROM things WHERE paid = TRUE) "
    "ORDER BY code ASC"
)
NOTHING = "SELECT code FROM things WHERE price > 50 AND price < 50"


@pytest.mark.parametrize("name", [*COMMAND_SETS, UNDECIDED, NOTHING])
def test_the_mistakes_that_are_hidden_are_those_that_are_right_on_all_databases(name):
    for query in rows(name, 4) if name in COMMAND_SETS else [of_things(name)]:
        evidence = find_evidence(query)
        right = [one for one in mutants(query) if is_right_everywhere(one, query, evidence.databases)]
        assert list(evidence.hidden) == right
        assert bool(right) == (name not in COMMAND_SETS)


GOLDEN = {
    "cs1": "b5d8c7094fae4637",
    "cs2": "cf2b81414ac37a73",
    "cs3": "c0ee6a29d8f90466",
    "cs4": "a2a9e986259075b7",
    "cs5": "790a20ca12152aae",
    "cs6": "4e02d0bcfa5bfeec",
    "cs7": "61ea1bc343229bec",
    "cs8": "80cf2287d71422f6",
    "cs9": "d658d300bf54f83a",
    "cs10": "f357f96a6d701241",
}


def golden(name):
    """A hash of the databases of 20 rows, and of a late fill of each."""
    found = sha256()
    for query in rows(name, 20):
        for database in (*databases(query), fill(query, 26)):
            found.update(repr((database.inserts(), database.index)).encode())
    return found.hexdigest()[:16]


@every_set
def test_databases_stay_those_that_they_were(name):
    # Where they are to change, `python tests/data_gen/test_database.py` prints what they are now.
    assert golden(name) == GOLDEN[name]


@every_set
def test_both_engines_give_the_same_rows_on_the_rows_own_schema(name):
    duck = Duck()
    for query in rows(name, 12):
        create, sql = write_schema(query.schema).string, sql_string(query)
        for database in databases(query):
            first, second = run_sql(database, sql), duck.run(create, database, sql)
            assert first.error is None
            assert second.error is None, f"{second.error}: {create}"
            assert same_rows(first.rows, second.rows, ordered=bool(query.order_by)), sql
    duck.close()


@pytest.mark.parametrize("name", ["cs2", "cs3", "cs5", "cs6", "cs8", "cs9"])
def test_sort_keys_leave_no_tie_open(name):
    # The same tables with their rows the other way round.
    for query in rows(name, 30):
        for database in databases(query):
            sql = sql_string(query)
            turned = type(database)(database.schema, tuple(rows[::-1] for rows in database.rows))
            right, again = run_sql(database, sql).rows, run_sql(turned, sql).rows
            assert same_rows(right, again, ordered=bool(query.order_by)), sql


def test_keys_refer_to_rows_of_their_parents_where_the_schema_says_so():
    checked = 0
    for query in rows("cs8", 40):
        database = databases(query)[0]
        filled = dict(zip([table.name for table in query.schema.tables], database.rows, strict=True))
        for table in query.schema.tables:
            for place, column in enumerate(table.columns):
                if column.references is not None:
                    parents = query.schema.table(column.references).columns
                    ids = {row[[c.name for c in parents].index("id")] for row in filled[column.references]}
                    assert {row[place] for row in filled[table.name]} - {None} <= ids
                    checked += 1
                if column.name == "id":
                    values = [row[place] for row in filled[table.name]]
                    assert sorted(values) == list(range(1, len(values) + 1))
    assert checked > 10


@pytest.mark.parametrize("kind", SQL_TYPES)
def test_sqlite_sorts_values_of_every_type_as_python_does(kind):
    schema = Schema((Table("t", (Column("a", kind), Column("b", kind))),))
    query = Query(
        command_set="cs2",
        schema=schema,
        select=(SelectItem("b"),),
        table="t",
        order_by=(OrderBy("a", "ASC"),),
    )
    for seed in range(10):
        database = fill(query, seed)
        [filled] = database.rows
        assert run_sql(database, "SELECT a, b FROM t ORDER BY a, b").rows == tuple(sorted(filled))


def test_inserts_make_the_same_tables_again():
    duck = Duck()
    for query in rows("cs5", 10):
        database = databases(query)[0]
        for table, filled in zip(query.schema.tables, database.rows, strict=True):
            sql = f"SELECT * FROM {table.name}"
            found = duck.run(write_schema(query.schema).string, database, sql).rows
            assert Counter(found) == Counter(filled)
    duck.close()


def test_same_rows_looks_at_the_order_only_where_it_is_asked_for():
    assert same_rows(((1,), (2,)), ((2,), (1,)), ordered=False)
    assert not same_rows(((1,), (2,)), ((2,), (1,)), ordered=True)
    assert not same_rows(((1,), (1,)), ((1,),), ordered=False)


def test_a_query_whose_keys_cannot_settle_the_order_still_has_databases():
    schema = Schema((Table("t", (Column("a", "BOOLEAN"), Column("b", "INTEGER"))),))
    query = Query(
        command_set="cs2",
        schema=schema,
        select=(SelectItem("b"),),
        table="t",
        order_by=(OrderBy("a", "ASC"),),
    )
    evidence = find_evidence(query)
    assert len(evidence.databases) == FEWEST
    assert not evidence.is_settled
    search = discriminating.Search(query)
    for found in search:
        opened = search.open()
        assert run_statement(opened, sql_string(query)).rows == tuple(found.right)
        opened.close()


CITIES = Schema(
    (
        Table("people", (Column("age", "INTEGER"), Column("name", "TEXT"), Column("city_id", "INTEGER"))),
        Table("cities", (Column("id", "INTEGER"), Column("size", "INTEGER"), Column("mayor", "TEXT"))),
    )
)


def people(**changes):
    return Query(command_set="cs8", schema=CITIES, table="people", **changes)


def test_no_sort_key_is_null_because_engines_sort_it_differently():
    query = people(
        select=(SelectItem("age"),),
        joins=(
            Join(
                table="cities",
                kind="LEFT",
                left=ColumnRef("city_id", "people"),
                right=ColumnRef("id", "cities"),
            ),
        ),
        order_by=(OrderBy("mayor", "ASC"), OrderBy("name", "ASC"), OrderBy("age", "ASC")),
    )
    keys = "SELECT mayor FROM people LEFT JOIN cities ON people.city_id = cities.id"

    def has_null(database):
        return (None,) in run_sql(database, keys).rows

    assert any(has_null(fill(query, number)) for number in range(5))
    evidence = find_evidence(query)
    assert evidence.is_settled
    assert not any(has_null(database) for database in evidence.databases)


@every_set
def test_a_scratch_that_is_filled_again_and_its_copy_are_like_a_fresh_database(name):
    for query in rows(name, 3):
        scratch, sql = Scratch(query.schema), sql_string(query)
        for number in range(7):
            database = fill(query, number)
            scratch.fill(database)
            copy, right = scratch.copy(), run_sql(database, sql).rows
            assert tuple(scratch.rows(sql)) == right
            assert run_statement(copy, sql).rows == right
            assert "not authorized" in run_statement(copy, f"DELETE FROM {query.schema.tables[0].name}").error
            copy.close()
        scratch.close()


def test_every_fill_has_values_at_and_next_to_each_literal():
    query = people(
        select=(SelectItem("name"),),
        where=((Condition(column="age", operator=">", values=(500,)),),),
    )
    for number in range(20):
        ages = {row[0] for row in fill(query, number).rows[0]}
        assert {499, 500, 501} <= ages or len(fill(query, number).rows[0]) < 10


def test_fills_have_halves_and_thirds_of_a_sum_that_groups_are_compared_with():
    query = of_things("SELECT code, SUM(price) AS s FROM things GROUP BY code HAVING SUM(price) > 3000")
    place = [column.name for column in THINGS.tables[0].columns].index("price")
    prices = {row[place] for number in range(20) for row in fill(query, number).rows[0]}
    assert {3000, 1500, 1000} <= prices


def test_groups_often_tie_on_the_sort_key_before_the_last():
    query = people(
        select=(SelectItem("name"), SelectItem("age", aggregate="SUM", alias="SUM_age")),
        group_by=(ColumnRef("name"),),
        order_by=(OrderBy("SUM_age", "DESC"), OrderBy("name", "ASC")),
    )
    tied = 0
    for number in range(20):
        sums = [row[1] for row in run_sql(fill(query, number), sql_string(query)).rows]
        tied += len(set(sums)) < len(sums)
    assert tied >= 8


def test_the_search_goes_no_further_than_it_is_asked(monkeypatch):
    query, numbers = rows("cs4", 1)[0], []
    original = discriminating.fill_as_planned
    monkeypatch.setattr(
        discriminating, "fill_as_planned", lambda plan, n: numbers.append(n) or original(plan, n)
    )
    search = discriminating.Search(query)
    first = next(search)
    assert first.database == find_evidence(query).databases[0]
    assert numbers[0] == 0
    assert tuple(first.right) == run_sql(first.database, sql_string(query)).rows
    search.close()


def test_each_database_behind_the_first_shows_a_mistake_that_none_before_it_shows():
    for query in rows("cs7", 20):
        search, left = discriminating.Search(query), None
        for _ in search:
            if left is not None:
                assert len(search.hidden) < left or not search.hidden
            left = len(search.hidden)


def test_the_search_ends_where_every_mistake_shows(monkeypatch):
    query, numbers = of_things("SELECT code, price FROM things"), []
    original = discriminating.fill_as_planned
    monkeypatch.setattr(
        discriminating, "fill_as_planned", lambda plan, n: numbers.append(n) or original(plan, n)
    )
    assert len(find_evidence(query).databases) == FEWEST
    assert numbers == [0, 1, 2]


LONG = "SELECT COUNT(*) FROM things a, things b, things c, things d, things e, things f, things g"


def test_what_runs_on_a_scratch_stops_after_its_steps():
    own = Scratch(THINGS)
    own.fill(fill(of_things("SELECT code FROM things"), 0))
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        own.rows(LONG)
    assert scratch.MAX_STEPS < own.steps < scratch.MAX_STEPS + 2 * scratch.STEPS_PER_CALL
    # Each statement has the same number of them.
    assert len(own.rows("SELECT a.code FROM things a, things b")) > 50
    own.close()


def test_a_search_tries_no_more_fills_after_its_steps(monkeypatch):
    query, numbers = of_things(UNDECIDED), []
    original = discriminating.fill_as_planned
    monkeypatch.setattr(
        discriminating, "fill_as_planned", lambda plan, n: numbers.append(n) or original(plan, n)
    )
    assert find_evidence(query).hidden
    assert len(numbers) == discriminating.CANDIDATES
    monkeypatch.setattr(discriminating, "SEARCH_STEPS", 1)
    numbers.clear()
    assert find_evidence(query).hidden
    assert 0 < len(numbers) < discriminating.CANDIDATES


def test_what_runs_in_duckdb_stops_after_its_seconds(monkeypatch):
    monkeypatch.setattr(duck, "SECONDS", 0.1)
    engine, create = Duck(), write_schema(THINGS).string
    database = fill(of_things("SELECT code FROM things"), 5)
    assert "Interrupted" in engine.run(create, database, LONG + ", things h").error
    assert engine.run(create, database, "SELECT code FROM things").error is None
    engine.close()


if __name__ == "__main__":
    for name in COMMAND_SETS:
        print(f'    "{name}": "{golden(name)}",')
