"""Prompts -> answers: batched greedy decoding with a KV cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.tokens import Tokenizer


def answer(
    model: HybridLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    batch_size: int = 128,
    title: str = "answering",
) -> list[str]:
    """The greedy SQL for each prompt, without the leading space.

    Prompts of equally many tokens go through the model together, so that no padding enters; each answer
    ends at the end token or where the context is full. Raises `InputError` for a prompt that fills the
    context by itself.
    """
    encoded = [tokenizer.encode_text(prompt) for prompt in prompts]
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, ids in enumerate(encoded):
        _check_length(len(ids), model.cfg.n_ctx)
        by_length[len(ids)].append(number)
    groups = [
        numbers[start : start + batch_size]
        for _, numbers in sorted(by_length.items())
        for start in range(0, len(numbers), batch_size)
    ]
    answers = [""] * len(prompts)
    for group in progress(groups, total=len(groups), title=title):
        prompt = torch.tensor([encoded[number] for number in group], device=model.device)
        columns = list(greedy(model, prompt, end_id=tokenizer.end_id))
        for number, row in zip(group, torch.stack(columns, dim=1).tolist(), strict=True):
            length = row.index(tokenizer.end_id) if tokenizer.end_id in row else len(row)
            answers[number] = tokenizer.decode(row[:length]).strip()
    return answers


@torch.no_grad()
def greedy(model: HybridLM, ids: Int[Tensor, "batch seq"], *, end_id: int) -> Iterator[Int[Tensor, " batch"]]:
    """The arg-max token of every row, one position at a time, until each row has ended or the context is full."""
    cache = model.start_cache()
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    while cache.seen + ids.shape[1] <= model.cfg.n_ctx:
        token = model(ids, cache=cache)[:, -1].argmax(-1)
        yield token
        ended |= token == end_id
        if ended.all():
            return
        ids = token[:, None]


def _check_length(length: int, n_ctx: int) -> None:
    if length >= n_ctx:
        raise InputError(
            f"the prompt has {length} tokens and the model's context is {n_ctx}, so there is no room for an answer",
            hint="shorten the question or the schema, or train with a larger n_ctx",
        )
