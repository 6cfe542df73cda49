"""A dictionary of any form -> what is scored of it: the latents it reads, and what they write.

An SAE writes what it reads. A transcoder writes another hook. A crosscoder reads and writes several hooks side by side.
A cross-layer transcoder reads the inputs of all layers side by side and writes their outputs; latent j of layer l is
number l * d_sae + j.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations
from saes.dictionaries.inference import threshold_at
from saes.disk import SAE
from saes.training.config import Form
from saes.training.cross_layer import CrossLayerTranscoder
from saes.training.crosscoders import side_by_side
from saes.training.transcoders import check_pair

SKIPS = ("skip_transcoder", "jumprelu_skip_transcoder")
"""sae-lens' architectures with a linear path beside the latents."""
TRANSCODERS = ("transcoder", "jumprelu_transcoder", *SKIPS)


@dataclass(frozen=True, kw_only=True)
class Coder:
    """Latents of some inputs, and what is made of them."""

    form: str
    """What it is called in a table: `SAE`, `transcoder`, `skip transcoder`, `crosscoder`, `cross-layer transcoder`."""
    widths: tuple[int, ...]
    """Dimensions of each part of the input that has latents of its own; they lie side by side."""
    encode: Callable[[Float[Tensor, "token d_in"]], Float[Tensor, "token latent"]]
    predict: Callable[
        [Float[Tensor, "token d_in"], Float[Tensor, "token latent"]], Float[Tensor, "token d_out"]
    ]
    decoder: Float[Tensor, "latent d_out"]
    """What each latent writes."""

    @staticmethod
    def of(dictionary: SAE | CrossLayerTranscoder) -> Coder:
        """Any dictionary that `saes` trains or loads."""
        if isinstance(dictionary, CrossLayerTranscoder):
            return _cross_layer(dictionary)
        kind = dictionary.cfg.architecture()
        form, predict = "SAE", _decoded(dictionary)
        if kind in TRANSCODERS:
            form = "skip transcoder" if kind in SKIPS else "transcoder"
            predict = _beside(dictionary) if kind in SKIPS else predict
        elif dictionary.cfg.metadata.hook_widths is not None:
            form = "crosscoder"
        return Coder(
            form=form,
            widths=(dictionary.W_enc.shape[0],),
            encode=dictionary.encode,
            predict=predict,
            decoder=dictionary.W_dec,
        )

    @property
    def writes_what_it_reads(self) -> bool:
        """Whether its outputs are its inputs again."""
        return self.form in ("SAE", "crosscoder")

    @property
    def d_in(self) -> int:
        """Dimensions of the whole input."""
        return sum(self.widths)


def check_sides(
    coder: Coder, inputs: Activations, outputs: Activations | None
) -> Float[Tensor, "token d_out"]:
    """What the coder is to write at the tokens of `inputs`.

    Raises `InputError` where a side has another width than the coder, or is not finite, where outputs are missing or
    of other tokens, and where a coder that writes what it reads is given some.
    """
    _check_side(coder.form, "reads", coder.d_in, inputs)
    if coder.writes_what_it_reads:
        if outputs is not None:
            raise InputError(
                f"the {coder.form} of `{inputs.hook}` writes what it reads", hint="leave the outputs out"
            )
        return inputs.values
    if outputs is None:
        raise InputError(
            f"the {coder.form} reads `{inputs.hook}` and writes another hook, of which nothing is given",
            hint="record both hooks, and pass outputs=...",
        )
    check_pair(inputs, outputs)
    _check_side(coder.form, "writes", coder.decoder.shape[1], outputs)
    return outputs.values


def sides(recordings: Sequence[Activations], form: Form) -> tuple[Activations, Activations | None]:
    """Of recordings of a form's hooks: what is read, and what is written where that is something else.

    Several hooks of one side stand `side_by_side`.
    """
    if form == "cross_layer_transcoder":
        half = len(recordings) // 2
        return side_by_side(recordings[:half]), side_by_side(recordings[half:])
    if form == "crosscoder":
        return side_by_side(recordings), None
    return recordings[0], None if form == "sae" else recordings[1]


def random_coder(
    coder: Coder,
    values: Float[Tensor, "token d_in"],
    choose: Int[Tensor, " chosen"],
    fired: Int[Tensor, " latent"],
    seed: int,
) -> Coder:
    """A control for what reads one thing and writes another: random directions, as active as the coder's latents.

    Each part of the input has as many directions as it has latents; they fire above a threshold that makes them as
    active on the tokens `choose` as the latents, which `fired` at so many of all tokens. They predict nothing: what
    they would write is not given.
    """
    generator = torch.Generator().manual_seed(seed)
    each, bounds = len(fired) // len(coder.widths), list(accumulate(coder.widths, initial=0))
    parts: list[Callable[[Tensor], Tensor]] = []
    for number, (first, last) in enumerate(pairwise(bounds)):
        directions = torch.randn(each, last - first, generator=generator).to(values)
        directions = directions / directions.norm(dim=1, keepdim=True)
        known = values[choose, first:last]
        mean = known.mean(0)

        def project(
            x: Tensor, own: slice = slice(first, last), to: Tensor = directions, mean: Tensor = mean
        ) -> Tensor:
            return ((x[:, own] - mean) @ to.T).relu()

        l0 = float(fired[number * each : (number + 1) * each].sum()) / len(values)
        threshold = threshold_at(project, values[choose], l0)

        def fire(x: Tensor, project: Any = project, threshold: Tensor = threshold) -> Tensor:
            latents: Tensor = project(x)
            return latents * (latents > threshold)

        parts.append(fire)
    return Coder(
        form=coder.form,
        widths=coder.widths,
        encode=lambda x: torch.cat([part(x) for part in parts], dim=1),
        predict=lambda x, latents: x.new_zeros(len(x), 0),
        decoder=values.new_zeros(len(fired), 0),
    )


def _cross_layer(dictionary: CrossLayerTranscoder) -> Coder:
    config, layers = dictionary.cfg, len(dictionary.cfg.reads)
    decoder = dictionary.b_dec[0].new_zeros(layers * config.d_sae, layers * config.d_out)
    for layer, weights in enumerate(dictionary.W_dec):
        rows = slice(layer * config.d_sae, (layer + 1) * config.d_sae)
        decoder[rows, layer * config.d_out :] = weights.flatten(1)
    return Coder(
        form="cross-layer transcoder",
        widths=(config.d_in,) * layers,
        encode=lambda x: torch.cat(dictionary.encode(x.split(config.d_in, dim=1)), dim=1),
        predict=lambda x, latents: torch.cat(dictionary.decode(latents.split(config.d_sae, dim=1)), dim=1),
        decoder=decoder,
    )


def _decoded(dictionary: SAE) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, latents: dictionary.decode(latents)


def _beside(dictionary: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, latents: dictionary.decode(latents) + x @ dictionary.W_skip.T


def _check_side(form: str, does: str, width: int, activations: Activations) -> None:
    values = activations.values
    if values.shape[1] != width:
        raise InputError(
            f"hook `{activations.hook}` is {values.shape[1]} wide, the {form} {does} {width}",
            hint=f"score the {form} on the hooks it was trained on",
        )
    bad = int((~values.isfinite()).any(1).sum())
    if bad:
        raise InputError(
            f"hook `{activations.hook}` carries NaN or infinity at {bad} of {len(values)} tokens",
            hint="record in float32, or leave the examples out at which the model overflows",
        )
