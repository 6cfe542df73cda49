"""The typed query: command sets and their switches, and JSON."""

import json
import random

import msgspec
import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.query import (
    COMMAND_SETS,
    MAX_CHARS,
    MAX_NESTING,
    NEEDS,
    SKILLS,
    ColumnRef,
    Query,
    SelectItem,
    command_set,
    conditions,
    selects,
)
from data_gen.run.mutations import mutants

QUERIES = {
    name: [example.query for example in make_examples(DataConfig(command_sets=(name,)), 0, 60)]
    for name in COMMAND_SETS
}


def test_each_set_adds_to_one_before_it():
    skills = {name: of.skills for name, of in COMMAND_SETS.items()}
    chain = [len(skills[f"cs{level}"]) for level in range(1, 6)]
    assert chain == [0, 1, 2, 3, 4]
    assert skills["cs1"] < skills["cs2"] < skills["cs3"] < skills["cs4"] < skills["cs5"]
    for name in ("cs6", "cs7", "cs9", "cs10"):
        assert skills["cs4"] < skills[name]
    assert skills["cs5"] < skills["cs8"]
    # Beyond CS5 no set has a skill that another one adds.
    added = [skill for name in ("cs6", "cs7", "cs8", "cs9", "cs10") for skill in skills[name] - skills["cs5"]]
    assert len(set(added)) == len(added)
    assert set().union(*skills.values()) == set(SKILLS)


@pytest.mark.parametrize(
    ("name", "added", "taken"),
    [
        ("cs4+limit-aggregate", {"limit"}, {"aggregate"}),
        ("cs4+limit", {"limit"}, set()),
        ("cs9-cte", set(), {"cte"}),
        ("cs8-foreign_keys+distinct", {"distinct"}, {"foreign_keys"}),
        ("cs4-aggregate+aggregate", set(), set()),
        ("cs1-limit", set(), set()),
    ],
)
def test_a_switch_adds_or_takes_one_skill(name, added, taken):
    base = COMMAND_SETS[name.split("+")[0].split("-")[0]]
    assert command_set(name).skills == (base.skills | added) - taken
    assert command_set(name).name == name


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_a_set_without_switches_is_the_set_itself_and_lacks_nothing(name):
    assert command_set(name) is COMMAND_SETS[name]
    # With a switch that changes nothing, what the set needs is checked.
    skill = min(SKILLS.keys() - COMMAND_SETS[name].skills)
    assert command_set(f"{name}-{skill}").skills == COMMAND_SETS[name].skills
    assert command_set(name).orders == (name != "cs1")


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("cs11", "no command set `cs11`; did you mean `cs1`?", "cs1, cs2"),
        ("", "no command set ``", "cs1, cs2"),
        ("+limit", "no command set ``", "cs1, cs2"),
        ("cs4+limt", "no skill `limt` in `cs4+limt`; did you mean `limit`?", "order_by, aggregate"),
        ("cs4+", "no skill `` in `cs4+`", "order_by, aggregate"),
        ("cs4 + limit", "no command set `cs4 `; did you mean `cs4`?", "cs1, cs2"),
        (
            "cs1+limit",
            "command set `cs1+limit` has `limit` without `order_by`",
            "add +order_by or take -limit",
        ),
        ("cs6-order_by", "command set `cs6-order_by` has `limit` without `order_by`", "add +order_by"),
        (
            "cs2+having",
            "command set `cs2+having` has `having` without `aggregate`",
            "add +aggregate or take -having",
        ),
        ("cs7-where", "command set `cs7-where` has `or` without `where`", "add +where or take -or"),
        ("cs4+qualified", "has `qualified` without `join` or `left_join`", "add +join or take -qualified"),
    ],
)
def test_a_name_of_no_set_is_one_sentence(name, reason, hint):
    with pytest.raises(InputError) as caught:
        command_set(name)
    assert reason in caught.value.message
    assert hint in caught.value.hint


def test_every_need_is_asked_for():
    for skill, needed in NEEDS.items():
        with pytest.raises(InputError, match=f"has `{skill}` without `{needed[0]}`"):
            command_set(f"cs1+{skill}")
        assert {skill, *needed} <= set(SKILLS)


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_a_query_survives_json(name):
    for query in QUERIES[name]:
        text = query.to_json()
        assert "\n" not in text
        assert Query.from_json(text) == query
        # What is as it usually is, is left out.
        assert "null" not in text
        assert "false" not in text.replace('"values":[false]', "")


def test_every_field_of_a_query_comes_through_json():
    told = "".join(query.to_json() for queries in QUERIES.values() for query in queries)
    fields = {field for kind in (Query, SelectItem, ColumnRef) for field in kind.__struct_fields__}
    nested = {
        "negated",
        "other",
        "subquery",
        "left",
        "right",
        "kind",
        "partition_by",
        "references",
        "primary",
    }
    assert [field for field in fields | nested if f'"{field}"' not in told] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "nonsense",
        '{"schema": 1}',
        "\ud800",
        "[" * 100000,
        '{"where":' * 100000,
        '{"cte":{"select":' * 10000,
    ],
)
def test_json_of_no_query_is_one_sentence(text):
    with pytest.raises(InputError, match="^not the JSON of a query: ") as caught:
        Query.from_json(text)
    assert "\n" not in caught.value.message


def _damaged(text, change):
    values = json.loads(text)
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: v.pop("select"), "missing required field `select`"),
        (lambda v: v.update(selct=v["select"]), "unknown field `selct`"),
        (lambda v: v["select"][0].update(colum="a"), "unknown field `colum`"),
        (lambda v: v["schema"]["tables"][0].update(rows=3), "unknown field `rows`"),
        (lambda v: v["schema"]["tables"][0]["columns"][0].update(type="INT"), "Invalid enum value 'INT'"),
        (lambda v: v["schema"]["tables"].append(v["schema"]["tables"][0]), "two tables of one name"),
        (lambda v: v["schema"].update(tables=[]), "schema has no tables"),
        (lambda v: v.update(command_set="cs44"), "no command set `cs44`"),
        (lambda v: v.update(limit="two"), "Expected `int | null`, got `str`"),
        (lambda v: v.update(order_by=[{"column": "a", "direction": "UP"}]), "Invalid enum value 'UP'"),
        (lambda v: v.update(where=[[{"operator": "LIKE", "values": [{}]}]]), "got `object`"),
    ],
)
def test_damage_is_named(change, reason):
    with pytest.raises(InputError) as caught:
        Query.from_json(_damaged(QUERIES["cs4"][0].to_json(), change))
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def _set(path, value):
    """A change of the value at a path: names of fields and numbers of items."""

    def change(values):
        *keys, last = path
        for key in keys:
            values = values[key]
        values[last] = value

    return change


def _first(name, found):
    return next(query.to_json() for query in QUERIES[name] if found(query))


HOSTILE = 'a" ; DROP TABLE b --'
GROUPED = _first("cs6", lambda query: query.having and query.order_by)
JOINED = _first("cs8", lambda query: query.joins and query.joins[0].alias)
NESTED = _first("cs9", lambda query: query.where and query.where[0][0].subquery)
WITH = _first("cs9", lambda query: query.cte)
RANKED = _first("cs10", lambda query: query.select[-1].window and query.select[-1].window.partition_by)
LAST = len(json.loads(RANKED)["select"]) - 1


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (GROUPED, ["table"]),
        (GROUPED, ["schema", "tables", 0, "name"]),
        (GROUPED, ["schema", "tables", 0, "columns", 0, "name"]),
        (GROUPED, ["select", 0, "column"]),
        (GROUPED, ["select", 0, "alias"]),
        (GROUPED, ["select", 0, "table"]),
        (GROUPED, ["having", 0, "column"]),
        (GROUPED, ["having", 0, "table"]),
        (GROUPED, ["group_by", 0, "column"]),
        (GROUPED, ["order_by", 0, "column"]),
        (GROUPED, ["order_by", 0, "table"]),
        (JOINED, ["joins", 0, "table"]),
        (JOINED, ["joins", 0, "alias"]),
        (JOINED, ["joins", 0, "left", "table"]),
        (NESTED, ["where", 0, 0, "subquery", "table"]),
        (WITH, ["cte", "name"]),
        (RANKED, ["select", LAST, "window", "order_by", 0, "column"]),
        (RANKED, ["select", LAST, "window", "partition_by", 0, "column"]),
    ],
)
@pytest.mark.parametrize("name", [HOSTILE, "a b", "1a", "a\n", "a\0", "", "a-b"])
def test_a_name_that_sql_would_not_read_as_one_is_refused(text, path, name):
    if path == ["having", 0, "column"] and name == "":
        # EXISTS has no column, other conditions have one.
        match = "`having.0` does not have what"
    else:
        match = "^not the JSON of a query: .* expected a name of letters, digits and `_`"
    with pytest.raises(InputError, match=match) as caught:
        Query.from_json(_damaged(text, _set(path, name)))
    assert "\n" not in caught.value.message
    assert "\0" not in caught.value.message


def test_the_refusal_of_a_name_says_where_it_is_and_what():
    with pytest.raises(InputError) as caught:
        Query.from_json(_damaged(NESTED, _set(["where", 0, 0, "subquery", "table"], HOSTILE)))
    assert f"`where[0][0].subquery.table` is '{HOSTILE}', expected a name" in caught.value.message
    with pytest.raises(InputError, match="is 'aaaa") as caught:
        Query.from_json(_damaged(NESTED, _set(["table"], "a" * 5000 + " ")))
    assert len(caught.value.message) < 250


WHERE = _first("cs4", lambda query: query.where)


def _where(**condition):
    return _set(["where", 0, 0], {"column": "a", **condition})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(["select"], []), "length >= 1"),
        (_set(["where", 0], []), "length >= 1"),
        (_set(["limit"], -1), ">= 0"),
        (_set(["limit"], 2**63), "<= 9223372036854775807"),
        (_where(operator="=", values=["a\0b"]), "is 'a\\x00b', expected text without control characters"),
        (_where(operator="=", values=["a\x1bb"]), "text without control characters"),
        (_where(operator="="), "`where.0` does not have what `=` takes: one value"),
        (_where(operator=">", values=[1, 2]), "takes: one value, column or subquery"),
        (_where(operator=">", values=[1], other={"column": "b"}), "takes: one value, column or subquery"),
        (_where(operator="LIKE", values=[3]), "`LIKE` takes: one text"),
        (_where(operator="LIKE", other={"column": "b"}), "`LIKE` takes: one text"),
        (_where(operator="BETWEEN", values=[3]), "`BETWEEN` takes: two values"),
        (_where(operator="BETWEEN", values=[3, 4], other={"column": "b"}), "`BETWEEN` takes: two values"),
        (_where(operator="IN"), "`IN` takes: values or a subquery"),
        (_where(operator="IN", values=[1], other={"column": "b"}), "`IN` takes: values or a subquery"),
        (_where(operator="IS NULL", values=[1]), "`IS NULL` takes: nothing"),
        (_where(operator="IS NULL", other={"column": "b"}), "`IS NULL` takes: nothing"),
        (_where(operator="EXISTS"), "`EXISTS` takes: a subquery and no column"),
        (_set(["where", 0, 0], {"operator": "=", "values": [1]}), "with a column on its left"),
        (_set(["joins"], [{"table": "a"}]), "`joins[0]` is INNER, expected two columns"),
        (_set(["joins"], [{"table": "a", "kind": "CROSS", "left": {"column": "a"}}]), "or none for CROSS"),
        (_set(["joins"], [{"table": "a", "left": {"column": "a"}}]), "`joins[0]` is INNER"),
    ],
)
def test_a_clause_that_no_sql_could_say_is_refused(change, reason):
    with pytest.raises(InputError) as caught:
        Query.from_json(_damaged(WHERE, change))
    assert reason in caught.value.message
    assert caught.value.message.startswith("not the JSON of a query: ")


def test_a_window_has_a_key():
    with pytest.raises(InputError, match="length >= 1"):
        Query.from_json(_damaged(RANKED, _set(["select", LAST, "window", "order_by"], [])))


def _nested(depth):
    inner = {"select": [{"column": "a"}], "table": "t"}
    for _ in range(depth):
        where = [[{"column": "a", "operator": "IN", "subquery": inner}]]
        inner = {"select": [{"column": "a"}], "table": "t", "where": where}
    schema = {"tables": [{"name": "t", "columns": [{"name": "a", "type": "INTEGER"}]}]}
    return json.dumps({**inner, "command_set": "cs9", "schema": schema})


def test_nesting_and_length_are_bounded():
    assert Query.from_json(_nested(MAX_NESTING)).where
    for depth in (MAX_NESTING + 1, 150):
        with pytest.raises(InputError, match=f"more than {MAX_NESTING} subqueries within one another"):
            Query.from_json(_nested(depth))
    padded = QUERIES["cs1"][0].to_json().ljust(MAX_CHARS)
    assert Query.from_json(padded) == QUERIES["cs1"][0]
    with pytest.raises(InputError, match="200,001 characters, expected at most 200,000"):
        Query.from_json(padded + " ")


def test_whatever_the_grammar_and_its_mistakes_state_comes_through_json():
    for queries in QUERIES.values():
        for query in queries[:12]:
            for _, mutant in mutants(query):
                assert Query.from_json(mutant.to_json()) == mutant


def test_names_may_have_any_letters():
    text = _damaged(QUERIES["cs1"][0].to_json(), _set(["table"], "größe_é1"))
    assert Query.from_json(text).table == "größe_é1"


def test_every_select_is_listed_with_its_place():
    query = Query.from_json(_nested(2))
    places = ["sql", "sql.where.0.subquery", "sql.where.0.subquery.where.0.subquery"]
    assert [place for _, place in selects(query)] == places
    first = next(query for query in QUERIES["cs9"] if query.cte)
    assert [place for _, place in selects(first)][:2] == ["sql.cte", "sql"]
    both = next(query for query in QUERIES["cs9"] if query.compound)
    assert list(selects(both))[-1] == (both.compound.select, "sql.compound")
    grouped = Query.from_json(GROUPED)
    assert list(conditions(grouped))[-1] == (grouped.having[-1], f"sql.having.{len(grouped.having) - 1}")


def test_any_damage_to_the_text_is_one_sentence_or_another_query():
    rng, refused = random.Random(0), []
    for queries in QUERIES.values():
        text = queries[0].to_json()
        for _ in range(60):
            place = rng.randrange(len(text))
            other = rng.choice(
                [text[:place], text[:place] + text[place + 1 :], text[:place] + "\x00" + text[place:]]
            )
            try:
                Query.from_json(other)
            except InputError as error:
                refused.append(error.message)
    assert len(refused) > 300
    assert not any("\n" in message for message in refused)


def test_a_query_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        QUERIES["cs1"][0].table = "other"
    assert hash(QUERIES["cs9"][0]) == hash(Query.from_json(QUERIES["cs9"][0].to_json()))
    assert msgspec.structs.replace(QUERIES["cs2"][0], order_by=()) != QUERIES["cs4"][0]


def test_an_item_is_known_by_its_alias_or_its_column():
    assert SelectItem("price").output == "price"
    assert SelectItem("price", aggregate="SUM", alias="SUM_price").output == "SUM_price"
