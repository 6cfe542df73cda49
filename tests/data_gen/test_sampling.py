"""Random numbers + command set -> query: each set shows its skills, and no clause is idle or has two answers."""

from collections import Counter
from functools import cache

import pytest

from data_gen.config import DataConfig
from data_gen.draw.clauses import AGGREGATED_SHARE, FILTERED_SHARE, MOST_GROUPS, ORDERED_SHARE
from data_gen.draw.forms import FORMS
from data_gen.draw.nesting import CTE_NAMES
from data_gen.draw.sampling import FORM_SHARE
from data_gen.errors import InputError
from data_gen.example import make_example, make_examples
from data_gen.query import COMMAND_SETS, NEEDS, SKILLS, ColumnRef, command_set

SETS = tuple(COMMAND_SETS)
every_set = pytest.mark.parametrize("name", SETS)
N = 800


@cache
def queries(name, n=N, **values):
    return [example.query for example in make_examples(DataConfig(command_sets=(name,), **values), 0, n)]


def selects(query):
    """The outermost SELECT, that of the CTE and that of the set operation; no subquery of WHERE."""
    found = [query]
    found += [query.cte.select] if query.cte else []
    return found + ([query.compound.select] if query.compound else [])


def conditions(select):
    return [condition for group in select.where for condition in group]


def columns_of(query):
    """Name -> column, and name -> table, for every column of the schema but `id`."""
    pairs = [(t, c) for t in query.schema.tables for c in t.columns if c.name != "id"]
    return {c.name: c for _, c in pairs}, {c.name: t.name for t, c in pairs}


def is_fixed_end(condition):
    pattern = str(condition.values[0])
    return not (pattern.startswith("%") and pattern.endswith("%"))


def shown(query):
    """The skills that a query shows; what only stands in a subquery of WHERE belongs to that subquery's skill."""
    found = set()
    inner = [c.subquery for s in selects(query) for c in conditions(s) if c.subquery]
    for select in selects(query):
        items = select.select
        found |= {"order_by"} if select.order_by else set()
        found |= {"limit"} if select.limit is not None else set()
        found |= {"distinct"} if select.distinct else set()
        found |= {"having"} if select.having else set()
        found |= {"aggregate"} if select.group_by or any(item.aggregate for item in items) else set()
        found |= {"where"} if select.where else set()
        found |= {WINDOWS[item.window.function] for item in items if item.window}
        found |= {"qualified"} if any(item.table for item in items) else set()
        found |= joins_shown(select.joins)
    for select in [*selects(query), *inner]:
        found |= {"or"} if any(len(group) > 1 for group in select.where) else set()
        found |= {skill for condition in conditions(select) for skill in condition_shown(condition)}
    found |= {"cte"} if query.cte else set()
    found |= {"set_operation"} if query.compound else set()
    declared = any(column.references for table in query.schema.tables for column in table.columns)
    return found | ({"foreign_keys"} if declared else set())


WINDOWS = {"ROW_NUMBER": "row_number", "RANK": "rank", "SUM": "running_sum"}


def joins_shown(joins):
    if not joins:
        return set()
    if len(joins) == 2:
        return {"two_joins"}
    if joins[0].alias:
        return {"self_join"}
    return {"left_join" if joins[0].kind == "LEFT" else "join"}


def condition_shown(condition):
    if condition.subquery is not None:
        yield {"EXISTS": "exists", "IN": "in_subquery"}.get(condition.operator, "scalar")
        return
    if condition.operator in ("IN", "BETWEEN", "IS NULL"):
        yield {"IN": "in", "BETWEEN": "between", "IS NULL": "null"}[condition.operator]
    if condition.operator == "LIKE" and is_fixed_end(condition):
        yield "like"
    if condition.negated or condition.operator == "<>":
        yield "not"


@every_set
def test_a_set_shows_every_one_of_its_skills_and_none_of_another(name):
    counts = Counter(skill for query in queries(name) for skill in shown(query))
    assert set(counts) == COMMAND_SETS[name].skills
    # The rarest is seen often enough to be learned.
    assert min(counts.values(), default=N) > 0.03 * N


@every_set
def test_what_a_switch_takes_away_is_never_drawn(name):
    for skill in COMMAND_SETS[name].skills:
        switched = f"{name}-{skill}"
        try:
            expected = command_set(switched).skills
        except InputError:
            # Another skill of the set needs this one.
            assert any(skill in needed for needed in NEEDS.values())
            continue
        assert set().union(*map(shown, queries(switched, 150))) <= expected


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if skill not in COMMAND_SETS["cs4"].skills])
def test_what_a_switch_adds_is_drawn_and_nothing_else(skill):
    needed = [one for one in NEEDS.get(skill, ())[:1] if one not in COMMAND_SETS["cs4"].skills]
    needed += [one for other in needed for one in NEEDS.get(other, ())[:1]]
    switched = "cs4" + "".join(f"+{one}" for one in [*needed, skill])
    found = Counter(one for query in queries(switched, 300) for one in shown(query))
    assert set(found) == command_set(switched).skills
    assert found[skill] > 15


@pytest.mark.parametrize(
    ("name", "skill", "expected"),
    # Numbers, not the constants, so that these cannot drift; docs/data.md states them.
    [
        ("cs2", "order_by", 0.9),
        ("cs4-aggregate-order_by", "where", 0.8),
        ("cs5-aggregate-where", "join", 0.9),
    ],
)
def test_a_clause_is_as_frequent_as_the_document_says(name, skill, expected):
    n = 2000
    found = sum(skill in shown(query) for query in queries(name, n)) / n
    # 3.3 standard deviations of a binomial: one seed in a thousand falls outside.
    assert abs(found - expected) < 3.3 * (expected * (1 - expected) / n) ** 0.5 < 0.03


def test_clauses_have_the_stated_shares():
    def share(name, skill):
        return sum(skill in shown(query) for query in queries(name)) / N

    assert share("cs2", "order_by") == pytest.approx(ORDERED_SHARE, abs=0.03)
    assert share("cs4-aggregate", "order_by") == pytest.approx(ORDERED_SHARE, abs=0.03)
    assert share("cs4-aggregate", "where") == pytest.approx(FILTERED_SHARE, abs=0.04)
    # Some are redrawn because their pair of clauses is held out, or have too few columns.
    assert share("cs3", "aggregate") == pytest.approx(AGGREGATED_SHARE, abs=0.1)
    assert share("cs4", "where") == pytest.approx(FILTERED_SHARE, abs=0.05)
    assert share("cs5", "join") == pytest.approx(FORM_SHARE, abs=0.03)
    assert share("cs7", "where") > 0.95
    assert share("cs8", "foreign_keys") == pytest.approx(0.5 * FORM_SHARE * 3 / 4, abs=0.06)


@pytest.mark.parametrize("name", ["cs8", "cs9", "cs10"])
def test_a_set_of_several_forms_shows_each_about_equally_often(name):
    forms = [form for form in FORMS if form in COMMAND_SETS[name].skills]
    counts = Counter(form for query in queries(name) for form in forms if form in shown(query))
    assert sum(counts.values()) == pytest.approx(FORM_SHARE * N, abs=0.04 * N)
    for form in forms:
        assert counts[form] == pytest.approx(FORM_SHARE * N / len(forms), rel=0.35)


@every_set
def test_a_limit_stands_behind_an_order_and_asks_for_several_rows(name):
    for query in queries(name):
        if query.limit is not None:
            assert query.order_by
            assert 2 <= query.limit <= (3 if query.group_by else 5)


@every_set
def test_where_never_leaves_a_sort_key_or_a_group_a_single_value(name):
    for query in queries(name):
        for select in selects(query):
            varying = {key.column for key in (*select.order_by, *select.group_by)}
            for item in select.select:
                if item.window:
                    varying |= {key.column for key in (*item.window.order_by, *item.window.partition_by)}
            outer = {key.column for key in query.order_by} if query.cte else set()
            for condition in conditions(select):
                if condition.column in varying | outer:
                    fixes = condition.operator in ("=", "IS NULL") and not condition.negated
                    assert not fixes, query


@every_set
def test_no_column_that_is_aggregated_stands_in_where(name):
    for query in queries(name):
        aggregated = {one.column for one in (*query.select, *query.having) if one.aggregate}
        tested = {condition.column for condition in conditions(query) if condition.subquery is None}
        assert not aggregated & tested
        if query.limit is not None:
            assert not tested & {key.column for key in query.order_by}


@every_set
def test_a_tie_on_the_last_key_is_never_seen(name):
    for query in queries(name):
        if not query.order_by:
            continue
        columns, owners = columns_of(query)
        keys = [(key.column, key.table) for key in query.order_by]
        items = {(item.output, None if item.alias else item.table) for item in query.select}
        bare = {(item.column, item.table) for item in query.select if not item.aggregate}
        if items <= set(keys) or (query.group_by and bare <= set(keys)):
            continue
        column, table = keys[-1]
        if query.group_by:
            assert next(i for i in query.select if i.output == column).aggregate in (
                "SUM",
                "AVG",
                "MIN",
                "MAX",
            )
        else:
            assert columns[column].kind != "boolean"
            joined = [join for join in query.joins if join.left]
            if joined:
                # Rows of the one side come once for every row of the many side.
                many = {query.table, *[join.table for join in joined]}
                child = next(
                    t.name for t in query.schema.tables if any(c.name.endswith("_id") for c in t.columns)
                )
                assert child in many
                assert (table or owners[column]) == child
        if query.distinct:
            assert set(keys) <= items


@every_set
def test_a_key_that_nobody_could_see_is_never_asked_for(name):
    for query in queries(name, N, max_columns=3):
        keys = [(key.column, key.table) for key in query.order_by]
        assert len(set(keys)) == len(keys)
        assert not {(item.output, None if item.alias else item.table) for item in query.select} <= set(
            keys[:-1]
        )


@every_set
def test_max_keys_bounds_the_sort_keys(name):
    for bound in (1, 2):
        some = queries(name, 300, max_keys=bound)
        assert max(len(query.order_by) for query in some) == (bound if command_set(name).orders else 0)


def test_directions_are_mixed_and_keys_need_not_be_selected():
    ordered = [query for query in queries("cs2") if query.order_by]
    assert any(len({key.direction for key in query.order_by}) == 2 for query in ordered)
    outside = sum(not {k.column for k in q.order_by} <= {i.column for i in q.select} for q in ordered)
    assert 0.3 < outside / len(ordered) < 0.8
    directions = [key.direction for query in ordered for key in query.order_by]
    assert 0.45 < directions.count("ASC") / len(directions) < 0.55


@every_set
def test_group_by_names_the_bare_columns_where_they_mix_with_aggregates(name):
    for query in queries(name):
        aggregated = [item for item in query.select if item.aggregate]
        bare = [item for item in query.select if not item.aggregate and not item.window]
        mixed = bool(aggregated and bare)
        assert query.group_by == (tuple(ColumnRef(i.column, i.table) for i in bare) if mixed else ())
        assert len(query.group_by) <= MOST_GROUPS
        assert not query.having or mixed


@every_set
def test_an_aggregate_suits_its_column_and_carries_the_published_alias(name):
    for query in queries(name):
        columns, _ = columns_of(query)
        for item in query.select:
            if item.aggregate:
                assert item.alias == f"{item.aggregate}_{item.column}"
                allowed = {"number": {"SUM", "AVG", "MIN", "MAX", "COUNT"}, "boolean": {"COUNT"}}
                assert item.aggregate in allowed.get(columns[item.column].kind, {"MIN", "MAX", "COUNT"})


COMPARED = {
    "number": {"=", "<>", ">", "<", ">=", "<=", "IN", "BETWEEN", "IS NULL"},
    "date": {"=", "<>", ">", "<", ">=", "<=", "IN", "BETWEEN", "IS NULL"},
    "text": {"=", "<>", "LIKE", "IN", "IS NULL"},
    "boolean": {"=", "IS NULL"},
}
VALUES = {"number": (int, float), "date": str, "text": str, "boolean": bool}


@every_set
def test_a_condition_suits_its_column_and_each_column_has_one(name):
    for query in queries(name):
        columns, _ = columns_of(query)
        inner = [c.subquery for s in selects(query) for c in conditions(s) if c.subquery]
        for select in (*selects(query), *inner):
            own = [c for c in conditions(select) if c.subquery is None and c.other is None]
            assert len({c.column for c in own}) == len(own) <= 3
            for condition in own:
                column = columns[condition.column]
                assert condition.operator in COMPARED[column.kind]
                assert len(condition.values) == {"BETWEEN": 2, "IS NULL": 0}.get(condition.operator, 1) or (
                    condition.operator == "IN"
                    and 2 <= len(set(condition.values)) == len(condition.values) <= 3
                )
                assert all(isinstance(value, VALUES[column.kind]) for value in condition.values)
                if condition.operator == "BETWEEN":
                    assert condition.values[0] < condition.values[1]


@every_set
def test_joins_lead_along_foreign_keys_and_names_are_qualified_where_the_set_says_so(name):
    for query in queries(name):
        _, owners = columns_of(query)
        qualified = "qualified" in command_set(name).skills and bool(query.joins)
        own = {query.table: query.table} | {join.alias or join.table: join.table for join in query.joins}
        for join in query.joins:
            child, parent = (join.left, join.right) if join.right.column == "id" else (join.right, join.left)
            assert parent.column == "id"
            assert owners[child.column] == own[child.table]
            assert {child.table, parent.table} <= set(own)
            assert child.table != parent.table
        tests = [c for c in conditions(query) if c.operator != "EXISTS"]
        keys = [key for key in query.order_by if key.column in owners]
        for one in (*query.select, *query.group_by, *keys, *tests):
            assert (one.table is not None) == qualified
            assert owners[one.column] == own[one.table] if one.table else one.column in {*owners, "*"}


@pytest.mark.parametrize("name", ["cs9", "cs9+or"])
def test_a_subquery_is_the_last_condition_and_about_the_tables_it_should_be(name):
    for query in queries(name):
        nested = [i for i, group in enumerate(query.where) for c in group if c.subquery]
        assert nested in ([], [len(query.where) - 1])
        if not nested:
            continue
        [condition] = query.where[-1]
        inner, key = condition.subquery, None
        if condition.operator == "EXISTS":
            [link] = inner.where[0]
            key, parent = link.column, query.table
            assert (link.table, link.other) == (inner.table, ColumnRef("id", parent))
        elif condition.operator == "IN":
            key, parent = condition.column, inner.table
            assert [item.column for item in inner.select] == ["id"]
        else:
            [item] = inner.select
            assert (item.column, item.aggregate in ("MIN", "MAX", "AVG")) == (condition.column, True)
            assert inner.table == query.table
            # Nothing exceeds the largest of all, so that is only compared with = and <>.
            extreme = item.aggregate in ("MIN", "MAX") and not inner.where
            assert (condition.operator in ("=", "<>")) == extreme
        if key is not None:
            assert key == f"{key.removesuffix('_id')}_id"
            assert {inner.table, query.table} == {table.name for table in query.schema.tables}
            assert key in {
                c.name
                for c in query.schema.table(query.table if parent == inner.table else inner.table).columns
            }


def test_a_cte_has_what_is_asked_of_it_under_a_name_of_its_own():
    found = [query for query in queries("cs9") if query.cte]
    for query in found:
        inner = {item.column for item in query.cte.select.select}
        assert query.table == query.cte.name in CTE_NAMES
        assert query.cte.name not in {table.name for table in query.schema.tables}
        assert query.cte.select.where
        asked = {one.column for one in (*query.select, *query.order_by, *conditions(query))}
        assert asked <= inner
    assert len(found) > 50


def test_the_parts_of_a_set_operation_are_alike_but_for_their_conditions():
    found = [query for query in queries("cs9") if query.compound]
    for query in found:
        other = query.compound.select
        assert (other.select, other.table) == (query.select, query.table)
        assert query.where != other.where
        assert query.where
        assert other.where
        assert not query.order_by
    assert {query.compound.operator for query in found} == {"UNION", "EXCEPT", "INTERSECT"}


def test_a_window_is_ordered_by_what_can_differ_and_stands_last():
    found = [query for query in queries("cs10") if any(item.window for item in query.select)]
    for query in found:
        columns, _ = columns_of(query)
        *others, item = query.select
        assert others
        assert not any(other.window for other in others)
        assert [columns[key.column].kind == "boolean" for key in item.window.order_by] == [False]
        assert not query.order_by
        if item.window.function == "SUM":
            assert columns[item.column].kind == "number"
            assert item.alias == f"running_{item.column}"
        else:
            assert (item.column, item.alias) == ("*", {"RANK": "place"}.get(item.window.function, "row_no"))
    partitioned = sum(bool(query.select[-1].window.partition_by) for query in found)
    assert 0.3 < partitioned / len(found) < 0.7


@pytest.mark.parametrize("lexicon", ["full", "demo"])
@every_set
def test_small_tables_are_no_trouble(name, lexicon):
    for columns in (1, 2):
        config = DataConfig(command_sets=(name,), lexicon=lexicon, min_columns=1, max_columns=columns)
        assert len(list(make_examples(config, 0, 60))) == 60


@pytest.mark.parametrize(
    "name", ["cs4+or", "cs4+not", "cs4+in", "cs4+between", "cs4+null", "cs4+like", "cs7-null"]
)
def test_where_no_column_suits_a_skill_of_logic_the_row_is_drawn_all_the_same(name):
    config = DataConfig(command_sets=(name,), min_columns=1, max_columns=1)
    found = [query.query for query in make_examples(config, 0, 100)]
    assert any(len(conditions(query)) == 1 for query in found)


def test_a_set_that_needs_more_columns_than_there_are_says_so():
    config = DataConfig(command_sets=("cs4+having",), split="clauses", min_columns=1, max_columns=1)
    with pytest.raises(InputError, match=r"no query of `cs4\+having` for split `clauses`"):
        make_example(config, 0)
