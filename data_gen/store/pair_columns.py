"""Counterfactual pairs -> an Arrow table: both sides, where they differ, and the tokens in which they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_gen.pairs.alignment import encode_with
from data_gen.pairs.counterfactual import CounterfactualPair
from data_gen.store.columns import example_table
from data_gen.store.spans import roles_type

if TYPE_CHECKING:
    import pyarrow as pa
    import tokenizers

    from data_gen.text import Span

SIDES = ("clean", "corrupt")
SIDE = ("prompt", "sql_statement", "query", "style", "roles")
CHANGES = ("prompt_change", "sql_change")
PAIR_COLUMNS = (
    "index",
    "edit",
    "seed",
    "command_set",
    "split",
    "variant",
    *(f"{side}_{name}" for side in SIDES for name in (*SIDE, *CHANGES)),
)
"""Columns of a file of counterfactual pairs. `clean_prompt_change` is the span of `clean_prompt` that differs, with
its start, end and role; `clean_sql_change` reaches from the first slot of `clean_sql_statement` that differs to the
last."""
TOKEN_COLUMNS = (
    "prompt_tokens",
    "position",
    *(f"{side}_answer_{name}" for side in SIDES for name in ("id", "token")),
)
"""More columns of pairs that a tokenizer aligned: how many tokens each prompt has; the index, in the tokens of a
prompt, a space and its SQL, of the token whose logits predict the first one that differs; and that one on each side,
its id and how the vocabulary writes it."""


def pair_table(
    pairs: Sequence[CounterfactualPair], *, seed: int, split: str, tokenizer: tokenizers.Tokenizer | None
) -> pa.Table:
    """One row per pair of one `seed` and `split`, with the columns `PAIR_COLUMNS`, and with a tokenizer, which adds
    nothing at the beginning or the end, `TOKEN_COLUMNS`.

    Raises:
        InputError: the sides of a pair are not aligned under the tokenizer.
    """
    import pyarrow as pa

    sides = {
        side: example_table([getattr(pair, side) for pair in pairs], seed=seed, split=split) for side in SIDES
    }
    arrays = {name: sides["clean"][name] for name in ("index", "seed", "command_set", "split", "variant")}
    arrays["edit"] = pa.array([pair.edit for pair in pairs], pa.string())
    arrays |= {f"{side}_{name}": table[name] for side, table in sides.items() for name in SIDE}
    span = roles_type().value_type
    for side in SIDES:
        for name, changes in (("prompt_change", "change"), ("sql_change", "sql_change")):
            spans: list[Span] = [getattr(getattr(pair, changes), side) for pair in pairs]
            arrays[f"{side}_{name}"] = pa.array([one._asdict() for one in spans], span)
    names = PAIR_COLUMNS
    if tokenizer is not None:
        found = [_tokens(pair, tokenizer) for pair in pairs]
        for name in TOKEN_COLUMNS:
            kind = pa.string() if name.endswith("_token") else pa.int64()
            arrays[name] = pa.array([row[name] for row in found], kind)
        names += TOKEN_COLUMNS
    return pa.table({name: arrays[name] for name in names})


def _tokens(pair: CounterfactualPair, tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    encode = encode_with(tokenizer)
    position, *answers = pair.divergence(encode)
    found: dict[str, Any] = {"prompt_tokens": len(encode(pair.clean.prompt.string)), "position": position}
    for side, answer in zip(SIDES, answers, strict=True):
        found[f"{side}_answer_id"] = answer
        found[f"{side}_answer_token"] = tokenizer.id_to_token(answer)
    return found
