"""Shape of a model -> the names of its hooks, without building it: a name that is none is refused at once."""

from __future__ import annotations

from data_gen.errors import InputError, nearest
from tinysql.models.config import ModelConfig

NORM = ("hook_scale", "hook_normalized")
MIXERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "*": ("attn", ("q", "k", "v", "rot_q", "rot_k", "attn_scores", "pattern", "z")),
    "M": ("mamba", ("z", "dt", "decay", "x_in", "B_in", "C_in", "x", "B", "C", "state", "y", "gated")),
    "E": ("moe", ("router", "chosen", "weights", "latent", "expert_out", "routed_out", "shared_out")),
    "-": ("mlp", ("pre", "post")),
}
"""Character of a pattern -> the name of its mixer, and its hooks."""


def hook_names(shape: ModelConfig) -> list[str]:
    """The keys of `hook_dict` of a model of that shape, in no order.

    Example:
        >>> hook_names(ModelConfig(pattern="*-"))[:3]
        ['hook_embed', 'ln_final.hook_scale', 'ln_final.hook_normalized']
    """
    found = ["hook_embed", *(f"ln_final.{name}" for name in NORM)]
    found += ["hook_pos_embed"] if shape.positions == "learned" else []
    for index, kind in enumerate(shape.pattern):
        mixer, inside = MIXERS[kind]
        inside += ("pre_linear",) if kind == "-" and shape.gated else ()
        names = ["hook_resid_pre", "hook_resid_post", f"hook_{mixer}_out"]
        names += [f"ln1.{name}" for name in NORM] + [f"{mixer}.hook_{name}" for name in inside]
        found += [f"blocks.{index}.{name}" for name in names]
    return found


def check_hook_name(shape: ModelConfig, hook: str, *, whose: str) -> None:
    """`InputError`, with the nearest name, where a model of that shape, called `whose`, has no such hook."""
    known = hook_names(shape)
    if hook not in known:
        raise InputError(
            f"{whose} has no hook `{hook}`{nearest(hook, known)}",
            hint=f"give one as blocks.0.hook_resid_post, of the blocks 0 to {len(shape.pattern) - 1}",
        )
