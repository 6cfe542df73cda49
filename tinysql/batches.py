"""Dataset rows -> length-bucketed training batches; batch *n* is a pure function of (seed, *n*)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from data_gen.errors import InputError
from tinysql.tokens import Tokenizer

BUCKET = 64
"""Batches sorted by length together: large enough to save padding, small enough to stay random."""


@dataclass(frozen=True)
class Batch:
    """Rows of one training step, right-padded."""

    ids: Int[Tensor, "batch seq"]
    real: Bool[Tensor, "batch seq"]
    """True at tokens, False at padding."""
    answer: Bool[Tensor, "batch seq"]
    """True at the tokens of the SQL and the end token behind it."""


@dataclass(frozen=True)
class TrainingRows:
    """Tokenised rows, kept as one flat array and their boundaries."""

    ids: np.ndarray
    starts: np.ndarray
    answers: np.ndarray
    """Index of the first answer token within each row."""
    pad_id: int

    @classmethod
    def encode(
        cls, rows: Iterable[tuple[str, str]], tokenizer: Tokenizer, *, n_ctx: int, chunk: int = 2000
    ) -> TrainingRows:
        """Tokenise (prompt, SQL) rows; `InputError` names a row longer than the context of `n_ctx` tokens."""
        ids: list[list[int]] = []
        answers: list[int] = []
        rows = list(rows)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            whole = tokenizer.backend.encode_batch([f"{p} {s}" for p, s in part], add_special_tokens=False)
            prompts = tokenizer.backend.encode_batch([p for p, _ in part], add_special_tokens=False)
            ids += [[*encoding.ids, tokenizer.end_id] for encoding in whole]
            answers += [len(encoding.ids) for encoding in prompts]
        lengths = np.array([len(row) for row in ids])
        if len(ids) and lengths.max() > n_ctx:
            raise InputError(
                f"training row {int(lengths.argmax())} has {lengths.max()} tokens, the model's context is {n_ctx}",
                hint="raise model.n_ctx, lower max_columns, or use a larger vocabulary",
            )
        return cls(
            np.concatenate([np.array(row, dtype=np.int32) for row in ids]),
            np.concatenate([[0], lengths.cumsum()]),
            np.array(answers),
            tokenizer.pad_id,
        )

    def __len__(self) -> int:
        return len(self.answers)

    def batch(self, rows: Sequence[int] | np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """The given rows, padded to the longest of them."""
        rows = np.asarray(rows)
        lengths = self.starts[rows + 1] - self.starts[rows]
        columns = np.arange(lengths.max())
        real = columns < lengths[:, None]
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        ids[real] = np.concatenate([self.ids[self.starts[row] : self.starts[row + 1]] for row in rows])
        answer = real & (columns >= self.answers[rows][:, None])
        return Batch(*(torch.from_numpy(array).to(device) for array in (ids, real, answer)))


class BatchOrder:
    """Which rows form batch *n*: shuffled every epoch, rows of like length together."""

    def __init__(self, lengths: np.ndarray, *, batch_size: int, seed: int) -> None:
        if len(lengths) < batch_size:
            raise InputError(
                f"{len(lengths)} training rows are fewer than one batch of {batch_size}",
                hint="make more rows or lower batch_size",
            )
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.per_epoch = len(lengths) // batch_size
        self._epoch: tuple[int, np.ndarray] | None = None

    def rows(self, step: int) -> np.ndarray:
        """Row numbers of batch `step`, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffle(epoch))
        return self._epoch[1][position]

    def _shuffle(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))[: self.per_epoch * self.batch_size]
        width = BUCKET * self.batch_size
        sorted_buckets = [
            bucket[np.argsort(self.lengths[bucket], kind="stable")]
            for bucket in (order[start : start + width] for start in range(0, len(order), width))
        ]
        in_batches = np.concatenate(sorted_buckets).reshape(self.per_epoch, self.batch_size)
        return in_batches[rng.permutation(self.per_epoch)]
