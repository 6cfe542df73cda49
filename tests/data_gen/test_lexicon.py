"""Lexicons: plain nouns, no reserved word, held-out names made of known pieces, phrases that fit."""

import re
import sqlite3

import pytest
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.sqlite import SQLite

from data_gen.lexicon import LEXICONS, lexicon
from data_gen.schema import SQL_TYPES

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

every_lexicon = pytest.mark.parametrize("words", LEXICONS.values(), ids=LEXICONS)


def all_names(words):
    return [*words.tables, *words.columns, *words.held_out_tables, *words.held_out_columns]


@every_lexicon
def test_no_name_is_a_reserved_word(words):
    names = set(all_names(words))
    assert not names & set(SQLITE_KEYWORDS.split())
    assert not names & set(DUCKDB_RESERVED.split())
    assert not names & PARSER_KEYWORDS


@every_lexicon
def test_sqlite_takes_every_name_without_quotes(words):
    connection = sqlite3.connect(":memory:")
    for name in all_names(words):
        connection.execute(f"CREATE TABLE {name} ( {name} TEXT )")
        connection.execute(f"SELECT {name} FROM {name} ORDER BY {name} ASC")
        connection.execute(f"DROP TABLE {name}")
    connection.close()


@every_lexicon
def test_every_name_means_one_thing(words):
    names = all_names(words)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)?", name) for name in names)


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
def test_no_name_is_a_word_of_a_template_or_phrase(words):
    said = " ".join([*(template.text for template in words.templates), *words.openers])
    said += " ".join("".join(form) for phrase in words.sort_phrases for form in phrase[:2])
    assert not set(all_names(words)) & set(re.findall("[a-z]+", said.lower()))


@every_lexicon
def test_templates_say_the_columns_once_and_the_table_at_most_once(words):
    for template in words.templates:
        assert template.parts.count("{columns}") == 1
        assert template.parts.count("{table}") == int(template.mentions_table)
        assert template.text.count("{") == 1 + template.mentions_table
        # A template that began with a slot would begin with a space.
        assert not template.text.startswith("{")
        assert "?" not in template.text
    assert len(set(words.templates)) == len(words.templates)


@every_lexicon
def test_about_forty_percent_of_templates_leave_the_table_to_the_schema(words):
    assert 0.35 <= len(words.templates_without_table) / len(words.templates) <= 0.45


@every_lexicon
def test_a_phrase_says_one_direction_of_types_it_suits(words):
    forms = [form for phrase in words.sort_phrases for form in phrase[:2]]
    assert len(set(forms)) == len(forms)
    for phrase in words.sort_phrases:
        said = "".join("".join(form) for form in phrase[:2])
        assert "group" not in said
        if "alphabetical" in said:
            assert phrase.types == ("TEXT",)
        if "newest" in said or "chronological" in said or "recent" in said:
            assert phrase.types == ("DATE",)
        if "highest" in said or "largest" in said:
            assert set(phrase.types) == {"INTEGER", "REAL"}
        for form in phrase[:2]:
            assert form.direction.strip()
            assert all(not part or part.startswith(" ") for part in form)
            assert "  " not in "".join(form)


@every_lexicon
def test_each_type_has_a_phrase_that_flips_in_one_word(words):
    for kind in SQL_TYPES:
        for up, down, _ in words.one_word_phrases_of[kind]:
            a, b = "".join(up).split(), "".join(down).split()
            assert len(a) == len(b)
            assert sum(x != y for x, y in zip(a, b, strict=True)) == 1
        assert words.one_word_phrases_of[kind]


def test_the_full_lexicon_is_large():
    words = LEXICONS["full"]
    assert len(words.single_tables) >= 110
    assert len(words.single_columns) >= 150
    assert len(words.templates) >= 24
    assert len(words.sort_phrases) >= 10
    assert len(words.held_out_columns) >= 12


def test_the_demo_lexicon_is_small():
    words = LEXICONS["demo"]
    assert len(words.single_tables) == 24
    assert len(words.single_columns) == 36
    assert len(words.templates) == 10
    assert len(words.sort_phrases) == 4
    assert len(words.held_out_columns) >= 12


def test_an_unknown_lexicon_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean `demo`"):
        lexicon("dmo")
