"""Activations -> directions: difference of means, contrasts prompt by prompt, principal component, an SAE's latent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import HookedModel, capture
from saes.disk import SAE
from tinysql.tokens import TokenPairs, Tokens
from transfer.maps.activation_map import ActivationMap
from transfer.names import Mode
from transfer.placing import Reading, changing
from transfer.points import Contrast
from transfer.steering import SteeringVector


def difference_of_means(contrast: Contrast, hook: str) -> SteeringVector:
    """mean(plus) - mean(minus): it points from minus to plus."""
    made = {"method": "difference of means", "plus": len(contrast.plus), "minus": len(contrast.minus)}
    return SteeringVector(hook=hook, vector=contrast.direction, metadata=made)


def principal_component(contrast: Contrast, hook: str) -> SteeringVector:
    """The direction in which paired differences plus_i - minus_i vary most about zero, as long as their mean along it.

    arXiv 2310.01405, section 3; its sign is that of the mean difference. Raises `InputError` for sides of unequal size.
    """
    differences = _differences(contrast)
    # About zero, not about their mean: what all pairs share is the direction that is sought.
    _, _, axes = torch.linalg.svd(differences, full_matrices=False)
    along = differences.mean(0) @ axes[0]
    made = {"method": "principal component", "pairs": len(differences)}
    return SteeringVector(hook=hook, vector=(along * axes[0]).float(), metadata=made)


def prompt_contrast(contrast: Contrast, hook: str) -> SteeringVector:
    """The mean of the prompts' own contrasts, each taken at length one; as long as their mean along it.

    A prompt's contrast is the mean of its plus points less that of its minus points. So all prompts count the same,
    while in the difference of means one counts more the farther apart its sides are and the more tokens it has. Raises
    `InputError` for a contrast that does not say which prompts its points are of, or whose sides have none in common.
    """
    if contrast.prompts is None:
        raise InputError(
            "the contrast does not say which prompt each point is of",
            hint="give it prompts=..., or take the difference of means",
        )
    count = 1 + int(torch.cat(contrast.prompts).max())
    (plus, of_plus), (minus, of_minus) = (
        _sums(side.values, prompts, count)
        for side, prompts in zip((contrast.plus, contrast.minus), contrast.prompts, strict=True)
    )
    both = (of_plus > 0) & (of_minus > 0)
    if not bool(both.any()):
        raise InputError(
            "no prompt has points on both sides of the contrast",
            hint="give the two sides of the same prompts",
        )
    own = plus[both] / of_plus[both, None] - minus[both] / of_minus[both, None]
    unit = torch.nn.functional.normalize(torch.nn.functional.normalize(own).mean(0), dim=0)
    made = {"method": "prompt contrast", "prompts": len(own)}
    return SteeringVector(hook=hook, vector=((own.mean(0) @ unit) * unit).float(), metadata=made)


OF_CONTRAST: dict[str, Callable[[Contrast, str], SteeringVector]] = {
    "difference-of-means": difference_of_means,
    "prompt-contrast": prompt_contrast,
    "principal-component": principal_component,
}
"""Kinds of vectors that a contrast at a hook gives by itself, each one for all prompts."""
PAIRED = ("principal-component",)
"""Those whose two sides have to be the same prompts, token by token."""


def latent_direction(sae: SAE, latent: int, *, hook: str | None = None) -> SteeringVector:
    """The decoder row of a latent: what the SAE writes when the latent is 1.

    `hook` is the one the SAE was trained on unless given. Raises `InputError` for a latent that is not there.
    """
    hook = hook or sae.cfg.metadata.hook_name
    if hook is None:
        raise InputError("the SAE does not say which hook it was trained on", hint="pass hook=...")
    if not 0 <= latent < len(sae.W_dec):
        raise InputError(
            f"latent {latent} is not one of the SAE's {len(sae.W_dec)}",
            hint=f"give 0 to {len(sae.W_dec) - 1}",
        )
    made = {"method": "SAE latent", "latent": latent}
    return SteeringVector(hook=hook, vector=sae.W_dec[latent].detach().clone().float(), metadata=made)


def mapped(
    vector: SteeringVector,
    fitted: ActivationMap,
    mode: Mode = "difference",
    *,
    contrast: Contrast | None = None,
) -> SteeringVector:
    """A source model's vector, carried to the map's target hook. Raises `InputError` for a vector of another hook."""
    if vector.hook != fitted.made.source_hook:
        raise InputError(
            f"the vector stands at `{vector.hook}`, the map reads `{fitted.made.source_hook}`",
            hint="fit a map at the vector's hook",
        )
    image = fitted.map_directions(vector.vector[None], mode, contrast=contrast)[0]
    made = {"method": "mapped", "map": fitted.made.method, "mode": mode, "of": dict(vector.metadata)}
    return SteeringVector(hook=fitted.made.target_hook, vector=image, metadata=made)


@dataclass(frozen=True, kw_only=True)
class PromptVectors:
    """A direction for each prompt, its own contrast (ActAdd, arXiv 2308.10248); row i belongs to prompt i."""

    hook: str
    vectors: Float[Tensor, "prompt d_model"]

    @staticmethod
    def of(contrast: Contrast, hook: str) -> PromptVectors:
        """plus_i - minus_i. Raises `InputError` for sides of unequal size."""
        return PromptVectors(hook=hook, vectors=_differences(contrast).float())

    @contextmanager
    def apply(
        self, model: HookedModel, scale: float = 1.0, positions: int | Int[Tensor, " prompt"] = 0
    ) -> Iterator[None]:
        """Within the block, add `scale` times each prompt's own vector at its position.

        The model must read these prompts in this order; prompts of rising length stay in order in `tinysql.answer`,
        as many as fit one batch. Raises `InputError` when it reads another number of them.
        """

        def add(value: Tensor, now: Reading) -> Tensor:
            if now.begin:
                return value
            if len(value) != len(self.vectors):
                raise InputError(
                    f"the model reads {len(value)} prompts, there are vectors for {len(self.vectors)}",
                    hint="give it the prompts that the vectors were taken from, in one batch",
                )
            step = scale * self.vectors.to(value)[:, None]
            # One per row: what lies behind the pass that all rows share is refused, and not left out.
            rows = torch.full((len(value),), positions) if isinstance(positions, int) else positions
            return value + step * now.mask(rows)[..., None]

        with changing(model, self.hook, add):
            yield


def pair_difference(
    model: HookedModel,
    pairs: TokenPairs,
    hook: str,
    *,
    position: Literal["metric", "all"] = "metric",
    batch_size: int = 64,
) -> SteeringVector:
    """Mean clean activation minus mean corrupt activation at `hook`: it points from corrupt to clean.

    The means are over the metric position of each pair, or over all real tokens of all pairs. Raises
    `InputError` for an unknown hook, no pairs, or another `position`.
    """
    if position not in ("metric", "all"):
        raise InputError(
            f"position is {position!r}, expected `metric` or `all`",
            hint="`metric` reads where the metric looks, `all` at every real token",
        )
    if not len(pairs):
        raise InputError("there is no pair to take a difference of means from", hint="give at least one pair")
    at = pairs.position if position == "metric" else None
    clean, corrupt = (_mean(model, side, hook, at, batch_size) for side in (pairs.clean, pairs.corrupt))
    metadata = {
        "method": "difference of means",
        "edit": pairs.edit,
        "pairs": len(pairs),
        "position": position,
    }
    return SteeringVector(hook=hook, vector=clean - corrupt, metadata=metadata)


def _differences(contrast: Contrast) -> Float[Tensor, "pair d_model"]:
    if len(contrast.plus) != len(contrast.minus):
        raise InputError(
            f"{len(contrast.plus)} and {len(contrast.minus)} points cannot be paired one by one",
            hint="give the two sides of the same prompts, or take the difference of means",
        )
    return contrast.plus.values.double() - contrast.minus.values.double()


def _sums(
    values: Float[Tensor, "token d_model"], prompts: Int[Tensor, " token"], count: int
) -> tuple[Float[Tensor, "prompt d_model"], Int[Tensor, " prompt"]]:
    """Sum of each prompt's points, and how many they are."""
    prompts = prompts.to(values.device)
    total = values.new_zeros(count, values.shape[1], dtype=torch.float64)
    return total.index_add_(0, prompts, values.double()), prompts.bincount(minlength=count)


def _mean(
    model: HookedModel, side: Tokens, hook: str, at: Int[Tensor, " batch"] | None, batch_size: int
) -> Float[Tensor, " d_model"]:
    """Mean activation over one position per row, or over all real tokens."""
    device = next(model.parameters()).device
    total, count = torch.zeros((), dtype=torch.float64, device=device), 0
    for start in range(0, len(side), batch_size):
        part = side[start : start + batch_size]
        values = capture(model, part.ids.to(device), hook)
        if at is None:
            rows = values[part.mask.to(device)]
        else:
            rows = values[torch.arange(len(part)), at[start : start + batch_size].to(device)]
        total, count = total + rows.double().sum(0), count + len(rows)
    return (total / count).float()
