"""Edits: one slot of the query changes and no other, and every feature name of the predecessor has its place."""

import re
from pathlib import Path

import msgspec
import pytest

from data_gen.config import DataConfig
from data_gen.draw.sampling import sample_query
from data_gen.errors import InputError
from data_gen.pairs.changes import PairDraft, other_tables
from data_gen.pairs.counterfactual import make_pair
from data_gen.pairs.edits import EDITS, edit_named, sets_with
from data_gen.pairs.shortcuts import SHORTCUTS
from data_gen.pairs.slots import is_sound
from data_gen.query import COMMAND_SETS, Query
from data_gen.read.parse import parse_sql
from data_gen.schema import parse_schema
from data_gen.seeding import Draws
from data_gen.sql import sql_string

DOCUMENT = (Path(__file__).parents[2] / "docs" / "pairs.md").read_text()

LEAVES = {
    "schema.table": r"table|schema\.tables\.0\.name",
    "english.table": "table",
    "distinct": "distinct",
    "join.0.table": r"joins\.0\.table|joins\.0\.right\.table",
    "join.0.key": r"joins\.0\.(left|right)\.column",
    "join.0.kind": r"joins\.0\.kind",
    "select.0.table": r"select\.0\.table",
    "where.0.0.value": r"where\.0\.0\.values\.0",
    "where.0.low": r"where\.0\.0\.values\.0",
    "where.0.high": r"where\.0\.0\.values\.1",
    "where.0.negated": r"where\.0\.0\.negated",
    "where.0.subquery.kind": r"where\.0\.0\.negated",
    "where.0.subquery.select.0.aggregate": r"where\.0\.0\.subquery\.select\.0\.(aggregate|alias)",
    "having.0.value": r"having\.0\.values\.0",
    "limit.value": "limit",
    "compound.operator": r"compound\.operator",
    "window.function": r"select\.\d\.(window\.function|alias)",
    "window.column": r"select\.\d\.(column|alias)",
    "window.partition_by.0.column": r"select\.\d\.window\.partition_by\.0\.column",
    "window.order_by.0.column": r"select\.\d\.window\.order_by\.0\.column",
    "window.order_by.0.direction": r"select\.\d\.window\.order_by\.0\.direction",
}
"""Edit -> the values of the query's JSON that it may change; the others have the name of theirs."""


def leaves_of(edit: str) -> str:
    if edit in LEAVES:
        return LEAVES[edit]
    if found := re.fullmatch(r"(select\.\d)\.(aggregate|column|aggregate\.column)", edit):
        return rf"{found[1]}\.({found[2].removeprefix('aggregate.')}|alias)"
    where = re.fullmatch(r"(cte\.|compound\.|where\.0\.subquery\.)?where\.(\d)\.(\w+)", edit)
    if where is None:
        return re.escape(edit)
    before = {"where.0.subquery.": "where.0.0.subquery."}.get(
        where[1], f"{where[1]}select." if where[1] else ""
    )
    leaf = {"value": "values.0"}.get(where[3], where[3])
    return re.escape(f"{before}where.{where[2]}.0.{leaf}")


def flat(value: object, path: str = "") -> dict[str, object]:
    """The leaves of nested lists and mappings, by dotted path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in items for k, v in flat(inner, f"{path}{key}.").items()}
    return {path[:-1]: value}


def changed_leaves(one: Query, other: Query) -> set[str]:
    a, b = (flat(msgspec.to_builtins(query)) for query in (one, other))
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_one_slot_and_what_is_named_after_it(edit: str) -> None:
    for name in sets_with(EDITS[edit]):
        config = DataConfig(command_sets=(name,), split="train", max_columns=8)
        for index in range(3):
            pair = make_pair(config, edit, index)
            found = changed_leaves(pair.clean.query, pair.corrupt.query)
            assert found
            if edit == "where.connective":
                # The same conditions, as one group or as two.
                clean, corrupt = pair.clean.query.where, pair.corrupt.query.where
                assert [c for group in clean for c in group] == [c for group in corrupt for c in group]
                assert {len(clean), len(corrupt)} == {1, 2}
                assert all(path.startswith("where.") for path in found)
            else:
                pattern = re.compile(leaves_of(edit))
                assert {path for path in found if not pattern.fullmatch(path)} == set()


def test_an_alias_follows_its_function_and_its_column() -> None:
    for edit in ("select.0.aggregate", "select.0.aggregate.column", "where.0.subquery.select.0.aggregate"):
        name = sets_with(EDITS[edit])[0]
        item = make_pair(DataConfig(command_sets=(name,)), edit, 0).corrupt.query
        item = item.where[0][0].subquery.select[0] if "subquery" in edit else item.select[0]
        assert item.alias == f"{item.aggregate}_{item.column}"


def drawn(name: str, n: int = 300, **settings: object) -> list[tuple[PairDraft, Query]]:
    config = DataConfig(command_sets=(name,), **settings)
    found = []
    for index in range(n):
        rng = Draws(7, index)
        query = sample_query(rng, config, name)
        found.append((PairDraft(rng, config, query), query))
    return found


@pytest.mark.parametrize("name", COMMAND_SETS)
def test_rows_that_are_drawn_are_sound(name: str) -> None:
    assert [query for _, query in drawn(name) if not is_sound(query)] == []


def test_a_new_column_was_used_nowhere_and_is_no_key() -> None:
    for draft, query in drawn("cs5"):
        for edit in ("select.0.column", "where.0.column", "select.0.aggregate.column"):
            for changed in EDITS[edit].change(draft, query):
                new = changed_leaves(query, changed)
                column = flat(msgspec.to_builtins(changed))[next(p for p in new if p.endswith(".column"))]
                assert f'"{column}"' not in query.to_json().split('"schema":')[0]
                assert column != "id"
                assert not str(column).endswith("_id")


def test_a_direction_is_not_flipped_where_it_changes_nothing() -> None:
    plain = Query.from_json(
        '{"command_set":"cs2","table":"t","select":[{"column":"a"}],'
        '"order_by":[{"column":"a","direction":"ASC"},{"column":"b","direction":"ASC"}],'
        '"schema":{"tables":[{"name":"t","columns":[{"name":"a","type":"TEXT"},{"name":"b","type":"TEXT"}]}]}}'
    )
    draft = PairDraft(Draws(0, 0), DataConfig(command_sets=("cs2",)), plain)
    assert len(list(EDITS["order_by.0.direction"].change(draft, plain))) == 1
    # Rows that tie on `a`, all that is shown, look the same: `b` cannot be seen.
    assert list(EDITS["order_by.1.direction"].change(draft, plain)) == []


SCHEMA = parse_schema(
    "CREATE TABLE t ( a TEXT, b TEXT, n INTEGER, m INTEGER, r REAL, d DATE, yes BOOLEAN, s_id INTEGER );"
    "CREATE TABLE s ( id INTEGER, c TEXT, k INTEGER )"
)
ALL = "cs8+in+between+like+not+or+having+distinct+limit+set_operation+cte+scalar+running_sum"


def becomes(edit: str, sql: str, command_set: str = ALL) -> set[str]:
    """The SQL that a query may become, over many draws."""
    query = parse_sql(sql, SCHEMA, command_set)
    config = DataConfig(command_sets=(command_set,))
    return {
        sql_string(changed)
        for seed in range(40)
        for changed in EDITS[edit].change(PairDraft(Draws(seed, 0), config, query), query)
    }


COUNTED = "SELECT a FROM t GROUP BY a HAVING COUNT(*) {}"
FILTERED = "SELECT a FROM t WHERE n {} 3"
SUMMED = "SELECT {}(n) AS {}_n, a FROM t GROUP BY a"


@pytest.mark.parametrize(
    ("edit", "sql", "template", "values"),
    [
        ("select.0.column", "SELECT a, n FROM t", "SELECT {}, n FROM t", "b m r d yes"),
        # In GROUP BY it would have to change too.
        ("select.0.column", "SELECT a, SUM(n) AS SUM_n FROM t GROUP BY a", "", ""),
        ("select.0.column", "SELECT DISTINCT a, n FROM t ORDER BY a ASC", "", ""),
        # Behind WITH there is only what it selects.
        (
            "select.0.column",
            "WITH c AS (SELECT a, b, n FROM t) SELECT a FROM c ORDER BY b ASC",
            "WITH c AS (SELECT a, b, n FROM t) SELECT {} FROM c ORDER BY b ASC",
            "n",
        ),
        ("select.0.aggregate", SUMMED.format("SUM", "SUM"), SUMMED.replace("{}", "{0}"), "AVG MIN MAX COUNT"),
        ("select.0.aggregate", SUMMED.format("SUM", "SUM") + " ORDER BY SUM_n ASC", "", ""),
        ("order_by.0.column", "SELECT a, n FROM t ORDER BY a ASC", "SELECT a, n FROM t ORDER BY {} ASC", "b m r d yes"),
        (
            "order_by.1.column",
            "SELECT a, b, SUM(n) AS SUM_n FROM t GROUP BY a, b ORDER BY SUM_n ASC, a ASC",
            "SELECT a, b, SUM(n) AS SUM_n FROM t GROUP BY a, b ORDER BY SUM_n ASC, {} ASC",
            "b",
        ),
        # Groups that are told apart already have no ties for a second key.
        ("order_by.1.direction", "SELECT a, SUM(n) AS SUM_n FROM t GROUP BY a ORDER BY a ASC, SUM_n ASC", "", ""),
        ("where.0.column", "SELECT a FROM t WHERE n > 3", "SELECT a FROM t WHERE {} > 3", "m"),
        ("where.0.column", "SELECT a FROM t WHERE r > 3.5", "", ""),
        ("where.0.operator", FILTERED.format(">"), FILTERED, "= <> < >= <="),
        # With one value left of `n`, it need not be selected.
        ("where.0.operator", "SELECT n FROM t WHERE n > 3", "SELECT n FROM t WHERE n {} 3", "<> < >= <="),
        (
            "where.0.operator",
            "SELECT n, a FROM t WHERE n <> (SELECT MAX(n) AS MAX_n FROM t)",
            "",
            "",
        ),
        ("where.0.operator", "SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b {} 'x'", "<>"),
        ("where.0.operator", "SELECT a FROM t WHERE yes = TRUE", "", ""),
        # A count of at least 1 is one that every group has.
        ("having.0.operator", COUNTED.format("> 1"), "", ""),
        ("having.0.operator", COUNTED.format("> 2"), COUNTED.replace("{}", "{} 2"), ">="),
        ("having.0.value", COUNTED.format("> 2"), COUNTED.replace("{}", "> {}"), "1"),
        ("having.0.value", COUNTED.format(">= 2"), COUNTED.replace("{}", ">= {}"), "3"),
        ("limit.value", "SELECT a FROM t ORDER BY n ASC LIMIT 3", "SELECT a FROM t ORDER BY n ASC LIMIT {}", "2 4 5"),
        (
            "limit.value",
            "SELECT a FROM t GROUP BY a ORDER BY a ASC LIMIT 3",
            "SELECT a FROM t GROUP BY a ORDER BY a ASC LIMIT {}",
            "2",
        ),
        (
            "join.0.kind",
            "SELECT t.a, s.c FROM t JOIN s ON t.s_id = s.id",
            "SELECT t.a, s.c FROM t {} JOIN s ON t.s_id = s.id",
            "LEFT",
        ),
        # A row without a match has no `k`, so the condition would leave it out again.
        ("join.0.kind", "SELECT t.a, s.c FROM t JOIN s ON t.s_id = s.id WHERE s.k > 3", "", ""),
        ("join.0.kind", "SELECT t.a, s.c FROM t JOIN s ON t.s_id = s.id ORDER BY s.k ASC", "", ""),
        ("join.0.kind", "SELECT DISTINCT t.a, s.c FROM t JOIN s ON t.s_id = s.id", "", ""),
        (
            "join.0.kind",
            "SELECT t.a, s.c FROM t LEFT JOIN s ON t.s_id = s.id WHERE s.k > 3",
            "SELECT t.a, s.c FROM t {}JOIN s ON t.s_id = s.id WHERE s.k > 3",
            None,
        ),
        (
            "window.column",
            "SELECT SUM(n) OVER (ORDER BY a ASC) AS running_n FROM t",
            "SELECT SUM({0}) OVER (ORDER BY a ASC) AS running_{0} FROM t",
            "m r",
        ),
        (
            "window.order_by.0.column",
            "SELECT SUM(n) OVER (ORDER BY a ASC) AS running_n FROM t",
            "SELECT SUM(n) OVER (ORDER BY {} ASC) AS running_n FROM t",
            "b m r d",
        ),
    ],
)  # fmt: skip
def test_a_slot_becomes_whatever_makes_sense_there_and_nothing_else(
    edit: str, sql: str, template: str, values: str | None
) -> None:
    expected = [""] if values is None else values.split()
    assert becomes(edit, sql) == {template.format(value) for value in expected}


def test_another_table_has_as_many_pieces_in_its_name() -> None:
    # Names of equally many pieces have equally many tokens more often.
    for name in ("users", "user_groups"):
        query = parse_sql("SELECT a FROM t", SCHEMA, ALL)
        for seed in range(5):
            draft = PairDraft(Draws(seed, 0), DataConfig(command_sets=(ALL,)), query)
            assert {found.count("_") for found in other_tables(draft, query, name)} == {name.count("_")}


def test_bounds_stay_in_order_lists_have_no_value_twice_and_patterns_keep_their_shape() -> None:
    for edit, which in (("where.0.low", 0), ("where.0.high", 1)):
        found = becomes(edit, "SELECT a FROM t WHERE n BETWEEN 40 AND 42")
        bounds = [tuple(int(word) for word in re.findall(r"\d+", sql)) for sql in found]
        assert len(bounds) > 10
        assert all(low < high and (low, high)[1 - which] == (40, 42)[1 - which] for low, high in bounds)
    # A truth value has no other literal, and a single condition is no group.
    assert becomes("where.0.0.value", "SELECT a FROM t WHERE yes = TRUE OR n = 3") == set()
    assert becomes("where.0.0.value", "SELECT a FROM t WHERE n = 3") == set()
    lists = becomes(
        "where.0.0.value", "SELECT a FROM t WHERE n IN (1, " + ", ".join(map(str, range(20, 70))) + ")"
    )
    assert len(lists) > 10
    assert not any(len(set(numbers)) < len(numbers) for numbers in (re.findall(r"\d+", sql) for sql in lists))
    patterns = becomes("where.0.value", "SELECT a FROM t WHERE b LIKE 'x%'")
    assert len(patterns) > 5
    assert all(re.search(r"LIKE '[^%']+%'$", sql) for sql in patterns)


@pytest.mark.parametrize(
    ("sql", "sound"),
    [
        ("SELECT a FROM t", True),
        ("SELECT a FROM t ORDER BY n ASC", True),
        ("SELECT a FROM t ORDER BY yes ASC", False),
        ("SELECT yes FROM t ORDER BY yes ASC", True),
        ("SELECT a, COUNT(n) AS COUNT_n FROM t GROUP BY a ORDER BY COUNT_n ASC", False),
        ("SELECT a, SUM(n) AS SUM_n FROM t GROUP BY a ORDER BY SUM_n ASC", True),
        ("SELECT a, b FROM t GROUP BY a, b ORDER BY a ASC", False),
        ("SELECT a, COUNT(n) AS COUNT_n FROM t GROUP BY a ORDER BY COUNT_n ASC, a ASC", True),
        ("SELECT DISTINCT a, n FROM t ORDER BY n ASC", False),
        ("SELECT DISTINCT a, n FROM t ORDER BY n ASC, a ASC", True),
        ("SELECT t.a, s.c FROM t JOIN s ON t.s_id = s.id ORDER BY s.k ASC", False),
        ("SELECT t.a, s.c FROM t JOIN s ON t.s_id = s.id ORDER BY t.n ASC", True),
        ("SELECT a FROM t WHERE n > 3 UNION SELECT a FROM t WHERE n > 3", False),
        ("SELECT a FROM t WHERE n > 3 UNION SELECT a FROM t WHERE n > 4", True),
        ("SELECT a FROM t WHERE n = 3 ORDER BY n ASC, a ASC", False),
        ("SELECT a FROM t WHERE (n = 3 OR b = 'x') ORDER BY n ASC, a ASC", True),
        ("SELECT a FROM t WHERE n = (SELECT MAX(n) AS MAX_n FROM t) ORDER BY n ASC, a ASC", False),
        ("WITH k AS (SELECT a, n FROM t WHERE n = 3) SELECT a FROM k ORDER BY n ASC, a ASC", False),
        ("WITH k AS (SELECT a, n FROM t WHERE n > 3) SELECT a FROM k ORDER BY n ASC, a ASC", True),
        ("SELECT yes FROM t WHERE n > 3 UNION SELECT yes FROM t WHERE n > 4", False),
        ("SELECT yes, a FROM t WHERE n > 3 UNION SELECT yes, a FROM t WHERE n > 4", True),
    ],
)
def test_an_order_without_ties_and_halves_that_differ_are_sound(sql: str, sound: bool) -> None:
    assert is_sound(parse_sql(sql, SCHEMA, ALL)) == sound


def test_the_two_keys_of_a_join_are_both_in_the_schema_and_mean_the_same_table() -> None:
    for index in range(10):
        pair = make_pair(DataConfig(command_sets=("cs8",)), "join.0.key", index)
        keys = set()
        for side in (pair.clean, pair.corrupt):
            join = side.query.joins[0]
            ref = join.left if join.left.column != "id" else join.right
            assert ref.column in {c.name for c in side.query.schema.table(ref.table).columns}
            keys.add(ref.column)
        first, second = sorted(keys)
        assert first.split("_", 1)[1] == second.split("_", 1)[1]


def test_the_two_tables_of_a_join_pair_refer_to_the_main_one_by_the_same_key() -> None:
    for index in range(10):
        pair = make_pair(DataConfig(command_sets=("cs5",)), "join.0.table", index)
        [clean], [corrupt] = pair.clean.query.joins, pair.corrupt.query.joins
        assert clean.left == corrupt.left
        assert clean.left.column == "id"
        assert clean.right.column == corrupt.right.column
        for join in (clean, corrupt):
            table = pair.clean.query.schema.table(join.table)
            assert join.right.column in {column.name for column in table.columns}


def test_a_table_pair_has_both_tables_with_the_same_columns_when_the_english_decides() -> None:
    pair = make_pair(DataConfig(command_sets=("cs2",)), "english.table", 0)
    one, other = pair.clean.query.schema.tables
    assert set(one.columns) == set(other.columns)
    assert pair.clean.query.schema == pair.corrupt.query.schema
    assert {pair.clean.query.table, pair.corrupt.query.table} == {one.name, other.name}


def test_an_unknown_edit_names_the_nearest_three_and_where_all_are_listed() -> None:
    with pytest.raises(InputError, match=r"did you mean `order_by\.\d\.direction`") as refused:
        edit_named("order_by.direction")
    assert [name for name in EDITS if f"`{name}`" in refused.value.message] == [
        "order_by.0.direction",
        "order_by.1.direction",
        "window.order_by.0.direction",
    ]
    assert refused.value.hint.startswith(f"`tinysql data pairs --help` lists all {len(EDITS)}")


def test_a_command_set_with_switched_skills_has_the_edits_of_its_skills() -> None:
    assert EDITS["limit.value"].suits("cs4+limit")
    assert not EDITS["limit.value"].suits("cs4")
    # A qualified name says the joined table a second time.
    assert EDITS["join.0.table"].suits("cs5")
    assert not EDITS["join.0.table"].suits("cs5+qualified")


PREDECESSOR = [
    "EngTableName",
    "EngFieldName",
    "DefCreateTable",
    "DefTableName",
    "DefFieldName",
    "DefFieldSeparator",
    "DefOrderByField1",
    "DefOrderByField2",
    "DefOrderByDirection1",
    "DefOrderByDirection2",
    "DefAggregateFunction1",
    "DefAggregateFunction2",
    "DefAggregateField1",
    "DefAggregateField2",
    "DefWhereField1",
    "DefWhereLiteral1",
    "DefJoinTable1",
]


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_feature_name_of_the_predecessor_has_a_row_and_leads_somewhere() -> None:
    table = rows("The predecessor's feature names")
    assert [row[0].strip("`") for row in table] == PREDECESSOR
    for feature, edits, variants, _ in table:
        named = re.findall(r"`([^`]+)`", edits)
        shortcuts = re.findall(r"`([^`]+)`", variants)
        assert set(named) <= set(EDITS)
        assert set(shortcuts) <= set(SHORTCUTS)
        assert bool(named or shortcuts) == (feature.strip("`") not in ("DefCreateTable", "DefFieldSeparator"))


def test_the_document_lists_every_edit_with_the_sets_that_have_it() -> None:
    listed = {row[0].strip("`"): row[1] for row in rows("The edits")}
    assert list(listed) == list(EDITS)
    for name, sets in listed.items():
        assert sets == ", ".join(one.removeprefix("cs") for one in sets_with(EDITS[name]))


def test_the_document_lists_every_shortcut_variant() -> None:
    assert [row[0].strip("`") for row in rows("Shortcut diagnostics")] == list(SHORTCUTS)
