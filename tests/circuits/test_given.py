"""What a circuit's file says of itself is held against what there is, before anything that computes is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from circuits.circuit import Circuit
from circuits.files.exchange import read_circuit, write_circuit
from circuits.files.given import edit_of
from circuits.graph import Graph
from circuits.methods.names import METRIC_NAMES
from circuits.settings import FindSettings
from data_gen.errors import InputError
from tinysql.cli import main
from tinysql.recipes import find_recipe
from tinysql.runs import record_model, start_run

GRAPH = Graph(pattern="*-", n_heads=1)
FILE = Path("c.json")
SETTINGS = asdict(FindSettings(edit="limit.value"))


def circuit(**about: Any) -> Circuit:
    return Circuit(GRAPH, GRAPH.edges[:2], about)


@pytest.mark.parametrize(
    ("kind", "once", "twice"),
    [
        ("json", '"embed -> blocks.0.attn.k.0"', '"embed -> blocks.0.attn.q.0"'),
        ("graphml", 'target="in:blocks.0.attn.k.0"', 'target="in:blocks.0.attn.q.0"'),
        ("dot", '"in:blocks.0.attn.k.0" [kind', '"in:blocks.0.attn.q.0" [kind'),
    ],
)
def test_an_edge_that_a_file_names_twice_is_refused(tmp_path: Path, kind: str, once: str, twice: str) -> None:
    file = tmp_path / f"c.{kind}"
    write_circuit(circuit(), file)
    assert len(read_circuit(file)) == 2
    text = file.read_text()
    assert once in text
    text = text.replace(once, twice)
    if kind == "graphml":  # where the edge has its own text, beside the ends of its arc
        text = text.replace(">embed -&gt; blocks.0.attn.k.0<", ">embed -&gt; blocks.0.attn.q.0<")
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_circuit(file)
    assert f"{file}: edge `embed -> blocks.0.attn.q.0` stands 2 times, expected each edge once" in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"edit": "limit.valeu"}, "c.json: no edit `limit.valeu`; did you mean `limit.value`"),
        ({"edit": 3}, "c.json says of its circuit that the edit is 3, expected text"),
        (
            {"metric": "logit_dif"},
            "the metric is 'logit_dif', expected one of logit_diff, answer_log_prob, kl; did you",
        ),
        ({"metric": 3}, "c.json says of its circuit that the metric is 3, expected one of logit_diff"),
        (
            {"settings": {**SETTINGS, "method": "eapig"}},
            "c.json: unknown method `eapig`; did you mean `eap-ig`?\nhint: correct `settings` in its metadata",
        ),
        (
            {"settings": {**SETTINGS, "edit": "nope"}},
            "c.json: no edit `nope`\nhint: correct `settings` in its metadata",
        ),
    ],
)
@pytest.mark.parametrize("edit", [None, "limit.value"])
def test_what_does_not_exist_is_refused_whether_or_not_an_edit_is_given(
    about: dict[str, Any], said: str, edit: str | None
) -> None:
    with pytest.raises(InputError) as refused:
        edit_of(circuit(**{"edit": "limit.value", **about}), FILE, edit)
    assert said in str(refused.value)
    assert "metadata" in refused.value.hint


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_a_file_that_says_what_there_is_is_run_on_its_own_edit_or_on_another(metric: str) -> None:
    own = circuit(edit="limit.value", metric=metric, settings=SETTINGS)
    assert edit_of(own, FILE) == "limit.value"
    assert edit_of(own, FILE, "schema.table") == "schema.table"
    assert edit_of(circuit(), FILE, "schema.table") == "schema.table"
    with pytest.raises(InputError, match="does not say of which edit it is"):
        edit_of(circuit(), FILE)
    with pytest.raises(InputError, match="no edit `nope`"):
        edit_of(own, FILE, "nope")


def test_eval_refuses_a_file_by_what_it_says_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, file = find_recipe("tiny"), tmp_path / "c.json"
    run = record_model(start_run(tmp_path / "run", recipe), recipe.train.model)
    graph = Graph.of_config(run.shape)
    Circuit(graph, graph.edges[:2], {"edit": "limit.value", "metric": "banana"}).save(file)
    assert main(["circuit", "eval", str(run.path), "--circuit", str(file)]) == 2
    assert f"{file} says of its circuit that the metric is 'banana'" in capsys.readouterr().err
    found = json.loads(file.read_text())
    found["edges"] *= 2
    file.write_text(json.dumps(found))
    assert main(["circuit", "eval", str(run.path), "--circuit", str(file)]) == 2
    assert f"{file}: edge `{graph.edges[0]}` stands 2 times" in capsys.readouterr().err
