"""Lexicons: plain nouns, no reserved word, nothing that fits two names, held-out names made of known pieces."""

import re
import sqlite3

import pytest
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.sqlite import SQLite

from data_gen.draw.nesting import CTE_NAMES
from data_gen.errors import InputError
from data_gen.say.style import VARIANTS
from data_gen.schema import KINDS, SQL_TYPES
from data_gen.vocabulary.lexicon import HELD_OUT_TEMPLATE, LEXICONS, lexicon

SQLITE_KEYWORDS = """
    abort action add after all alter always analyze and as asc attach autoincrement before begin between by
    cascade case cast check collate column commit conflict constraint create cross current current_date
    current_time current_timestamp database default deferrable deferred delete desc detach distinct do drop
    each else end escape except exclude exclusive exists explain fail filter first following for foreign from
    full generated glob group groups having if ignore immediate in index indexed initially inner insert instead
    intersect into is isnull join key last left like limit match materialized natural no not nothing notnull
    null nulls of offset on or order others outer over partition plan pragma preceding primary query raise
    range recursive references regexp reindex release rename replace restrict returning right rollback row
    rows savepoint select set table temp temporary then ties to transaction trigger unbounded union unique
    update using vacuum values view virtual when where window with without rowid oid true false
"""
DUCKDB_RESERVED = """
    all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
    default deferrable desc describe distinct do else end except false fetch for foreign from group having in
    initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer
    pivot_wider placing primary qualify references returning select show some summarize symmetric table then
    to trailing true union unique unpivot using variadic when where window with anti asof at authorization
    binary by collation concurrently cross freeze full generated glob ilike inner is isnull join left like map
    natural notnull outer overlaps positional right semi similar struct tablesample try_cast unpack
    verbose
"""
PARSER_KEYWORDS = {word.lower() for tokens in (SQLite, DuckDB) for word in tokens.Tokenizer.KEYWORDS}
RESERVED = {*SQLITE_KEYWORDS.split(), *DUCKDB_RESERVED.split(), *PARSER_KEYWORDS}
ONLY_IN_KEYS = {"order", "map"}
"""Reserved singulars: a singular is written as part of a foreign key alone, `order_id`, which is no keyword."""

every_lexicon = pytest.mark.parametrize("words", LEXICONS.values(), ids=LEXICONS)


def all_names(words):
    return [*words.tables, *words.columns, *words.held_out_tables, *words.held_out_columns]


def keys(words):
    return {f"{name}_id" for name in (*map(words.singular, words.tables), *words.partners.values())}


def sayings(words, name):
    return {name, name.replace("_", " "), *words.synonyms.get(name, ())}


@every_lexicon
def test_no_name_is_a_reserved_word(words):
    bare = {*all_names(words), *keys(words), *words.partners.values(), *CTE_NAMES, "id", "row_no", "place"}
    assert not bare & RESERVED
    assert {words.singular(table) for table in words.tables} & RESERVED <= ONLY_IN_KEYS


@every_lexicon
def test_both_engines_take_every_name_without_quotes(words):
    import duckdb

    names = sorted({*all_names(words), *keys(words), *words.partners.values(), *CTE_NAMES})
    columns = ", ".join(f"{name} TEXT" for name in names)
    for connection in (sqlite3.connect(":memory:"), duckdb.connect()):
        connection.execute(f"CREATE TABLE every_name ( {columns} )")
        connection.execute(f"SELECT {', '.join(names)} FROM every_name ORDER BY {', '.join(names[:200])}")
        for name in {*words.tables, *words.held_out_tables, *words.partners.values(), *CTE_NAMES}:
            connection.execute(f"CREATE VIEW {name} AS SELECT 1 AS id")
            connection.execute(f"SELECT {name}.id FROM {name}")
        connection.close()


@every_lexicon
def test_every_name_is_one_or_two_words_and_means_one_thing(words):
    names = [*all_names(words), *keys(words)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)?", name) for name in all_names(words))


@every_lexicon
def test_what_is_said_for_a_name_fits_no_other_name(words):
    meanings = {}
    for name in (*all_names(words), *keys(words), *words.partners.values(), *CTE_NAMES):
        for said in sayings(words, name):
            meanings.setdefault(said, set()).add(name)
    assert [(said, names) for said, names in meanings.items() if len(names) > 1] == []


OTHER_THINGS = {
    "accuracy": ["precision", "precision level"],
    "arrival": ["landing date"],
    "convicted": ["sentencing date"],
    "density": ["mass concentration"],
    "divorced": ["separation date"],
    "handicap": ["golf adjustment", "scoring adjustment"],
    "hardness": ["toughness"],
    "hometown": ["birthplace"],
    "margin": ["markup share", "markup percentage"],
    "pixels": ["image resolution"],
    "routers": ["network switches"],
    "tempo": ["beat"],
    "vegan": ["meat free flag"],
    "visits": ["visitor count"],
}
"""Name -> what was once said for it and is another thing: vegetarian dishes are free of meat, too."""


@every_lexicon
def test_no_synonym_is_one_that_was_found_to_mean_another_thing(words):
    for name, others in OTHER_THINGS.items():
        assert not set(words.synonyms.get(name, ())) & set(others)


@every_lexicon
def test_no_synonym_contains_another_name(words):
    names = {*all_names(words), *words.partners.values(), *CTE_NAMES}
    for name, synonyms in words.synonyms.items():
        for said in synonyms:
            # A two-piece name is said in its own words.
            if said != name.replace("_", " "):
                assert not names & set(said.split())


@every_lexicon
def test_no_aggregate_of_a_column_is_what_another_name_is_called(words):
    known = {said for name in all_names(words) for said in sayings(words, name)}
    for name, of in words.columns.items():
        for said in sayings(words, name):
            for kinds in words.wording.aggregates.values():
                for pattern in kinds[KINDS[of]]:
                    assert pattern.text.format(column=said) not in known


@every_lexicon
def test_texts_that_conditions_compare_with_are_no_names_and_no_words_of_names(words):
    said = {
        part for name in all_names(words) for text in sayings(words, name) for part in re.split("[ _]", text)
    }
    assert not set(words.values) & (said | RESERVED)
    assert len(set(words.values)) == len(words.values) > 100


@every_lexicon
def test_foreign_keys_lead_from_known_tables_to_known_tables(words):
    for child, parents in words.relations.items():
        assert child in words.tables
        assert set(parents) <= set(words.tables) - {child}
        assert len(set(parents)) == len(parents)
    assert set(words.partners) <= set(words.tables)
    held = set(words.held_out_tables)
    assert set(words.held_out_partners) <= held
    assert set(words.held_out_partners.values()) <= set(words.partners.values())
    for child, parents in words.held_out_relations.items():
        assert {child, *parents} <= held
        assert child not in parents
    assert set(words.held_out_relations).union(*words.held_out_relations.values()) == held
    assert words.chains[False]
    assert words.chains[True]
    assert len(set(map(words.singular, words.tables))) == len(words.tables)
    for unseen, relations in ((False, words.relations), (True, words.held_out_relations)):
        for child, *parents in words.chains[unseen]:
            assert set(parents) <= set(relations[child])
            assert parents[0] != parents[1]


@pytest.mark.parametrize(
    ("table", "singular"),
    [
        ("cities_never_heard_of", "cities_never_heard_of"),
        ("companies", "company"),
        ("summer_trips", "summer_trip"),
        # Of a random or held-out compound the last piece decides.
        ("harbor_companies", "harbor_company"),
        ("purple_shelves", "purple_shelves"),
    ],
)
def test_a_foreign_key_is_named_after_one_row(table, singular):
    assert LEXICONS["full"].singular(table) == singular


@every_lexicon
def test_held_out_names_are_made_of_trained_pieces_at_the_same_place(words):
    for trained, held in [(words.tables, words.held_out_tables), (words.columns, words.held_out_columns)]:
        compounds = [name.split("_") for name in trained if "_" in name]
        firsts, lasts = {first for first, _ in compounds}, {last for _, last in compounds}
        assert held
        for name in held:
            first, last = name.split("_")
            assert first in firsts
            assert last in lasts
            assert name not in trained


@every_lexicon
def test_a_held_out_name_has_the_type_of_the_trained_names_that_end_like_it(words):
    for name, kind in words.held_out_columns.items():
        last = name.split("_")[1]
        assert {of for other, of in words.columns.items() if other.endswith(f"_{last}")} == {kind}


@every_lexicon
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_eighth_instruction_is_held_out_and_no_other(words, variant):
    held = words.template_indexes(variant, held_out=True)
    rest = words.template_indexes(variant, held_out=False)
    templates = words.wording.templates_of[variant]
    assert sorted((*held, *rest)) == list(range(len(templates)))
    assert len(held) == len(templates) // HELD_OUT_TEMPLATE >= 1
    # What is held out names the table in some, and leaves it out in others where the variant does.
    named = {templates[index].mentions_table for index in held}
    assert named <= {templates[index].mentions_table for index in rest}


@every_lexicon
def test_every_type_can_be_spelled_and_has_its_columns(words):
    kinds = {spelling for spellings in words.types.values() for spelling in spellings}
    assert kinds <= set(SQL_TYPES)
    assert set(words.columns.values()) == set(words.types)
    for name in words.columns:
        assert {column.name for column in words.column_variants[name]} == {name}


def test_the_full_lexicon_is_at_least_as_large_as_the_published_one():
    words = LEXICONS["full"]
    assert len(words.single_tables) >= 304
    assert len(words.single_columns) >= 308
    for name in (*words.single_tables, *words.single_columns):
        assert len(set(words.synonyms[name])) >= 2
    assert {KINDS[spelling] for some in words.types.values() for spelling in some} == set(KINDS.values())
    assert len(words.held_out_columns) >= 12
    assert len(words.relations) > 100
    assert len(words.partners) > 50


def test_the_demo_lexicon_is_small():
    words = LEXICONS["demo"]
    assert len(words.single_tables) == 24
    assert len(words.single_columns) == 36
    assert len(words.wording.templates) == 10
    assert len({phrase for some in words.wording.sort_phrases.values() for phrase in some}) == 4
    assert len(words.held_out_columns) >= 12


def test_an_unknown_lexicon_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="no lexicon `dmo`; did you mean `demo`"):
        lexicon("dmo")
    assert lexicon("demo") is LEXICONS["demo"]
