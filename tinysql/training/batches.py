"""Tokenised rows -> training batches: one document per row and rows of like length together, or several packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_gen.errors import InputError
from tinysql.context import check_lengths
from tinysql.models.packing import Packing
from tinysql.tokens import Tokenizer

BUCKET = 64
"""Batches sorted by length together: large enough to save padding, small enough to stay random."""
ROOM = 256
"""Numbers of documents of packed batches are rounded up to multiples of this, so that few sizes occur."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one training step reads, and which next tokens it is scored on."""

    ids: Int[Tensor, "batch seq"]
    """Right-padded."""
    real: Bool[Tensor, "batch seq"]
    """False at padding."""
    packing: Packing | None
    """Where documents lie when rows hold several."""
    places: Int[Tensor, " scored"]
    """Flat positions of `ids` whose next token is scored."""
    targets: Int[Tensor, " scored"]
    """Those next tokens."""
    weights: Float[Tensor, " scored"]
    """Weight of each in the loss: answer tokens sum to 1, prompt tokens to `prompt_loss`."""
    tokens: int
    """Tokens that are not padding, of the whole batch also in its pieces."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""

        def move(t: Tensor) -> Tensor:
            pinned = t.pin_memory() if torch.device(device).type == "cuda" and not t.is_cuda else t
            return pinned.to(device, non_blocking=True)

        packing = self.packing
        if packing is not None:
            packing = Packing(
                move(packing.segments),
                move(packing.positions),
                move(packing.bounds) if packing.bounds is not None else None,
                packing.longest,
            )
        return replace(
            self,
            ids=move(self.ids),
            real=move(self.real),
            packing=packing,
            places=move(self.places),
            targets=move(self.targets),
            weights=move(self.weights),
        )

    def split(self, parts: int) -> list[Batch]:
        """Its rows in `parts` equal pieces; weights stay, so the losses of the pieces add up to that of the whole.

        Raises `InputError` when the rows cannot be shared out evenly.
        """
        if len(self.ids) % parts:
            raise InputError(
                f"a batch of {len(self.ids)} rows cannot be split into {parts} equal parts",
                hint="choose a batch_size that is a multiple of processes x accumulate",
            )
        each, width = len(self.ids) // parts, self.ids.shape[1]
        return [self._piece(start, start + each, width) for start in range(0, len(self.ids), each)]

    def _piece(self, start: int, end: int, width: int) -> Batch:
        low, high = start * width, end * width
        here = (self.places >= low) & (self.places < high)
        packing = self.packing
        if packing is not None:
            bounds = packing.bounds
            if bounds is not None:
                bounds = _with_room(bounds[(bounds >= low) & (bounds < high)] - low, high - low)
            packing = Packing(
                packing.segments[start:end], packing.positions[start:end], bounds, packing.longest
            )
        return replace(
            self,
            ids=self.ids[start:end],
            real=self.real[start:end],
            packing=packing,
            places=self.places[here] - low,
            targets=self.targets[here],
            weights=self.weights[here],
        )


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
        cls,
        rows: Iterable[tuple[str, str]],
        tokenizer: Tokenizer,
        *,
        n_ctx: int,
        drop_long: bool = False,
        chunk: int = 2000,
    ) -> TrainingRows:
        """Tokenise (prompt, SQL) rows.

        Rows longer than the context of `n_ctx` tokens are left out with `drop_long`; else `InputError` says how many.
        `InputError`, too, when none is left.
        """
        ids: list[list[int]] = []
        answers: list[int] = []
        rows = list(rows)
        for start in range(0, len(rows), chunk):
            part = rows[start : start + chunk]
            # No token reaches over the space before the SQL, so the two may be encoded apart.
            prompts = tokenizer.backend.encode_batch_fast([p for p, _ in part], add_special_tokens=False)
            sqls = tokenizer.backend.encode_batch_fast([f" {s}" for _, s in part], add_special_tokens=False)
            ids += [[*p.ids, *s.ids, tokenizer.end_id] for p, s in zip(prompts, sqls, strict=True)]
            answers += [len(encoding.ids) for encoding in prompts]
        if drop_long:
            kept = [number for number, row in enumerate(ids) if len(row) <= n_ctx]
            if not kept:
                raise InputError(
                    f"all {len(ids)} rows have more than {n_ctx} tokens, the most that fit",
                    hint="raise train.model.n_ctx and train.pack, lower data.max_columns, or use a larger vocabulary",
                )
            ids, answers = [ids[number] for number in kept], [answers[number] for number in kept]
        lengths = np.array([len(row) for row in ids])
        check_lengths(
            lengths.tolist(),
            n_ctx,
            what="training row",
            hint="raise train.model.n_ctx to {least}, lower data.max_columns, or use a larger vocabulary",
        )
        return cls(
            np.concatenate([np.array(row, dtype=np.int32) for row in ids]),
            np.concatenate([[0], lengths.cumsum()]),
            np.array(answers),
            tokenizer.pad_id,
        )

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per row."""
        lengths: np.ndarray = self.starts[1:] - self.starts[:-1]
        return lengths

    def batch(self, rows: Sequence[int] | np.ndarray, *, prompt_loss: float = 0.0) -> Batch:
        """The given rows, one document each, padded to the longest of them."""
        rows = np.asarray(rows)
        columns = np.arange(self.lengths[rows].max())
        real = columns < self.lengths[rows][:, None]
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        ids[real] = np.concatenate([self._row(row) for row in rows])
        answer = real & (columns >= self.answers[rows][:, None])
        return _batch(ids, real, answer, np.zeros_like(answer), None, prompt_loss)

    def packed(self, bins: Sequence[Sequence[int]], width: int, *, prompt_loss: float = 0.0) -> Batch:
        """Rows of `width` tokens, each holding the documents of one bin."""
        shape = (len(bins), width)
        ids, segments = np.full(shape, self.pad_id, dtype=np.int64), np.zeros(shape, dtype=np.int32)
        positions, answer = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        real, first = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        bounds = []
        for i, documents in enumerate(bins):
            at = 0
            for number, row in enumerate(documents):
                end = at + int(self.lengths[row])
                bounds.append(i * width + at)
                ids[i, at:end], segments[i, at:end] = self._row(row), number
                positions[i, at:end] = np.arange(end - at)
                answer[i, at + self.answers[row] : end] = True
                first[i, at], at = True, end
            real[i, :at] = True
            if at < width:  # the padding is a document of its own
                bounds.append(i * width + at)
                segments[i, at:] = len(documents)
        packing = Packing(
            torch.from_numpy(segments),
            torch.from_numpy(positions),
            _with_room(torch.tensor(bounds, dtype=torch.int32), len(bins) * width),
            width,
        )
        return _batch(ids, real, answer, first, packing, prompt_loss)

    def _row(self, row: int | np.integer) -> np.ndarray:
        found: np.ndarray = self.ids[self.starts[row] : self.starts[row + 1]]
        return found


def _with_room(starts: Int[Tensor, " document"], end: int) -> Int[Tensor, " room"]:
    """Starts of documents and the end of the last, repeated up to the next multiple of `ROOM`, plus one."""
    room = -(-len(starts) // ROOM) * ROOM + 1
    return torch.cat([starts, torch.full((room - len(starts),), end, dtype=starts.dtype)])


def _batch(
    ids: np.ndarray,
    real: np.ndarray,
    answer: np.ndarray,
    first: np.ndarray,
    packing: Packing | None,
    prompt_loss: float,
) -> Batch:
    prompt = real & ~answer & ~first if prompt_loss else np.zeros_like(real)
    scored = answer | prompt
    scored[:, 0] = False  # nothing stands before it
    weights = np.zeros(ids.shape, dtype=np.float32)
    for part, weight in ((answer, 1.0), (prompt, prompt_loss)):
        part = part & scored
        weights[part] = weight / max(1, part.sum())
    flat = np.flatnonzero(scored)
    return Batch(
        ids=torch.from_numpy(ids),
        real=torch.from_numpy(real),
        packing=packing,
        places=torch.from_numpy(flat - 1),
        targets=torch.from_numpy(ids.ravel()[flat]),
        weights=torch.from_numpy(weights.ravel()[flat]),
        tokens=int(real.sum()),
    )


def pack(lengths: np.ndarray, width: int) -> list[list[int]]:
    """Rows -> bins of at most `width` tokens: longest first, each where the least room is left (best fit).

    `InputError` for a row longer than `width`.
    """
    if len(lengths) and lengths.max() > width:
        raise InputError(f"a row has {lengths.max()} tokens and packed rows hold {width}", hint="raise pack")
    bins: list[list[int]] = []
    open_bins: list[list[int]] = [[] for _ in range(width + 1)]  # by room left
    for row in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[row])
        room = next((r for r in range(need, width) if open_bins[r]), None)
        if room is None:
            bins.append([])
            index, room = len(bins) - 1, width
        else:
            index = open_bins[room].pop()
        bins[index].append(row)
        open_bins[room - need].append(index)
    return bins


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


def packed_batches(
    rows: TrainingRows, *, width: int, batch_size: int, seed: Sequence[int], prompt_loss: float
) -> Iterator[Batch]:
    """Batches of `batch_size` packed rows, in random order; less than one batch is left over.

    `InputError` when all rows together do not fill one batch.
    """
    rng = np.random.default_rng(list(seed))
    order = rng.permutation(len(rows))
    bins = [[int(order[i]) for i in some] for some in pack(rows.lengths[order], width)]
    if len(bins) < batch_size:
        raise InputError(
            f"{len(rows)} documents fill {len(bins)} packed rows of {width} tokens, fewer than a batch of {batch_size}",
            hint="lower batch_size or pack, or make more rows",
        )
    shuffled = [bins[i] for i in rng.permutation(len(bins))]
    for start in range(0, len(bins) - batch_size + 1, batch_size):
        yield rows.packed(shuffled[start : start + batch_size], width, prompt_loss=prompt_loss)
