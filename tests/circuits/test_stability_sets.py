"""Circuits of one edit in other sets and ways of asking: which are asked for, which count, and what is compared."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.example import make_examples
from tinysql.tokens import Tokenizer

BEFORE = list(sys.path)
sys.path.insert(0, str(Path(__file__).parents[2]))
of_sets, of_tables, stability = (
    importlib.import_module(f"benchmarks.{name}")
    for name in ("stability_sets", "stability_tables", "stability")
)
sys.path[:] = BEFORE  # a benchmark looks for packages in front of it


def circuit(edges: str, edit="schema.table", set="cs1", variant="base", draw=0, clean=1.0, corrupt=-1.0):
    """A kept circuit; an edge is a letter."""
    about = {"edit": edit, "set": set, "variant": variant, "draw": draw}
    return {**about, "clean": clean, "corrupt": corrupt, "edges": list(edges)}


def test_a_set_is_asked_as_its_name_says_and_three_of_them_in_three_ways(monkeypatch) -> None:
    asked = []

    def drawn(tokenizer, data: DataConfig, edit: str, n: int, seed: int) -> tuple:
        [name] = data.command_sets
        asked.append((name, data.variant, data.split, n, seed))
        if name == "cs9":
            raise InputError("no such pairs")
        return name, data.variant

    def scored(model, pairs):
        return SimpleNamespace(
            metadata={"metric_clean": 2.0, "metric_corrupt": -1.0}, per_example=[0] * 3, edges=pairs
        )

    monkeypatch.setattr(of_sets, "draw", drawn)
    monkeypatch.setattr(of_sets.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(of_sets, "workers", lambda tasks: ThreadPoolExecutor(1))
    monkeypatch.setattr(of_sets, "eap_ig", scored)
    monkeypatch.setattr(of_sets, "top_edges", lambda scores, top: SimpleNamespace(edges=scores.edges))
    run = SimpleNamespace(name="run", model=None, tokenizer=None, seed=0, data=DataConfig(split="test"))
    rows = of_sets.circuit_rows(run, "order_by.0.direction", pairs=64, top=30)
    both = [(f"cs{i}", "base") for i in range(2, 11)] + [
        (f"cs{i}", way) for i in (2, 3) for way in ("syn", "nat")
    ]
    assert sorted(asked) == sorted((*one, "test", 64, 300 + draw) for one in both for draw in (0, 1))
    assert [(row["set"], row["variant"], row["draw"]) for row in rows] == [
        (name, way, seed - 300) for name, way, _, _, seed in asked
    ]
    for row in rows:
        if row["set"] == "cs9":
            assert row["refused"] == "no such pairs"
            assert not of_sets.is_told(row)
        else:
            assert row["edges"] == [row["set"], row["variant"]]
            assert of_sets.is_told(row)


def test_a_process_of_its_own_draws_the_pairs_and_says_why_it_cannot() -> None:
    config = DataConfig(command_sets=("cs1",), split="test", lexicon="demo")
    words = [one.prompt.string + one.sql.string for one in make_examples(config, 0, 60)]
    tokenizer = Tokenizer.train(words, vocab_size=400)
    with of_sets.workers(1) as pool:
        pairs = pool.submit(of_sets.draw_alone, tokenizer, config, "schema.table", 2, 300)
        refused = pool.submit(of_sets.draw_alone, tokenizer, config, "order_by.0.column", 2, 300)
        here = of_sets.draw(tokenizer, config, "schema.table", 2, 300)
        assert pairs.result().clean.ids.tolist() == here.clean.ids.tolist()
        with pytest.raises(InputError, match=r"order_by\.0\.column"):
            refused.result()


@pytest.mark.parametrize(("clean", "corrupt"), [(0.0, -1.0), (2.0, 0.5), (-1.0, 1.0)])
def test_a_circuit_counts_where_both_sides_are_answered_rightly(clean: float, corrupt: float) -> None:
    assert not of_sets.is_told(circuit("ab", clean=clean, corrupt=corrupt))
    rows = [circuit("ab"), circuit("ab", draw=1, clean=clean, corrupt=corrupt)]
    assert of_sets.compared(rows) == []
    assert of_sets.between_sets(rows) == {}


def test_two_circuits_are_compared_where_one_thing_differs_and_their_pairs() -> None:
    rows = [
        circuit("abc"),
        circuit("abd", draw=1),
        circuit("abe", set="cs2", draw=1),
        circuit("xyz", variant="nat", draw=1),
        circuit("cde", edit="english.table", draw=1),
        circuit("abc", set="cs2", variant="nat", draw=1),
    ]
    found = {(row["edit"], row["alike"]): row["jaccard"] for row in of_sets.compared(rows)}
    expected = {"other pairs alone": [0.5], "other set": [0.5], "other variant": [0.0]}
    for alike, values in expected.items():
        assert found["schema.table", alike] == found["all", alike] == values
    assert found["all", "other edit"] == [0.2]
    assert len(found) == 7


def test_every_two_sets_have_the_mean_index_of_their_circuits() -> None:
    rows = [
        circuit("ab"),
        circuit("ab", draw=1),
        circuit("ac", set="cs10"),
        circuit("ab", set="cs10", draw=1),
        circuit("xy", set="cs10", variant="syn", draw=1),
        circuit("xy", edit="english.table"),
        circuit("xy", edit="english.table", set="cs10", draw=1),
    ]
    found = of_sets.between_sets(rows)
    # Of each edit the first draw of one with the second of the other: 1 and 1/3, and 1.
    assert found == pytest.approx(
        {("cs1", "cs1"): 1.0, ("cs10", "cs10"): 1 / 3, ("cs1", "cs10"): (1 + 1 / 3 + 1) / 3}
    )
    text = of_tables.tables({"sets": [*rows, circuit("a", set="cs3", clean=-1.0)]})
    alike, matrix, untold = text.split("\n\n")
    assert "| CS1 | 1.00 | 0.78 |" in matrix
    assert "| CS10 |  | 0.33 |" in matrix
    assert untold == "Not counted, 1 of 8 circuits: `schema.table` CS3 base"
    for block in (alike, matrix):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_table_of_sets_is_kept_edit_by_edit(monkeypatch) -> None:
    monkeypatch.setattr(
        stability,
        "circuit_rows",
        lambda subject, edit, pairs, top: [circuit("ab", edit=edit, set=subject.set)],
    )
    rows = stability.table_of("sets", [{"cs1": SimpleNamespace(set="cs1")}], ["schema.table"], None)
    assert rows == [circuit("ab")]
