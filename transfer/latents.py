"""SAE of a run + contrast -> the latent that best tells the two sides apart, as a direction."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import read_json
from saes.disk import CONFIG, SAE, WEIGHTS
from saes.places import directory_of, found
from saes.truth.forms import TRANSCODERS
from tinysql.runs import Run
from transfer.points import Contrast
from transfer.steering import SteeringVector
from transfer.vectors import latent_direction

LEAST_APART = 0.2
"""Standard deviations that the means of a latent have to lie apart to tell two sides; less is called no effect even
where a small one is looked for (Cohen 1988)."""
CHUNK = 8192
"""Points that are encoded together."""


def contrast_latent(sae: SAE, contrast: Contrast, hook: str) -> SteeringVector:
    """What one latent writes of a difference of means: (its mean on plus - its mean on minus) times its decoder row.

    The latent is the one whose means lie most standard deviations apart, |d| with d = (mean(plus) - mean(minus)) /
    sqrt((var(plus) + var(minus)) / 2). So one that is active on the minus side is turned round. Raises `InputError`
    for an SAE of another width, and where no |d| is as large as `LEAST_APART`.
    """
    width = contrast.plus.values.shape[1]
    if width != len(sae.W_enc):
        raise InputError(
            f"the SAE reads {len(sae.W_enc)} dimensions, `{hook}` carries {width}",
            hint="give an SAE that was trained on this hook of this model",
        )
    (plus, plus_spread), (minus, minus_spread) = (
        _moments(sae, side.values) for side in (contrast.plus, contrast.minus)
    )
    spread = ((plus_spread + minus_spread) / 2).sqrt()
    # A latent without spread that is as active on both sides tells nothing.
    apart = (plus - minus) / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    latent = int(apart.abs().argmax())
    d = float(apart[latent])
    if abs(d) < LEAST_APART:
        raise InputError(
            f"no latent of the SAE at `{hook}` tells the two sides apart: the best, {latent}, has means {abs(d):.2f} "
            f"standard deviations apart, expected at least {LEAST_APART}",
            hint="train an SAE with more latents, steer at another hook, or choose the vector `difference-of-means`",
        )
    means = {"plus": float(plus[latent]), "minus": float(minus[latent])}
    direction = latent_direction(sae, latent, hook=hook) * (means["plus"] - means["minus"])
    return SteeringVector(
        hook=hook,
        vector=direction.vector,
        metadata={"method": "SAE latent", "latent": latent, "apart": d, **means},
    )


def sae_at(run: Run, names: Sequence[str], hook: str) -> Path:
    """The directory of the first of the named SAEs of a run that was trained on the hook.

    Names that the run has not are passed over as long as it has one of them. As a member of a grid has commas in its
    name, parts of names that are one of the run's with commas between them are taken for it. Raises `InputError`
    where it has none, and where none of them is an SAE of that hook.
    """
    paths = [directory_of(run, name) for name in _there(names, found(run.path))]
    paths = paths or [directory_of(run, names[0])]
    hooks = [_hook(path) for path in paths]
    if hook not in hooks:
        said = ", ".join(
            f"`{path.name}` is {'no SAE' if one is None else f'of `{one}`'}"
            for path, one in zip(paths, hooks, strict=True)
        )
        raise InputError(
            f"{run.path} has no SAE of `{hook}` among those named: {said}",
            hint=f"train one with: tinysql sae train {run.path} --hook {hook} --name NAME",
        )
    return paths[hooks.index(hook)]


def _there(parts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Which of `known` were named, in their order; the longest where one begins as another does.

    Example:
        >>> _there(["g", "k=4", "seed=0", "late"], ["g", "g,k=4,seed=0", "late"])
        ['g,k=4,seed=0', 'late']
    """
    there, rest = [], list(parts)
    while rest:
        ends = [end for end in range(len(rest), 0, -1) if ",".join(rest[:end]) in known]
        there += [",".join(rest[:end]) for end in ends[:1]]
        rest = rest[ends[0] if ends else 1 :]
    return there


def digest(sae: Path) -> str:
    """Whether it is the same SAE: of its weights, as they lie on disk."""
    return blake2b((sae / WEIGHTS).read_bytes(), digest_size=16).hexdigest()


def _hook(sae: Path) -> str | None:
    """What an SAE reads and writes; None for a dictionary that writes another hook, or reads several."""
    config = read_json(sae / CONFIG)
    metadata = config.get("metadata") or {}
    is_other = config.get("architecture") in (*TRANSCODERS, "cross_layer_transcoder")
    return None if is_other or metadata.get("hook_widths") is not None else metadata.get("hook_name")


@torch.no_grad()
def _moments(
    sae: SAE, values: Float[Tensor, "token d_model"]
) -> tuple[Float[Tensor, " latent"], Float[Tensor, " latent"]]:
    """Mean and variance of every latent over points."""
    latents = torch.cat([sae.encode(part).double() for part in values.split(CHUNK)])
    return latents.mean(0), latents.var(0, unbiased=False)
