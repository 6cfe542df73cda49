"""Query + style -> English: every slot is said once, in its own span, and nothing else is said."""

import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise

import pytest
from msgspec.structs import replace

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from data_gen.query import COMMAND_SETS, SKILLS, Compound, OrderBy, Select, SelectItem
from data_gen.read.parse import parse_sql
from data_gen.say.english import write_english
from data_gen.say.style import COLUMN_SHARE, NAT_SHARE, TABLE_SHARE, VARIANTS, Style, spoken
from data_gen.schema import parse_schema
from data_gen.vocabulary.lexicon import LEXICONS

FULL = LEXICONS["full"]
WORDING = FULL.wording
SETS = tuple(COMMAND_SETS)
every_set = pytest.mark.parametrize("name", SETS)
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@cache
def rows(name, variant, n=100):
    return tuple(make_examples(DataConfig(command_sets=(name,), variant=variant, max_columns=8), 0, n))


SAID = {"table", "column", "name", "alias", "value", "low", "high", "direction", "aggregate", "function"}
"""Last parts of the roles that are names, literals, directions, aggregates and numbers."""


def bare(piece):
    """A piece as a name: without the space before it, and a table's without the ending of a possessive."""
    return re.sub("'s?$", "", piece.strip())


def is_slot(role):
    return role.rpartition(".")[2] in SAID


def expected_slots(example):
    """English role -> the SQL that it has to say, read off the SQL and its roles."""
    query, found = example.query, {}
    aliased = {item.alias: item for item in query.select if item.alias}
    qualified, roles = query.select[0].table is not None, {span.role for span in example.sql.spans}
    for piece, role in example.sql.pieces():
        slot, text = role.removeprefix("sql."), piece.strip()
        place, _, last = slot.rpartition(".")
        # `AS SUM_price` follows from what it names; `*` and the `1` of EXISTS are no columns.
        unsaid = (last == "alias" and "select." in slot) or (last == "column" and text in ("*", "1"))
        if last not in SAID or unsaid:
            continue
        is_qualifier = last == "table" and f"sql.{place}.column" in roles
        if (is_qualifier and not qualified) or (slot == "table" and not example.style.mentions_table):
            continue
        item = aliased.get(text) if last == "column" else None
        if item is not None and place.startswith("order_by"):
            found[f"english.{place}.aggregate"] = item.aggregate
            found |= {f"english.{place}.table": item.table} if item.table else {}
            text = item.column
        found[f"english.{slot}"] = text
    return found


@every_set
@every_variant
def test_each_slot_of_the_sql_has_exactly_one_span_and_no_other_span_says_a_slot(name, variant):
    for example in rows(name, variant):
        counts = Counter(role for _, role in example.english.pieces() if is_slot(role))
        assert set(counts) == set(expected_slots(example)), example.english.string
        # An aggregate may stand on both sides of its column.
        assert all(
            n == 1 or (n == 2 and role.endswith(("aggregate", "function"))) for role, n in counts.items()
        )


def conditions(node, place):
    """(English role, condition, table) of every condition at any depth."""
    for i, group in enumerate(node.where):
        for j, condition in enumerate(group):
            at = f"{place}.where.{i}.{j}" if len(group) > 1 else f"{place}.where.{i}"
            yield at, condition
            if condition.subquery is not None:
                yield from conditions(condition.subquery, f"{at}.subquery")


def every_condition(query):
    yield from conditions(query, "english")
    if query.cte:
        yield from conditions(query.cte.select, "english.cte")
    if query.compound:
        yield from conditions(query.compound.select, "english.compound")
    yield from ((f"english.having.{i}", condition) for i, condition in enumerate(query.having))


def kinds_of(query):
    return {column.name: column.kind for table in query.schema.tables for column in table.columns}


def key_kind(query, key):
    kinds = kinds_of(query)
    for item in query.select:
        if item.alias == key.column:
            return kinds[item.column] if item.aggregate in ("MIN", "MAX") else "number"
    return kinds[key.column]


@every_set
@every_variant
def test_a_span_says_what_its_slot_holds(name, variant):
    for example in rows(name, variant):
        wanted = expected_slots(example)
        for piece, role in example.english.pieces():
            said, last = bare(piece), role.rpartition(".")[2]
            if last in ("table", "column"):
                of = wanted[role]
                assert said in {of, of.replace("_", " "), *FULL.synonyms.get(of, ())}
            elif last in ("value", "low", "high", "name", "alias"):
                assert said == wanted[role].strip("'").strip("%").lower()


@every_set
@every_variant
def test_a_direction_is_said_by_words_that_mean_it_and_suit_the_key(name, variant):
    for example in rows(name, variant):
        query = example.query
        pieces = {role: piece for piece, role in example.english.pieces()}
        keys = [(f"english.order_by.{i}", key) for i, key in enumerate(query.order_by)]
        for index, item in enumerate(query.select):
            if item.window:
                at = f"english.select.{index}.order_by"
                keys += [(f"{at}.{i}", key) for i, key in enumerate(item.window.order_by)]
        for at, key in keys:
            phrases = WORDING.sort_phrases[key_kind(query, key)]
            said = pieces[f"{at}.direction"]
            up, down = ({phrase[way].direction for phrase in phrases} for way in (0, 1))
            assert said in (up if key.direction == "ASC" else down)
            assert said not in (down if key.direction == "ASC" else up)


def stretch(example, at, parts):
    """The text from the first to the last span whose role is one of `parts` of the thing at `at`."""
    pieces = example.english.pieces()
    roles = {f"{at}.{part}" for part in parts}
    inside = [i for i, (_, role) in enumerate(pieces) if role in roles]
    text = "".join(piece for piece, _ in pieces[inside[0] : inside[-1] + 1])
    # Nothing foreign stands within.
    assert inside == list(range(inside[0], inside[-1] + 1))
    return text


@every_set
@every_variant
def test_an_aggregate_is_said_by_a_phrase_of_its_own_that_suits_its_column(name, variant):
    for example in rows(name, variant):
        query, kinds = example.query, kinds_of(example.query)
        items = [(f"english.select.{i}", item) for i, item in enumerate(query.select)]
        items += [(at, condition) for at, condition in every_condition(query) if condition.aggregate]
        nested = [
            (f"{at}.subquery.select.0", c.subquery.select[0])
            for at, c in every_condition(query)
            if c.subquery
        ]
        for at, item in [*items, *nested]:
            if item.aggregate is None:
                continue
            if item.column == "*":
                assert stretch(example, at, ["aggregate"]) in {f" {p.text}" for p in WORDING.count_rows}
                continue
            name = {f"{at}.{part}" for part in ("table", "qualifier", "column")}
            said = [piece for piece, role in example.english.pieces() if role in name]
            text = stretch(example, at, ["aggregate", "table", "qualifier", "column"]).strip()
            meant = {
                function
                for function, patterns in WORDING.aggregates.items()
                for pattern in patterns[kinds[item.column]]
                if pattern.text.format(column="".join(said).strip()) == text
            }
            assert meant == {item.aggregate}


OPERATORS = {
    ("LIKE", False): "LIKE",
    ("LIKE", True): "NOT LIKE",
    ("IS NULL", False): "IS NULL",
    ("IS NULL", True): "IS NOT NULL",
    ("BETWEEN", True): "NOT BETWEEN",
    ("IN", True): "NOT IN",
}


def operator_of(condition):
    """The key of the wording that says this condition."""
    name = OPERATORS.get((condition.operator, condition.negated), condition.operator)
    if name.endswith("LIKE"):
        letters = re.sub("[^%]+", "x", condition.values[0])
        return f"{name} {letters}"
    return name


@every_set
@every_variant
def test_a_condition_is_said_by_a_phrase_that_means_its_operator_and_suits_its_column(name, variant):
    for example in rows(name, variant):
        kinds = kinds_of(example.query)
        for at, condition in every_condition(example.query):
            if condition.subquery is not None or condition.other is not None:
                continue
            kind = (
                "number" if condition.aggregate in ("COUNT", "SUM") else kinds.get(condition.column, "number")
            )
            words = [str(value).lower() for value in condition.values]
            shown = " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
            low, high = words if condition.operator == "BETWEEN" else ("", "")
            options = {
                pattern.text.format(value=shown.strip("%"), values=shown, low=low, high=high)
                for pattern in WORDING.operators[operator_of(condition)][kind]
            }
            pieces = example.english.pieces()
            behind = ("operator", "value", "low", "high", "separator", *[f"{i}.value" for i in range(3)])
            text = "".join(piece for piece, role in pieces if role in {f"{at}.{part}" for part in behind})
            assert text.strip() in options


@every_set
@every_variant
def test_english_is_one_line_with_single_spaces_and_no_question_mark(name, variant):
    for example in rows(name, variant):
        text = example.english
        assert text.string == " ".join(text.string.split())
        assert not re.search(r"[?\"{}\x00]| ,|,,|'(?!s? )", text.string)
        assert all(piece.strip() for piece, _ in text.pieces())
        # A span begins where a byte-level token begins, which it also does behind the point of a qualified name.
        roles = [None, *[role for _, role in text.pieces()]]
        assert all(
            piece[0] in " ,;" or piece == "." or str(before).endswith(".qualifier")
            for before, (piece, _) in zip(roles[1:], text.pieces()[1:], strict=False)
        )


@every_set
@every_variant
def test_what_is_no_slot_says_no_name_and_no_literal(name, variant):
    for example in rows(name, variant):
        query = example.query
        names = {c.name for t in query.schema.tables for c in t.columns} | {
            t.name for t in query.schema.tables
        }
        values = {str(v).strip("%") for _, condition in every_condition(query) for v in condition.values}
        # One letter may be an article.
        literals = {value for value in values if len(value) > 2}
        for piece, role in example.english.pieces():
            if not is_slot(role):
                words = set(re.findall(r"\w+", piece))
                assert not words & (names | literals)
                assert not any(word.isdigit() for word in words)


@every_set
@every_variant
def test_a_name_is_said_in_the_same_words_wherever_it_stands(name, variant):
    for example in rows(name, variant):
        wanted, said = expected_slots(example), defaultdict(set)
        for piece, role in example.english.pieces():
            if role.rpartition(".")[2] in ("table", "column"):
                said[wanted[role]].add(bare(piece))
        assert {of: some for of, some in said.items() if len(some) > 1} == {}
        assert all(some == {spoken(example.style, of, table=of in FULL.tables)} for of, some in said.items())


@pytest.mark.parametrize(
    ("variant", "shares"),
    [
        ("syn", {"table": TABLE_SHARE, "column": COLUMN_SHARE}),
        ("nat", {"table": NAT_SHARE, "column": NAT_SHARE}),
    ],
)
def test_synonyms_are_said_in_every_clause_at_the_stated_share(variant, shares):
    counts = defaultdict(Counter)
    for name in ("cs4", "cs5", "cs8", "cs9", "cs10"):
        for example in rows(name, variant, 400):
            wanted = expected_slots(example)
            for piece, role in example.english.pieces():
                clause, last = re.sub(r"english\.|\.\d+", "", role).split(".")[0], role.rpartition(".")[2]
                of = wanted.get(role)
                if last in ("table", "column") and len(FULL.synonyms.get(of, ())) > 1:
                    is_synonym = bare(piece) in FULL.synonyms[of]
                    counts[clause, last][is_synonym] += 1
    clauses = {"select", "where", "order_by", "group_by", "join"}
    assert {clause for clause, last in counts if last == "column"} >= clauses - {"join"}
    assert {clause for clause, last in counts if last == "table"} >= {"table", *clauses}
    for (_, last), found in counts.items():
        if found.total() > 300:
            assert found[True] / found.total() == pytest.approx(shares[last], abs=0.1)


@pytest.mark.parametrize(
    ("variant", "table_share", "column_share"),
    # Numbers, not the constants, so that these cannot drift; docs/data.md states them.
    [("syn", 0.8, 0.5), ("nat", 1 / 3, 1 / 3)],
)
def test_a_synonym_is_as_frequent_as_the_document_says(variant, table_share, column_share):
    tables, columns = [], []
    # One name of each row, because two names of one row are not drawn apart.
    for example in rows("cs1", variant, 2000):
        main, column = example.query.table, example.query.select[0].column
        for names, name in ((tables, main), (columns, column)):
            if "_" not in name:
                said = spoken(example.style, name, table=names is tables)
                names.append(said in FULL.synonyms[name])
    for found, share in ((tables, table_share), (columns, column_share)):
        # 3.3 standard deviations of a binomial: one seed in a thousand falls outside.
        bound = 3.3 * (share * (1 - share) / len(found)) ** 0.5
        assert len(found) > 1500
        assert abs(sum(found) / len(found) - share) < bound < 0.045


def test_base_says_every_name_as_it_is_and_nat_as_words():
    for name in SETS:
        for example in rows(name, "base"):
            wanted = expected_slots(example)
            for piece, role in example.english.pieces():
                if role in wanted and role.rpartition(".")[2] in ("table", "column"):
                    assert piece.strip() == wanted[role]
        assert not any("_" in example.english.string for example in rows(name, "nat"))


@every_set
def test_variants_ask_for_the_same_query_in_other_words(name):
    for example in rows(name, "base", 60):
        texts = {
            v: write_english(example.query, replace(example.style, variant=v, template=3)).string
            for v in VARIANTS
        }
        assert texts["nat"] not in (texts["base"], texts["syn"])
    starts = {v: {e.english.string.split()[0] for e in rows(name, v)} for v in VARIANTS}
    assert "sure" not in starts["nat"]
    assert len(starts["nat"] - starts["base"]) > 5


def changed(one, other):
    """The roles of the spans that differ."""
    pairs = zip(one.pieces(), other.pieces(), strict=True)
    assert [span.role for span in one.spans] == [span.role for span in other.spans]
    return {role for (piece, role), (another, _) in pairs if piece != another}


@every_set
@every_variant
def test_another_direction_changes_the_words_that_say_it_and_no_others(name, variant):
    flipped = 0
    for example in rows(name, variant):
        for index, key in enumerate(example.query.order_by):
            other = replace(key, direction="DESC" if key.direction == "ASC" else "ASC")
            keys = example.query.order_by
            query = replace(example.query, order_by=(*keys[:index], other, *keys[index + 1 :]))
            found = changed(example.english, write_english(query, example.style))
            assert found == {f"english.order_by.{index}.direction"}
            flipped += 1
    assert flipped > 5 or name == "cs1"


@every_variant
def test_another_value_or_limit_changes_its_span_and_no_other(variant):
    for example in rows("cs6", variant):
        query = example.query
        if query.limit:
            found = changed(
                example.english, write_english(replace(query, limit=query.limit + 5), example.style)
            )
            assert found == {"english.limit.value"}
        for index, group in enumerate(query.where):
            condition = group[0]
            if condition.operator in (">", "<") and isinstance(condition.values[0], int):
                group = (replace(condition, values=(1234,)),)
                where = (*query.where[:index], group, *query.where[index + 1 :])
                found = changed(example.english, write_english(replace(query, where=where), example.style))
                assert found == {f"english.where.{index}.value"}


def test_phrases_vary_from_row_to_row_and_every_one_is_used():
    said = Counter()
    for example in make_examples(DataConfig(command_sets=("cs2",)), 0, 1500):
        said.update(piece for piece, role in example.english.pieces() if role.endswith("direction"))
    every = {form.direction for some in WORDING.sort_phrases.values() for phrase in some for form in phrase}
    assert set(said) == every


SCHEMA = parse_schema(
    "CREATE TABLE orders ( price REAL, city TEXT, sold DATE, age INTEGER, paid BOOLEAN, customer_id INTEGER ); "
    "CREATE TABLE customers ( id INTEGER, salary REAL )"
)
EVERYTHING = "cs10" + "".join(f"+{skill}" for skill in SKILLS if skill != "distinct")
FIRST = Style(number=0)
"""Every choice is the first option."""
LIKES = ("a%b", "%a%b%", "%a_b%", "_a%", "%", "%%", "abc")
"""Patterns that fix neither the letters anywhere, nor the beginning, nor the end alone."""
CASES = [
    ("SELECT price FROM orders", "show the price of orders"),
    ("SELECT city, price FROM orders", "show the city, price of orders"),
    (
        "SELECT city FROM orders ORDER BY price DESC, sold ASC",
        "show the city of orders sorted by price in descending order, then by sold in ascending order",
    ),
    (
        "SELECT city, AVG(price) AS AVG_price FROM orders GROUP BY city ORDER BY AVG_price ASC",
        "show the city, average price of orders for each city sorted by average price in ascending order",
    ),
    (
        "SELECT price FROM orders WHERE city LIKE '%a%' AND age > 5 AND paid = TRUE",
        "show the price of orders where city contains a and age is greater than 5 and paid is true",
    ),
    (
        "SELECT price, salary FROM orders JOIN customers ON orders.customer_id = customers.id",
        "show the price, salary of orders joined with customers on customer_id equals id",
    ),
    (
        "SELECT DISTINCT city FROM orders ORDER BY city ASC",
        "show the city of orders, without duplicates sorted by city in ascending order",
    ),
    (
        "SELECT city FROM orders ORDER BY price ASC LIMIT 3",
        "show the city of orders sorted by price in ascending order, only the first 3 rows",
    ),
    (
        "SELECT city, SUM(age) AS SUM_age FROM orders GROUP BY city HAVING COUNT(*) >= 2",
        "show the city, total age of orders for each city, keeping only groups whose number of rows is at least 2",
    ),
    (
        "SELECT price FROM orders WHERE (city = 'oslo' OR age BETWEEN 2 AND 5) AND sold IS NOT NULL",
        "show the price of orders where either city is oslo or age is between 2 and 5, and sold is not missing",
    ),
    (
        "SELECT price FROM orders WHERE city NOT LIKE 'an%' AND age NOT IN (2, 3)",
        "show the price of orders where city does not start with an and age is none of 2 or 3",
    ),
    (
        "SELECT orders.price, customers.salary FROM orders LEFT JOIN customers ON orders.customer_id = customers.id",
        "show the orders.price, customers.salary of orders left joined with customers on orders.customer_id equals "
        "customers.id",
    ),
    (
        "SELECT price FROM orders WHERE age > (SELECT AVG(age) AS AVG_age FROM orders WHERE city = 'oslo')",
        "show the price of orders where age is greater than the average age over all orders where city is oslo",
    ),
    (
        "SELECT price FROM orders WHERE customer_id NOT IN (SELECT id FROM customers WHERE salary > 5.5)",
        "show the price of orders where customer_id is not among the id values of customers where salary is greater "
        "than 5.5",
    ),
    (
        "SELECT salary FROM customers WHERE EXISTS "
        "(SELECT 1 FROM orders WHERE orders.customer_id = customers.id AND age = 3)",
        "show the salary of customers where there is at least one row of orders whose customer_id equals id and "
        "whose age is 3",
    ),
    (
        "WITH picks AS (SELECT price, city FROM orders WHERE age > 3) SELECT price FROM picks",
        "first collect as picks the price, city of orders where age is greater than 3; then show the price of picks",
    ),
    (
        "SELECT city FROM orders WHERE age > 3 EXCEPT SELECT city FROM orders WHERE paid = FALSE",
        "show the city of orders where age is greater than 3, but leaving out the city of orders where paid is false",
    ),
    (
        "SELECT city, RANK() OVER (PARTITION BY paid ORDER BY price DESC) AS place FROM orders",
        "show the city, a rank with gaps after ties within each paid in order of price in descending order, "
        "of orders",
    ),
]
CASES += [
    (
        "SELECT salary FROM customers WHERE EXISTS "
        "(SELECT 1 FROM orders WHERE orders.customer_id = customers.id AND age IN (3, 4) AND price BETWEEN 1 AND 2)",
        "show the salary of customers where there is at least one row of orders whose customer_id equals id and "
        "whose age is one of 3 or 4 and whose price is between 1 and 2",
    ),
    (
        "SELECT city, SUM(age) AS SUM_age FROM orders GROUP BY city HAVING COUNT(*) IN (2, 3)",
        "show the city, total age of orders for each city, keeping only groups whose number of rows is one of 2 or 3",
    ),
    (
        "SELECT city, SUM(age) AS SUM_age FROM orders GROUP BY city HAVING MIN(city) LIKE 'a%'",
        "show the city, total age of orders for each city, keeping only groups whose minimum city starts with a",
    ),
    (
        "SELECT city, SUM(age) OVER (ORDER BY sold ASC) AS so_far FROM orders ORDER BY so_far DESC",
        "show the city, a running total of age with ties added together in order of sold in ascending order, "
        "of orders sorted by running total of age with ties added together in descending order",
    ),
]


@pytest.mark.parametrize(("sql", "english"), CASES)
def test_a_query_is_said_like_this(sql, english):
    command_set = EVERYTHING + ("+distinct" if "DISTINCT" in sql else "")
    assert write_english(parse_sql(sql, SCHEMA, command_set), FIRST).string == english


EXISTS = "SELECT salary FROM customers WHERE EXISTS (SELECT 1 FROM orders"
UNSAYABLE = [
    *[(f"SELECT price FROM orders WHERE city LIKE '{p}'", f"the pattern '{p}'") for p in LIKES],
    ("SELECT price FROM orders WHERE city > 'b'", "`>` of the text column `city`"),
    ("SELECT price FROM orders WHERE paid >= TRUE", "`>=` of the boolean column `paid`"),
    ("SELECT price FROM orders WHERE city = ''", "an empty text"),
    ("SELECT price FROM orders WHERE price = age", "a comparison of two columns"),
    (f"{EXISTS})", "EXISTS whose first condition is not that a column equals one outside"),
    (f"{EXISTS} WHERE age = 3)", "EXISTS whose first condition is not that a column equals one outside"),
    (
        f"{EXISTS} WHERE orders.customer_id = customers.id AND (age = 3 OR age = 4))",
        "OR, a subquery or two columns within EXISTS",
    ),
    (
        "SELECT price FROM orders WHERE age > (SELECT age FROM orders)",
        "a subquery that selects anything but an aggregate behind >",
    ),
    (
        "SELECT price FROM orders WHERE age IN (SELECT MAX(age) AS MAX_age FROM orders)",
        "a subquery that selects anything but a column behind IN",
    ),
    (
        "SELECT price FROM orders WHERE age IN (SELECT age FROM orders WHERE city = '')",
        "an empty text",
    ),
    (
        "SELECT city, SUM(age) AS SUM_age FROM orders GROUP BY city HAVING city = 'oslo'",
        "HAVING of anything but an aggregate beside a value",
    ),
    (
        "WITH k AS (SELECT price FROM orders ORDER BY price ASC) SELECT price FROM k",
        "JOIN, GROUP BY, HAVING, ORDER BY or DISTINCT within WITH",
    ),
    ("WITH k AS (SELECT price FROM orders LIMIT 3) SELECT price FROM k", "LIMIT within WITH"),
    ("WITH k AS (SELECT SUM(age) AS s FROM orders) SELECT s FROM k", "an aggregate in WITH"),
    (
        "SELECT price FROM orders UNION SELECT price FROM orders GROUP BY price",
        "JOIN, GROUP BY, HAVING, ORDER BY or DISTINCT within UNION",
    ),
]


@pytest.mark.parametrize(("sql", "what"), UNSAYABLE)
def test_a_query_that_english_has_no_words_for_is_refused_by_the_part_it_has_none_for(sql, what):
    with pytest.raises(InputError) as caught:
        write_english(parse_sql(sql, SCHEMA, EVERYTHING), FIRST)
    assert caught.value.message == f"no question can be written for `{sql}`: English has no words for {what}"


def test_joins_without_columns_and_unknown_sort_keys_have_no_words():
    query = parse_sql(
        "SELECT price FROM orders JOIN customers ON orders.customer_id = customers.id", SCHEMA, EVERYTHING
    )
    cross = replace(query, joins=(replace(query.joins[0], kind="CROSS", left=None, right=None),))
    with pytest.raises(InputError, match="no words for CROSS JOIN without two columns"):
        write_english(cross, FIRST)
    with pytest.raises(InputError, match="the sort key `total`, which is no column and no selected item"):
        write_english(replace(query, order_by=(OrderBy("total", "ASC"),)), FIRST)
    other = Compound("UNION", Select(select=(SelectItem("price"),), table="orders"))
    with pytest.raises(InputError, match="no words for ORDER BY or LIMIT of a whole UNION"):
        write_english(replace(query, compound=other, limit=3), FIRST)


def test_where_rows_could_be_distinct_half_of_the_others_say_that_they_may_repeat():
    queries = [(e.query, e.english) for e in rows("cs6", "base", 600)]
    bare = [
        (q, text) for q, text in queries if not q.group_by and not any(item.aggregate for item in q.select)
    ]
    said = [
        any(role == "english.distinct" for _, role in text.pieces()) for q, text in bare if not q.distinct
    ]
    assert 0.4 < sum(said) / len(said) < 0.6
    for query, text in queries:
        repeats = [piece.strip(" ,") for piece, role in text.pieces() if role == "english.distinct"]
        if repeats:
            options = WORDING.distinct if query.distinct else WORDING.repeats
            assert repeats[0] in {pattern.text for pattern in options}
        assert len(repeats) == 1 or not query.distinct


def test_a_list_behind_an_aggregate_cannot_be_read_as_its_columns():
    query = parse_sql("SELECT AVG(price) AS AVG_price, city FROM orders GROUP BY city", SCHEMA, EVERYTHING)
    numbers = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(64)]
    # "the average of price and city" would be an average of both.
    lists = {
        re.search("price.*?city", write_english(query, Style(number=number)).string)[0] for number in numbers
    }
    assert {re.sub("price.*?(,[ a-z]*) city", r"\1", text) for text in lists} == {",", ", and"}


@every_set
@every_variant
def test_a_question_reads_as_a_person_would_write_it(name, variant):
    for example in rows(name, variant, 2000):
        pieces = example.english.pieces()
        words = example.english.string
        assert not re.search(r"\b(\w+) \1\b", words), words
        last_aggregate = ""
        for (piece, role), (following, then) in pairwise(pieces):
            place = role.rpartition(".")[0]
            last_aggregate = piece if role.endswith(".aggregate") else last_aggregate
            if role.endswith(".column") and re.fullmatch("english.(select|order_by).separator", then):
                # "the minimum of price, city" is that of both.
                assert not re.search(r"\b(of|over|by|with|any|missing|together)$", last_aggregate), words
            if not re.search("aggregate|table|qualifier", role):
                last_aggregate = ""
            if role.endswith(".aggregate") and re.match("english.(join|where)", then):
                # "with price present joined with clubs" would join a price.
                assert not re.search(r"\b(in|present|known|missing)$", piece), words
            if role.endswith(".table") and then == f"{place}.column":
                assert piece.endswith("'") or piece.endswith("'s"), words
            if re.fullmatch(r"english\.select\.[1-9]\.function", then) and role == "english.select.separator":
                assert following.startswith(" a "), words


def test_nothing_of_a_comparison_stands_behind_its_subquery():
    sql = "SELECT city FROM orders WHERE price >= (SELECT AVG(price) AS AVG_price FROM orders WHERE age = 3)"
    query = parse_sql(sql, SCHEMA, EVERYTHING)
    for number in range(200):
        text = write_english(query, Style(number=number * 0x9E3779B97F4A7C15 % 2**64))
        behind = [role for _, role in text.pieces() if role.startswith("english.where.0.")]
        assert behind.count("english.where.0.operator") == 1
        assert behind[:2] == ["english.where.0.column", "english.where.0.operator"]


@pytest.mark.parametrize("name", ["cs9", "cs9+or"])
@every_variant
def test_a_comparison_with_a_subquery_is_said_by_a_whole_phrase(name, variant):
    for example in rows(name, variant, 300):
        for at, condition in every_condition(example.query):
            if condition.subquery is not None and condition.operator not in ("IN", "EXISTS"):
                [said] = [
                    piece.strip() for piece, role in example.english.pieces() if role == f"{at}.operator"
                ]
                options = WORDING.operators[condition.operator]["number"]
                assert f"{said} {{value}}" in {pattern.text for pattern in options}


@every_set
@every_variant
def test_whose_stands_before_a_column_alone(name, variant):
    for example in rows(name, variant):
        pieces = example.english.pieces()
        for (piece, role), (_, following) in pairwise(pieces):
            if role.endswith("where.keyword") and piece.endswith(" whose"):
                assert following.endswith(".column")


@every_variant
def test_conditions_within_a_query_are_introduced_by_words_that_speak_of_its_table(variant):
    inner = {pattern.text for pattern in WORDING.inner_where_openers}
    seen = Counter()
    for example in rows("cs9", variant, 300):
        pieces = example.english.pieces()
        for (_, before), (piece, role) in pairwise(pieces):
            place = role.removesuffix(".where.keyword")
            if role != place != "english" and before == f"{place}.table":
                assert piece.strip() in inner
                seen[re.sub(r"\.\d+", "", place)] += 1
    assert set(seen) == {"english.where.subquery", "english.cte", "english.compound"}


def test_the_choice_of_a_phrase_does_not_depend_on_what_is_asked():
    style = Style(number=0x123456789ABCDEF)
    assert style.choose(7, 5) == style.choose(7, 5)
    assert {Style(number=n << 40).choose(7, 5) for n in range(100)} == set(range(5))
