"""Circuit and pairs -> CircuitAccuracy: it writes whole answers alone, and execution says whether they are right.

At every token the logits are those of `run_circuit`: the circuit's edges carry what the clean prompt with the answer
so far says, all others what the corrupt prompt with that same answer says. With every edge that is the model's answer
to the clean prompt, with none its answer to the corrupt one. A circuit that carries the edited slot and nothing else
writes the corrupt query with the clean slot in its place, which is the clean query; and each answer is graded against
both sides.

Decoding is greedy, and quick because the model is causal: one run over a guess of the whole answer tells every token up
to the first in which the circuit differs from the guess (Leviathan et al., arXiv 2211.17192, without sampling). Guesses
are the right answers of both sides; they change how often the model is run, never what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from circuits.circuit import Circuit
from circuits.engine.batching import batched
from circuits.engine.forward import Stage, live_mask
from circuits.engine.ports import frozen
from circuits.engine.recording import Machine
from circuits.judging.bootstrap import plain
from circuits.judging.controls import RandomCircuits
from circuits.judging.ratios import Band, band
from data_gen.errors import InputError
from data_gen.pairs.counterfactual import CounterfactualPair
from data_gen.run.grade import grade
from tinysql.answering.shares import Share
from tinysql.context import check_lengths
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.tokens import Tokenizer, TokenPairs, Tokens


@dataclass(frozen=True, kw_only=True)
class CircuitAccuracy:
    """How often what a circuit writes is right, by execution."""

    edit: str
    n_edges: int
    n_edges_model: int
    random_circuits: int
    seed: int
    clean: Share
    """Of the circuit's answers, those that are right for the clean prompt."""
    corrupt: Share
    """Of the same answers, those that are right for the corrupt prompt: what the circuit did not carry."""
    model: Share
    """Of the whole model's answers to the clean prompts, those that are right: the most a circuit is asked for."""
    floor: Share
    """Of its answers to the corrupt prompts, those that happen to be right for the clean one."""
    random: Band
    """Share right for the clean prompt, of uniformly random circuits of as many edges."""
    matched: Band
    """The same of layer-matched ones."""
    answers: tuple[str, ...]
    """What the circuit wrote, by pair."""

    def __str__(self) -> str:
        return (
            f"what {self.n_edges} of {self.n_edges_model} edges write is right\n"
            f"  for the clean prompt    {_said(self.clean)}\n"
            f"  for the corrupt prompt  {_said(self.corrupt)}\n"
            f"  for the clean prompt by the whole model {_said(self.model)}, by no edge {_said(self.floor)},"
            f" by random circuits {self.random}, by layer-matched ones {self.matched}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        shares = ("clean", "corrupt", "model", "floor")
        return plain(asdict(self)) | {name: getattr(self, name).to_json() for name in shares}


def circuit_accuracy(
    model: HybridLM,
    tokenizer: Tokenizer,
    circuit: Circuit,
    pairs: Sequence[CounterfactualPair],
    *,
    random_circuits: int = 10,
    seed: int = 0,
    batch_size: int = 32,
) -> CircuitAccuracy:
    """Let a circuit answer, and random circuits of its size beside it, and grade every answer by execution.

    `pairs` must not be those the circuit was found on. Shares have Wilson's 95 % intervals over pairs, bands run from
    the 5th to the 95th percentile over circuits. `seed` draws the random circuits.
    Raises `InputError` as `circuit_answers` does.
    """
    graph = circuit.graph
    draws = RandomCircuits.draw(graph, random_circuits, seed)
    ends = [circuit, Circuit(graph, graph.edges), Circuit(graph, ())]
    played = [*ends, *draws.uniform(len(circuit)), *draws.layer_matched(circuit)]
    written = circuit_answers(model, tokenizer, played, pairs, batch_size=batch_size)
    return accuracy_of(circuit, pairs, written, seed=seed)


def accuracy_of(
    circuit: Circuit, pairs: Sequence[CounterfactualPair], written: Sequence[Sequence[str]], *, seed: int
) -> CircuitAccuracy:
    """The report on what was `written` `[circuit][pair]`.

    By the circuit itself, all edges and none, and then by uniform and layer-matched circuits, as many of each.
    """
    right = right_for(pairs, written, "clean")
    shares = [Share(right=int(row.sum()), total=len(pairs)) for row in right]
    uniform, matched = np.split(right[3:].mean(1), 2)
    return CircuitAccuracy(
        edit=pairs[0].edit,
        n_edges=len(circuit),
        n_edges_model=len(circuit.graph.edges),
        random_circuits=len(uniform),
        seed=seed,
        clean=shares[0],
        corrupt=Share(right=int(right_for(pairs, written[:1], "corrupt").sum()), total=len(pairs)),
        model=shares[1],
        floor=shares[2],
        random=band(uniform),
        matched=band(matched),
        answers=tuple(written[0]),
    )


def circuit_answers(
    model: HybridLM,
    tokenizer: Tokenizer,
    circuits: Sequence[Circuit],
    pairs: Sequence[CounterfactualPair],
    *,
    batch_size: int = 32,
) -> list[list[str]]:
    """What each circuit writes for each pair, greedily, up to the end token or to where the context is full.

    Raises `InputError` for no pairs, prompts of a pair with unlike numbers of tokens or as long as the context, a
    circuit of another model, or hooks on the model.
    """
    masks = [live_mask(model, circuit) for circuit in circuits]
    asked = _asked(tokenizer, pairs, model.cfg.n_ctx)
    starts = range(0, len(asked), batch_size)
    groups = [(mask, asked[start : start + batch_size]) for mask in masks for start in starts]
    found: list[str] = []
    with frozen(model), torch.no_grad():
        machine = Machine(model)
        for mask, group in progress(groups, total=len(groups), title="circuits answering"):
            written = write(machine, mask, group, tokenizer.end_id)
            found += [tokenizer.decode(ids).strip() for ids in written]
    return [found[start : start + len(pairs)] for start in range(0, len(found), len(pairs))]


@dataclass(frozen=True)
class Asked:
    """One pair as ids: both prompts, of equal length, and two guesses of the answer, each with its end token."""

    clean: list[int]
    corrupt: list[int]
    guesses: tuple[list[int], list[int]]

    def guess(self, written: list[int]) -> list[int]:
        """How the answer may go on: as the guess that agrees with more of what is written."""
        agreed = [sum(a == b for a, b in zip(guess, written, strict=False)) for guess in self.guesses]
        return self.guesses[int(agreed[1] > agreed[0])][len(written) :]


def _asked(tokenizer: Tokenizer, pairs: Sequence[CounterfactualPair], n_ctx: int) -> list[Asked]:
    if not pairs:
        raise InputError("there are no pairs", hint="make some with data_gen.counterfactuals")
    found = []
    for number, pair in enumerate(pairs):
        sides = (pair.clean, pair.corrupt)
        clean, corrupt = (tokenizer.encode_text(side.prompt.string) for side in sides)
        if len(clean) != len(corrupt):
            raise InputError(
                f"the prompts of pair {number} of edit `{pair.edit}` have {len(clean)} and {len(corrupt)} tokens",
                hint="make the pairs with encode=tokenizer.encode_text, which chooses names of equally many tokens",
            )
        right, other = ([*tokenizer.encode_text(f" {side.sql.string}"), tokenizer.end_id] for side in sides)
        found.append(Asked(clean, corrupt, (right, other)))
    check_lengths(
        [len(one.clean) for one in found],
        n_ctx,
        what="prompt",
        hint="choose pairs with shorter prompts, or train with an n_ctx larger than {least}",
        answered=True,
    )
    return found


def write(machine: Machine, mask: np.ndarray, asked: Sequence[Asked], end_id: int) -> list[list[int]]:
    """Each pair's answer as one circuit writes it, with its end token where it ends."""
    n_ctx = machine.model.cfg.n_ctx
    written: list[list[int]] = [[] for _ in asked]
    going = list(range(len(asked)))
    while going:
        guesses = []
        for row in going:
            room = n_ctx - len(asked[row].clean) - len(written[row])
            guesses.append(asked[row].guess(written[row])[:room])
        rows = [
            (pair.clean, pair.corrupt, [*written[row], *guess])
            for row, pair, guess in zip(going, (asked[row] for row in going), guesses, strict=True)
        ]
        said = _next(machine, mask, rows, guesses)
        still = []
        for row, guess, tokens in zip(going, guesses, said, strict=True):
            agreed = next(
                (i for i, (a, b) in enumerate(zip(guess, tokens, strict=False)) if a != b), len(guess)
            )
            # Up to the first difference every token was said behind what stands in the answer.
            written[row] += tokens[: agreed + 1]
            full = len(asked[row].clean) + len(written[row]) > n_ctx
            if end_id in written[row]:
                # Behind a guess that is right to its end stands one token more.
                del written[row][written[row].index(end_id) + 1 :]
            elif not full:
                still.append(row)
        going = still
    return written


def _next(
    machine: Machine,
    mask: np.ndarray,
    rows: Sequence[tuple[list[int], list[int], list[int]]],
    guesses: Sequence[list[int]],
) -> list[list[int]]:
    """The circuit's next token behind what is written, and behind every token of the guess that follows it."""
    wanted = [len(guess) + 1 for guess in guesses]
    ends = [len(clean) + len(answer) for clean, _, answer in rows]
    # A row with fewer positions repeats its last one.
    position = torch.tensor(
        [
            [end - 1 - max(0, want - 1 - place) for place in range(max(wanted))]
            for end, want in zip(ends, wanted, strict=True)
        ]
    )
    sides = [_tokens([[*row[side], *row[2]] for row in rows]) for side in (0, 1)]
    empty = torch.zeros_like(position)
    batch = TokenPairs(
        edit="", clean=sides[0], corrupt=sides[1], position=position, clean_answer=empty, corrupt_answer=empty
    )
    (batch,) = batched(machine.model, batch, len(batch))
    said = Stage(machine, batch).logits(mask).argmax(-1).tolist()
    return [row[:want] for row, want in zip(said, wanted, strict=True)]


def _tokens(rows: Sequence[list[int]]) -> Tokens:
    """Rows of ids padded on the right; what a circuit writes has no known roles."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return Tokens(
        ids=ids,
        mask=torch.arange(ids.shape[1]) < lengths[:, None],
        roles=(("",) * ids.shape[1],) * len(rows),
        answer_start=lengths,
    )


def right_for(pairs: Sequence[CounterfactualPair], written: Sequence[Sequence[str]], side: str) -> np.ndarray:
    """Bool `[circuit pair]`: which of `written` `[circuit][pair]` are right for the `clean` or the `corrupt` side."""
    right = np.zeros((len(written), len(pairs)), bool)
    # Answers to one question are graded in a row, as its databases stay open.
    for place, pair in enumerate(pairs):
        answers = [each[place] for each in written]
        grades = {answer: grade(getattr(pair, side), answer).execution for answer in set(answers)}
        right[:, place] = [grades[answer] for answer in answers]
    return right


def _said(share: Share) -> str:
    low, high = share.interval
    return f"{share.value:.3f} ({low:.3f} to {high:.3f})"
