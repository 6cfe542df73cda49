"""Activations at several hooks -> a crosscoder: one set of latents with a decoder per hook (Lindsey et al. 2024).

The hooks may be layers of one model or the same place in two models, read at the same tokens. A crosscoder is an SAE
of what all carry side by side, with one difference: a latent's length is the sum of its decoder's lengths at each hook,
and so are latents ranked (TopK, BatchTopK: Minder et al. 2025) and penalised (ReLU with L1). Each hook is centred and
scaled to the same mean squared norm per dimension, so that none counts for more. It is saved in sae-lens' SAE classes,
as an SAE of the side-by-side activations, whose metadata say which dimensions are whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations, check_several_recorded
from saes.disk import SAE
from saes.training.config import SAEConfig
from saes.training.fitting import Fit, Watch, check_watch, fit, looking
from saes.training.loop import Loop
from saes.training.resume import fingerprint
from saes.training.sae import Maker, TrainedSAE, about, check, check_form, scaling, split
from saes.training.transcoders import check_pair

SHARED = "shared"
"""What the latents that are no hook's alone are counted under, so no hook has this name."""


@dataclass(frozen=True, kw_only=True)
class Specificity:
    """Whose each latent is, by what it writes; lengths are in units of each hook's own scale."""

    hooks: tuple[str, ...]
    share: Float[Tensor, "d_sae hook"]
    """Each hook's share of the decoder's lengths, which add up to 1: 1 / hooks everywhere is a shared latent."""
    breadth: Float[Tensor, " d_sae"]
    """At how many hooks a latent writes in effect, exp of the entropy of its shares: from 1 to the number of hooks."""
    cosine: Float[Tensor, "d_sae hook hook"]
    """Between the decoders of two hooks; NaN where their widths differ."""

    def counts(self, below: float = 0.1) -> dict[str, int]:
        """Latents that are one hook's alone, with less than the share `below` at all others, and all the rest."""
        alone = self.share > 1 - below
        named = {hook: int(alone[:, i].sum()) for i, hook in enumerate(self.hooks)}
        return {**named, SHARED: int((~alone.any(1)).sum())}


def side_by_side(recordings: Sequence[Activations]) -> Activations:
    """Recordings of the same tokens as one, wide one; `InputError` for other tokens and for fewer than two.

    Example:
        >>> side_by_side([one, other]).hook
        'blocks.1.hook_resid_post + blocks.3.hook_resid_post'
    """
    _check_recordings(recordings)
    return replace(
        recordings[0],
        hook=" + ".join(recording.hook for recording in recordings),
        values=torch.cat([recording.values for recording in recordings], dim=1),
    )


def train_crosscoder(
    recordings: Sequence[Activations],
    config: SAEConfig,
    *,
    names: Sequence[str] | None = None,
    model_name: str = "tinysql",
    show_progress: bool = False,
    directory: Path | None = None,
    watch: Watch | None = None,
) -> TrainedSAE:
    """Train a crosscoder on recordings of the same tokens; what comes out reads and writes them side by side.

    `names` tell the hooks of two models apart, and are the hooks' own unless given. d_sae is derived from the first
    hook's width. Raises `InputError` when the tokens differ, for two hooks of one name or one named `shared`, and as
    `train_sae` does; a `directory` and `watch` are as there.

    Example:
        >>> trained = train_crosscoder([before, after], SAEConfig(form="crosscoder"), names=["base", "tuned"])
        >>> list(specificity(trained.sae).counts())
        ['base', 'tuned', 'shared']
    """
    check_watch(watch)
    check_form(config, "crosscoder")
    _check_recordings(recordings)
    for recording in recordings:
        check(recording.values, config)
    values = [recording.values for recording in recordings]
    hooks = tuple(of_hook.shape[1] for of_hook in values)
    names = tuple(names or (recording.hook for recording in recordings))
    _check_names(names, len(hooks))
    train, held_back = split(values[0], config)
    found = [scaling(of_hook) for of_hook in values]
    mean = torch.cat([of_hook for of_hook, _ in found])
    scale = torch.cat([torch.full_like(of_hook, factor) for of_hook, factor in found])

    def raw(rows: Tensor) -> Tensor:
        return torch.cat([of_hook[rows].float() for of_hook in values], dim=1)

    loop = Loop.begin(config, d_in=sum(hooks), hooks=hooks, device=values[0].device)
    metadata = {
        **about(model_name, " + ".join(recording.hook for recording in recordings)),
        "hook_names": list(names),
        "hook_widths": list(hooks),
        "hook_scales": [factor for _, factor in found],
    }
    maker = Maker(
        loop=loop, raw=raw, metadata=metadata, train=train, held_back=held_back, mean=mean, scale=scale
    )
    run = Fit(
        loop,
        directory,
        lambda: " ".join(fingerprint(of_hook) for of_hook in values),
        looking(watch, maker.sae),
    )
    fit(
        [run],
        train,
        lambda rows: ((raw(rows) - mean) * scale,),
        roles=recordings[0].roles,
        title="training the crosscoder",
        show_progress=show_progress,
    )
    return maker.finished(run)


def _check_recordings(recordings: Sequence[Activations]) -> None:
    check_several_recorded(recordings)
    if len(recordings) < 2:
        raise InputError(
            f"a crosscoder reads at least two hooks, not {len(recordings)}", hint="record another hook"
        )
    for other in recordings[1:]:
        check_pair(recordings[0], other)


def _check_names(names: Sequence[str], hooks: int) -> None:
    """`InputError` unless each hook has a name by which `Specificity.counts` can count its latents."""
    if len(names) != hooks:
        raise InputError(f"{len(names)} names for {hooks} hooks", hint="give one name per recording")
    if len({*names, SHARED}) <= hooks:
        raise InputError(
            f"the hooks of the crosscoder are named {', '.join(names)}, expected different names, none of them "
            f"`{SHARED}`",
            hint="give each recording a name of its own, as in `names=['base', 'tuned']`",
        )


def widths(crosscoder: SAE) -> tuple[int, ...]:
    """How many dimensions each hook of a crosscoder has; `InputError` for an SAE of one hook."""
    found = crosscoder.cfg.metadata.hook_widths
    if found is None:
        raise InputError(
            f"the SAE of `{crosscoder.cfg.metadata.hook_name}` reads one hook and is no crosscoder",
            hint="train one with `saes.train_crosscoder`",
        )
    return tuple(found)


@torch.no_grad()
def specificity(crosscoder: SAE) -> Specificity:
    """At which hooks each latent writes, read off the decoder; `InputError` for an SAE of one hook."""
    sizes, about = widths(crosscoder), crosscoder.cfg.metadata
    parts = [
        part * scale
        for part, scale in zip(crosscoder.W_dec.split(sizes, dim=1), about.hook_scales, strict=True)
    ]
    lengths = torch.stack([part.norm(dim=1) for part in parts], dim=1)
    share = lengths / lengths.sum(1, keepdim=True).clamp_min(1e-30)
    entropy = -torch.special.xlogy(share, share).sum(1)
    nothing = lengths.new_full((len(lengths),), torch.nan)
    cosines = [
        torch.cosine_similarity(one, other, dim=1) if one.shape == other.shape else nothing
        for one in parts
        for other in parts
    ]
    return Specificity(
        hooks=tuple(about.hook_names),
        share=share,
        breadth=entropy.exp(),
        cosine=rearrange(cosines, "(one other) latent -> latent one other", one=len(parts)),
    )


def at_hook(crosscoder: SAE, values: Float[Tensor, "token d_all"], number: int) -> Float[Tensor, "token d"]:
    """The dimensions of one hook, counted from 0, of activations that lie side by side."""
    sizes = widths(crosscoder)
    start = list(accumulate(sizes, initial=0))[number]
    return values[:, start : start + sizes[number]]
