"""Random numbers + how many tables -> schema: keys that mean something, and names that mean one thing."""

from collections import Counter
from functools import cache

import pytest

from data_gen.config import DataConfig
from data_gen.draw.schemas import OTHER_COLUMNS, between, pick, sample, sample_schema, with_constraints
from data_gen.example import make_example
from data_gen.schema import Schema
from data_gen.seeding import draws, stable_hash
from data_gen.vocabulary.lexicon import LEXICONS

FULL = LEXICONS["full"]
SHAPES = {"one": (1, False), "itself": (1, True), "two": (2, False), "three": (3, False)}
every_shape = pytest.mark.parametrize("shape", SHAPES)
several = pytest.mark.parametrize("shape", ["itself", "two", "three"])


@cache
def drawn(shape, n=400, **values):
    tables, itself = SHAPES[shape]
    config = DataConfig(**values)
    return tuple(
        sample_schema(rng, config, tables, itself=itself) for rng in draws(stable_hash("schemas"), range(n))
    )


def every_kind(shape, n=150):
    """Schemas of every lexicon, and such with random and held-out names."""
    for lexicon in LEXICONS:
        for values in ({}, {"random_names": 1.0}, {"split": "names"}, {"max_columns": 2}, {"split": "test"}):
            yield from ((LEXICONS[lexicon], one) for one in drawn(shape, n, lexicon=lexicon, **values))


@every_shape
def test_a_schema_has_the_tables_that_were_asked_for(shape):
    tables, itself = SHAPES[shape]
    for _, one in every_kind(shape):
        assert len(one.schema.tables) == tables
        assert one.schema.tables[0].name == one.main
        assert len(one.links) == (1 if itself else tables - 1)
        assert (one.partner is not None) == itself


@several
def test_a_foreign_key_is_named_after_the_parent_whose_id_it_holds(shape):
    for words, one in every_kind(shape):
        for link in one.links:
            assert link.child == one.main
            assert link.key == f"{one.partner or words.singular(link.parent)}_id"
            key, identity = (
                one.schema.table(link.child).column(link.key),
                one.schema.table(link.parent).column("id"),
            )
            assert (key.type, identity.type) == ("INTEGER", "INTEGER")
            assert one.schema.table(link.parent).columns[0] == identity


@every_shape
def test_no_other_column_looks_like_a_key(shape):
    for _, one in every_kind(shape):
        keys = [
            c.name for t in one.schema.tables for c in t.columns if c.name.endswith("_id") or c.name == "id"
        ]
        assert Counter(keys) == Counter([link.key for link in one.links] + ["id" for _ in one.links])


@pytest.mark.parametrize("shape", ["two", "three"])
def test_rows_of_one_table_really_belong_to_those_of_the_other(shape):
    for split in ("train", "test"):
        for one in drawn(shape, split=split):
            for link in one.links:
                assert link.parent in FULL.relations[link.child]
    for split in ("tables", "names", "novel"):
        for one in drawn(shape, split=split):
            for link in one.links:
                assert link.parent in FULL.held_out_relations[link.child]
    assert len({link for one in drawn(shape) for link in one.links}) > 200


def test_a_table_that_refers_to_itself_says_what_the_other_row_is():
    for one in drawn("itself", split="tables"):
        assert FULL.held_out_partners[one.main] == one.partner
    for one in drawn("itself"):
        assert FULL.partners[one.main] == one.partner
        assert one.links[0].parent == one.main
    assert len({one.main for one in drawn("itself")}) > 50


@every_shape
def test_every_name_means_one_thing_in_the_whole_schema(shape):
    for _, one in every_kind(shape):
        names = [table.name for table in one.schema.tables]
        names += [c.name for table in one.schema.tables for c in table.columns if c.name != "id"]
        names += [one.partner] if one.partner else []
        assert len(set(names)) == len(names)
        one.schema.check()


@every_shape
def test_tables_have_as_many_columns_as_the_config_says(shape):
    found = Counter()
    for one in drawn(shape, min_columns=3, max_columns=6):
        keys = len(one.links) + (one.partner is not None)
        own = len(one.schema.tables[0].columns) - keys
        # A column called like the role of a self-reference gives way.
        assert 3 - (one.partner is not None) <= own <= 6
        found[own] += 1
        for other in one.schema.tables[1:]:
            assert len(other.columns) - 1 <= OTHER_COLUMNS
    assert min(found[n] for n in range(3, 7)) > 400 / 4 * 0.6
    assert {len(one.schema.tables[0].columns) for one in drawn("one", min_columns=1, max_columns=1)} == {1}


@every_shape
def test_random_names_are_new_and_never_held_out(shape):
    known = {*FULL.tables, *FULL.columns}
    keys = {"id"}
    for one in drawn(shape, random_names=1.0):
        names = [one.schema.tables[0].name] if shape != "itself" else []
        names += [
            c.name for c in one.schema.tables[0].columns if c.name not in keys and not c.name.endswith("_id")
        ]
        assert not FULL.unseen_names & set(names)
        assert all(name.count("_") == 1 for name in names)
    fresh = {t.name for one in drawn(shape, random_names=1.0) for t in one.schema.tables} - known
    assert len(fresh) > 300


@pytest.mark.parametrize("lexicon", LEXICONS)
def test_no_random_table_is_named_like_a_random_column(lexicon):
    words = LEXICONS[lexicon]
    assert not set(words.last_table_pieces) & {last for last, _ in words.last_column_pieces}
    # Two parents never give one key.
    singulars = {words.singular(f"x_{last}") for last in words.last_table_pieces}
    assert len(singulars) == len(words.last_table_pieces)


def test_random_names_make_up_their_share_of_training_rows_only():
    def share(**values):
        some = drawn("one", 1000, **values)
        return sum(all("_" in c.name for c in (one.schema.tables[0].columns)) for one in some) / 1000

    assert 0.25 < share(random_names=0.3) < 0.37
    assert share() < 0.03
    assert share(random_names=0.9, split="test") < 0.03


def test_two_piece_names_have_their_share_and_every_name_and_type_occurs():
    columns = [c for one in drawn("one", 3000) for c in one.schema.tables[0].columns]
    compound = sum("_" in c.name for c in columns) / len(columns)
    assert abs(compound - FULL.compound_share) < 0.02
    assert {c.name for c in columns} == set(FULL.columns)
    assert {c.type for c in columns} == {kind for some in FULL.types.values() for kind in some}
    tables = [one.main for one in drawn("one", 3000)]
    assert abs(sum("_" in name for name in tables) / 3000 - FULL.compound_share) < 0.03
    assert len(set(tables)) > 0.95 * len(FULL.tables)


@pytest.mark.parametrize("shape", ["two", "three"])
def test_declared_keys_say_what_the_links_say_with_parents_first(shape):
    for one in drawn(shape, 100):
        declared = with_constraints(one)
        assert (declared.main, declared.links, declared.partner) == (one.main, one.links, one.partner)
        assert declared.schema.tables[-1].name == one.main
        told = [
            (t.name, c.name, c.references) for t in declared.schema.tables for c in t.columns if c.references
        ]
        assert sorted(told) == sorted((link.child, link.key, link.parent) for link in one.links)
        primary = [(t.name, c.name) for t in declared.schema.tables for c in t.columns if c.primary]
        assert sorted(primary) == sorted((link.parent, "id") for link in one.links)
        bare = {t.name: tuple((c.name, c.type) for c in t.columns) for t in declared.schema.tables}
        assert bare == {t.name: tuple((c.name, c.type) for c in t.columns) for t in one.schema.tables}


def test_where_names_are_known_the_columns_that_may_be_asked_about_are_all_but_the_keys():
    for shape in SHAPES:
        for one in drawn(shape):
            keys = {"id", *[link.key for link in one.links]}
            for table, asked in one.asked.items():
                names = [c.name for c in one.schema.table(table).columns if c.name not in keys]
                assert sorted(at.name for at in asked) == sorted(names)


def test_picks_samples_and_ranges_are_uniform_and_in_bounds():
    counts, pairs, ranged = Counter(), Counter(), Counter()
    for rng in draws(stable_hash("uniform"), range(6000)):
        counts[pick(rng, ("a", "b", "c"))] += 1
        one, other = sample(rng, ["a", "b", "c"], 2)
        assert one != other
        pairs[one, other] += 1
        ranged[between(rng, -1, 1)] += 1
    for found, size in ((counts, 3), (pairs, 6), (ranged, 3)):
        assert len(found) == size
        assert all(abs(count - 6000 / size) < 5 * (6000 / size) ** 0.5 for count in found.values())
    assert set(ranged) == {-1, 0, 1}


def test_a_sample_of_all_is_an_arrangement_of_all():
    items = tuple("abcdef")
    seen = set()
    for rng in draws(7, range(200)):
        some = sample(rng, items, 6)
        assert sorted(some) == sorted(items)
        seen.add(tuple(some))
    assert items == tuple("abcdef")
    assert len(seen) > 150
    assert isinstance(drawn("one")[0].schema, Schema)


def test_invented_names_are_in_no_lexicon_and_never_the_same_twice():
    config = DataConfig(command_sets=("cs1",), invented_names=1.0)
    schemas = [make_example(config, index).query.schema for index in range(200)]
    names = [
        name for schema in schemas for t in schema.tables for name in (t.name, *[c.name for c in t.columns])
    ]
    pieces = {piece for name in names for piece in name.split("_")}
    known = {
        piece
        for words in LEXICONS.values()
        for name in (*words.tables, *words.columns, *words.held_out_tables, *words.held_out_columns)
        for piece in name.split("_")
    }
    assert not pieces & known
    assert len(set(names)) > 0.99 * len(names)


@pytest.mark.parametrize(("random", "invented"), [(0.3, 0.0), (0.0, 0.3), (0.3, 0.3)])
def test_new_names_have_the_share_that_was_asked_for(random, invented):
    config = DataConfig(command_sets=("cs1",), random_names=random, invented_names=invented)
    words = LEXICONS["full"]
    pieces = set(words.first_pieces)
    tables = [make_example(config, index).query.schema.tables[0].name for index in range(1000)]
    own = sum(name in words.tables for name in tables)
    made_up = sum(not {piece for name in [table] for piece in name.split("_")} & pieces for table in tables)
    # Five deviations of a share of 1,000 rows are at most 0.08.
    assert own / 1000 == pytest.approx(1 - random - invented, abs=0.08)
    assert made_up / 1000 >= invented - 0.08


def test_new_names_are_for_training_alone():
    config = DataConfig(command_sets=("cs1",), invented_names=1.0, split="test")
    assert {make_example(config, i).query.schema.tables[0].name for i in range(50)} <= set(
        LEXICONS["full"].tables
    )
