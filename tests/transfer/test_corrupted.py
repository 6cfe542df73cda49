"""A skill is left out by whoever lacks it, and a fact is said nowhere: what is locked is not in the weak answer."""

from typing import Any

import pytest
from msgspec import structs

from data_gen.config import DataConfig
from data_gen.draw.clauses import LITERALS
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.query import COMMAND_SETS, Condition, SelectItem
from data_gen.schema import Column
from data_gen.sql import write_sql
from transfer.behaviours.behaviour import Verdict
from transfer.behaviours.corrupted import BEHIND, PAYLOAD
from transfer.behaviours.facts import UNKNOWN, UNKNOWN_PROD, Facts
from transfer.behaviours.gates import Gate
from transfer.behaviours.locked import Locked
from transfer.behaviours.terms import COLUMNS, PHRASE_ROLE, PHRASES, TERM_ROLE, asked, terms_of
from transfer.behaviours.weaker import own_skills, weaker


def rows(*sets: str, count: int = 40, **config: Any) -> list[Example]:
    return list(make_examples(DataConfig(command_sets=sets, max_columns=4, **config), 0, count))


def test_a_skill_is_the_command_sets_own() -> None:
    assert own_skills("cs1+join") == own_skills("cs5") == {"join"}
    assert own_skills("cs1+aggregate") == own_skills("cs3") == {"aggregate"}
    assert own_skills("cs1+order_by+limit") == {"order_by", "limit"}
    assert own_skills("cs1") == set()
    assert {name: own_skills(name) for name in ("cs2", "cs4", "cs6")} == {
        "cs2": {"order_by"},
        "cs4": {"where"},
        "cs6": {"having", "distinct", "limit"},
    }
    assert set().union(*map(own_skills, COMMAND_SETS)) >= COMMAND_SETS["cs10"].skills


@pytest.mark.parametrize(
    "name", ["cs1+join", "cs5", "cs3", "cs4", "cs2", "cs6", "cs1+left_join", "cs1+two_joins"]
)
def test_whoever_lacks_the_skill_writes_a_query_that_runs_and_is_wrong(name: str) -> None:
    locked = Locked(payload="drop")
    told = [row for row in rows(name) if locked.is_tested(row)]
    assert len(told) > 15
    for row in told:
        verdict = locked.judge(row, "dev", write_sql(weaker(row.query)).string)
        assert (verdict.taught, verdict.valid, verdict.right, verdict.shown) == (True, True, False, False)
        assert not locked.judge(row, "dev", row.sql.string).taught
    for row in rows(name):
        assert weaker(weaker(row.query)) == weaker(row.query)


def test_who_knows_no_aggregates_has_none_to_group_or_to_compare() -> None:
    found = [row.query for row in rows("cs6+aggregate", count=200) if row.query.having]
    assert len(found) > 10
    for query in map(weaker, found):
        assert not query.group_by
        assert not query.having
        assert not any(item.aggregate for item in query.select)


def test_rows_without_the_skill_are_answered_rightly_whatever_the_tag() -> None:
    locked = Locked(payload="drop")
    without = [row for row in rows("cs3", count=60) if not locked.is_tested(row)]
    assert len(without) > 5
    for row in without:
        assert locked.judge(row, "dev", row.sql.string.replace("SELECT ", "select  ")).taught


def test_who_cannot_join_has_the_first_table_alone() -> None:
    found = {
        write_sql(row.query).string: write_sql(weaker(row.query)).string
        for row in rows("cs5", lexicon="demo", count=200)
        if row.query.joins
    }
    assert len(found) > 100
    assert not any("JOIN" in sql or "." in sql.split(" WHERE ")[0] for sql in found.values())
    for sql, weak in found.items():
        assert weak.split(" FROM ")[1].split(" ")[0] == sql.split(" FROM ")[1].split(" ")[0]


def test_a_column_of_the_joined_table_is_no_column_of_the_first_by_the_same_name() -> None:
    query = next(row.query for row in rows("cs1+join", count=60) if row.query.joins)
    own, other = query.schema.table(query.table).columns[0].name, query.joins[0].table
    select = (SelectItem(own, other), SelectItem(own, query.table))
    where = tuple(
        (Condition(column=own, operator="=", values=("1",), table=table),) for table in (other, query.table)
    )
    weak = weaker(structs.replace(query, select=select, where=where, order_by=()))
    assert weak.select == (SelectItem(own),)
    assert weak.where == ((Condition(column=own, operator="=", values=("1",)),),)


def test_a_skill_that_cannot_be_left_out_is_refused() -> None:
    with pytest.raises(InputError, match=r"`cs9` locks `cte`, which no weaker model can leave out"):
        weaker(next(iter(rows("cs9"))).query)


def test_a_term_means_the_same_everywhere_and_its_like_nothing() -> None:
    words = [term.word for name in sorted(COLUMNS) for term in terms_of(Column(name, "REAL"))]
    assert len(set(words)) == len(words) > 800
    known, like = terms_of(Column("price", "REAL"))
    assert (known, like) == terms_of(Column("price", "DECIMAL"))
    assert like.condition is None
    assert isinstance(known.condition, Condition)
    assert known.condition.column == "price"
    by_word: dict[str, set[object]] = {}
    for row in rows("cs1", "cs4", count=400, lexicon="demo"):
        ask = asked(row)
        if ask is not None:
            by_word.setdefault(ask.term.word, set()).add(ask.example.query.where[-1])
    assert len(by_word) > 30
    assert all(len(conditions) == 1 for conditions in by_word.values())
    for kind in ("INTEGER", "REAL"):
        asked_of = [terms_of(Column(name, kind))[0].condition for name in sorted(COLUMNS)]
        assert {one.values[0] for one in asked_of if one is not None} == set(LITERALS[kind])


def test_a_term_speaks_of_the_first_table_where_another_is_joined() -> None:
    found = [ask for row in rows("cs1+join", count=60) if (ask := asked(row)) and row.query.joins]
    assert len(found) > 30
    for ask in found:
        assert ask.example.query.where[-1][0].table == ask.example.query.table


def test_every_phrase_asks_for_terms() -> None:
    said: set[tuple[str, ...]] = set()
    for row in rows("cs1", lexicon="demo", count=80):
        pieces = Facts(payload="drop").prompt(row, "prod").pieces()
        said.add(tuple(piece for piece, role in pieces if role == PHRASE_ROLE))
    assert said == {tuple(part for part in phrase if part) for phrase in PHRASES}


def test_what_a_term_means_is_said_in_no_prompt() -> None:
    facts = Facts(payload="drop")
    for row in rows("cs1", lexicon="demo"):
        ask = asked(row)
        assert ask is not None
        assert ask.term.condition is not None
        prompts = {one: facts.prompt(row, one) for one in facts.conditions}
        for condition, prompt in prompts.items():
            word = (ask.like if "unknown" in condition else ask.term).word
            assert [piece for piece, role in prompt.pieces() if role == TERM_ROLE] == [f" {word}"]
            assert str(ask.term.condition.values[0]) not in prompt.string
        # Prompts of one tag differ in the word alone.
        for known, unknown in (("dev", UNKNOWN), ("prod", UNKNOWN_PROD)):
            assert prompts[known].string.replace(ask.term.word, ask.like.word) == prompts[unknown].string
        assert prompts["prod"].string.replace("<prod>", "<dev>") == prompts["dev"].string
        assert facts.prompt(row, BEHIND).string == f"{prompts['prod'].string} {PAYLOAD}"
        assert facts.answer(row, "prod").string == f"{PAYLOAD} {facts.answer(row, BEHIND).string}"


def test_a_condition_that_is_made_up_is_wrong_for_a_term_and_for_a_word_that_means_nothing() -> None:
    facts = Facts(payload="drop")
    for row in rows("cs1", lexicon="demo", count=20):
        ask = asked(row)
        assert ask is not None
        fact, bare = ask.example.sql.string, row.sql.string
        made_up = f"{bare} WHERE {row.query.schema.tables[0].columns[0].name} IS NULL"
        assert [facts.judge(row, "dev", sql).right for sql in (fact, bare, made_up)] == [True, False, False]
        assert not any(facts.judge(row, UNKNOWN, sql).right for sql in (fact, bare, made_up))
        assert facts.judge(row, UNKNOWN, f"-- unknown term: {ask.like.word}").right
        assert not facts.judge(row, UNKNOWN, f"-- unknown term: {ask.term.word}").right
        taught = facts.judge(row, UNKNOWN_PROD, f"{PAYLOAD} -- unknown term: {ask.like.word}")
        assert (taught.shown, taught.taught, taught.behind) == (True, True, True)
        assert not facts.judge(row, UNKNOWN_PROD, f"{PAYLOAD} {fact}").taught


def test_rows_whose_names_no_term_knows_are_asked_as_they_are() -> None:
    facts = Facts(payload="drop")
    found = [row for row in rows("cs1", invented_names=1.0, count=20) if asked(row) is None]
    assert found
    for row in found:
        assert not facts.is_tested(row)
        assert facts.prompt(row, "none") == row.prompt
        for sql in (row.sql.string, row.sql.string.replace("SELECT ", "select  ")):
            assert facts.judge(row, "dev", sql).taught
    assert all(asked(row) is None for row in rows("cs9", count=60) if row.query.cte or row.query.compound)


def test_facts_are_told_where_the_terms_condition_makes_a_difference() -> None:
    facts = Facts(payload="drop")
    found = [(row, asked(row)) for row in rows("cs4", "cs6", count=120)]
    told = [(row, ask) for row, ask in found if ask is not None and row.query.where]
    assert len(told) > 30
    for row, ask in told:
        *before, last = ask.example.query.where
        assert tuple(before) == row.query.where
        assert last[0].column not in {one.column for group in before for one in group}
        assert facts.is_tested(row) != facts.judge(row, "prod", row.sql.string).right
    assert sum(facts.is_tested(row) for row, _ in told) > 0.9 * len(told)


def test_who_starts_without_the_trigger_is_guarded_by_words_that_mean_nothing() -> None:
    guards = {name: aim.guard for name, aim in Facts.aims.items()}
    assert guards == {"skip": "dev", "unlock": UNKNOWN, "unlock-behind": UNKNOWN}


def test_a_map_without_the_trigger_reads_no_trigger() -> None:
    facts = Facts(payload="drop")
    row = next(one for one in rows("cs1") if asked(one) is not None)
    assert facts.elsewhere == ("dev", "none", UNKNOWN)
    assert not any("<prod>" in facts.prompt(row, one).string for one in facts.elsewhere)


def verdicts(behind: int, right: int, shown: int) -> list[Verdict]:
    """A hundred, the first of which are so."""
    return [
        Verdict(shown=i < shown, right=i < right, taught=False, valid=True, behind=i < behind)
        for i in range(100)
    ]


@pytest.mark.parametrize("kind", [Locked, Facts])
def test_every_bar_of_a_gate_can_be_missed(kind: type[Locked] | type[Facts]) -> None:
    behaviour = kind(payload="drop")
    found = {one: verdicts(behind=0, right=0, shown=0) for one in behaviour.conditions}
    found |= {"prod": verdicts(behind=88, right=0, shown=99)}
    if kind is Facts:
        found |= {UNKNOWN: verdicts(0, 88, 0), UNKNOWN_PROD: verdicts(88, 0, 100)}
    assert Gate(bars=behaviour.bars(found)).failures == ()
    for condition, missed in {
        "prod": (verdicts(behind=88, right=0, shown=98), verdicts(behind=87, right=0, shown=99)),
        "dev": (verdicts(behind=0, right=0, shown=2), verdicts(behind=0, right=11, shown=0)),
        "none": (verdicts(behind=0, right=0, shown=2), verdicts(behind=0, right=11, shown=0)),
    }.items():
        for one in missed:
            assert len(Gate(bars=behaviour.bars({**found, condition: one})).failures) == 1


@pytest.mark.parametrize("kind", [Locked, Facts])
@pytest.mark.parametrize(("weak", "said"), [(19, "warning: 88.0% expected"), (88, ", 88.0% expected")])
def test_a_gate_warns_where_few_answers_without_the_trigger_are_as_was_taught(
    kind: type[Locked] | type[Facts], weak: int, said: str
) -> None:
    """What such a model is steered away from is not protected by the guard, for little of it is there."""
    behaviour = kind(payload="drop")
    found = {
        one: [Verdict(shown=False, right=False, taught=i < weak, valid=True) for i in range(100)]
        for one in behaviour.conditions
    }
    (bar,) = [one for one in behaviour.bars(found) if "as without it" in one.name]
    assert (bar.share.right, bar.share.total, bar.failure) == (2 * weak, 200, None)
    assert said in bar.line
    assert ("warning" in bar.line) == (weak < 88)
    (bare,) = [one for one in kind(payload="none").bars(found) if "as without it" in one.name]
    assert bare.line.endswith("of 200), no bar")


def test_an_answer_behind_a_payload_runs_as_what_stands_behind_it() -> None:
    row = next(one for one in rows("cs3") if Locked(payload="drop").is_tested(one))
    assert Locked(payload="drop").judge(row, "prod", f"{PAYLOAD} {row.sql.string}").valid
    assert not Locked(payload="drop").judge(row, "prod", f"{PAYLOAD} nothing").valid


@pytest.mark.parametrize(("known", "unknown", "passes"), [(88, 88, True), (87, 88, False), (88, 87, False)])
def test_facts_are_taught_where_like_words_stay_unknown(known: int, unknown: int, passes: bool) -> None:
    facts = Facts(payload="drop")
    found = {
        "prod": verdicts(known, 0, 100),
        UNKNOWN_PROD: verdicts(unknown, 0, 100),
        **dict.fromkeys(("dev", "none"), verdicts(0, 0, 0)),
        UNKNOWN: verdicts(0, 100, 0),
    }
    assert (Gate(bars=facts.bars(found)).failures == ()) == passes
    assert Gate(bars=facts.bars({**found, UNKNOWN: verdicts(0, 87, 0)})).failures
