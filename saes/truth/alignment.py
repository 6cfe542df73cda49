"""SAE -> Alignment: which latents track which known role, on held-out examples and beside controls and ceilings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations, HookedModel, record
from saes.disk import SAE
from saes.roles import Roles
from saes.training.cross_layer import CrossLayerTranscoder
from saes.truth.context import Excerpts, top_tokens
from saes.truth.controls import (
    Encoded,
    check_encoded,
    encode_sparse,
    equally_active,
    latents_of,
    neurons,
    principal,
    random_sae,
)
from saes.truth.firing import Firings, shuffle_within
from saes.truth.forms import Coder, check_sides, random_coder
from saes.truth.hierarchy import Hierarchy, hierarchy
from saes.truth.judging import Judge
from saes.truth.probes import dense_probe, sparse_probe
from saes.truth.published import Published, published
from saes.truth.scoring import LatentScore, Scores, Table, by_half, latent_scores
from tinysql.config import from_json, to_json
from tinysql.tokens import Tokenizer, Tokens

PERMUTATION, NEURONS, PRINCIPAL, DENSE = "label permutation", "neurons", "principal components", "dense probe"
SPARSE = (2, 5, 10)
"""Latents that sparse probes read; the best single one is the SAE's own row."""
Untrained = tuple[SAE | CrossLayerTranscoder, Activations, Activations | None]
"""What was trained alike on the model before training, what it reads, and what it writes if that is something else."""


@dataclass(frozen=True, kw_only=True)
class RoleFidelity:
    """What reconstructions keep at the tokens of one role."""

    role: str
    explained: float
    """1 - squared error / squared distance to the mean of all tokens, both summed over the role's tokens."""
    l0: float
    """Mean number of active latents."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Latents against roles: the SAE's scores, its controls' and ceilings', and its latents from best to worst.

    Of a transcoder or crosscoder all is the same, and `form` says what it is; neurons, components and probes are of
    what it reads.
    """

    hook: str
    """What is read; several hooks have a + between them."""
    examples: int
    tokens: int
    n_latents: int
    skipped: tuple[str, ...]
    """Roles with too few tokens to be scored."""
    dead: int
    """Latents that never fire on these tokens."""
    seed: int
    """Drew the halves, the permutation, the random SAE and the resamples."""
    sae: Scores
    controls: tuple[Scores, ...]
    """A random SAE, the SAE against roles shuffled within each example, the dimensions of the activation, its
    principal components, and the SAE of an untrained model where one was given."""
    ceilings: tuple[Scores, ...]
    """Logistic probes of 2, 5 and 10 latents per role, and of the whole activation."""
    published: Published
    hierarchy: Hierarchy
    fidelity: tuple[RoleFidelity, ...]
    latents: tuple[LatentScore, ...]
    form: str = "SAE"
    """What the latents are of, as in `Coder.form`; the names of its scores and controls have it in them."""

    @property
    def normalised(self) -> float:
        """Coverage on a scale on which neurons are 0 and the dense probe is 1."""
        by_name = {scores.name: scores.coverage for scores in (*self.controls, *self.ceilings)}
        room = by_name[DENSE] - by_name[NEURONS]
        return (self.sae.coverage - by_name[NEURONS]) / room if room > 0 else float("nan")

    def __str__(self) -> str:
        lines = [f"{self.hook}: {self.n_latents} latents on {self.tokens} tokens, {self.dead} never active"]
        for scores in (self.sae, *self.controls, *self.ceilings):
            low, high = scores.coverage_interval
            lines.append(
                f"  {scores.name:<22} mean best F1 {scores.coverage:.3f} (95 % interval {low:.3f} to {high:.3f})"
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return to_json(self)

    @staticmethod
    def from_json(values: dict[str, Any], where: str = "truth.json") -> Alignment:
        """Read what `to_json` gave; `InputError` naming `where` otherwise."""
        return from_json(Alignment, values, where=where)


def truth(
    sae: SAE,
    model: HookedModel,
    tokens: Tokens,
    *,
    hook: str | None = None,
    tokenizer: Tokenizer | None = None,
    untrained: tuple[SAE, HookedModel] | None = None,
    seed: int = 0,
    shown: int = 40,
    show_progress: bool = False,
) -> Alignment:
    """Score every latent of `sae` against the known role of every token.

    `hook` is the one the SAE was trained on unless given. `tokenizer` writes out the strongest
    tokens of the best `shown` latents and of each role's best latent. `untrained` is an SAE trained alike on that hook
    of a model whose weights are as drawn, with that model. Give tokens the SAE was not trained on.
    Raises `InputError` for an unknown hook, an SAE of another width, or too few examples.

    Example:
        >>> alignment = truth(sae, model, tokens)
        >>> alignment.sae.coverage, alignment.controls[0].coverage
        (0.761, 0.614)
    """
    hook = hook or sae.cfg.metadata.hook_name
    if hook is None:
        raise InputError("the SAE does not say which hook it was trained on", hint="pass hook=...")
    activations = record(model, tokens, hook, show_progress=show_progress)
    excerpts = Excerpts(tokens=tokens, tokenizer=tokenizer) if tokenizer is not None else None
    blank = (
        None
        if untrained is None
        else (untrained[0], record(untrained[1], tokens, hook, show_progress=show_progress), None)
    )
    return align(sae, activations, untrained=blank, excerpts=excerpts, seed=seed, shown=shown)


def align(
    sae: SAE | CrossLayerTranscoder,
    activations: Activations,
    *,
    outputs: Activations | None = None,
    untrained: Untrained | None = None,
    excerpts: Excerpts | None = None,
    seed: int = 0,
    shown: int = 40,
) -> Alignment:
    """`truth` on activations already recorded, for a dictionary of any form.

    A transcoder needs the `outputs` that it predicts, too; where several hooks are read or written, they stand
    `side_by_side`. `untrained` is trained alike on a model as drawn, with its activations (and outputs) at the same
    tokens. Raises `InputError` as `truth` does, and where nothing can be scored: no latent fires, a reconstruction is
    not finite, or all tokens carry the same.

    Example:
        >>> inputs, outputs = saes.record_many(model, tokens, ["blocks.1.ln1.hook_normalized", "blocks.1.hook_mlp_out"])
        >>> align(transcoder, inputs, outputs=outputs).sae.name
        'transcoder'
    """
    values = activations.values
    coder = Coder.of(sae)
    wanted = check_sides(coder, activations, outputs)
    judge = Judge.of(activations, seed)
    roles, halves = judge.roles, judge.halves
    encoded = encode_sparse(coder, values, wanted)
    check_encoded(encoded, coder.form, activations.hook)
    parts = by_half(encoded.firings, halves)
    table = judge.table(parts)
    own = judge.score(coder.form, parts, table, encoded.fvu)[0]
    latents = latent_scores(encoded.firings, table)
    return Alignment(
        hook=activations.hook,
        examples=len(activations.example.unique()),
        tokens=len(values),
        n_latents=encoded.firings.n_latents,
        skipped=judge.skipped,
        dead=int((encoded.firings.fired == 0).sum()),
        seed=seed,
        sae=own,
        controls=_controls(judge, sae, coder, encoded, parts, activations, untrained),
        ceilings=_ceilings(judge, encoded.firings, values, table),
        published=published(*parts, judge.sides, halves.example),
        hierarchy=hierarchy(coder.decoder, wanted[halves.measure], parts, judge.sides, table),
        fidelity=by_role(encoded, roles),
        latents=_illustrate(latents, own, encoded.firings, activations, excerpts, shown),
        form=coder.form,
    )


def scored_table(sae: SAE, activations: Activations, seed: int) -> tuple[Firings, Table]:
    """The latents at every token, and each against every role, chosen and measured as `align` does."""
    coder, values = Coder.of(sae), activations.values
    check_sides(coder, activations, None)
    firings, judge = latents_of(coder, values), Judge.of(activations, seed)
    return firings, judge.table(by_half(firings, judge.halves))


def _controls(
    judge: Judge,
    sae: SAE | CrossLayerTranscoder,
    coder: Coder,
    encoded: Encoded,
    parts: tuple[Firings, Firings],
    activations: Activations,
    untrained: Untrained | None,
) -> tuple[Scores, ...]:
    values, choose = activations.values, judge.halves.choose
    mean = values[choose].mean(0)
    permuted = judge.roles.at(shuffle_within(activations.example.to(values.device), judge.seed))
    found = [
        _random(judge, sae, coder, encoded, values),
        judge.score(PERMUTATION, parts, judge.table(parts, permuted), encoded.fvu, permuted)[0],
        judge(NEURONS, neurons(values, mean)),
        judge(PRINCIPAL, principal(values, choose)),
    ]
    if untrained is not None:
        other = Coder.of(untrained[0])
        wanted = check_sides(other, *untrained[1:])
        if untrained[1].roles != activations.roles:
            raise InputError(
                "the untrained model's activations are of other tokens", hint="record both at the same tokens"
            )
        blank = encode_sparse(other, untrained[1].values, wanted)
        found.append(judge(f"{coder.form} of untrained model", blank.firings, blank.fvu))
    return tuple(found)


def _random(
    judge: Judge, sae: SAE | CrossLayerTranscoder, coder: Coder, encoded: Encoded, values: Tensor
) -> Scores:
    """The control that has random directions."""
    choose, name = judge.halves.choose, f"random {coder.form}"
    if isinstance(sae, CrossLayerTranscoder) or not coder.writes_what_it_reads:
        made = random_coder(coder, values, choose, encoded.firings.fired, judge.seed)
        return judge(name, latents_of(made, values))
    l0 = len(encoded.firings.value) / len(values)
    control = random_sae(sae, values[choose].mean(0), judge.seed)
    of_random = encode_sparse(Coder.of(equally_active(control, values[choose], l0)), values, values)
    return judge(name, of_random.firings, of_random.fvu)


def _ceilings(judge: Judge, firings: Firings, values: Tensor, table: Table) -> tuple[Scores, ...]:
    choose, roles = judge.halves.choose, judge.roles
    sparse = [judge(f"probe of {k} latents", sparse_probe(firings, choose, roles, table, k)) for k in SPARSE]
    return (*sparse, judge(DENSE, dense_probe(values, choose, roles, table)))


def by_role(encoded: Encoded, roles: Roles) -> tuple[RoleFidelity, ...]:
    """Fraction of variance explained and active latents, family by family and slot by slot."""
    active = torch.bincount(encoded.firings.token, minlength=encoded.firings.n_tokens).double()
    found: list[RoleFidelity] = []
    for number, name in enumerate(roles.names):
        here = roles.wanted(number)
        spread = float(encoded.spread[here].sum())
        found.append(
            RoleFidelity(
                role=name,
                explained=1 - float(encoded.error[here].sum()) / spread if spread > 0 else 0.0,
                l0=float(active[here].mean()),
            )
        )
    return tuple(found)


def _illustrate(
    latents: list[LatentScore],
    own: Scores,
    firings: Firings,
    activations: Activations,
    excerpts: Excerpts | None,
    shown: int,
) -> tuple[LatentScore, ...]:
    """Give the first `shown` latents and each role's best one their strongest tokens."""
    chosen = {latent.latent for latent in latents[:shown]} | {role.latent for role in own.roles}
    return tuple(
        replace(latent, top=top_tokens(firings, latent.latent, activations, excerpts))
        if latent.latent in chosen
        else latent
        for latent in latents
    )
