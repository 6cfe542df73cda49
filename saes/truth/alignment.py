"""SAE -> Alignment: which latents track which known role, on held-out examples and beside controls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from data_gen.errors import InputError
from saes.activations import Activations, HookedModel, record
from saes.disk import SAE
from saes.roles import Roles
from saes.truth.context import Excerpts, top_tokens
from saes.truth.controls import encode_sparse, equally_active, neurons, random_sae
from saes.truth.firing import Firings, shuffle_within
from saes.truth.scoring import Halves, LatentScore, Scores, latent_scores, score, scored, tabulate
from tinysql.config import from_json, to_json
from tinysql.tokens import Tokenizer, Tokens

RANDOM_SAE, PERMUTATION, NEURONS = "random SAE", "label permutation", "neurons"


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Latents against roles: the SAE's scores, its controls', and its latents from best to worst."""

    hook: str
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
    """A random SAE, the SAE against roles shuffled within each example, and the dimensions of the activation."""
    latents: tuple[LatentScore, ...]

    def __str__(self) -> str:
        lines = [f"{self.hook}: {self.n_latents} latents on {self.tokens} tokens, {self.dead} never active"]
        for scores in (self.sae, *self.controls):
            low, high = scores.coverage_interval
            lines.append(
                f"  {scores.name:<18} mean best F1 {scores.coverage:.3f} (95 % interval {low:.3f} to {high:.3f})"
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
    seed: int = 0,
    shown: int = 40,
    show_progress: bool = False,
) -> Alignment:
    """Score every latent of `sae` against the known role of every token.

    `hook` is the one the SAE was trained on unless given. `tokenizer` writes out the strongest
    tokens of the best `shown` latents and of each role's best latent. Give tokens the SAE was not trained on.
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
    return align(sae, activations, excerpts=excerpts, seed=seed, shown=shown)


def align(
    sae: SAE, activations: Activations, *, excerpts: Excerpts | None = None, seed: int = 0, shown: int = 40
) -> Alignment:
    """`truth` on activations already recorded."""
    values = activations.values
    if values.shape[1] != sae.W_dec.shape[1]:
        raise InputError(
            f"hook `{activations.hook}` is {values.shape[1]} wide, the SAE reads {sae.W_dec.shape[1]}",
            hint="score the SAE on the hook it was trained on",
        )
    example = activations.example.to(values.device)
    halves = Halves.of(example, seed)
    roles = Roles.of(activations.roles, values.device)
    permuted = roles.at(shuffle_within(example, seed))
    mean = values[halves.choose].mean(0)
    firings, error = encode_sparse(sae, values)
    control = equally_active(
        random_sae(sae, mean, seed), values[halves.choose], len(firings.value) / len(values)
    )
    random_firings, random_error = encode_sparse(control, values)
    kept = scored(roles.at(halves.choose), roles.at(halves.measure)).tolist()
    if not any(kept):
        raise InputError("no role has enough tokens to be scored", hint="give more examples")

    def scores(name: str, of: Firings, labels: Roles, fvu: float | None) -> tuple[Scores, list[LatentScore]]:
        choose, measure = labels.at(halves.choose), labels.at(halves.measure)
        table = tabulate(of, choose, measure, halves)
        return score(name, of, table, measure, halves, fvu=fvu, seed=seed), latent_scores(of, table)

    own, latents = scores("SAE", firings, roles, error)
    return Alignment(
        hook=activations.hook,
        examples=len(example.unique()),
        tokens=len(values),
        n_latents=firings.n_latents,
        skipped=tuple(name for name, keep in zip(roles.names, kept, strict=True) if not keep),
        dead=int((firings.fired == 0).sum()),
        seed=seed,
        sae=own,
        controls=(
            scores(RANDOM_SAE, random_firings, roles, random_error)[0],
            scores(PERMUTATION, firings, permuted, error)[0],
            scores(NEURONS, neurons(values, mean), roles, None)[0],
        ),
        latents=_illustrate(latents, own, firings, activations, excerpts, shown),
    )


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
