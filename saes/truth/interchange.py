"""Counterfactual pairs -> can a clause be set by swapping a few latents, and is the rest left alone (RAVEL)?

A pair differs in one slot of the query and is aligned token for token by construction. While the model answers the
clean prompt, some latents carry at every token of the prompt what they carry for the corrupt one; all others, and the
SAE's error, stay. Cause is how often the edited clause becomes the corrupt query's, isolation how often the other
clauses stay the clean one's, disentanglement their mean (Huang et al. 2024, arXiv 2402.17700).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.pairs.counterfactual import CounterfactualPair
from saes.activations import capture
from saes.disk import SAE
from saes.roles import family
from saes.truth.answers import At, Change, changed_answers, check_sae, text_of
from saes.truth.causal import clauses_of, differs
from saes.truth.scoring import Table
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

SIZES = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What swapping one set of latents does."""

    name: str
    """`latents`: those of the best F1 for the edit's roles; `random`: as many others; `all latents`; `activations`."""
    size: int
    """Latents swapped; for `activations` its dimensions."""
    cause: float
    """Share of pairs whose edited clause becomes the corrupt query's."""
    isolation: float
    """Mean, over the clauses that the edit leaves alone, of the share of pairs in which they stay."""

    @property
    def disentanglement(self) -> float:
        """(cause + isolation) / 2; leaving everything as it is has 1/2."""
        return (self.cause + self.isolation) / 2


def interchange(
    sae: SAE,
    model: HybridLM,
    tokenizer: Tokenizer,
    pairs: Sequence[CounterfactualPair],
    *,
    hook: str,
    table: Table,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Swap]:
    """Swap ever more latents on every pair, beside as many random ones, all of them, and whole activations.

    Latents are ranked by their best F1 on the choosing half of `table` for a role that the edit names; `seed` draws the
    random ones from the rest. Raises `InputError` for no pairs, prompts of unlike lengths, an edit without roles
    among those of the table, and an SAE that is not of this hook.
    """
    if not pairs:
        raise InputError("there are no pairs", hint="make some with data_gen.counterfactuals")
    prompts = [
        tuple(tokenizer.encode_text(side.prompt.string) for side in (p.clean, p.corrupt)) for p in pairs
    ]
    for number, (clean, corrupt) in enumerate(prompts):
        if len(clean) != len(corrupt):
            raise InputError(
                f"the prompts of pair {number} have {len(clean)} and {len(corrupt)} tokens",
                hint="make the pairs with encode=tokenizer.encode_text",
            )
    check_sae(sae, model, tokenizer.end_id, hook)
    ranked = latents_for(table, pairs[0].edit)
    rest = torch.tensor([j for j in range(len(table.f1)) if j not in set(ranked[: max(sizes)])])
    order = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))].tolist()
    chosen: list[tuple[str, list[int] | None]] = []
    for size in sizes:
        chosen += [("latents", ranked[:size]), ("random", order[:size])]
    chosen += [("all latents", list(range(len(table.f1)))), ("activations", None)]
    swaps = []
    for name, latents in chosen:
        change = swap(sae, model, [corrupt for _, corrupt in prompts], hook, latents)
        gold = [[*tokenizer.encode_text(f" {pair.clean.sql.string}"), tokenizer.end_id] for pair in pairs]
        said = changed_answers(
            model, tokenizer, [clean for clean, _ in prompts], gold, hook, change, batch_size=batch_size
        )
        cause, isolation = outcome(pairs, [text_of(tokenizer, ids) for ids in said])
        size = sae.W_dec.shape[1] if latents is None else len(latents)
        swaps.append(Swap(name=name, size=size, cause=cause, isolation=isolation))
    return swaps


def latents_for(table: Table, edit: str) -> list[int]:
    """Latents from the best F1 down for any role that an edit names: `order_by.0.direction`, in whatever part.

    Raises:
        InputError: the table has no such role.
    """
    slot = edit.split(".", 1)[1] if edit.split(".")[0] in ("english", "schema", "sql") else edit
    names = {slot, family(slot)}
    own = [
        c
        for c, role in enumerate(table.names)
        if role.split(".", 1)[-1] in names or role.split(".", 1)[-1] == edit
    ]
    if not own:
        raise InputError(
            f"no scored role belongs to edit `{edit}`", hint=f"scored roles: {', '.join(table.names[:8])} ..."
        )
    best = table.chosen_f1[:, own].amax(1)
    return [j for j in best.argsort(descending=True, stable=True).tolist() if best[j] > 0]


@torch.no_grad()
def swap(
    sae: SAE, model: HybridLM, corrupt: Sequence[Sequence[int]], hook: str, latents: Sequence[int] | None
) -> Change:
    """At the prompt's tokens `latents` carry what they carry for the row's corrupt prompt; None swaps everything."""
    held: list[Float[Tensor, "seq d_in"]] = []
    for ids in corrupt:
        held.append(capture(model, torch.tensor([ids], device=model.device), hook)[0].float())
    kept = None if latents is None else torch.tensor(list(latents), dtype=torch.long, device=model.device)

    def change(values: Float[Tensor, "batch seq d_in"], at: At) -> Float[Tensor, "batch seq d_in"]:
        other = torch.nn.utils.rnn.pad_sequence([held[row] for row in at.row.tolist()], batch_first=True)
        n = min(other.shape[1], values.shape[1])
        here, other, now = at.prompt[:, :n, None], other[:, :n], values[:, :n]
        if kept is None:
            moved = torch.where(here, other, now)
        else:
            change = sae.encode(other)[..., kept] - sae.encode(now.float())[..., kept]
            moved = now + here * (change @ sae.W_dec[kept])
        return torch.cat([moved, values[:, n:]], dim=1)

    return change


def outcome(pairs: Sequence[CounterfactualPair], answers: Sequence[str]) -> tuple[float, float]:
    """Cause and isolation of answers; one that cannot be read has neither.

    The edited clauses of a pair are those in which its two queries differ.
    """
    caused, kept = 0.0, 0.0
    for pair, answer in zip(pairs, answers, strict=True):
        schema = pair.clean.query.schema
        clean, corrupt = (
            clauses_of(side.sql.string, side.query.schema) for side in (pair.clean, pair.corrupt)
        )
        said = clauses_of(answer, schema)
        if clean is None or corrupt is None:
            raise InputError(f"a query of edit `{pair.edit}` cannot be read")
        edited = [clause for clause in clean if differs(corrupt, clean, clause)]
        alone = [clause for clause in clean if clause not in edited]
        caused += said is not None and not any(differs(said, corrupt, clause) for clause in edited)
        kept += sum(said is not None and not differs(said, clean, clause) for clause in alone) / len(alone)
    return caused / len(pairs), kept / len(pairs)
