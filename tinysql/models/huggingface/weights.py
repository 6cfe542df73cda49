"""Tensors of a checkpoint <-> parameters of a `HybridLM`: one table of names and layouts per family, read both ways.

A layout is an einops pattern from transformers' axes to ours, so its reverse is the way back. Letters: o out, i in,
d d_model, h head, e d_head, m hidden, v vocabulary, p d_head of Mamba, n d_state, g group, c channel, k tap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.config import ModelConfig
from tinysql.models.hybrid import HybridLM

IGNORED = re.compile(
    r"transformer\.h\.\d+\.attn\.(attention\.)?(bias|masked_bias)"  # the causal mask of older GPT-2 and GPT-Neo
    r"|.*\.rotary_emb\.inv_freq"
    r"|mtp\..*"
)
"""Tensors that say nothing about the model: what is computed from the configuration, and heads for later tokens."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Piece(NamedTuple):
    """A parameter of ours inside a tensor of theirs."""

    ours: str
    layout: str
    entry: int | None = None
    """Which entry of the parameter's first axis; None is all of it."""
    axis: int = 0
    """Axis of the tensor along which its pieces lie behind each other."""


Table = dict[str, tuple[Piece, ...]]
"""Each tensor of theirs, and the pieces that it holds."""
Lines = Iterator[tuple[str, Piece | tuple[Piece, ...]]]

VECTOR, SAME, LINEAR = "i -> i", "o i -> o i", "o i -> i o"
READ, WRITE, HEADS = "(h e) d -> h d e", "d (h e) -> h e d", "(h e) -> h e"


def read_weights(model: HybridLM, family: str, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy a checkpoint's tensors into `model`, in its dtype.

    Raises:
        InputError: a tensor is missing, superfluous, of another shape, or not of floating point; the first is named
            and `model` is unchanged.
    """
    state, table = model.state_dict(), table_of(model, family)
    tensors = {name: t for name, t in tensors.items() if not IGNORED.fullmatch(name)}
    _check(tensors, {name: their_shape(state, pieces) for name, pieces in table.items()}, where)
    for name, pieces in table.items():
        axis = pieces[0].axis
        parts = tensors[name].split([their_shape(state, (piece,))[axis] for piece in pieces], dim=axis)
        for part, piece in zip(parts, pieces, strict=True):
            target = _target(state, piece)
            target.copy_(rearrange(part, piece.layout, **_sizes(target, piece)))


def write_weights(model: HybridLM, family: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, in the dtype of `model`."""
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    table, written = table_of(model, family), {}
    if family == "nemotron_h" and model.cfg.tied:
        # transformers has no tied NemotronH, so the embedding is written twice.
        table["lm_head.weight"] = (Piece("embed.W_E", SAME),)
    for name, pieces in table.items():
        parts = []
        for piece in pieces:
            target = _target(state, piece)
            left, right = piece.layout.split(" -> ")
            parts.append(rearrange(target, f"{right} -> {left}", **_sizes(target, piece)))
        written[name] = (
            torch.cat(parts, dim=pieces[0].axis) if len(parts) > 1 else parts[0].contiguous().clone()
        )
    return written


def names_of(config: ModelConfig, family: str) -> set[str]:
    """What the tensors of a checkpoint may be called; a model without biases, say, has not all of them."""
    return {name for name, _ in TABLES[family](config)}


def table_of(model: HybridLM, family: str) -> Table:
    """Every tensor of theirs that this model has; together they hold each of its parameters once."""
    state = model.state_dict()
    lines = ((name, (p,) if isinstance(p, Piece) else p) for name, p in TABLES[family](model.cfg))
    table = {name: pieces for name, pieces in lines if pieces[0].ours in state}
    covered = {piece.ours for pieces in table.values() for piece in pieces}
    assert covered == set(state), f"no place for {covered ^ set(state)}"
    return table


def their_shape(state: Mapping[str, Tensor], pieces: tuple[Piece, ...]) -> tuple[int, ...]:
    """Shape of the tensor that holds the pieces."""
    shapes = []
    for piece in pieces:
        sizes = _sizes(_target(state, piece), piece)
        groups = re.findall(r"\(.*?\)|\S+", piece.layout.split(" -> ")[0])
        shapes.append(
            [math.prod(sizes.get(axis, 1) for axis in group.strip("()").split()) for group in groups]
        )
    axis = pieces[0].axis
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def _target(state: Mapping[str, Tensor], piece: Piece) -> Tensor:
    return state[piece.ours] if piece.entry is None else state[piece.ours][piece.entry]


def _sizes(target: Tensor, piece: Piece) -> dict[str, int]:
    return dict(zip(piece.layout.split(" -> ")[1].split(), target.shape, strict=True))


def with_one_name_each(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors under the names of `TABLES`, whichever of the family's spellings its files have.

    NemotronH's newer names become those in the files of its makers: `backbone.`, and one tensor per expert; the
    older ones of GPT-2, which begin with a layer, get the `transformer.` that newer files have.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        mixer = re.fullmatch(
            r"(?:model|backbone)\.((?:embeddings|norm_f|layers\.\d+\.(?:norm|mixer))\..*)", name
        )
        name = f"backbone.{mixer[1]}" if mixer else name
        name = f"transformer.{name}" if re.match(r"(wte|wpe|ln_f|h\.\d+)\.", name) else name
        experts = re.fullmatch(r"(.*\.mixer\.experts)\.(up_proj|down_proj)", name)
        if experts and tensor.ndim == 3:
            found |= {f"{experts[1]}.{i}.{experts[2]}.weight": each for i, each in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], where: str) -> None:
    hint = "config.json and the weights must be of one checkpoint; restore them"
    missing = next((name for name in expected if name not in tensors), None)
    if missing is not None:
        raise InputError(f"{where} has no weight `{missing}`, which its config.json asks for", hint=hint)
    for name, tensor in tensors.items():
        if name not in expected:
            raise InputError(
                f"{where} has a weight `{name}`, for which its config.json has no place", hint=hint
            )
        if tuple(tensor.shape) != expected[name]:
            raise InputError(
                f"{where}: weight `{name}` is {list(tensor.shape)}, its config.json asks for {list(expected[name])}",
                hint=hint,
            )
        if tensor.dtype not in FLOATS:
            raise InputError(
                f"{where}: weight `{name}` is {str(tensor.dtype).removeprefix('torch.')}, expected floating point",
                hint="choose the checkpoint in bfloat16 or float32, not a quantized one",
            )


def _gpt_neo(config: ModelConfig) -> Lines:
    yield from _around_gpt(config)
    for layer in range(len(config.pattern) // 2):
        theirs, attention, mlp = f"transformer.h.{layer}", f"blocks.{2 * layer}", f"blocks.{2 * layer + 1}"
        yield from _attention(f"{theirs}.attn.attention", f"{attention}.attn", out="out_proj")
        yield from _mlp(f"{theirs}.mlp", f"{mlp}.mlp", {"c_fc": "in", "c_proj": "out"})


def _gpt2(config: ModelConfig) -> Lines:
    """Its projections are `Conv1D`: weights of theirs have the input first, as ours do."""
    yield from _around_gpt(config)
    for layer in range(len(config.pattern) // 2):
        theirs = f"transformer.h.{layer}"
        attn, mlp = f"blocks.{2 * layer}.attn", f"blocks.{2 * layer + 1}.mlp"
        weights = tuple([Piece(f"{attn}.W_{letter}", "d (h e) -> h d e", axis=1) for letter in "QKV"])
        yield f"{theirs}.attn.c_attn.weight", weights
        yield f"{theirs}.attn.c_attn.bias", tuple([Piece(f"{attn}.b_{letter}", HEADS) for letter in "QKV"])
        yield f"{theirs}.attn.c_proj.weight", Piece(f"{attn}.W_O", "(h e) d -> h e d")
        yield f"{theirs}.attn.c_proj.bias", Piece(f"{attn}.b_O", VECTOR)
        for name, end in (("c_fc", "in"), ("c_proj", "out")):
            yield f"{theirs}.mlp.{name}.weight", Piece(f"{mlp}.W_{end}", SAME)
            yield f"{theirs}.mlp.{name}.bias", Piece(f"{mlp}.b_{end}", VECTOR)


def _around_gpt(config: ModelConfig) -> Lines:
    """What GPT-2 and GPT-Neo call alike: embeddings, norms and head."""
    yield "transformer.wte.weight", Piece("embed.W_E", SAME)
    yield "transformer.wpe.weight", Piece("pos_embed.W_pos", SAME)
    for block in range(len(config.pattern)):
        norm = f"transformer.h.{block // 2}.ln_{block % 2 + 1}"
        yield f"{norm}.weight", Piece(f"blocks.{block}.ln1.w", VECTOR)
        yield f"{norm}.bias", Piece(f"blocks.{block}.ln1.b", VECTOR)
    yield "transformer.ln_f.weight", Piece("ln_final.w", VECTOR)
    yield "transformer.ln_f.bias", Piece("ln_final.b", VECTOR)
    yield "lm_head.weight", Piece("unembed.W_U", LINEAR)


def _llama(config: ModelConfig) -> Lines:
    yield "model.embed_tokens.weight", Piece("embed.W_E", SAME)
    for layer in range(len(config.pattern) // 2):
        theirs, attention, mlp = f"model.layers.{layer}", f"blocks.{2 * layer}", f"blocks.{2 * layer + 1}"
        yield f"{theirs}.input_layernorm.weight", Piece(f"{attention}.ln1.w", VECTOR)
        yield from _attention(f"{theirs}.self_attn", f"{attention}.attn", out="o_proj")
        yield f"{theirs}.post_attention_layernorm.weight", Piece(f"{mlp}.ln1.w", VECTOR)
        names = {"gate_proj": "gate", "up_proj": "in", "down_proj": "out"}
        yield from _mlp(f"{theirs}.mlp", f"{mlp}.mlp", names)
    yield "model.norm.weight", Piece("ln_final.w", VECTOR)
    yield "lm_head.weight", Piece("unembed.W_U", LINEAR)


def _nemotron_h(config: ModelConfig) -> Lines:
    yield "backbone.embeddings.weight", Piece("embed.W_E", SAME)
    for layer, kind in enumerate(config.pattern):
        theirs, ours = f"backbone.layers.{layer}", f"blocks.{layer}"
        yield f"{theirs}.norm.weight", Piece(f"{ours}.ln1.w", VECTOR)
        if kind == "M":
            yield from _mamba(f"{theirs}.mixer", f"{ours}.mamba")
        elif kind == "*":
            yield from _attention(f"{theirs}.mixer", f"{ours}.attn", out="o_proj")
        elif kind == "E":
            yield from _moe(f"{theirs}.mixer", f"{ours}.moe", config.moe.n_experts)
        else:
            yield from _mlp(f"{theirs}.mixer", f"{ours}.mlp", {"up_proj": "in", "down_proj": "out"})
    yield "backbone.norm_f.weight", Piece("ln_final.w", VECTOR)
    yield "lm_head.weight", Piece("unembed.W_U", LINEAR)


TABLES: Mapping[str, Callable[[ModelConfig], Lines]] = {
    "gpt2": _gpt2,
    "gpt_neo": _gpt_neo,
    "llama": _llama,
    "qwen2": _llama,
    "nemotron_h": _nemotron_h,
}


def _attention(theirs: str, ours: str, out: str) -> Lines:
    for letter in "qkv":
        yield f"{theirs}.{letter}_proj.weight", Piece(f"{ours}.W_{letter.upper()}", READ)
        yield f"{theirs}.{letter}_proj.bias", Piece(f"{ours}.b_{letter.upper()}", HEADS)
    yield f"{theirs}.{out}.weight", Piece(f"{ours}.W_O", WRITE)
    yield f"{theirs}.{out}.bias", Piece(f"{ours}.b_O", VECTOR)


def _mlp(theirs: str, ours: str, names: Mapping[str, str]) -> Lines:
    for name, end in names.items():
        yield f"{theirs}.{name}.weight", Piece(f"{ours}.W_{end}", LINEAR)
        yield f"{theirs}.{name}.bias", Piece(f"{ours}.b_{end}", VECTOR)


def _mamba(theirs: str, ours: str) -> Lines:
    yield (
        f"{theirs}.in_proj.weight",
        (
            Piece(f"{ours}.W_z", "(h p) d -> h d p"),
            Piece(f"{ours}.W_x", "(h p) d -> h d p"),
            Piece(f"{ours}.W_B", "(g n) d -> g d n"),
            Piece(f"{ours}.W_C", "(g n) d -> g d n"),
            Piece(f"{ours}.W_dt", "h d -> d h"),
        ),
    )
    yield f"{theirs}.conv1d.weight", Piece(f"{ours}.conv_weight", "c 1 k -> c k")
    yield f"{theirs}.conv1d.bias", Piece(f"{ours}.conv_bias", VECTOR)
    for name in ("dt_bias", "A_log", "D"):
        yield f"{theirs}.{name}", Piece(f"{ours}.{name}", VECTOR)
    yield f"{theirs}.norm.weight", Piece(f"{ours}.norm_weight", "(h p) -> h p")
    yield f"{theirs}.out_proj.weight", Piece(f"{ours}.W_out", "d (h p) -> h p d")


def _moe(theirs: str, ours: str, n_experts: int) -> Lines:
    yield f"{theirs}.gate.weight", Piece(f"{ours}.W_R", LINEAR)
    yield f"{theirs}.gate.e_score_correction_bias", Piece(f"{ours}.selection_bias", VECTOR)
    for i in range(n_experts):
        yield f"{theirs}.experts.{i}.up_proj.weight", Piece(f"{ours}.W_in", LINEAR, i)
        yield f"{theirs}.experts.{i}.down_proj.weight", Piece(f"{ours}.W_out", LINEAR, i)
    yield f"{theirs}.shared_experts.up_proj.weight", Piece(f"{ours}.W_in_shared", LINEAR)
    yield f"{theirs}.shared_experts.down_proj.weight", Piece(f"{ours}.W_out_shared", LINEAR)
    yield f"{theirs}.fc1_latent_proj.weight", Piece(f"{ours}.W_down", LINEAR)
    yield f"{theirs}.fc2_latent_proj.weight", Piece(f"{ours}.W_up", LINEAR)
