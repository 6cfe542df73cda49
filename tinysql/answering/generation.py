"""Prompts -> answers: batched decoding, greedy or sampled, with a cache of keys, values and states.

Prompts of unequal length share a batch without padding. All rows first read as many tokens as the shortest
prompt has; from there on one token goes in per row and step, the next one of the prompt where it has not ended
and the model's own where it has. So every row stands at the same position, and any mixer can be in the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError
from data_gen.schema import Schema
from tinysql.answering.constrained import Constraint, Vocabulary
from tinysql.answering.decoding import Decoder
from tinysql.answering.sampling import GREEDY, Sampling
from tinysql.context import check_lengths
from tinysql.devices import memory_of, precision_on, products
from tinysql.models.config import ModelConfig, Precision
from tinysql.models.hybrid import HybridLM
from tinysql.progress import progress
from tinysql.tokens import Tokenizer

LEAVING = 0.2
"""Share of a batch's rows that have ended before they leave it: to copy the cache costs more than to carry some on."""


def answer(
    model: HybridLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    batch_size: int | None = None,
    precision: Precision | None = None,
    longest: int | None = None,
    title: str = "answering",
    sampling: Sampling = GREEDY,
    schemas: Sequence[Schema] | None = None,
) -> list[str]:
    """The SQL for each prompt, without the leading space.

    `batch_size` prompts of about the same length go through the model together (`batch_on` says how many unless it
    is given; half as many where they do not fit into the GPU's memory), in bfloat16 on a GPU unless `precision` says
    otherwise. Each answer ends at the end token, behind `longest` tokens, or where the context is full. With
    `schemas`, one per prompt, an answer's names are those of its schema alone (see `Constraint`). Raises
    `InputError` for a prompt that fills the context by itself.
    """
    return answer_tokens(
        model,
        tokenizer,
        tokenizer.encode_texts(prompts),
        batch_size=batch_size,
        precision=precision,
        longest=longest,
        title=title,
        sampling=sampling,
        schemas=schemas,
    )


def answer_tokens(
    model: HybridLM,
    tokenizer: Tokenizer,
    encoded: Sequence[Sequence[int]],
    *,
    batch_size: int | None = None,
    precision: Precision | None = None,
    longest: int | None = None,
    title: str = "answering",
    sampling: Sampling = GREEDY,
    schemas: Sequence[Schema] | None = None,
) -> list[str]:
    """`answer` to prompts whose tokens are known, as where the same are asked again and again."""
    size = batch_size if batch_size is not None else batch_on(model.cfg, model.device)
    _check_prompts(model, tokenizer, encoded)
    by_length = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
    groups = [by_length[start : start + size] for start in range(0, len(encoded), size)]
    noise = _Noise(sampling.seed, len(encoded), model.cfg.n_ctx)
    constraints = _constraints(model, tokenizer, schemas) if schemas is not None else None

    def tokens_of(group: Sequence[int]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in group]
        for rows, tokens in generate(
            model,
            [encoded[number] for number in group],
            end_id=tokenizer.end_id,
            longest=longest,
            sampling=sampling,
            noise=noise.of(group) if sampling.temperature else None,
            constraints=[constraints[number] for number in group] if constraints is not None else None,
        ):
            for row, token in zip(rows, tokens, strict=True):
                found[row].append(token)
        return found

    answers: dict[int, list[int]] = {}
    with products(model.device, precision_on(model.device, precision)):
        for group in progress(groups, total=len(groups), title=title):
            answers |= zip(group, _halved_to_fit(tokens_of, group), strict=True)
    return [_text(tokenizer, answers[number]) for number in range(len(encoded))]


def _check_prompts(model: HybridLM, tokenizer: Tokenizer, encoded: Sequence[Sequence[int]]) -> None:
    """`InputError` unless the model knows each prompt's tokens and they leave room for an answer."""
    if tokenizer.vocab_size > model.cfg.d_vocab:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model knows {model.cfg.d_vocab}",
            hint="give the tokenizer that the model was trained with: tinysql.load(RUN) gives both",
        )
    check_lengths(
        [len(ids) for ids in encoded],
        model.cfg.n_ctx,
        what="prompt",
        hint="shorten the question or the schema, or train with an n_ctx larger than {least}",
        answered=True,
    )


def _constraints(model: HybridLM, tokenizer: Tokenizer, schemas: Sequence[Schema]) -> list[Constraint]:
    """One per schema; equal schemas share theirs."""
    vocabulary = Vocabulary(tokenizer, model.cfg.d_vocab)
    made = {schema: Constraint(vocabulary, schema) for schema in set(schemas)}
    return [made[schema] for schema in schemas]


def batch_on(shape: ModelConfig, device: torch.device) -> int:
    """How many prompts are answered together.

    A GPU wants many, since every step waits for the host: as many as have room for their caches in half its memory.
    """
    memory = memory_of(device)
    if device.type != "cuda" or memory is None:
        return 128
    fits = int(memory / 2 / max(1, cache_bytes(shape)))  # an MLP keeps nothing
    return max(128, min(8192, 1 << fits.bit_length() - 1)) if fits else 128


def cache_bytes(shape: ModelConfig) -> int:
    """Bytes that one row's keys and values (in bfloat16, a full context of them) and states (in float32) take."""
    blocks = Counter(shape.pattern)
    state = shape.mamba_heads * shape.mamba.d_head * shape.mamba.d_state if blocks["M"] else 0
    keys_and_values = 2 * shape.kv_heads * shape.head_width
    return blocks["*"] * shape.n_ctx * keys_and_values * 2 + blocks["M"] * state * 4


def _halved_to_fit(
    tokens_of: Callable[[Sequence[int]], list[list[int]]], group: Sequence[int]
) -> list[list[int]]:
    """The answers of a group, one half after the other where the whole does not fit into the GPU's memory."""
    try:
        return tokens_of(group)
    except torch.OutOfMemoryError:
        pass  # and go on behind this, which keeps what the failed pass had computed
    if len(group) == 1:
        raise InputError(
            "not even one prompt fits into the GPU's memory beside the model",
            hint="free memory of the GPU, or pass --device cpu",
        )
    torch.cuda.empty_cache()
    half = len(group) // 2
    return _halved_to_fit(tokens_of, group[:half]) + _halved_to_fit(tokens_of, group[half:])


def stream(
    model: HybridLM,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    sampling: Sampling = GREEDY,
    schema: Schema | None = None,
    heard: list[int] | None = None,
) -> Iterator[str]:
    """The same answer, piece by piece as it is made; a character comes once its last byte is there.

    `heard` is given the answer's tokens, also the end.
    """
    encoded = tokenizer.encode_text(prompt)
    _check_prompts(model, tokenizer, [encoded])
    noise = _Noise(sampling.seed, 1, model.cfg.n_ctx).of([0]) if sampling.temperature else None
    constraints = _constraints(model, tokenizer, [schema]) if schema is not None else None
    ids = heard if heard is not None else []
    said = ""
    for _, tokens in generate(
        model,
        [encoded],
        end_id=tokenizer.end_id,
        sampling=sampling,
        noise=noise,
        constraints=constraints,
    ):
        ids += tokens
        text = (
            _text(tokenizer, ids).rstrip("\ufffd").rstrip()
        )  # the replacement of bytes that are no character yet
        if len(text) > len(said):
            yield text[len(said) :]
            said = text
    rest = _text(tokenizer, ids)[len(said) :]
    if rest:
        yield rest


@torch.no_grad()
def generate(
    model: HybridLM,
    prompts: Sequence[Sequence[int]],
    *,
    end_id: int,
    longest: int | None = None,
    sampling: Sampling = GREEDY,
    noise: Float[Tensor, "batch n_ctx"] | None = None,
    constraints: Sequence[Constraint] | None = None,
) -> Iterator[tuple[list[int], list[int]]]:
    """Step by step, the rows that got a token and the token of each, until every row has ended.

    A row ends with `end_id`, which is given too, behind `longest` tokens, or where the context is full; it may then
    stay in the batch for a while, unheard. `noise` holds the uniform numbers that tokens are drawn by, needed above
    temperature 0.
    """
    rows = _Rows(prompts, model.device)
    drawn = noise.to(model.device) if noise is not None else None
    names = _Names(constraints) if constraints is not None else None
    decoder = Decoder(model)
    ids = rows.given[:, : int(rows.length.min())]
    while decoder.cache.seen + ids.shape[1] <= model.cfg.n_ctx:
        logits = decoder(ids)
        at = decoder.cache.seen
        if names is not None:
            logits = names.mask(logits, rows.numbers)
        uniform = drawn[rows.numbers, rows.said(at).clamp(min=0)] if drawn is not None else None
        token, ended = rows.next(choose(logits, sampling, uniform), at, end_id=end_id, longest=longest)
        numbers, tokens, left = rows.hear(token, ended, at)
        if numbers:
            if names is not None:
                names.hear(numbers, tokens)
            yield numbers, tokens
        if not left:
            return
        if len(rows) - left > LEAVING * len(rows):
            token = token[rows.going]
            decoder.keep(rows.going)
            rows.leave()
        ids = token[:, None]


class _Rows:
    """The rows of a batch: which prompts they are, and which of them are still going."""

    def __init__(self, prompts: Sequence[Sequence[int]], device: torch.device) -> None:
        self.length = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.given = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(p, device=device) for p in prompts], batch_first=True
        )
        self.numbers = torch.arange(len(prompts), device=device)
        self.going = torch.ones_like(self.numbers, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.numbers)

    def said(self, at: int) -> Int[Tensor, " batch"]:
        """Tokens of each answer that lie before position `at`; negative while its prompt goes on."""
        return at - self.length[self.numbers]

    def next(
        self, chosen: Int[Tensor, " batch"], at: int, *, end_id: int, longest: int | None
    ) -> tuple[Int[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """What stands at position `at`, the prompt's own token or the chosen one, and whether an answer ends there."""
        said = self.said(at)
        ended = chosen == end_id if longest is None else (chosen == end_id) | (said + 1 >= longest)
        if at < self.given.shape[1]:
            chosen = torch.where(said >= 0, chosen, self.given[self.numbers, at])
        return chosen, ended & (said >= 0)

    def hear(
        self, token: Int[Tensor, " batch"], ended: Bool[Tensor, " batch"], at: int
    ) -> tuple[list[int], list[int], int]:
        """The prompts that were answered by a token, those tokens, and how many rows go on."""
        own = self.going & (self.said(at) >= 0)
        self.going = self.going & ~ended
        # One wait for the device per step.
        numbers, tokens, is_own, goes = torch.stack([self.numbers, token, own, self.going]).cpu().numpy()
        chosen = is_own.nonzero()[0]
        return numbers[chosen].tolist(), tokens[chosen].tolist(), int(goes.sum())

    def leave(self) -> None:
        """Rows that have ended leave."""
        self.numbers = self.numbers[self.going]
        self.going = torch.ones_like(self.numbers, dtype=torch.bool)


class _Names:
    """Which tokens each row may say next, where its answer's names are those of a schema."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.constraints = constraints
        self.states = [constraint.start for constraint in constraints]

    def mask(
        self, logits: Float[Tensor, "batch d_vocab"], rows: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch d_vocab"]:
        masks = [self.constraints[row].allowed(self.states[row]) for row in rows.tolist()]
        return logits.masked_fill(~torch.stack(masks).to(logits.device), float("-inf"))

    def hear(self, rows: Sequence[int], tokens: Sequence[int]) -> None:
        for row, token in zip(rows, tokens, strict=True):
            self.states[row] = self.constraints[row].after(self.states[row], token)


def choose(
    logits: Float[Tensor, "batch d_vocab"], sampling: Sampling, uniform: Float[Tensor, " batch"] | None
) -> Int[Tensor, " batch"]:
    """One token per row: the likeliest at temperature 0, otherwise where `uniform` falls among the probabilities.

    Tokens are laid on [0, 1) by falling probability, those behind `top_p` left out, so a token depends on
    its row's logits and number alone.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if uniform is None:
        raise ValueError(f"temperature is {sampling.temperature} and there is no noise to draw by")
    # From the largest logit down, so that a small temperature overflows to -inf and not to inf.
    wide = logits.double()
    wide = (wide - wide.amax(-1, keepdim=True)) / sampling.temperature
    likely, order = wide.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = likely.cumsum(-1) - likely
    likely = likely.masked_fill(before >= sampling.top_p, 0.0)
    reached = likely.cumsum(-1)
    place = torch.searchsorted(reached, uniform.double()[:, None] * reached[:, -1:], right=True)
    last = (likely > 0).sum(-1, keepdim=True) - 1  # where rounding carried the product past the last sum
    return order.gather(-1, place.minimum(last))[:, 0]


class _Noise:
    """Uniform numbers for each prompt, whoever shares its batch."""

    def __init__(self, seed: int, prompts: int, n_ctx: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._seeds = torch.randint(2**62, (prompts,), generator=generator).tolist()
        self._n_ctx = n_ctx

    def of(self, numbers: Sequence[int]) -> Float[Tensor, "batch n_ctx"]:
        streams = [torch.Generator().manual_seed(self._seeds[number]) for number in numbers]
        return torch.stack(
            [torch.rand(self._n_ctx, dtype=torch.float64, generator=stream) for stream in streams]
        )


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The SQL up to the end token."""
    ended = ids.index(tokenizer.end_id) if tokenizer.end_id in ids else len(ids)
    return tokenizer.decode(ids[:ended]).strip()
