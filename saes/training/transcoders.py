"""Activations at two hooks -> a transcoder, which reads the one and writes the other (Dunefsky et al. 2024).

With a skip connection the part that is linear in the input passes beside the latents (Paulo et al. 2025). Both sides
are centred and scaled for training, zx = (x - mx) * sx and zy = (y - my) * sy, and folded back afterwards: with n the
lengths of the decoder rows,

    W_enc = encoder.T * n * sx / sy    b_enc = (encoder_bias - sx * encoder @ mx) * n / sy    threshold * n / sy
    W_dec = decoder / n    W_skip = skip * sx / sy    b_dec = decoder_bias / sy + my - W_skip @ mx

They are saved in sae-lens' transcoder classes, which have ReLU and JumpReLU but no TopK.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations, check_recorded
from saes.dictionaries.inference import calibrate
from saes.dictionaries.parameters import Parameters
from saes.disk import SAE, stock
from saes.training.config import SAEConfig
from saes.training.fitting import Fit, Watch, check_watch, fit, looking, scaled
from saes.training.loop import Loop
from saes.training.resume import fingerprint
from saes.training.sae import TrainedSAE, check, check_form, measured_rows, recorded, scaling, split


def train_transcoder(
    inputs: Activations,
    outputs: Activations,
    config: SAEConfig,
    *,
    model_name: str = "tinysql",
    show_progress: bool = False,
    directory: Path | None = None,
    watch: Watch | None = None,
) -> TrainedSAE:
    """Train a transcoder from `inputs` to `outputs`, two recordings of the same tokens.

    `config.form` says whether it has a skip connection. Raises `InputError` when the recordings are not of the same
    tokens, and as `train_sae` does; a `directory` and `watch` are as there.
    """
    check_watch(watch)
    check_recorded(inputs, outputs)
    x, y = inputs.values, outputs.values
    check_form(config, "transcoder", "skip_transcoder")
    check_pair(inputs, outputs)
    for values in (x, y):
        check(values, config)
    train, held_back = split(x, config)
    (mx, sx), (my, sy) = scaling(x), scaling(y)
    skip = config.form == "skip_transcoder"
    loop = Loop.begin(config, d_in=x.shape[1], d_out=y.shape[1], skip=skip, device=x.device)
    metadata = {"model_name": model_name, "hook_name": inputs.hook, "hook_name_out": outputs.hook}

    def make() -> tuple[SAE, float | None]:
        made: Any = _fold(loop.parameters, config, (mx, sx), (my, sy), metadata)
        threshold = calibrate(made, x[held_back].float(), float(config.k)) if config.needs_threshold else None
        return made, threshold

    run = Fit(
        loop, directory, lambda: f"{fingerprint(x)} {fingerprint(y)}", looking(watch, lambda: make()[0])
    )
    fit(
        [run],
        train,
        lambda rows: (scaled(x, rows, mx, sx), scaled(y, rows, my, sy)),
        roles=inputs.roles,
        title="training the transcoder",
        show_progress=show_progress,
    )
    transcoder: Any
    transcoder, threshold = make()
    rows = measured_rows(train)
    with torch.no_grad():
        latents, predicted = transcoder.encode(x[rows].float()), transcoder(x[rows].float())
    record = recorded(latents, predicted, y[rows].float(), len(train), run, threshold)
    transcoder.cfg.metadata.l0, transcoder.cfg.metadata.num_dead_features = record.l0, record.dead
    return TrainedSAE(sae=transcoder, record=record)


def check_pair(one: Activations, other: Activations) -> None:
    """`InputError` unless both were recorded at the same tokens."""
    same = len(one) == len(other) and bool((one.position == other.position).all())
    if not same or not bool((one.example == other.example).all()):
        raise InputError(
            f"`{one.hook}` and `{other.hook}` were recorded at different tokens",
            hint="record both hooks from the same tokens",
        )


@torch.no_grad()
def _fold(
    parameters: Parameters,
    config: SAEConfig,
    of_input: tuple[Float[Tensor, " d_in"], float],
    of_output: tuple[Float[Tensor, " d_out"], float],
    metadata: dict[str, Any],
) -> SAE:
    """The inference transcoder for raw activations."""
    (mx, sx), (my, sy), sae_lens = of_input, of_output, stock()
    encoder, decoder = parameters["encoder"], parameters["decoder"]
    lengths = decoder.norm(dim=1).clamp(min=1e-8)
    jumps, skips = config.architecture != "standard", "skip" in parameters
    name = ("JumpReLU" if jumps else "") + ("Skip" if skips else "") + "Transcoder"
    shape = {"d_in": encoder.shape[1], "d_out": decoder.shape[1], "d_sae": len(decoder)}
    about = sae_lens.saes.sae.SAEMetadata(**metadata, training_architecture=config.architecture)
    classes = sae_lens.saes.transcoder
    made = getattr(classes, f"{name}Config")(**shape, apply_b_dec_to_input=False, metadata=about)
    with torch.random.fork_rng(devices=[]):
        transcoder = getattr(classes, name)(made).to(decoder.device)
    transcoder.W_enc.copy_((encoder * lengths[:, None]).T * (sx / sy))
    transcoder.b_enc.copy_((parameters["encoder_bias"] - sx * (encoder @ mx)) * lengths / sy)
    transcoder.W_dec.copy_(decoder / lengths[:, None])
    transcoder.b_dec.copy_(parameters["decoder_bias"] / sy + my)
    if skips:
        transcoder.W_skip.copy_(parameters["skip"] * (sx / sy))
        transcoder.b_dec.sub_(transcoder.W_skip @ mx)
    if "threshold" in parameters:
        transcoder.threshold.copy_(parameters["threshold"].clamp(min=0) * lengths / sy)
    return transcoder.requires_grad_(False)
