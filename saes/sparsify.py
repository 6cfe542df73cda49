"""A directory of sparsify -> SAE: the layout that the first text-to-SQL SAEs were published in (Eleuther's sparsify).

A checkpoint is a directory per hookpoint, named by the module of a Hugging Face model whose output it explains
(`transformer.h.0.attn`, `model.layers.5.mlp`, `layers.3`), with `cfg.json` and `sae.safetensors`:

    latents = topk(relu((x - b_dec) @ encoder.weight.T + encoder.bias), k)        x_hat = latents @ W_dec + b_dec

`encoder.weight` and `W_dec` are both [d_sae d_in]. `num_latents` 0 means `expansion_factor` per dimension. `b_dec`
is taken from the input whether or not the decoder is normalised, and never by a transcoder. Written against 1.3.3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import read_json
from saes.disk import CONFIG, SAE, stock
from tinysql.training.checkpoints import load_tensors

WEIGHTS = "sae.safetensors"
LAYER = re.compile(r"(?:(?:model|transformer|gpt_neox|base_model)\.)*(?:h|layers)\.(\d+)(?:\.([\w.]+))?")
ATTENTION, MLP = ("attn", "self_attn", "attention", "attn.attention"), ("mlp",)
FIRST_NORM, SECOND_NORM = ("ln_1", "input_layernorm"), ("ln_2", "post_attention_layernorm")


def hook_of(hookpoint: str, *, blocks_per_layer: int = 1) -> str:
    """The hook that carries the output of a module of a Hugging Face model.

    A layer is one block of TransformerLens' bridge, and two blocks of a `HybridLM` (`saes` and `circuits` read both).
    Raises `InputError` for modules that neither has a hook for.

    Example:
        >>> hook_of("model.layers.5.mlp"), hook_of("model.layers.5.mlp", blocks_per_layer=2)
        ('blocks.5.hook_mlp_out', 'blocks.11.hook_mlp_out')
    """
    found = LAYER.fullmatch(hookpoint)
    module = (found[2] or "") if found else None
    is_bridge = blocks_per_layer == 1
    layer = int(found[1]) if found else 0
    first, last = blocks_per_layer * layer, blocks_per_layer * (layer + 1) - 1
    if module == "":
        return f"blocks.{last}.hook_resid_post"
    if module in ATTENTION:
        return f"blocks.{first}.hook_attn_out"
    if module in MLP:
        return f"blocks.{last}.hook_mlp_out"
    if module in FIRST_NORM:
        return f"blocks.{first}.ln1.{'hook_out' if is_bridge else 'hook_normalized'}"
    if module in SECOND_NORM:
        return f"blocks.{last}.{'ln2.hook_out' if is_bridge else 'ln1.hook_normalized'}"
    raise InputError(
        f"sparsify's hookpoint `{hookpoint}` is no layer, attention, MLP or norm that a hook carries",
        hint="name the hook with hook=...",
    )


def load_sparsify(
    path: str | Path, *, hook: str | None = None, blocks_per_layer: int = 1, device: str = "cpu"
) -> SAE:
    """Read the directory of one hookpoint; `hook_of` its name is the SAE's hook unless given.

    A transcoder without a skip connection comes as an SAE that takes no bias from its input, whose metadata's
    `hook_name` is what it writes: sparsify does not record what it reads. Raises `InputError` for other activations
    than TopK, skip connections, and files that are cut short or do not fit each other.
    """
    path = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise InputError(
                f"{path} is not a hookpoint's directory of sparsify: it has no {name}",
                hint="name the directory in the checkpoint that is called after the module",
            )
    config, tensors = read_json(path / CONFIG), load_tensors(path / WEIGHTS)
    _check_kind(path, config, tensors)
    d_in, k = int(config["d_in"]), int(config["k"])
    d_sae = int(config.get("num_latents") or 0) or d_in * int(config.get("expansion_factor", 32))
    _check_shapes(path, tensors, d_in, d_sae)
    sae_lens = stock()
    about = sae_lens.saes.sae.SAEMetadata(
        hook_name=hook or hook_of(path.resolve().name, blocks_per_layer=blocks_per_layer),
        training_architecture="sparsify transcoder" if config.get("transcode") else "sparsify topk",
    )
    made = sae_lens.TopKSAEConfig(
        d_in=d_in,
        d_sae=d_sae,
        k=k,
        rescale_acts_by_decoder_norm=False,
        apply_b_dec_to_input=not config.get("transcode"),
        metadata=about,
    )
    # sae-lens draws first weights from the global generator of the CPU.
    with torch.random.fork_rng(devices=[]):
        sae: Any = sae_lens.TopKSAE(made).to(device)
    with torch.no_grad():
        sae.W_enc.copy_(tensors["encoder.weight"].T)
        sae.b_enc.copy_(tensors["encoder.bias"])
        sae.W_dec.copy_(tensors["W_dec"])
        sae.b_dec.copy_(tensors["b_dec"])
    return sae.requires_grad_(False)


def _check_kind(path: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    for name in ("d_in", "k"):
        if not isinstance(config.get(name), int):
            raise InputError(
                f"{path / CONFIG}: `{name}` is {config.get(name)!r}, expected a number",
                hint="the directory must be one that sparsify wrote",
            )
    activation = config.get("activation", "topk")
    skips = bool(config.get("skip_connection")) or "W_skip" in tensors
    # Versions before 1.0 could keep the largest of either sign.
    if activation != "topk" or skips or config.get("signed"):
        raise InputError(
            f"{path} is not a TopK SAE without a skip connection (activation {activation!r}, "
            f"skip_connection {skips}, signed {bool(config.get('signed'))})",
            hint="sae-lens has no class for it; use sparsify itself",
        )


def _check_shapes(path: Path, tensors: dict[str, Tensor], d_in: int, d_sae: int) -> None:
    shapes = {
        "encoder.weight": (d_sae, d_in),
        "encoder.bias": (d_sae,),
        "W_dec": (d_sae, d_in),
        "b_dec": (d_in,),
    }
    for name, shape in shapes.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != shape:
            there = "missing" if found is None else f"of shape {list(found.shape)}"
            raise InputError(
                f"{path / WEIGHTS}: `{name}` is {there}, {CONFIG} expects {list(shape)}",
                hint=f"{CONFIG} and {WEIGHTS} must come from the same checkpoint",
            )
