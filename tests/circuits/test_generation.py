"""Whole answers written by a circuit alone: its two ends are the model, and every token is `run_circuit`'s."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit
from circuits.engine.forward import live_mask, run_circuit
from circuits.engine.recording import Machine
from circuits.graph import Graph
from circuits.judging.controls import RandomCircuits
from circuits.judging.generation import (
    Asked,
    accuracy_of,
    circuit_accuracy,
    circuit_answers,
    right_for,
    write,
)
from data_gen.config import DataConfig
from data_gen.errors import InputError
from data_gen.pairs.counterfactual import CounterfactualPair, counterfactuals
from tinysql.answering.generation import answer
from tinysql.models.config import MambaConfig, ModelConfig, MoEConfig
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer, TokenPairs, Tokens

SIDES = ("clean", "corrupt")
DATA = DataConfig(lexicon="demo", max_columns=4, split="test")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [pair.clean.text.string for pair in counterfactuals(DATA, edit="schema.table", n=12, seed=1)]
    return Tokenizer.train(texts, vocab_size=400)


@pytest.fixture(scope="module")
def pairs(tokenizer: Tokenizer) -> list[CounterfactualPair]:
    """The four longest of some, so that all of them come to the end of the context soon."""
    found = counterfactuals(DATA, edit="schema.table", n=24, encode=tokenizer.encode_text)
    return sorted(found, key=lambda pair: len(tokenizer.encode_text(pair.clean.prompt.string)))[-4:]


@pytest.fixture(scope="module", params=["*-*-", "M*E"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer, pairs) -> HybridLM:
    """Random, and with an embedding so large that what it writes depends on the prompt."""
    longest = max(len(tokenizer.encode_text(pair.clean.prompt.string)) for pair in pairs)
    config = ModelConfig(
        pattern=request.param,
        d_model=32,
        n_heads=4,
        n_kv_heads=2,
        d_vocab=tokenizer.vocab_size,
        n_ctx=longest + 2,
        mamba=MambaConfig(n_heads=2, d_head=8, d_state=4, chunk=16),
        moe=MoEConfig(n_experts=3, n_active=2, d_expert=16),
    )
    model = HybridLM(config, seed=2).double().eval()
    with torch.no_grad():
        model.embed.W_E.mul_(50)
        for name, weight in model.named_parameters():
            if name.endswith(("W_O", "W_out", "W_V")):
                weight.mul_(4)
    return model


def test_all_edges_write_the_models_answer_and_none_its_answer_to_the_corrupt_prompt(
    model: HybridLM, tokenizer: Tokenizer, pairs
) -> None:
    graph = Graph.of(model)
    ends = [Circuit(graph, graph.edges), Circuit(graph, ())]
    written = circuit_answers(model, tokenizer, ends, pairs, batch_size=3)
    clean, corrupt = (
        answer(model, tokenizer, [getattr(pair, side).prompt.string for pair in pairs]) for side in SIDES
    )
    assert clean != corrupt
    assert written == [clean, corrupt]


def token_by_token(model, tokenizer, circuit, pair) -> str:
    """The plain way: `run_circuit` once per token."""
    clean, corrupt = (tokenizer.encode_text(side.prompt.string) for side in (pair.clean, pair.corrupt))
    written: list[int] = []
    while len(clean) + len(written) <= model.cfg.n_ctx and tokenizer.end_id not in written:
        sides = [torch.tensor([[*side, *written]]) for side in (clean, corrupt)]
        at = torch.tensor([sides[0].shape[1] - 1])
        tokens = [
            Tokens(ids=ids, mask=ids > 0, roles=(("",) * ids.shape[1],), answer_start=at) for ids in sides
        ]
        asked = TokenPairs(
            edit="", clean=tokens[0], corrupt=tokens[1], position=at, clean_answer=at, corrupt_answer=at
        )
        written += run_circuit(model, circuit, asked).argmax(-1).tolist()
    ended = written.index(tokenizer.end_id) if tokenizer.end_id in written else len(written)
    return tokenizer.decode(written[:ended]).strip()


def some_circuit(model: HybridLM) -> Circuit:
    graph = Graph.of(model)
    half = graph.mask & (np.random.default_rng(0).random(graph.mask.shape) < 0.6)
    return Circuit(graph, graph.named(half))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_circuit_writes_what_run_circuit_says_token_by_token(
    model: HybridLM, tokenizer: Tokenizer, pairs, batch_size: int
) -> None:
    circuit = some_circuit(model)
    plain = [token_by_token(model, tokenizer, circuit, pair) for pair in pairs[1:]]
    assert circuit_answers(model, tokenizer, [circuit], pairs[1:], batch_size=batch_size) == [plain]


def test_guesses_change_how_often_a_circuit_is_run_and_nothing_else(
    model: HybridLM, tokenizer, pairs
) -> None:
    mask = live_mask(model, some_circuit(model))
    sides = [
        tuple(
            tokenizer.encode_text(getattr(pair, side).prompt.string)[: model.cfg.n_ctx - 12] for side in SIDES
        )
        for pair in pairs
    ]
    with torch.no_grad():
        machine = Machine(model)

        def written(guesses, end=-1):
            asked = [Asked(*side, (guess, [])) for side, guess in zip(sides, guesses, strict=True)]
            return write(machine, mask, asked, end_id=end)

        alone = written([[]] * len(pairs))
        wrong_once = [[*ids[:4], ids[4] + 1, *ids[5:]] for ids in alone]
        assert min(len(ids) for ids in alone) > 6
        for guesses in (alone, wrong_once, [ids[:6] for ids in alone], [ids[1:] for ids in alone]):
            assert written(guesses) == alone
        # A token that is written in the middle, taken for the end: nothing is asked behind it.
        end = alone[0][len(alone[0]) // 2]
        stops = [ids.index(end) + 1 if end in ids else len(ids) for ids in alone]
        assert stops[0] < len(alone[0]) - 2
        ended = [ids[:stop] for ids, stop in zip(alone, stops, strict=True)]
        for guesses in ([[]] * len(pairs), alone, ended):
            assert written(guesses, end) == ended


def test_an_answer_is_graded_for_both_sides(pairs) -> None:
    written = [[getattr(pair, side).sql.string for pair in pairs] for side in SIDES]
    mixed = [written[place % 2][place] for place in range(len(pairs))]
    expected = np.arange(len(pairs)) % 2 == 0
    assert (right_for(pairs, [*written, mixed], "clean") == [[True] * 4, [False] * 4, expected]).all()
    assert (right_for(pairs, [*written, mixed], "corrupt") == [[False] * 4, [True] * 4, ~expected]).all()


def test_a_report_counts_every_circuit_on_every_pair(model: HybridLM, tokenizer: Tokenizer, pairs) -> None:
    graph = Graph.of(model)
    circuit = Circuit(graph, graph.edges[: len(graph.edges) // 2])
    pairs = pairs[2:]
    found = circuit_accuracy(model, tokenizer, circuit, pairs, random_circuits=1)
    assert (found.n_edges, found.n_edges_model) == (len(circuit), len(graph.edges))
    assert list(found.answers) == circuit_answers(model, tokenizer, [circuit], pairs)[0]
    assert found.clean.right == right_for(pairs, [list(found.answers)], "clean").sum()
    assert {share.total for share in (found.clean, found.corrupt, found.model, found.floor)} == {len(pairs)}
    assert found.to_json()["clean"]["interval95"] == list(found.clean.interval)


def test_pairs_that_cannot_be_answered_are_refused(model: HybridLM, tokenizer: Tokenizer, pairs) -> None:
    graph = Graph.of(model)
    circuit = Circuit(graph, graph.edges)
    with pytest.raises(InputError, match="there are no pairs"):
        circuit_answers(model, tokenizer, [circuit], [])
    unlike = CounterfactualPair(edit="schema.table", clean=pairs[0].clean, corrupt=pairs[1].clean)
    with pytest.raises(InputError, match="the prompts of pair 0 of edit `schema.table` have .* tokens"):
        circuit_answers(model, tokenizer, [circuit], [unlike])
    with pytest.raises(InputError, match="belongs to a model of"):
        circuit_answers(model, tokenizer, [Circuit(Graph(pattern="-"), ())], pairs)


def test_a_report_says_who_wrote_what_is_right(pairs) -> None:
    """The circuit is right for the clean prompt 3 times of 4 and once for the corrupt one, the model always."""
    clean, corrupt = ([getattr(pair, side).sql.string for pair in pairs] for side in SIDES)
    circuit = [*clean[:3], corrupt[3]]
    uniform = [[*clean[:1], *corrupt[1:]], corrupt]
    matched = [[*clean[:3], ""], [*clean[:2], "", ""]]
    graph = Graph("*-", n_heads=2)
    alone = Circuit(graph, graph.edges[:5])
    found = accuracy_of(
        alone, pairs, [circuit, clean, [*clean[:1], *corrupt[1:]], *uniform, *matched], seed=7
    )
    shares = [(share.right, share.total) for share in (found.clean, found.corrupt, found.model, found.floor)]
    assert shares == [(3, 4), (1, 4), (4, 4), (1, 4)]
    assert (found.random.mean, found.random.low, found.random.high) == pytest.approx((1 / 8, 0.0125, 0.2375))
    assert found.matched.mean == pytest.approx(5 / 8)
    assert (found.edit, found.n_edges, found.n_edges_model) == ("schema.table", 5, len(graph.edges))
    assert (found.random_circuits, found.seed, found.answers) == (2, 7, tuple(circuit))
    head, for_clean, for_corrupt, others = str(found).splitlines()
    assert head == f"what 5 of {len(graph.edges)} edges write is right"
    assert "for the clean prompt    0.750 (" in for_clean
    assert "for the corrupt prompt  0.250 (" in for_corrupt
    assert "by the whole model 1.000 (" in others
    assert "by no edge 0.250 (" in others
    assert f"by random circuits {found.random}, by layer-matched ones {found.matched}" in others


def test_the_seed_draws_the_random_circuits(
    model: HybridLM, tokenizer, pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(model, tokenizer, circuits, pairs, *, batch_size):
        seen.append([circuit.edges for circuit in circuits])
        return circuit_answers(model, tokenizer, circuits, pairs, batch_size=batch_size)

    monkeypatch.setattr("circuits.judging.generation.circuit_answers", watched)
    graph = Graph.of(model)
    circuit = Circuit(graph, graph.edges[::3])
    for seed in (0, 5):
        circuit_accuracy(model, tokenizer, circuit, pairs[3:], random_circuits=1, seed=seed)
        draws = RandomCircuits.draw(graph, 1, seed)
        ends = [circuit.edges, graph.edges, ()]
        drawn = [*draws.uniform(len(circuit)), *draws.layer_matched(circuit)]
        assert seen[-1] == [*ends, *(one.edges for one in drawn)]


def test_the_guess_that_agrees_with_more_of_what_is_written_goes_on() -> None:
    asked = Asked([1], [1], ([5, 6, 7], [5, 8, 9]))
    assert asked.guess([]) == [5, 6, 7]
    assert asked.guess([5]) == [6, 7], "the clean side's, where both agree alike"
    assert asked.guess([5, 8]) == [9]


def test_a_prompt_that_fills_the_context_leaves_no_room_for_an_answer(tokenizer, pairs) -> None:
    length = len(tokenizer.encode_text(pairs[0].clean.prompt.string))
    for n_ctx, room in ((length, False), (length + 1, True)):
        small = HybridLM(
            ModelConfig(pattern="*", d_model=8, n_heads=1, d_vocab=tokenizer.vocab_size, n_ctx=n_ctx)
        )
        circuit = Circuit(Graph.of(small), ())
        if room:
            circuit_answers(small, tokenizer, [circuit], pairs[:1])
        else:
            with pytest.raises(InputError, match=f"{length} tokens and the model's context is {length}"):
                circuit_answers(small, tokenizer, [circuit], pairs[:1])


def test_an_answer_ends_before_the_end_token(tokenizer, pairs) -> None:
    """A model whose only token is the end has nothing to say; one of another token fills its context with it."""
    length = len(tokenizer.encode_text(pairs[0].clean.prompt.string))
    for token, said in ((tokenizer.end_id, ""), (tokenizer.encode_text("x")[0], "xxxx")):
        config = ModelConfig(
            pattern="*", d_model=8, n_heads=1, d_vocab=tokenizer.vocab_size, n_ctx=length + 3, norm="layer"
        )
        model = HybridLM(replace(config, biases=("norm",)))
        with torch.no_grad():
            model.ln_final.b.fill_(1.0)
            model.unembed.W_U.zero_()
            model.unembed.W_U[:, token] = 100.0
            model.ln_final.w.zero_()
        circuit = Circuit(Graph.of(model), ())
        assert circuit_answers(model, tokenizer, [circuit], pairs[:1]) == [[said]]
