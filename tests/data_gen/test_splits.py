"""What a row is made of -> its split: what training has and what it never has, whatever the seed."""

from functools import cache

import pytest

from data_gen.config import DataConfig
from data_gen.draw.splits import (
    HELD_OUT_CLAUSES,
    SPLITS,
    UNSEEN,
    has_held_out_clauses,
    is_held_out_name,
    is_test_schema,
)
from data_gen.errors import InputError
from data_gen.example import make_example, make_examples
from data_gen.query import COMMAND_SETS
from data_gen.say.style import VARIANTS
from data_gen.schema import Schema, Table
from data_gen.vocabulary.lexicon import LEXICONS

FULL = LEXICONS["full"]
SETS = tuple(COMMAND_SETS)
FROM_CS3 = SETS[2:]


@cache
def rows(n=300, **values):
    return tuple(make_examples(DataConfig(**values), 0, n))


def contents(example):
    """The tables of a schema with their sets of columns, and nothing else."""
    return frozenset((t.name, frozenset(c.name for c in t.columns)) for t in example.query.schema.tables)


def names(example):
    words, tables = LEXICONS[example.style.lexicon], example.query.schema.tables
    keys = {
        f"{name}_id" for name in (*words.partners.values(), *[words.singular(table.name) for table in tables])
    }
    for table in tables:
        yield table.name
        yield from {column.name for column in table.columns} - keys - {"id"}


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_can_be_drawn_for_every_set_and_variant_that_has_it(split):
    for variant in VARIANTS:
        sets = FROM_CS3 if split == "clauses" else SETS
        found = rows(40, command_sets=sets, split=split, variant=variant, max_columns=6)
        assert [example.query.command_set for example in found] == [sets[i % len(sets)] for i in range(40)]


def test_no_schema_of_test_is_in_train_for_any_seed_or_size():
    few = {"lexicon": "demo", "max_columns": 2}
    test = {contents(e) for seed in range(3) for e in rows(700, split="test", seed=seed, **few)}
    train = {contents(e) for seed in range(3) for e in rows(2000, seed=seed, **few)}
    assert len(test) > 1000
    assert not test & train


@pytest.mark.parametrize("command_set", ["cs5", "cs8", "cs9"])
def test_no_schema_of_several_tables_is_in_test_and_in_train(command_set):
    few = {"lexicon": "demo", "max_columns": 2, "command_sets": (command_set,)}
    test = {contents(e) for e in rows(400, split="test", **few)}
    train = {contents(e) for seed in range(2) for e in rows(800, seed=seed, **few)}
    assert any(len(one) > 1 for one in test)
    assert not test & train


@pytest.mark.parametrize("command_set", ["cs1", "cs8"])
def test_order_and_types_of_columns_and_order_and_keys_of_tables_do_not_change_the_split(command_set):
    for split in ("test", "train"):
        for example in rows(100, command_sets=(command_set,), split=split):
            schema = example.query.schema
            turned = Schema(
                tuple(
                    Table(t.name, tuple(type(c)(c.name, "DATE") for c in reversed(t.columns)))
                    for t in reversed(schema.tables)
                )
            )
            assert is_test_schema(turned, 0.1) == is_test_schema(schema, 0.1) == (split == "test")


def test_the_share_of_test_schemas_is_the_test_fraction():
    schemas = [e.query.schema for e in (*rows(500, split="train"), *rows(500, split="test"))]
    halved = sum(is_test_schema(schema, 0.5) for schema in schemas[:500])
    # Of train, which lacks one schema in ten, four in nine belong to test at one half.
    assert 190 < halved < 255
    assert all(is_test_schema(schema, 0.2) for schema in schemas[500:])


@pytest.mark.parametrize("lexicon", ["full", "demo"])
@pytest.mark.parametrize("split", ["tables", "columns", "names", "novel"])
def test_held_out_names_occur_in_their_splits_and_never_in_another(lexicon, split):
    words = LEXICONS[lexicon]
    tables, columns = set(words.held_out_tables), set(words.held_out_columns)
    shared = {"lexicon": lexicon, "command_sets": SETS, "max_columns": 6}
    for example in rows(150, split=split, **shared):
        found = set(names(example))
        own = {table.name for table in example.query.schema.tables}
        assert (own <= tables) if "tables" in UNSEEN[split] else not own & tables
        assert (found - own <= columns) if "columns" in UNSEEN[split] else not found & columns
    for other in ("train", "test", "templates"):
        randomly = {"random_names": 0.9} if other == "train" else {}
        seen = {name for example in rows(200, split=other, **randomly, **shared) for name in names(example)}
        assert len(seen) > 50
        assert not seen & (tables | columns)


@pytest.mark.parametrize("lexicon", ["full", "demo"])
@pytest.mark.parametrize("split", ["recombined", "invented"])
def test_names_made_anew_are_held_out_by_their_hash_and_no_row_of_train_has_them(lexicon, split):
    words = LEXICONS[lexicon]
    shared = {"lexicon": lexicon, "command_sets": ("cs1", "cs2", "cs3"), "max_columns": 6}
    share = "random_names" if split == "recombined" else "invented_names"
    train = {name for e in rows(1500, seed=3, **{share: 1.0}, **shared) for name in names(e)}
    found = {name for e in rows(600, seed=4, split=split, **shared) for name in names(e)}
    assert min(len(train), len(found)) > 200
    assert not found & (train | words.known_names | words.unseen_names)
    made = train - words.known_names
    assert all(is_held_out_name(name, 0.1) for name in found)
    assert not any(is_held_out_name(name, 0.1) for name in made)
    pieces = {piece for name in found for piece in name.split("_")}
    last = {piece for piece, _ in words.last_column_pieces}
    known = {*words.first_pieces, *last, *words.last_table_pieces}
    assert (pieces <= known) if split == "recombined" else not pieces & known


def test_a_share_that_leaves_no_name_is_refused():
    with pytest.raises(InputError, match="test_fraction 1e-09 leaves no name of its own to the rows"):
        rows(1, split="recombined", test_fraction=1e-9)


@pytest.mark.parametrize("lexicon", ["full", "demo"])
def test_pieces_of_held_out_names_occur_in_train_at_the_same_place(lexicon):
    train = {name for example in rows(3000, lexicon=lexicon) for name in names(example)}
    firsts = {name.split("_")[0] for name in train}
    lasts = {name.split("_")[1] for name in train if "_" in name}
    for example in rows(300, lexicon=lexicon, split="names"):
        for name in names(example):
            first, last = name.split("_")
            assert first in firsts
            assert last in lasts


@pytest.mark.parametrize("variant", VARIANTS)
def test_held_out_instructions_occur_in_their_splits_and_never_in_another(variant):
    held = set(FULL.template_indexes(variant, held_out=True))
    for split in SPLITS:
        used = {e.style.template for e in rows(150, split=split, variant=variant, command_sets=("cs3",))}
        assert (used <= held) == ("templates" in UNSEEN[split])
        assert len(used & held) == (len(held) if "templates" in UNSEEN[split] else 0)


def things(query):
    """What a query shows, in its subqueries too; written again so that `splits.py` is not its own witness."""
    stack, found = [query], set()
    if query.cte is not None:
        found.add("cte")
        stack.append(query.cte.select)
    if query.compound is not None:
        stack.append(query.compound.select)
    while stack:
        select = stack.pop()
        conditions = [condition for group in select.where for condition in group]
        stack += [condition.subquery for condition in conditions if condition.subquery]
        found |= {condition.operator for condition in conditions}
        found |= {item.aggregate for item in select.select if item.aggregate}
        found |= {item.window.function for item in select.select if item.window}
        found |= {join.kind for join in select.joins} | {"join" for _ in select.joins}
        found |= {f"order_by.{place}.{key.direction}" for place, key in enumerate(select.order_by[:2])}
        found |= {"limit"} if select.limit else set()
    return found


@pytest.mark.parametrize("command_set", FROM_CS3)
def test_held_out_pairs_of_clauses_occur_in_their_split_and_never_in_another(command_set):
    for split in SPLITS:
        for example in rows(100, command_sets=(command_set,), split=split):
            shown = things(example.query)
            together = any(pair <= shown for pair in HELD_OUT_CLAUSES)
            assert together == has_held_out_clauses(example.query) == (split == "clauses")


@pytest.mark.parametrize("command_set", FROM_CS3)
def test_training_shows_each_half_of_a_held_out_pair(command_set):
    together = [things(e.query) for e in rows(100, command_sets=(command_set,), split="clauses")]
    apart = set().union(*[things(e.query) for e in rows(500, command_sets=(command_set,))])
    pairs = [pair for pair in HELD_OUT_CLAUSES if any(pair <= shown for shown in together)]
    assert pairs
    assert all(pair <= apart for pair in pairs)


@pytest.mark.parametrize("command_set", ["cs1", "cs2", "cs4-aggregate"])
def test_a_set_with_too_few_skills_has_no_clauses_split_and_says_so(command_set):
    with pytest.raises(InputError) as caught:
        make_example(DataConfig(command_sets=(command_set,), split="clauses"), 0)
    assert caught.value.message == f"no query of `{command_set}` for split `clauses` in 1000 draws"
    assert "too few skills" in caught.value.hint


def test_an_empty_split_says_so():
    with pytest.raises(InputError, match="no schema of split `test` in 1000 draws"):
        make_example(DataConfig(split="test", test_fraction=1e-12), 0)
