"""Circuits go out to GraphML, DOT and JSON and come back; what is no circuit is refused in a sentence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from circuits.circuit import Circuit
from circuits.files.exchange import from_dot, from_graphml, read_circuit, to_dot, to_graphml, write_circuit
from circuits.files.export import exported
from circuits.files.mib import mib_scores
from circuits.graph import Edge, Graph
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

GRAPH = Graph.of(HybridLM(ModelConfig(pattern="*-", d_model=8, n_heads=2, d_head=4, d_vocab=5, n_ctx=8)))
SPACE = "{http://graphml.graphdrawing.org/xmlns}"


@pytest.fixture
def circuit() -> Circuit:
    edges = (
        Edge("embed", "blocks.0.attn.v.1"),
        Edge("blocks.0.attn.head.1", "blocks.1.mlp"),
        Edge("blocks.1.mlp", "logits"),
    )
    odd = 'a "name" with <tags> & back\\slash, line\nbreak and ünïcode\x00'
    return Circuit(GRAPH, edges, {"scores": {str(edges[0]): -1.5e-07}, "edit": odd, "asked": 3})


@pytest.mark.parametrize("suffix", ["json", "graphml", "dot"])
@pytest.mark.parametrize("edges", [0, 3, None])
def test_a_circuit_reads_back_as_it_was_written(
    circuit: Circuit, tmp_path: Path, suffix: str, edges: int | None
) -> None:
    written = Circuit(GRAPH, GRAPH.edges if edges is None else circuit.edges[:edges], circuit.metadata)
    write_circuit(written, tmp_path / f"circuit.{suffix}")
    read = read_circuit(tmp_path / f"circuit.{suffix}")
    assert (read.graph, read.edges, read.metadata) == (written.graph, written.edges, written.metadata)


def test_graphml_says_how_readers_become_writers(circuit: Circuit) -> None:
    graph = ElementTree.fromstring(to_graphml(circuit)).find(f"{SPACE}graph")
    arcs = {(edge.get("source"), edge.get("target")) for edge in graph.iter(f"{SPACE}edge")}
    assert arcs == {
        ("out:embed", "in:blocks.0.attn.v.1"),
        ("in:blocks.0.attn.v.1", "out:blocks.0.attn.head.1"),
        ("out:blocks.0.attn.head.1", "in:blocks.1.mlp"),
        ("in:blocks.1.mlp", "out:blocks.1.mlp"),
        ("out:blocks.1.mlp", "in:logits"),
    }
    nodes = Counter(node.get("id") for node in graph.iter(f"{SPACE}node"))
    assert set(nodes) == {end for arc in arcs for end in arc}
    assert set(nodes.values()) == {1}


def test_a_file_whose_keys_another_program_renamed_is_read(circuit: Circuit) -> None:
    text = to_graphml(circuit)
    for name, other in {"kind": "d4", "edge": "d7", "graph": "d0", "metadata": "d1"}.items():
        text = text.replace(f'id="{name}"', f'id="{other}"').replace(f'key="{name}"', f'key="{other}"')
    read = from_graphml(text)
    assert (read.edges, read.metadata) == (circuit.edges, circuit.metadata)


def test_a_document_type_is_refused_before_its_entities_are_expanded(circuit: Circuit) -> None:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    bomb = f"<!DOCTYPE graphml [{laughs}]>" + to_graphml(circuit).replace("</graph>", "&l11;</graph>")
    with pytest.raises(InputError, match="declares a document type"):
        from_graphml(bomb)
    outside = '<!DOCTYPE graphml SYSTEM "file:///etc/passwd"><graphml/>'
    with pytest.raises(InputError, match="declares a document type"):
        from_graphml(outside)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "not whole XML"),
        (lambda text: "<html/>", "holds no graph"),
        (lambda text: text.replace('key="graph"', 'key="graf"'), "does not say which graph"),
        (
            lambda text: text.replace("blocks.1.mlp -&gt; logits", "blocks.9.mlp -&gt; logits"),
            "has no `blocks.9.mlp`",
        ),
        (lambda text: text.replace("blocks.1.mlp -&gt; logits", "blocks.1.mlp"), "is not an edge"),
        (lambda text: text.replace('key="edge"', 'key="egde"'), "'' is not an edge"),
        (lambda text: text.replace('"pattern"', '"patern"'), "holds no circuit"),
        (
            lambda text: text.replace('"n_heads": 2', '"n_heads": 1e999'),
            "`n_heads` is inf, expected a whole number",
        ),
        (lambda text: text.replace('"n_heads": 2', '"n_heads": -2'), "is no model's graph"),
        (lambda text: text.replace('"n_heads": 2', '"n_heads": 2000000000'), "expected at most 20,000"),
        (lambda text: text.replace("-1.5e-07}", "NaN}"), "score of edge .* is nan, expected a number"),
        (lambda text: text.replace("-1.5e-07}", '"much"}'), "score of edge .* is 'much', expected a number"),
    ],
)
def test_graphml_that_holds_no_circuit_is_refused(circuit: Circuit, change, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        from_graphml(change(to_graphml(circuit)))


def test_dot_is_one_statement_per_line_and_foreign_dot_is_refused(circuit: Circuit) -> None:
    lines = to_dot(circuit).splitlines()
    assert lines[0] == "digraph circuit {"
    assert lines[-1] == "}"
    assert sum("kind=edge" in line for line in lines) == 3
    assert sum("kind=feeds" in line for line in lines) == 2
    assert '  "out:embed" -> "in:blocks.0.attn.v.1" [kind=edge score="-1.5e-07"];' in lines
    with pytest.raises(InputError, match="does not say which graph"):
        from_dot('digraph { "a" -> "b"; }')


def test_unknown_suffixes_and_missing_files_are_refused(circuit: Circuit, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ends in '.png'"):
        write_circuit(circuit, tmp_path / "circuit.png")
    with pytest.raises(InputError, match="circuit` has no ending, expected a circuit's\nhint: known: .json"):
        read_circuit(tmp_path / "circuit")
    with pytest.raises(InputError, match="cannot read"):
        read_circuit(tmp_path / "nowhere.graphml")
    (tmp_path / "broken.dot").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot read"):
        read_circuit(tmp_path / "broken.dot")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], "metadata are \\[\\], expected names and values"),
        (None, "metadata are None"),
        ({"scores": [1]}, "`scores` are \\[1\\]"),
        ({"settings": "x"}, "`settings` are 'x'"),
        ({"made_by": 3}, "`made_by` are 3"),
        ({"scores": {"embed -> logits": True}}, "is True, expected a number"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".graphml", ".dot"])
def test_metadata_that_no_circuit_has_are_refused(
    circuit: Circuit, metadata, reason: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"circuit{suffix}"
    write_circuit(Circuit(circuit.graph, circuit.edges, {"asked": 3}), path)
    text = path.read_text()
    old = '{\n  "asked": 3\n }' if suffix == ".json" else '{"asked": 3}'
    assert text.count(old) == 1
    path.write_text(text.replace(old, json.dumps(metadata)))
    with pytest.raises(InputError, match=reason):
        read_circuit(path)


def test_graphml_declares_its_attributes_and_says_what_each_part_is(circuit: Circuit) -> None:
    root = ElementTree.fromstring(to_graphml(circuit))
    keys = {key.get("id"): (key.get("for"), key.get("attr.type")) for key in root.iter(f"{SPACE}key")}
    assert keys == {
        "graph": ("graph", "string"),
        "metadata": ("graph", "string"),
        "kind": ("all", "string"),
        "name": ("node", "string"),
        "block": ("node", "int"),
        "edge": ("edge", "string"),
        "score": ("edge", "double"),
    }
    graph = root.find(f"{SPACE}graph")
    assert graph.get("edgedefault") == "directed"

    def about(element: ElementTree.Element) -> dict[str, str]:
        return {data.get("key"): data.text for data in element.findall(f"{SPACE}data")}

    nodes = {node.get("id"): about(node) for node in graph.iter(f"{SPACE}node")}
    assert nodes["out:blocks.1.mlp"] == {"kind": "writer", "name": "blocks.1.mlp", "block": "1"}
    assert nodes["in:blocks.0.attn.v.1"] == {"kind": "reader", "name": "blocks.0.attn.v.1", "block": "0"}
    assert nodes["out:embed"]["block"] == "-1"
    arcs = {edge.get("source"): about(edge) for edge in graph.iter(f"{SPACE}edge")}
    assert arcs["out:embed"] == {
        "kind": "edge",
        "edge": "embed -> blocks.0.attn.v.1",
        "score": "-1.5e-07",
    }
    assert arcs["in:blocks.1.mlp"] == {"kind": "feeds"}
    assert "score" not in arcs["out:blocks.1.mlp"], "an edge without a score has none here either"


def test_dot_draws_upwards_writers_as_boxes_and_readers_as_ellipses(circuit: Circuit) -> None:
    lines = to_dot(circuit).splitlines()
    assert lines[1] == "  rankdir=BT;"
    assert '  "out:blocks.1.mlp" [label="blocks.1.mlp" shape=box];' in lines
    assert '  "in:blocks.1.mlp" [label="blocks.1.mlp" shape=ellipse];' in lines
    assert '  "in:blocks.1.mlp" -> "out:blocks.1.mlp" [kind=feeds style=dotted];' in lines


@pytest.mark.parametrize("suffix", ["graphml", "dot"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "", "is empty"),
        (lambda text: " \n", "is empty"),
        (lambda text: text[: len(text) // 2], "is cut short|not whole XML"),
        (lambda text: text.replace("blocks.0.attn.v.1", "blocks.14.attn.v.1"), "has no `blocks.14.attn.v.1`"),
        (lambda text: text.replace("pattern", "patern"), "holds no circuit: it has no `pattern`"),
    ],
)
def test_a_refused_drawing_names_its_file_and_the_command_that_writes_one(
    circuit: Circuit, tmp_path: Path, suffix: str, change, reason: str
) -> None:
    file = tmp_path / f"c.{suffix}"
    write_circuit(circuit, file)
    file.write_text(change(file.read_text()))
    with pytest.raises(InputError, match=reason) as refused:
        read_circuit(file)
    assert refused.value.message.startswith(f"{file}: ")
    assert "`tinysql circuit export` writes it" in refused.value.hint


@pytest.mark.parametrize("keep", range(1, 12))
def test_a_dot_file_cut_behind_any_line_is_no_smaller_circuit(circuit: Circuit, keep: int) -> None:
    lines = to_dot(circuit).splitlines(keepends=True)
    assert len(lines) > 12
    with pytest.raises(InputError, match="cut short|does not say which graph"):
        from_dot("".join(lines[:keep]))
    # An editor's empty lines at the end are no cut.
    assert from_dot("".join(lines) + "\n \n").edges == circuit.edges


def test_an_arc_of_no_kind_is_refused_and_not_left_out(circuit: Circuit) -> None:
    drawn = to_graphml(circuit).replace('<data key="kind">edge</data>', "", 1)
    with pytest.raises(InputError, match="arc 0 of the GraphML document is of kind none, expected `edge` or"):
        from_graphml(drawn)
    for old, new in (
        ("[kind=edge]", ""),
        ("[kind=edge]", "[kind=other]"),
        ("[kind=feeds style", "[style"),
    ):
        with pytest.raises(InputError, match="of the DOT file is of kind (none|other), expected"):
            from_dot(to_dot(circuit).replace(old, new, 1))


def test_every_format_is_written_by_its_own_writer(circuit: Circuit) -> None:
    values = torch.randn(2, *GRAPH.mask.shape, generator=torch.Generator().manual_seed(0))
    scores = EdgeScores(
        graph=GRAPH, per_example=values * torch.from_numpy(GRAPH.mask), method="m", metric="m", edit="e"
    )
    texts = {
        kind: exported(circuit, scores, kind, d_model=8)
        for kind in ("json", "graphml", "dot", "mib", "scores")
    }
    assert json.loads(texts["json"]) == circuit.to_json()
    assert texts["graphml"] == to_graphml(circuit)
    assert texts["dot"] == to_dot(circuit)
    assert json.loads(texts["mib"]) == mib_scores(scores, d_model=8)
    assert json.loads(texts["scores"]) == scores.to_json()
    with pytest.raises(
        InputError, match="unknown format `pdf`\nhint: known: json, graphml, dot, mib, scores"
    ):
        exported(circuit, scores, "pdf", d_model=8)


def test_letters_that_another_program_wrote_plainly_are_read(circuit: Circuit) -> None:
    plain = to_graphml(circuit).replace("\\u00fcn\\u00efcode", "ünï→code")
    assert from_graphml(plain).metadata["edit"].endswith("ünï→code\x00")
    assert from_graphml(plain.encode()).metadata["edit"].endswith("ünï→code\x00")
