"""TransformerLens' bridge of a foreign model -> `HybridLM` with the same logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.huggingface.exchange import model_of
from tinysql.models.huggingface.reading import read_config
from tinysql.models.huggingface.settings import Settings
from tinysql.models.huggingface.weights import names_of, with_one_name_each
from tinysql.models.hybrid import HybridLM

FAMILIES = {"gpt2": "GPT-2", "gpt_neo": "GPT-Neo", "llama": "Llama", "qwen2": "Qwen2"}
"""What transformers calls the families that come in, and what people do."""
TOLERANCE, NARROW_TOLERANCE = 1e-4, 0.05
"""How far apart the logits of the two models may lie, as a part of the largest; the latter in 16-bit types."""

ANEW = (
    "boot the bridge anew and leave it in evaluation mode, without hooks, and without enable_compatibility_mode "
    "unless it is told no_processing=True"
)


def as_hybrid(model: Any) -> HybridLM:
    """The `HybridLM` that computes what `model` does, with a copy of its weights, on its device and in its dtype.

    `model` is a `TransformerBridge` of a GPT-2, GPT-Neo, Llama or Qwen2 (of transformers, as
    `TransformerBridge.boot_transformers` makes it); a `HybridLM` is given back as it is. Both are run on a few tokens,
    so that what comes out is known to have the same logits.

    Raises:
        InputError: it is something else, it has what a `HybridLM` cannot compute, or its logits are not matched,
            which is so where `enable_compatibility_mode` rewrote its weights.

    Example: `as_hybrid(TransformerBridge.boot_transformers("gpt2"))`.
    """
    if isinstance(model, HybridLM):
        return model
    theirs, where = _original(model), "the bridge's configuration"
    family, config = read_config(Settings(theirs.config.to_dict(), where))
    # The bridge wraps every part of the model, and lists it under other names beside its own.
    tensors = {
        name.replace("._original_component", ""): tensor for name, tensor in theirs.state_dict().items()
    }
    named = with_one_name_each(tensors)
    known = names_of(config, family)
    first = next(theirs.parameters())
    kept = {name: tensor for name, tensor in named.items() if name in known}
    try:
        found = model_of(family, config, kept, where="the bridge", dtype=first.dtype).to(first.device)
    except InputError as error:
        raise InputError(
            f"the bridge's weights are not those of its configuration: {error.message}", hint=ANEW
        ) from error
    _check_logits(found, model)
    return found


def _original(model: Any) -> Any:
    """The model of transformers inside a bridge of one of the four families."""
    from transformer_lens.model_bridge import TransformerBridge

    hint = f"boot one of {', '.join(FAMILIES.values())} with TransformerBridge.boot_transformers"
    if not isinstance(model, TransformerBridge):
        raise InputError(
            f"the model is a {type(model).__name__}, expected a HybridLM or a TransformerBridge", hint=hint
        )
    theirs = model.original_model
    family = getattr(getattr(theirs, "config", None), "model_type", None)
    if family not in FAMILIES:
        raise InputError(
            f"the TransformerBridge holds a model of type {family!r}, expected GPT-2, GPT-Neo, Llama or Qwen2",
            hint=hint,
        )
    return theirs


@torch.no_grad()
def _check_logits(found: HybridLM, model: Any) -> None:
    length = min(found.cfg.n_ctx, 16)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(found.cfg.d_vocab, (2, length), generator=generator).to(found.device)
    expected: Tensor = model(ids)
    largest, apart = expected.abs().max().item(), (found(ids) - expected).abs().max().item()
    tolerance = TOLERANCE if expected.dtype.itemsize >= 4 else NARROW_TOLERANCE
    if not apart <= tolerance * max(largest, 1.0):
        raise InputError(
            f"the bridge's logits are not those of its weights: they differ by up to {apart:.2g}",
            hint=ANEW,
        )
