"""Activations at every layer -> a cross-layer transcoder, its file and its inference (Ameisen et al. 2025).

Reads the MLP inputs of all layers and writes the MLP outputs of all layers, the latents of a layer to its own output
and all later ones. All inputs and outputs are centred and scaled for training, zx_l = (x_l - mx_l) * sx_l and
zy_m = (y_m - my_m) * sy_m, and folded back: with n_l the lengths of layer l's decoder rows,

    W_enc_l = encoder_l * n_l * sx_l    b_enc_l = (encoder_bias_l - sx_l * encoder_l @ mx_l) * n_l
    W_dec_{l,m} = decoder_{l,m} / n_l / sy_m    b_dec_m = bias_m / sy_m + my_m

so that a latent has the size of what it writes, in units of training's zy. sae-lens has no class for it; the names and
shapes of the weights are circuit-tracer's (`W_enc_l` [d_sae d_in], `W_dec_l` [d_sae targets d_out]), in one file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from saes.activations import Activations, check_several_recorded
from saes.dictionaries.inference import threshold_at
from saes.dictionaries.layers import of_layer
from saes.dictionaries.parameters import Parameters
from saes.dictionaries.select import decoder_norms
from saes.disk import CONFIG, WEIGHTS, weights_cut_short
from saes.training.config import SAEConfig
from saes.training.fitting import Fit, Watch, check_watch, fit, looking, scaled
from saes.training.loop import Loop
from saes.training.resume import fingerprint
from saes.training.sae import (
    TrainingRecord,
    check,
    check_form,
    fvu,
    measured_rows,
    scaling,
    split,
    watched_of,
)
from saes.training.transcoders import check_pair
from tinysql.config import from_json, to_json
from tinysql.training.checkpoints import save_tensors

ARCHITECTURE = "cross_layer_transcoder"


@dataclass(frozen=True, kw_only=True)
class CrossLayerConfig:
    """What the weights are of; with them it is the whole file format."""

    architecture: str = ARCHITECTURE
    d_in: int
    d_out: int
    d_sae: int
    """Latents of each layer."""
    k: int | None = None
    """Latents per layer and token, where the k largest are kept."""
    reads: tuple[str, ...]
    """The hook that each layer reads."""
    writes: tuple[str, ...]
    model_name: str = "tinysql"
    training_architecture: str = "topk"


@dataclass(frozen=True, kw_only=True)
class CrossLayerTranscoder:
    """Inputs of all layers -> latents of all layers -> outputs of all layers, all raw."""

    cfg: CrossLayerConfig
    W_enc: tuple[Float[Tensor, "d_sae d_in"], ...]
    b_enc: tuple[Float[Tensor, " d_sae"], ...]
    W_dec: tuple[Float[Tensor, "d_sae _targets d_out"], ...]
    """Of layer l, to layers l, l + 1, and so on."""
    b_dec: tuple[Float[Tensor, " d_out"], ...]
    threshold: tuple[Float[Tensor, " d_sae"], ...]
    """A latent below it counts as 0; it is 0 except after BatchTopK."""

    def encode(self, x: Sequence[Float[Tensor, "token d_in"]]) -> tuple[Float[Tensor, "token d_sae"], ...]:
        """The latents of every layer."""
        return tuple(self.encode_layer(layer, inputs) for layer, inputs in enumerate(x))

    def encode_layer(self, layer: int, x: Float[Tensor, "token d_in"]) -> Float[Tensor, "token d_sae"]:
        """The latents of one layer, which need its own input alone."""
        latents = torch.addmm(self.b_enc[layer], x, self.W_enc[layer].T).relu()
        if self.cfg.k is not None:
            top = latents.topk(self.cfg.k, dim=1)
            return torch.zeros_like(latents).scatter(1, top.indices, top.values)
        return latents * (latents > self.threshold[layer])

    def decode(
        self, latents: Sequence[Float[Tensor, "token d_sae"]]
    ) -> tuple[Float[Tensor, "token d_out"], ...]:
        """What all latents together write to every layer."""
        made = [bias.expand(len(latents[0]), -1) for bias in self.b_dec]
        for layer, active in enumerate(latents):
            written = einsum(active, self.W_dec[layer], "token latent, latent to d -> to token d")
            for target, part in enumerate(written, start=layer):
                made[target] = made[target] + part
        return tuple(made)

    def save_model(self, path: str | Path) -> None:
        """Write `cfg.json` and the weights into an existing directory."""
        names = [field.name for field in fields(self) if field.name != "cfg"]
        tensors = {
            f"{name}_{layer}": tensor for name in names for layer, tensor in enumerate(getattr(self, name))
        }
        write_atomic(Path(path) / CONFIG, json.dumps(to_json(self.cfg), indent=1))
        save_tensors(Path(path) / WEIGHTS, tensors)


def load_cross_layer(path: str | Path, device: str = "cpu") -> CrossLayerTranscoder:
    """Read what `save_model` wrote; `InputError` when it is something else, or a file is cut short."""
    path = Path(path)
    made = read_json(path / CONFIG)
    if made.get("architecture") != ARCHITECTURE:
        raise InputError(
            f"{path} holds an SAE of architecture {made.get('architecture')!r}, not a cross-layer transcoder",
            hint="read it with `saes.load`",
        )
    config = from_json(CrossLayerConfig, made, where=str(path / CONFIG))
    try:
        tensors = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise weights_cut_short(path, error) from error
    layers, targets = range(len(config.reads)), len(config.writes)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "W_enc": [(config.d_sae, config.d_in)] * targets,
        "b_enc": [(config.d_sae,)] * targets,
        "W_dec": [(config.d_sae, targets - layer, config.d_out) for layer in layers],
        "b_dec": [(config.d_out,)] * targets,
        "threshold": [(config.d_sae,)] * targets,
    }
    for name, of_layers in shapes.items():
        for layer, shape in enumerate(of_layers):
            found = tensors.get(f"{name}_{layer}")
            if found is None or tuple(found.shape) != shape:
                there = "missing" if found is None else list(found.shape)
                raise InputError(
                    f"{path / WEIGHTS}: `{name}_{layer}` is {there}, {CONFIG} expects {list(shape)}",
                    hint="both files must come from the same training",
                )
    parts: Any = {name: tuple(tensors[f"{name}_{layer}"].to(device) for layer in layers) for name in shapes}
    return CrossLayerTranscoder(cfg=config, **parts)


@dataclass(frozen=True, kw_only=True)
class TrainedCrossLayer:
    """A cross-layer transcoder for raw activations, and how it came about."""

    transcoder: CrossLayerTranscoder
    record: TrainingRecord
    """FVU over all layers, each in units of its variance; L0 and dead latents of all layers together."""
    fvu: tuple[float, ...]
    """Fraction of variance unexplained of each layer's output."""


def train_cross_layer(
    inputs: Sequence[Activations],
    outputs: Sequence[Activations],
    config: SAEConfig,
    *,
    model_name: str = "tinysql",
    show_progress: bool = False,
    directory: Path | None = None,
    watch: Watch | None = None,
) -> TrainedCrossLayer:
    """Train on recordings of the same tokens, one input and one output per layer, in the order of the layers.

    Raises `InputError` when the tokens or the widths differ, and as `train_sae` does; a `directory` and `watch`
    are as there.
    """
    check_watch(watch)
    check_form(config, "cross_layer_transcoder")
    _check_layers(inputs, outputs, config)
    x, y = [one.values for one in inputs], [one.values for one in outputs]
    train, held_back = split(x[0], config)
    reads, writes = [scaling(values) for values in x], [scaling(values) for values in y]
    loop = Loop.begin_layers(
        config, n_layers=len(x), d_in=x[0].shape[1], d_out=y[0].shape[1], device=x[0].device
    )

    def batch(rows: Tensor) -> tuple[Tensor, Tensor]:
        parts = [
            torch.cat([scaled(v, rows, *how) for v, how in zip(values, known, strict=True)], dim=1)
            for values, known in ((x, reads), (y, writes))
        ]
        return parts[0], parts[1]

    about = CrossLayerConfig(
        d_in=x[0].shape[1],
        d_out=y[0].shape[1],
        d_sae=len(loop.since_fired) // len(x),
        k=config.k if config.architecture == "topk" else None,
        reads=tuple(one.hook for one in inputs),
        writes=tuple(one.hook for one in outputs),
        model_name=model_name,
        training_architecture=config.architecture,
    )

    @torch.no_grad()
    def make() -> CrossLayerTranscoder:
        made = _fold(loop.parameters, about, reads, writes)
        if config.needs_threshold:
            for layer, values in enumerate(x):
                encode = partial(made.encode_layer, layer)
                made.threshold[layer].fill_(threshold_at(encode, values[held_back].float(), float(config.k)))
        return made

    run = Fit(
        loop, directory, lambda: " ".join(fingerprint(values) for values in [*x, *y]), looking(watch, make)
    )
    fit(
        [run],
        train,
        batch,
        roles=inputs[0].roles,
        title="training the cross-layer transcoder",
        show_progress=show_progress,
    )
    return _measured(make(), x, y, train, run)


def _check_layers(inputs: Sequence[Activations], outputs: Sequence[Activations], config: SAEConfig) -> None:
    check_several_recorded(inputs, outputs)
    if len(inputs) != len(outputs) or len(inputs) < 2:
        raise InputError(
            f"{len(inputs)} inputs and {len(outputs)} outputs are not one of each for two layers or more",
            hint="record the input and the output of every MLP",
        )
    for recordings in (inputs, outputs):
        for one in recordings:
            check_pair(inputs[0], one)
            check(one.values, config)
            if one.values.shape != recordings[0].values.shape:
                raise InputError(
                    f"`{one.hook}` is {one.values.shape[1]} wide, `{recordings[0].hook}` is "
                    f"{recordings[0].values.shape[1]}",
                    hint="a cross-layer transcoder reads and writes layers of one width",
                )


@torch.no_grad()
def _fold(
    parameters: Parameters,
    config: CrossLayerConfig,
    reads: Sequence[tuple[Tensor, float]],
    writes: Sequence[tuple[Tensor, float]],
) -> CrossLayerTranscoder:
    """The inference transcoder for raw activations."""
    W_enc, b_enc, W_dec = [], [], []
    for layer, (mean, scale) in enumerate(reads):
        one = of_layer(parameters, layer)
        lengths = decoder_norms(one["decoder"]).clamp(min=1e-8)
        W_enc.append(one["encoder"] * lengths[:, None] * scale)
        b_enc.append((one["encoder_bias"] - scale * (one["encoder"] @ mean)) * lengths)
        to_each = rearrange(one["decoder"] / lengths[:, None], "f (to d) -> f to d", d=config.d_out)
        scales = torch.tensor([of_target for _, of_target in writes[layer:]], device=mean.device)
        W_dec.append(to_each / scales[:, None])
    biases = parameters["decoder_bias"].split(config.d_out)
    return CrossLayerTranscoder(
        cfg=config,
        W_enc=tuple(W_enc),
        b_enc=tuple(b_enc),
        W_dec=tuple(W_dec),
        b_dec=tuple(bias / scale + mean for bias, (mean, scale) in zip(biases, writes, strict=True)),
        threshold=tuple(torch.zeros_like(bias) for bias in b_enc),
    )


@torch.no_grad()
def _measured(
    transcoder: CrossLayerTranscoder,
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    train: Tensor,
    run: Fit,
) -> TrainedCrossLayer:
    rows = measured_rows(train)
    wanted = [values[rows].float() for values in y]
    latents = transcoder.encode([values[rows].float() for values in x])
    unexplained = tuple(
        fvu(one, other) for one, other in zip(wanted, transcoder.decode(latents), strict=True)
    )
    active = [one > 0 for one in latents]
    record = TrainingRecord(
        tokens=len(train),
        steps=run.loop.config.steps,
        loss_steps=tuple(run.loss),
        loss=tuple(run.loss.values()),
        fvu=sum(unexplained) / len(unexplained),
        l0=sum(float(one.sum(1).float().mean()) for one in active),
        dead=sum(int((~one.any(0)).sum()) for one in active),
        watched=watched_of(run),
    )
    return TrainedCrossLayer(transcoder=transcoder, record=record, fvu=unexplained)
