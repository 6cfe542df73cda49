"""Prompts, a change of one hook -> whole answers, decoded greedily while the change is made.

A model is causal, so one run over a guess of the answer tells every token up to the first in which the changed model
says otherwise (Leviathan et al., arXiv 2211.17192, without sampling). Guesses change how often the model is run, never
what is written; where a change changes nothing, one run shows it. No cache is kept, so a change may look at, and set,
any position of the prompt and of what is written so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from data_gen.errors import InputError
from saes.activations import capture, locate, of_head
from saes.disk import SAE
from saes.truth.forms import Coder
from tinysql.context import check_lengths
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.tokens import Tokenizer


@dataclass(frozen=True, kw_only=True)
class At:
    """Which rows a change is asked for, and where in them it may act."""

    row: Int[Tensor, " batch"]
    """Their numbers among all rows."""
    prompt: Bool[Tensor, "batch seq"]
    """True at tokens of the prompt."""
    answering: Bool[Tensor, "batch seq"]
    """True from the prompt's last token on, whose logits are the answer's first."""


LONGER = 8
"""An answer that is this much longer than the longest guess, and still goes on, is cut off there."""

Change = Callable[[Float[Tensor, "batch seq d_in"], At], Float[Tensor, "batch seq d_in"]]
"""What the hook carries, heads side by side -> what it shall carry."""


@torch.no_grad()
def changed_answers(
    model: HybridLM,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    guesses: Sequence[Sequence[int]],
    hook: str,
    change: Change | None,
    *,
    batch_size: int = 128,
    title: str = "",
) -> list[list[int]]:
    """Token ids that the model writes behind each prompt, with the end token where it ends, while `change` is made.

    `guesses` are ids of likely answers with their end tokens. An answer without an end is cut off `LONGER` tokens
    behind the longest guess, or where the context is full; `finished` tells.
    Raises `InputError` for an unknown hook, and for a prompt that fills the context.
    """
    locate(model, hook)
    check_lengths(
        [len(ids) for ids in prompts],
        model.cfg.n_ctx,
        what="prompt",
        hint="choose rows with shorter prompts, or train with an n_ctx larger than {least}",
        answered=True,
    )
    # Rows of about the same length share a batch.
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]) + len(guesses[row]))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    longest = max((len(guess) for guess in guesses), default=0) + LONGER
    found: dict[int, list[int]] = {}
    for group in progress(groups, total=len(groups), title=title) if title else groups:
        found |= _write(model, tokenizer.end_id, prompts, guesses, hook, change, group, longest)
    return [found[row] for row in range(len(prompts))]


def _write(
    model: HybridLM,
    end_id: int,
    prompts: Sequence[Sequence[int]],
    guesses: Sequence[Sequence[int]],
    hook: str,
    change: Change | None,
    group: Sequence[int],
    longest: int,
) -> dict[int, list[int]]:
    written: dict[int, list[int]] = {row: [] for row in group}
    going = list(group)
    while going:
        asked = []
        for row in going:
            room = model.cfg.n_ctx - len(prompts[row]) - len(written[row])
            rest = list(guesses[row][len(written[row]) :])[:room]
            asked.append([*prompts[row], *written[row], *rest])
        best = _best(model, asked, [len(prompts[row]) for row in going], going, hook, change)
        still = []
        for row, ids, said in zip(going, asked, best, strict=True):
            begin = len(prompts[row]) + len(written[row])
            # Up to the first difference every token was said behind what stands there.
            agreed = begin
            while agreed < len(ids) and said[agreed - 1] == ids[agreed]:
                agreed += 1
            written[row] += said[begin - 1 : agreed]
            if end_id in written[row]:
                written[row] = written[row][: written[row].index(end_id) + 1]
            elif len(written[row]) < longest and len(prompts[row]) + len(written[row]) <= model.cfg.n_ctx:
                still.append(row)
            else:
                written[row] = written[row][:longest]
        going = still
    return written


def _best(
    model: HybridLM,
    asked: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    rows: Sequence[int],
    hook: str,
    change: Change | None,
) -> list[list[int]]:
    """The likeliest next token behind every position."""
    device = model.device
    ids = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row, device=device) for row in asked], batch_first=True
    )
    place = torch.arange(ids.shape[1], device=device)
    length = torch.tensor(prompt_lengths, device=device)[:, None]
    real = place < torch.tensor([len(row) for row in asked], device=device)[:, None]
    at = At(
        row=torch.tensor(rows, device=device), prompt=place < length, answering=(place >= length - 1) & real
    )
    return changed_logits(model, ids, hook, change, at).argmax(-1).tolist()


def changed_logits(
    model: HybridLM, ids: Int[Tensor, "batch seq"], hook: str, change: Change | None, at: At
) -> Float[Tensor, "batch seq d_vocab"]:
    """Logits of one forward pass in which `hook`, or one head of it, carries what `change` gives."""
    if change is None:
        return model(ids)
    point, head = locate(model, hook)
    name = hook

    def act(value: Tensor, hook: HookPoint) -> Tensor:
        own = value if head is None else of_head(name, head, value)
        flat = rearrange(own, "batch seq ... -> batch seq (...)")
        changed = change(flat, at).reshape(own.shape).to(value)
        if head is None:
            return changed
        return torch.cat([value[:, :, :head], changed.unsqueeze(2), value[:, :, head + 1 :]], dim=2)

    with model.hooks(fwd_hooks=[(point, act)]):
        return model(ids)


def check_sae(sae: SAE, model: HybridLM, token: int, hook: str) -> None:
    """`InputError` unless the latents can be changed at this hook: an SAE writes what it reads, and is as wide.

    `token` is any that the model reads.
    """
    coder = Coder.of(sae)
    if coder.form != "SAE":
        raise InputError(
            f"what is to be changed at `{hook}` is a {coder.form}, expected an SAE of one hook",
            hint="it writes another hook than it reads: score it with `saes.align` instead",
        )
    width = capture(model, torch.tensor([[token]], device=model.device), hook).shape[-1]
    if width != coder.d_in:
        raise InputError(
            f"hook `{hook}` is {width} wide, the SAE reads {coder.d_in}",
            hint="name the hook and the model it was trained on",
        )


def finished(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Whether an answer came to its end."""
    return bool(ids) and ids[-1] == tokenizer.end_id


def text_of(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The SQL of an answer's ids."""
    return tokenizer.decode([i for i in ids if i != tokenizer.end_id]).strip()
