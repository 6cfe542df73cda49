"""Example -> tokens: ids and the known role of each, and pairs aligned token for token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers.models import BPE
from torch import Tensor

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic

if TYPE_CHECKING:
    from data_gen.example import Example
    from data_gen.pairs.counterfactual import CounterfactualPair
    from data_gen.text import Text

PAD, END = "<pad>", "<end>"
END_ROLE = "sql.end"
SPECIAL = "special_tokens_map.json"
"""Beside a tokenizer: which of its tokens pads and which ends."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A right-padded batch of examples: what the model reads, and what each token is."""

    ids: Int[Tensor, "batch seq"]
    mask: Bool[Tensor, "batch seq"]
    """True where there is a token, False at padding."""
    roles: tuple[tuple[str, ...], ...]
    """One dotted role per token, `""` at padding."""
    answer_start: Int[Tensor, " batch"]
    """Index of the first token of the SQL."""

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Int[Tensor, " picked"]) -> Tokens:
        """The rows of a slice, or those of these numbers, in their order and repeats included."""
        named = rows if isinstance(rows, slice) else rows.tolist()
        return Tokens(
            ids=self.ids[rows],
            mask=self.mask[rows],
            roles=self.roles[named] if isinstance(named, slice) else tuple(self.roles[row] for row in named),
            answer_start=self.answer_start[rows],
        )

    def to(self, device: torch.device | str) -> Tokens:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            ids=self.ids.to(device),
            mask=self.mask.to(device),
            answer_start=self.answer_start.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class TokenPairs:
    """Clean and corrupt sides of equal length, cut after the last position whose logits are asked for."""

    edit: str
    clean: Tokens
    corrupt: Tokens
    position: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
    """The position whose logits predict the first token in which the two answers differ; for whole answers that of
    every such token, the last repeated where a pair has fewer."""
    clean_answer: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
    corrupt_answer: Int[Tensor, " batch"] | Int[Tensor, "batch answer"]
    """Equal to `clean_answer` where a position is a repetition."""
    refused: tuple[str, ...] = ()
    """Why each left-out pair was left out."""

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, rows: slice | Int[Tensor, " picked"]) -> TokenPairs:
        """The pairs of a slice, or those of these numbers, in their order and repeats included."""
        return TokenPairs(
            edit=self.edit,
            clean=self.clean[rows],
            corrupt=self.corrupt[rows],
            position=self.position[rows],
            clean_answer=self.clean_answer[rows],
            corrupt_answer=self.corrupt_answer[rows],
        )

    def to(self, device: torch.device | str) -> TokenPairs:
        """The same pairs with their tensors on `device`."""
        return replace(
            self,
            clean=self.clean.to(device),
            corrupt=self.corrupt.to(device),
            position=self.position.to(device),
            clean_answer=self.clean_answer.to(device),
            corrupt_answer=self.corrupt_answer.to(device),
        )


PUNCTUATION = " ?[(),';%.]"
"""What is a token of its own: GPT-2's pre-tokenisation joins `),` and `('`, which belong to two slots."""


class Tokenizer:
    """Strings -> ids and roles; `train` makes a byte-level BPE whose file `PreTrainedTokenizerFast` can load too.

    Any other fast tokenizer will do that has a token for padding and one for the end.

    Example: `Tokenizer(hf.backend_tokenizer, pad="<|endoftext|>", end="<|endoftext|>")`.
    """

    def __init__(self, backend: tokenizers.Tokenizer, *, pad: str = PAD, end: str = END) -> None:
        if backend.padding is not None or backend.truncation is not None:
            # Settings of its last training, which would cut prompts off silently and pad what is encoded together.
            backend = tokenizers.Tokenizer.from_str(backend.to_str())
            backend.no_padding()
            backend.no_truncation()
        self.backend = backend
        self.pad_id = _known(backend, pad)
        self.end_id = _known(backend, end)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
        """Byte-level BPE with GPT-2's pre-tokenisation and punctuation apart, learned from `texts`."""
        backend = tokenizers.Tokenizer(BPE())
        backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(PUNCTUATION), "isolated"),
                tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        backend.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, END],
            initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return cls(backend)

    @property
    def vocab_size(self) -> int:
        return int(self.backend.get_vocab_size())

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json`, and `special_tokens_map.json` beside it, where transformers looks too."""
        path = Path(path)
        names = {"pad_token": self.pad_id, "eos_token": self.end_id}
        special = {name: self.backend.id_to_token(number) for name, number in names.items()}
        write_atomic(path.with_name(SPECIAL), json.dumps(special, indent=1))
        write_atomic(path, self.backend.to_str(pretty=True))

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a `tokenizer.json`; `InputError` when it is missing or cut short."""
        path = Path(path)
        special = read_json(path.with_name(SPECIAL)) if path.with_name(SPECIAL).exists() else {}
        pad, end = (str(special.get(name, usual)) for name, usual in (("pad_token", PAD), ("eos_token", END)))
        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), pad=pad, end=end)
        except Exception as error:  # the library raises bare Exception
            reason = error.message if isinstance(error, InputError) else error
            raise InputError(
                f"{path} is not a whole tokenizer file ({reason})",
                hint="train the run again, or restore the file",
            ) from error

    def encode_text(self, string: str) -> list[int]:
        """Token ids of a string, with nothing added."""
        return list(self.backend.encode(string, add_special_tokens=False).ids)

    def encode_texts(self, strings: Sequence[str]) -> list[list[int]]:
        """`encode_text` of each, on all processors."""
        return [list(one.ids) for one in self.backend.encode_batch(list(strings), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The string behind token ids; special tokens vanish."""
        return str(self.backend.decode(list(ids), skip_special_tokens=True))

    def encode(self, examples: Sequence[Example]) -> Tokens:
        """Prompt, SQL and end token of each example, with the role of every token.

        A token's role is that of the span which holds most of its characters.
        """
        rows = [self._label(example.text, len(example.prompt.string)) for example in examples]
        return self._pad(rows)

    def encode_pairs(
        self,
        pairs: Sequence[CounterfactualPair],
        *,
        drop_misaligned: bool = False,
        whole_answers: bool = False,
    ) -> TokenPairs:
        """Align the two sides of each pair token for token.

        Aligned means: prompts of equally many tokens that differ only inside the edited span, and answers that
        agree up to one token and differ there. Any other pair raises `InputError` with the reason, or is left
        out and its reason kept in `refused` when `drop_misaligned`.
        With `whole_answers` every token in which the answers differ is asked for, not the first alone; each side
        then reads its own answer up to there, and the answers must have equally many tokens.
        """
        kept: list[_Aligned] = []
        refused: list[str] = []
        for number, pair in enumerate(pairs):
            found = self._align(pair, whole_answers)
            if isinstance(found, _Aligned):
                kept.append(found)
            else:
                refused.append(f"pair {number}: {found}")
        if refused and (not drop_misaligned or not kept):
            raise InputError(
                f"{len(refused)} of {len(pairs)} pairs of edit `{pairs[0].edit}` are not aligned; {refused[0]}",
                hint="pass drop_misaligned=True to leave such pairs out"
                if kept
                else "choose names of equally many tokens",
            )
        if not kept:
            raise InputError("there is no pair to encode", hint="ask for at least one pair")
        return TokenPairs(
            edit=pairs[0].edit,
            clean=self._pad([pair.clean for pair in kept]),
            corrupt=self._pad([pair.corrupt for pair in kept]),
            **_asked(kept, whole_answers),
            refused=tuple(refused),
        )

    def _label(self, text: Text, prompt_length: int) -> _Row:
        encoding = self.backend.encode(text.string, add_special_tokens=False)
        # The space behind the prompt belongs to the answer, also where it is a token of its own.
        behind = (i for i, (_, end) in enumerate(encoding.offsets) if end > prompt_length)
        start = next(behind, len(encoding.ids))
        return _Row([*encoding.ids, self.end_id], [*text.roles_of(encoding.offsets), END_ROLE], start)

    def _pad(self, rows: Sequence[_Row]) -> Tokens:
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
        lengths = torch.tensor([len(row.ids) for row in rows])
        return Tokens(
            ids=ids,
            mask=torch.arange(width) < lengths[:, None],
            roles=tuple((*row.roles, *[""] * (width - len(row.roles))) for row in rows),
            answer_start=torch.tensor([row.answer_start for row in rows]),
        )

    def _align(self, pair: CounterfactualPair, whole_answers: bool) -> _Aligned | str:
        clean, corrupt = (
            self._label(side.text, len(side.prompt.string)) for side in (pair.clean, pair.corrupt)
        )
        if clean.answer_start != corrupt.answer_start:
            return f"the prompts have {clean.answer_start} and {corrupt.answer_start} tokens"
        changed = [i for i in range(clean.answer_start) if clean.ids[i] != corrupt.ids[i]]
        if len({clean.roles[i] for i in changed}) != 1:
            return f"the prompts differ in the roles {sorted({clean.roles[i] for i in changed})}, not in one"
        answers = [row.ids[row.answer_start :] for row in (clean, corrupt)]
        differ = [i for i, (a, b) in enumerate(zip(*answers, strict=False)) if a != b]
        if not differ:
            return "the answers do not differ"
        if whole_answers and len(answers[0]) != len(answers[1]):
            return f"the answers have {len(answers[0])} and {len(answers[1])} tokens"
        positions = [clean.answer_start + i - 1 for i in (differ if whole_answers else differ[:1])]
        return _Aligned(
            clean=clean.cut(positions[-1] + 1),
            corrupt=corrupt.cut(positions[-1] + 1),
            positions=positions,
            clean_answer=[clean.ids[position + 1] for position in positions],
            corrupt_answer=[corrupt.ids[position + 1] for position in positions],
        )


@dataclass(frozen=True)
class _Row:
    ids: list[int]
    roles: list[str]
    answer_start: int

    def cut(self, length: int) -> _Row:
        return _Row(self.ids[:length], self.roles[:length], self.answer_start)


@dataclass(frozen=True, kw_only=True)
class _Aligned:
    clean: _Row
    corrupt: _Row
    positions: list[int]
    clean_answer: list[int]
    corrupt_answer: list[int]


def _asked(kept: Sequence[_Aligned], whole_answers: bool) -> dict[str, Tensor]:
    """Positions and answers as `TokenPairs` holds them."""
    if not whole_answers:
        return {
            "position": torch.tensor([pair.positions[0] for pair in kept]),
            "clean_answer": torch.tensor([pair.clean_answer[0] for pair in kept]),
            "corrupt_answer": torch.tensor([pair.corrupt_answer[0] for pair in kept]),
        }
    most = max(len(pair.positions) for pair in kept)
    rows = [(pair.positions, pair.clean_answer, pair.corrupt_answer) for pair in kept]
    # A repeated position asks for the same token on both sides, which is no difference at all.
    fillers = [(positions[-1:], clean[-1:], clean[-1:]) for positions, clean, _ in rows]
    columns = zip(
        *[
            [found + filler * (most - len(found)) for found, filler in zip(row, fill, strict=True)]
            for row, fill in zip(rows, fillers, strict=True)
        ],
        strict=True,
    )
    return dict(zip(("position", "clean_answer", "corrupt_answer"), map(torch.tensor, columns), strict=True))


def _known(backend: tokenizers.Tokenizer, token: str) -> int:
    found = backend.token_to_id(token)
    if found is None:
        raise InputError(f"the tokenizer has no token `{token}`", hint="use a tokenizer that tinysql trained")
    return int(found)
