"""SAE + rows -> what its latents do: switch one off or on, let the model answer, parse, compare the queries.

The reconstruction is never put in: what is written to the stream is the change of the one latent times its decoder row,
so the SAE's error stays, and all other latents. Answers are compared with the model's own unchanged ones, clause by
clause and whatever their spelling.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from data_gen.errors import InputError
from data_gen.example import Example
from data_gen.read.canonical import CLAUSES, clause_values
from data_gen.read.parse import SqlError, read_sql
from data_gen.schema import Schema
from saes.activations import capture
from saes.disk import SAE
from saes.truth.answers import At, Change, changed_answers, check_sae, finished, text_of
from saes.truth.scoring import Table
from tinysql.config import to_json
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer

Way = Literal["off", "on"]
TABLE_ROLES = ("table", "from")
"""Second parts of a role that belong to FROM."""


@dataclass(frozen=True, kw_only=True)
class LatentEffect:
    """What becomes of answers when one latent is switched."""

    latent: int
    way: Way
    """`off`: 0 at every token. `on`: its largest activation from the prompt's last token on."""
    switched: int
    """Answers in which it was: `off` those in which it fires, `on` all, or none where it fires in none."""
    changed: dict[str, float]
    """Clause -> share of answers in which it is not what it was; an answer that cannot be read has changed in all."""
    valid: float
    """1 - the share of answers that came to read as no query, or to have no end."""

    @property
    def clause(self) -> str:
        """The clause that changes most often."""
        return max(self.changed, key=lambda clause: self.changed[clause])

    @property
    def specificity(self) -> float:
        """That clause's share of all changes; 0 where nothing changes."""
        total = sum(self.changed.values())
        return self.changed[self.clause] / total if total else 0.0

    @property
    def side_damage(self) -> float:
        """Mean share of answers changed in the other clauses."""
        others = [share for clause, share in self.changed.items() if clause != self.clause]
        return float(np.mean(others)) if others else 0.0


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What latents do, and whether those that fire for a clause are those that change it."""

    hook: str
    answers: int
    """Rows answered."""
    latents: tuple[LatentEffect, ...]
    alignment: dict[str, float]
    """Clause -> Spearman's correlation, over latents, of the best F1 for a role of the clause and the share of answers
    in which switching off changes it; clauses that no latent changes are left out."""

    @property
    def by_latent(self) -> dict[int, dict[str, dict[str, float]]]:
        """Latent -> way -> clause -> share of answers changed; what was switched in no answer is left out."""
        found: dict[int, dict[str, dict[str, float]]] = {}
        for effect in self.latents:
            if effect.switched:
                found.setdefault(effect.latent, {})[effect.way] = effect.changed
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return to_json(self)

    @staticmethod
    def from_json(values: Any, where: str = "effects.json") -> Effects:
        """Read what `to_json` gave; `InputError` naming `where` otherwise."""
        try:
            latents = tuple(_effect(one) for one in values["latents"])
            found = Effects(**{**values, "latents": latents, "alignment": _numbers(values["alignment"])})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where} does not hold effects of latents ({error})",
                hint="make it again: tinysql sae effects RUN",
            ) from error
        return found


def _effect(values: Mapping[str, Any]) -> LatentEffect:
    """`KeyError`, `TypeError` or `ValueError` for what is none."""
    if values["way"] not in get_args(Way):
        raise ValueError(f"way is {values['way']!r}")
    for name in ("latent", "switched"):
        if not isinstance(values[name], int):
            raise ValueError(f"{name} is {values[name]!r}, expected a whole number")
    shares = {"changed": _numbers(values["changed"]), **_numbers({"valid": values["valid"]})}
    return LatentEffect(**{**values, **shares})


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    for name, value in values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}, expected a finite number")
    return {name: float(value) for name, value in values.items()}


def effects(
    sae: SAE,
    model: HybridLM,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    *,
    hook: str,
    off: Sequence[int],
    on: Sequence[int] = (),
    table: Table | None = None,
    batch_size: int = 128,
) -> Effects:
    """Switch each latent of `off` off, and each of `on` on, while the model answers `examples`.

    `table` holds the F1 of every latent for every role and gives the rank correlation. A row in which a latent never
    fires cannot change by switching it off and is not run.
    Raises `InputError` for no examples, answers none of which can be read, latents the SAE does not have, and an SAE
    that is not of this hook.
    """
    _check(sae, examples, (*off, *on))
    prompts = [tokenizer.encode_text(example.prompt.string) for example in examples]
    check_sae(sae, model, tokenizer.end_id, hook)
    gold = [[*tokenizer.encode_text(f" {example.sql.string}"), tokenizer.end_id] for example in examples]
    own = changed_answers(model, tokenizer, prompts, gold, hook, None, batch_size=batch_size)
    peaks = peak_activations(sae, model, prompts, own, hook, batch_size)
    most = peaks.amax(0)
    schemas = [example.query.schema for example in examples]
    before = [_read(tokenizer, ids, schema) for ids, schema in zip(own, schemas, strict=True)]
    clauses = _live(before)
    rows = range(len(prompts))
    runs: list[tuple[int, Way, int]] = [(j, "off", row) for j in off for row in rows if peaks[row, j] > 0]
    runs += [(j, "on", row) for j in on for row in rows if most[j] > 0]
    change = switch(sae, runs, most)
    said = changed_answers(
        model,
        tokenizer,
        [prompts[row] for _, _, row in runs],
        [own[row] for _, _, row in runs],
        hook,
        change,
        batch_size=batch_size,
        title="switching latents",
    )
    after: dict[tuple[int, Way], dict[int, list[int]]] = {(j, "off"): {} for j in off}
    after |= {(j, "on"): {} for j in on}
    switched = Counter((j, way) for j, way, _ in runs)
    for (j, way, row), ids in zip(runs, said, strict=True):
        if ids != own[row]:
            after[j, way][row] = ids
    found = [
        tally(
            j,
            way,
            switched[j, way],
            {row: _read(tokenizer, ids, schemas[row]) for row, ids in answers.items()},
            before,
            clauses,
        )
        for (j, way), answers in after.items()
    ]
    rank = causal_alignment(found, table, clauses) if table is not None else {}
    return Effects(hook=hook, answers=len(examples), latents=tuple(found), alignment=rank)


def _check(sae: SAE, examples: Sequence[Example], latents: Sequence[int]) -> None:
    if not examples:
        raise InputError("there are no examples to answer", hint="give at least one")
    beyond = [j for j in latents if not 0 <= j < len(sae.W_dec)]
    if beyond:
        raise InputError(f"the SAE has no latent {beyond[0]}", hint=f"latents are 0 to {len(sae.W_dec) - 1}")


def tally(
    latent: int,
    way: Way,
    switched: int,
    after: Mapping[int, Mapping[str, object] | None],
    before: Sequence[Mapping[str, object] | None],
    clauses: Sequence[str],
) -> LatentEffect:
    """What one latent does, switched in `switched` answers.

    `after` holds, by row, the answers that have become another text, None for no query. An answer that could not
    be read `before` cannot become invalid.
    """
    changed = {
        clause: sum(differs(now, before[row], clause) for row, now in after.items()) / len(before)
        for clause in clauses
    }
    unread = sum(now is None and before[row] is not None for row, now in after.items())
    return LatentEffect(
        latent=latent, way=way, switched=switched, changed=changed, valid=1 - unread / len(before)
    )


@torch.no_grad()
def peak_activations(
    sae: SAE,
    model: HybridLM,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    hook: str,
    batch_size: int,
) -> Float[Tensor, "row latent"]:
    """Each latent's largest activation in each prompt with its answer."""
    found = []
    for start in range(0, len(prompts), batch_size):
        rows = [
            torch.tensor([*p, *a], device=model.device)
            for p, a in zip(
                prompts[start : start + batch_size], answers[start : start + batch_size], strict=True
            )
        ]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        real = torch.arange(ids.shape[1], device=ids.device) < torch.tensor(
            [len(row) for row in rows], device=ids.device
        ).unsqueeze(1)
        latents = sae.encode(capture(model, ids[:, : model.cfg.n_ctx], hook).float())
        found.append((latents * real[:, : model.cfg.n_ctx, None]).amax(1))
    return torch.cat(found)


def switch(sae: SAE, runs: Sequence[tuple[int, Way, int]], most: Float[Tensor, " latent"]) -> Change:
    """The change of each run: its latent set to 0 everywhere, or to its most from the prompt's last token on.

    A run is a latent, which way it is switched, and the row that is answered.
    """
    device = sae.W_dec.device
    latent = torch.tensor([j for j, _, _ in runs], device=device)
    on = torch.tensor([way == "on" for _, way, _ in runs], device=device)

    def change(values: Float[Tensor, "batch seq d_in"], at: At) -> Float[Tensor, "batch seq d_in"]:
        j, is_on = latent[at.row], on[at.row]
        active = sae.encode(values.float())
        now = active.gather(2, j[:, None, None].expand(-1, active.shape[1], 1))
        wanted = torch.where(is_on, most[j], 0)[:, None, None]
        acts = ~is_on[:, None] | at.answering
        return values + acts[..., None] * (wanted - now) * sae.W_dec[j][:, None]

    return change


def _read(tokenizer: Tokenizer, ids: Sequence[int], schema: Schema) -> Mapping[str, object] | None:
    return clauses_of(text_of(tokenizer, ids), schema) if finished(tokenizer, ids) else None


def clauses_of(sql: str, schema: Schema) -> Mapping[str, object] | None:
    """Clause -> its canonical value; None for what is not one SELECT statement."""
    try:
        return clause_values(read_sql(sql), schema)
    except SqlError:
        return None


def differs(after: Mapping[str, object] | None, before: Mapping[str, object] | None, clause: str) -> bool:
    """Whether a clause is not what it was; what cannot be read differs from what can."""
    if after is None or before is None:
        return after is not before
    return after[clause] != before[clause]


def _live(before: Sequence[Mapping[str, object] | None]) -> list[str]:
    """The clauses that some answer has; what none has is as good as outside the task."""
    readable = [values for values in before if values is not None]
    if not readable:
        raise InputError(
            f"none of the model's {len(before)} answers can be read as a query",
            hint="latents are judged by what they change in answers: train the model longer",
        )
    empty = clause_values(read_sql("SELECT a FROM b"), Schema(tables=()))
    return [
        clause
        for clause in CLAUSES
        if clause in ("select", "from") or any(values[clause] != empty[clause] for values in readable)
    ]


def clause_of_role(role: str) -> str | None:
    """The clause that a role of the question or of the SQL belongs to.

    Example:
        >>> clause_of_role("english.order_by.0.direction"), clause_of_role("sql.table"), clause_of_role("schema.table")
        ('order_by', 'from', None)
    """
    part, *rest = role.split(".")
    if part not in ("english", "sql") or not rest:
        return None
    if rest[0] in TABLE_ROLES:
        return "from"
    return rest[0] if rest[0] in CLAUSES else None


def causal_alignment(found: Sequence[LatentEffect], table: Table, clauses: Sequence[str]) -> dict[str, float]:
    """Spearman's correlation over latents of F1 for a clause's roles and of how often switching off changes it."""
    off = [effect for effect in found if effect.way == "off"]
    latent: Int[Tensor, " latent"] = torch.tensor([effect.latent for effect in off], dtype=torch.long)
    result = {}
    for clause in clauses:
        of = torch.tensor([clause_of_role(name) == clause for name in table.names])
        own: Bool[Tensor, " column"] = of
        if not bool(own.any()):
            continue
        f1 = table.f1[latent][:, own].amax(1).numpy()
        effect = np.array([one.changed[clause] for one in off])
        if len(off) > 2 and np.ptp(f1) > 0 and np.ptp(effect) > 0:
            result[clause] = float(spearmanr(f1, effect).statistic)
    return result
