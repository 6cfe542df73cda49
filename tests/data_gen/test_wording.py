"""Phrases: each clause can be said, in words that suit the kind of column and mean one thing."""

import re

import pytest

from data_gen.draw.nesting import CTE_NAMES
from data_gen.vocabulary import wording
from data_gen.vocabulary.lexicon import LEXICONS
from data_gen.vocabulary.phrases import ALL_KINDS, DirectionPhrase, Pattern, SortPhrase, by_kind

full = LEXICONS["full"].wording
every_wording = pytest.mark.parametrize("said", [words.wording for words in LEXICONS.values()], ids=LEXICONS)
every_kind = pytest.mark.parametrize("kind", ALL_KINDS)

SECTIONS = {
    f"{name}.{part}" if part else name: text.strip().splitlines()
    for name, value in vars(wording).items()
    if name.isupper()
    for part, text in (value.items() if isinstance(value, dict) else [("", value)])
}
"""Section, and key where it has several -> its lines."""
SLOTS = {
    "TEMPLATES": {"columns"},
    "NAT_TEMPLATES": {"columns", "table"},
    "DEMO_TEMPLATES": {"columns"},
    "AGGREGATES": {"column"},
    "GROUP_BY": {"columns"},
    "NAT_GROUP_BY": {"columns"},
    "JOIN": {"table", "left", "right"},
    "NAT_JOIN": {"table", "left", "right"},
    "LEFT_JOIN": {"table", "left", "right"},
    "NAT_LEFT_JOIN": {"table", "left", "right"},
    "OPERATORS": {"value"},
    "OPERATORS.IN": {"values"},
    "OPERATORS.NOT IN": {"values"},
    "OPERATORS.BETWEEN": {"low", "high"},
    "OPERATORS.NOT BETWEEN": {"low", "high"},
    **dict.fromkeys(("OPERATORS.IS NULL", "OPERATORS.IS NOT NULL"), frozenset()),
    "HAVING": {"aggregate", "condition"},
    "LIMIT": {"n"},
    "SCALAR": {"aggregate", "table"},
    "IN_SUBQUERY": {"column", "table"},
    "NOT_IN_SUBQUERY": {"column", "table"},
    "EXISTS": {"table", "left", "right"},
    "NOT_EXISTS": {"table", "left", "right"},
    "CTE": {"name", "columns", "table"},
    "SET_OPERATIONS": {"columns", "table"},
    "WINDOWS.SUM": {"column"},
    "PARTITION_BY": {"columns"},
}
"""Section -> the slots that each of its lines has once."""


LINES = [(section, line.strip()) for section, some in SECTIONS.items() for line in some]
every_section = pytest.mark.parametrize("section", SECTIONS)


def unmarked(line):
    """A line without the kinds before it."""
    kinds, colon, rest = line.partition(": ")
    return rest if colon and set(kinds.split(",")) <= set(ALL_KINDS) else line


def forms(phrases):
    return [form for phrase in phrases for form in phrase]


def spoken(form):
    return " ".join("".join(form).split())


@every_section
def test_a_line_has_exactly_the_slots_of_its_section(section):
    expected = SLOTS.get(section, SLOTS.get(section.split(".")[0], set()))
    for line in map(str.strip, SECTIONS[section]):
        found = re.findall(r"\{(\w+)\}", line)
        if section in ("TEMPLATES", "DEMO_TEMPLATES"):
            found = [slot for slot in found if slot != "table"]
        assert sorted(found) == sorted(expected), line
        # A slot is a word: only white space or a comma or the end stands beside it.
        assert not re.search(r"[^ ]\{\w+\}|\}[^ ,|]", line), line


@every_section
def test_a_line_is_plain_words_with_single_spaces(section):
    for line in map(str.strip, SECTIONS[section]):
        assert re.fullmatch(r"[a-zAZ {}\[\]|,;:]+", line), line
        assert "  " not in line


def test_no_line_stands_twice_in_a_section():
    for some in SECTIONS.values():
        assert len({unmarked(line.strip()) for line in some}) == len(some)


def test_no_line_does_for_two_sections_that_mean_different_things():
    meaning = {}
    for section, line in LINES:
        # How a subset of one wording says it, or another wording of one thing, is no other thing.
        meant = section.removeprefix("NAT_").removeprefix("DEMO_").removeprefix("INNER_")
        meaning.setdefault(unmarked(line), set()).add(meant)
    assert {line: meant for line, meant in meaning.items() if len(meant) > 1} == {}


def test_the_sections_are_at_least_as_large_as_the_published_lists():
    assert len(full.templates) >= 56
    assert len({form for phrases in full.sort_phrases.values() for form in forms(phrases)}) >= 72
    aggregates = {
        (name, pattern)
        for name, kinds in full.aggregates.items()
        for some in kinds.values()
        for pattern in some
    }
    assert len(aggregates) >= 90
    assert [len({p for n, p in aggregates if n == name}) >= 14 for name in full.aggregates] == [True] * 5
    assert len(full.nat_templates) >= 40


@every_wording
def test_templates_say_the_columns_once_and_the_table_at_most_once(said):
    for template in (*said.templates, *said.nat_templates):
        assert template.parts.count("{columns}") == 1
        assert template.parts.count("{table}") == int(template.mentions_table)
        # A template that began with a slot would begin with a space.
        assert not template.text.startswith("{")


@every_wording
def test_about_forty_percent_of_templates_leave_the_table_to_the_schema(said):
    without = [template for template in said.templates if not template.mentions_table]
    assert 0.35 <= len(without) / len(said.templates) <= 0.45
    assert all(template.mentions_table for template in said.nat_templates)


@pytest.mark.parametrize("section", ["TEMPLATES", "NAT_TEMPLATES", "DEMO_TEMPLATES"])
def test_an_instruction_suits_one_column_as_well_as_several(section):
    line = "\n".join(SECTIONS[section])
    assert not re.search(r"\b(are|is|were|was|these|those|both) (the )?\{columns\}", line)
    assert not re.search(r"\{columns\} (are|is|were|was|have|has)\b", line)


KIND_WORDS = {
    "text": r"alphabet|alphabetical|dictionary|[AZ]|letters?|spelled|reads?",
    "date": r"newest|oldest|recent|chronological(ly)?|earliest|latest|earlier|later|before|after|time|dates?|old|new",
    "number": r"lowest|highest|smallest|largest|low|high|small|large|biggest|tiniest|more|less|higher|lower"
    r"|greater|smaller|larger|increasing|decreasing|rising|falling|amounts?|exceeds?|minimal",
}
"""Kind -> words that are said of it alone."""
OF_ALL = {"before the other letters": "", "before the others": "", "total amount": "total"}
"""Where such a word means something else."""


def suits(text, kind):
    for phrase, other in OF_ALL.items():
        text = text.replace(phrase, other)
    text = re.sub(r"\{\w+\}", "", text)
    own = re.search(rf"\b({KIND_WORDS.get(kind, '-')})\b", text)
    foreign = [k for k, known in KIND_WORDS.items() if k != kind and re.search(rf"\b({known})\b", text)]
    return own or not foreign


@every_wording
@every_kind
def test_a_sort_phrase_suits_its_kind(said, kind):
    for form in forms(said.sort_phrases[kind]):
        assert suits(spoken(form), kind), spoken(form)
        assert not re.search("group|categor|classif", spoken(form))


@every_kind
def test_aggregates_and_operators_suit_their_kind(kind):
    for name in ("MIN", "MAX", "COUNT", *(["SUM", "AVG"] if kind == "number" else [])):
        for pattern in full.aggregates[name][kind]:
            assert suits(pattern.text, kind), pattern.text
            assert not re.search("median|middle|typical|distinct|different|unique", pattern.text)
    for name, kinds in full.operators.items():
        if kind in ASKED[name]:
            for pattern in kinds[kind]:
                assert suits(pattern.text, kind), (name, pattern.text)


UP = r"ascending|increasing|rising|up|upward|lowest|low|small|oldest|old|forward|forwards|least|A"
DOWN = r"descending|decreasing|falling|down|downward|highest|high|large|newest|new|backward|backwards|reverse|most|Z"


@every_wording
def test_a_sort_phrase_says_one_direction_and_its_other_form_the_other(said):
    for phrase in {phrase for some in said.sort_phrases.values() for phrase in some}:
        for form, wanted, other in ((phrase.ascending, UP, DOWN), (phrase.descending, DOWN, UP)):
            # Of "from A to Z" and "least recent" the first word decides; "alphabetically" alone goes up.
            first = re.search(rf"\b({UP}|{DOWN})\b", form.direction)
            bare = form.direction.strip() in ("alphabetical", "alphabetically", "chronological", "dictionary")
            assert bare if first is None else re.fullmatch(wanted, first[0])
            assert bare or not re.fullmatch(other, first[0])
            assert form.direction.startswith(" ")
            assert all(not part or part.startswith(" ") for part in form)
        # Only the direction differs.
        assert phrase.ascending._replace(direction="") == phrase.descending._replace(direction="")
        assert phrase.ascending.direction != phrase.descending.direction


@every_wording
def test_no_form_says_two_directions(said):
    ups, downs = (
        {spoken(phrase[way]) for some in said.sort_phrases.values() for phrase in some} for way in (0, 1)
    )
    assert not ups & downs


def flips_one_word(phrase):
    up, down = spoken(phrase.ascending).split(), spoken(phrase.descending).split()
    return len(up) == len(down) and sum(a != b for a, b in zip(up, down, strict=True)) == 1


@every_kind
def test_each_kind_has_many_phrases_that_flip_in_one_word(kind):
    assert sum(map(flips_one_word, full.sort_phrases[kind])) >= 5
    assert any(map(flips_one_word, LEXICONS["demo"].wording.sort_phrases[kind]))


def test_no_aggregate_phrase_doubles_as_a_sort_phrase_or_another_aggregate():
    sorts = {spoken(form) for some in full.sort_phrases.values() for form in forms(some)}
    directions = {form.direction.strip() for some in full.sort_phrases.values() for form in forms(some)}
    meaning = {}
    for name, kinds in full.aggregates.items():
        for pattern in {pattern for some in kinds.values() for pattern in some}:
            around = " ".join(pattern.text.replace("{column}", "").split())
            assert around not in sorts | directions
            meaning.setdefault(pattern.text, set()).add(name)
    assert all(len(names) == 1 for names in meaning.values())


@every_kind
def test_an_aggregate_holds_its_column_apart_from_what_follows_in_a_list(kind):
    for name, kinds in full.aggregates.items():
        for pattern in kinds[kind]:
            # "sum of price, fee" would add up both.
            assert not re.search(
                r"\b(of|over|by|with|together|any|some|missing|have) \{column\}$", pattern.text
            )
            # "rows with price filled in in which" stumbles, and "rows with price known joined with" joins prices.
            assert name != "COUNT" or re.search(r"\{column\} (data|on record)$", pattern.text)


@every_kind
def test_a_count_of_a_column_counts_rows_and_not_values(kind):
    for pattern in full.aggregates["COUNT"][kind]:
        # "the number of prices" could leave out prices that are the same.
        assert re.fullmatch(r"(number|count|tally) of (rows|records) \D*\{column\}.*", pattern.text), (
            pattern.text
        )
        assert not re.search("value|entr(y|ies)", pattern.text)


def test_a_window_says_what_becomes_of_ties():
    apart = r"\b(no ties|without any ties|no number twice|for each row)$"
    assert all(re.search(apart, pattern.text) for pattern in full.windows["ROW_NUMBER"])
    assert all(re.search(r"\b(ties|tied)\b.*gaps|gaps.*\bties$", p.text) for p in full.windows["RANK"])
    together = r"\b(ties|tied)\b.*\b(together|included|share one (sum|total))$"
    assert all(re.search(together, pattern.text) for pattern in full.windows["SUM"])
    assert all(len(patterns) >= 4 for patterns in full.windows.values())


def test_up_and_down_are_said_of_numbers_alone():
    for kind in ALL_KINDS:
        found = [form for form in forms(full.sort_phrases[kind]) if re.search("up|down", spoken(form))]
        assert bool(found) == (kind == "number")


ORDERED, TEXT = frozenset({"number", "date"}), frozenset({"text"})
ASKED = {
    "=": {"number", "text", "date", "boolean"},
    "<>": {"number", "text", "date"},
    **dict.fromkeys((">", "<", ">=", "<=", "BETWEEN", "NOT BETWEEN"), ORDERED),
    **dict.fromkeys([f"{no}LIKE {shape}" for no in ("", "NOT ") for shape in ("%x%", "x%", "%x")], TEXT),
    **dict.fromkeys(("IN", "NOT IN"), ORDERED | TEXT),
    **dict.fromkeys(("IS NULL", "IS NOT NULL"), frozenset(ALL_KINDS)),
}
"""What a condition may do -> the kinds of column of which it may be asked."""


def test_every_operator_can_be_said_of_every_kind_it_may_be_asked_of():
    assert set(full.operators) == set(ASKED)
    for name, kinds in ASKED.items():
        assert all(len(full.operators[name][kind]) >= 3 for kind in kinds), name


@pytest.mark.parametrize("name", ["=", "<>", ">", "<", ">=", "<="])
def test_a_comparison_can_end_with_its_value_as_a_subquery_needs_it(name):
    assert len([p for p in full.operators[name]["number"] if p.parts[-1] == "{value}"]) >= 3


def test_no_operator_has_an_or_that_a_second_condition_could_belong_to():
    for name, kinds in full.operators.items():
        for pattern in {pattern for some in kinds.values() for pattern in some}:
            # "is 5 or more" can go on, but "is below 2 or above 5 and" could be read in two ways.
            assert len(re.findall(r"\{", pattern.text)) < 2 or " or " not in pattern.text, name


def test_a_null_test_speaks_of_no_text_that_could_stand_in_the_column():
    said = {
        word
        for name in ("IS NULL", "IS NOT NULL")
        for some in full.operators[name].values()
        for pattern in some
        for word in pattern.text.split()
    }
    assert not said & set(LEXICONS["full"].values)


@every_wording
def test_no_name_and_no_value_is_a_word_that_is_said_around_it(said):
    words = set(re.findall("[a-z]+", re.sub(r"\{\w+\}", "", " ".join(line for _, line in LINES)).lower()))
    for lexicon in LEXICONS.values():
        names = [*lexicon.tables, *lexicon.columns, *lexicon.held_out_tables, *lexicon.held_out_columns]
        assert not words & {*names, *lexicon.values, *lexicon.partners.values(), *CTE_NAMES}


def test_what_follows_whose_is_never_a_second_table():
    assert all(
        opener.text.endswith("whose") or "whose" not in opener.text for opener in full.nat_where_openers
    )
    for openers in (full.where_openers, full.nat_where_openers, full.inner_where_openers):
        assert any("whose" not in opener.text for opener in openers)
    # "and whose" continues these.
    for pattern in (*full.exists, *full.not_exists):
        assert re.search(r"whose \{left\}", pattern.text)


def test_a_limit_speaks_of_rows_in_the_plural():
    assert all(line.endswith("{n} rows") for line in SECTIONS["LIMIT"])


def test_a_pattern_keeps_each_space_with_the_word_behind_it():
    pattern = Pattern.parse("is between {low} and {high}, really")
    assert pattern.parts == (" is between", "{low}", " and", "{high}", ", really")
    assert not pattern.mentions_table
    assert Pattern.parse("{column} in total").parts == ("{column}", " in total")
    assert Pattern.parse("; then").parts == ("; then",)


def test_a_sort_phrase_is_read_with_its_brackets():
    phrase = SortPhrase.parse("in [ascending] order | in [reverse dictionary] order")
    assert phrase.ascending == DirectionPhrase(" in", " ascending", " order")
    assert phrase.descending == DirectionPhrase(" in", " reverse dictionary", " order")


def test_a_line_is_for_the_kinds_before_it_or_for_all():
    found = by_kind("number,date: a\nb", str)
    assert found == {"number": ("a", "b"), "text": ("b",), "date": ("a", "b"), "boolean": ("b",)}
