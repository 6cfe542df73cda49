"""Scores of several batches -> the heads TinySQL calls a circuit, and answers with all other heads taken out.

TinySQL (arXiv 2503.12730, v1) takes the ten largest EAP edges of each batch, keeps the edges that are among them in a
share of the batches, and calls the heads at their ends the circuit. It is judged by the answers that the model writes
when every other head is set to zero. Its graph has neither the embedding nor the logits, its measure of an answer is
a count of five things found in the text, and neither is divided by what the whole model and no head reach; so the
same heads are also given here as edges, which `evaluate` can run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import torch

from circuits.circuit import Circuit
from circuits.graph import Edge, Graph, Reader
from circuits.looking.running import hooked
from circuits.looking.units import find_units
from circuits.scores import EdgeScores
from data_gen.errors import InputError, nearest
from tinysql.answering.generation import answer
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

TOP = 10
"""Edges taken from each batch."""


def consistent_edges(batches: Sequence[EdgeScores], share: float, *, top: int = TOP) -> Circuit:
    """Edges among the `top` largest of at least a `share` of the batches; none from `embed`, none into `logits`.

    Raises `InputError` for no batch, batches of different graphs, a share that is not above 0 and at most 1, or a
    `top` of less than one.
    """
    if not batches:
        raise InputError("there are no batches of scores", hint="score at least one batch of pairs")
    if not 0 < share <= 1:
        raise InputError(f"share is {share}, expected above 0 and at most 1", hint="1 asks for every batch")
    if top < 1:
        raise InputError(f"top is {top}, expected at least 1", hint=f"TinySQL takes {TOP}")
    graph = batches[0].graph
    for scores in batches:
        if scores.graph != graph:
            raise InputError(
                f"batches are scored on models of {graph} and of {scores.graph}, expected one model",
                hint="score all batches with the same model",
            )
    counts: Counter[Edge] = Counter()
    for scores in batches:
        inner = [edge for edge in scores.ranked() if edge.writer != "embed" and edge.reader != "logits"]
        counts.update(inner[:top])
    kept = tuple(edge for edge, count in counts.items() if count >= share * len(batches) - 1e-9)
    return Circuit(graph, kept)


def heads_of(graph: Graph) -> tuple[str, ...]:
    """Every attention head, Mamba head and routed expert of a model: what can be in such a circuit."""
    return tuple(
        writer.name for writer in graph.writers if ".head." in writer.name or ".expert." in writer.name
    )


def heads_at(circuit: Circuit) -> frozenset[str]:
    """The heads and experts at either end of a circuit's edges; a key or value that heads share counts for all of them.

    A router's edges count for no expert, for they say nothing about which.
    """
    readers = {reader.name: reader for reader in circuit.graph.readers}
    found = {edge.writer for edge in circuit.edges}
    for edge in circuit.edges:
        found.update(_computed_at(readers[edge.reader]))
    return frozenset(found.intersection(heads_of(circuit.graph)))


def _computed_at(reader: Reader) -> tuple[str, ...]:
    """The heads that a reader belongs to, not all those it has an influence on through a shared norm or choice."""
    start, _, slot = reader.name.rpartition(".")
    mixer, _, port = start.rpartition(".")
    if slot == "router":
        return ()
    return (f"{mixer}.head.{slot}",) if port in ("z", "x", "dt") else reader.feeds


def edges_among(graph: Graph, heads: Collection[str]) -> Circuit:
    """Every edge that the answers without the other heads can use: all but those out of another head or expert.

    Raises `InputError` for a head that the graph does not have.
    """
    out = set(_without(graph, heads))
    return Circuit(graph, tuple(edge for edge in graph.edges if edge.writer not in out))


def answers_with(
    model: HybridLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    heads: Collection[str],
    *,
    longest: int | None = None,
) -> list[str]:
    """Greedy answers when what every head and expert but `heads` writes is zero, at every position and step.

    They end behind `longest` tokens; `None` lets a model that cannot end fill its context.
    Raises `InputError` for a head that the model does not have, and as `answer` does.
    """
    out = _without(Graph.of(model), heads)
    units = find_units(model, out) if out else ()
    hooks = [hook for unit in units for hook in unit.replacing(model, torch.zeros_like)]
    with hooked(model, hooks):
        title = f"answering with {len(heads)} heads"
        return answer(model, tokenizer, prompts, longest=longest, title=title)


def _without(graph: Graph, heads: Collection[str]) -> tuple[str, ...]:
    """All heads and experts but these."""
    every = heads_of(graph)
    for name in heads:
        if name not in every:
            raise InputError(
                f"a model of {graph} has no head or expert `{name}`{nearest(name, every)}",
                hint="heads_of lists them",
            )
    return tuple(name for name in every if name not in heads)


def likeness(given: str, wanted: str) -> float:
    """TinySQL's measure of an answer: a fifth each for SELECT, FROM, the table, and the first two columns."""
    ours, theirs = (_named(text) for text in (given, wanted))
    found = [word in given and word in wanted for word in ("SELECT", "FROM")]
    same = [mine is not None and mine == other for mine, other in zip(ours, theirs, strict=True)]
    return sum([*found, *same]) / 5


def _named(text: str) -> tuple[str | None, str | None, str | None]:
    """The word behind FROM, and the first two items between SELECT and FROM."""
    head, _, tail = text.partition("FROM")
    items = [item.strip() for item in head.partition("SELECT")[2].split(",") if item.strip()]
    table = tail.split()[0].rstrip(";") if tail.split() else None
    first, second = [*items, None, None][:2]
    return table, first, second
