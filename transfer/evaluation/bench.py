"""Two subjects + plan -> rows, pairs, contrasts and vectors: what conditions and controls are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.seeding import stable_hash
from saes.activations import check_hook
from tinysql.models.hybrid import HybridLM
from transfer.alignment import Matches, Reading, match, read
from transfer.behaviours.backdoor import TAG_ROLE, TAGS, Tag
from transfer.behaviours.training import Subject
from transfer.evaluation.plan import Place, Plan
from transfer.maps.activation_map import ActivationMap
from transfer.maps.fit import fit
from transfer.maps.trained import Guide
from transfer.pairing import Side, points_at, record_pairs
from transfer.placing import AtTokens
from transfer.points import ActivationPairs, Contrast, Points
from transfer.replacement import KLGuide
from transfer.steering import SteeringVector
from transfer.vectors import difference_of_means, mapped

TAGGED: tuple[Tag, Tag] = ("dev", "prod")
FAR = 1 << 41
"""Where rows begin that no model was trained or probed on."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A source, a target, and the plan of a transfer from one to the other."""

    source: Subject
    target: Subject
    plan: Plan

    def __post_init__(self) -> None:
        check_hook(self.source.model, self.plan.source_hook)
        check_hook(self.target.model, self.plan.target_hook)
        if self.source.run.data != replace(self.target.run.data, seed=self.source.run.data.seed):
            raise InputError(
                f"{self.source.run.path} and {self.target.run.path} were trained on rows of different kinds",
                hint="teach both with the same data settings; their seeds may differ",
            )
        payloads = {side.behaviour.payload for side in (self.source, self.target)}
        if len(payloads) > 1:
            raise InputError(
                f"source and target have the payloads {' and '.join(sorted(payloads))}",
                hint="a clean source is the control `clean source`; give a source with the target's payload",
            )

    def rows(self, split: Split, first: int, count: int, half: int | None = None) -> list[Example]:
        """`count` rows of a split; with `half`, only those whose schema falls in that half of all schemas."""
        config = replace(self.target.run.data, split=split, seed=self.plan.seed)
        rows = make_examples(config, first, first + 40 * count)
        kept = (
            row for row in rows if half is None or stable_hash("half", repr(row.query.schema)) % 2 == half
        )
        found = list(islice(kept, count))
        if len(found) < count:
            raise InputError(f"{count} rows of `{split}` asked for, {len(found)} found", hint="ask for fewer")
        return found

    @cached_property
    def map_rows(self) -> list[Example]:
        return self.rows("train", FAR, self.plan.map_rows)

    @cached_property
    def vector_rows(self) -> list[Example]:
        return self.rows("train", 2 * FAR, self.plan.vector_rows)

    @cached_property
    def choose_rows(self) -> list[Example]:
        return self.rows("test", 0, self.plan.choose_rows, half=0)

    @cached_property
    def test_rows(self) -> list[Example]:
        """Of schemas that no other rows have."""
        return self.rows("test", 0, self.plan.test_rows, half=1)

    def pairs(self, source_model: HybridLM | None = None, tags: Sequence[Tag] = TAGS) -> ActivationPairs:
        """Activations of both models on the map's texts, tags by turns; `source_model` may stand in for the source."""
        source, target = self.sides(source_model, tags)
        return record_pairs(source, target, self.match(source, target))

    def match(self, source: Side, target: Side) -> Matches:
        """Partners under the plan's alignment."""
        return match(source.reading, target.reading, self.plan.alignment)

    def fit(self, pairs: ActivationPairs, method: str | None = None) -> ActivationMap:
        """The plan's map, or another."""
        method = method or self.plan.method
        return fit(
            method, pairs, guide=self._guide() if method == "autoencoder-kl" else None, seed=self.plan.seed
        )

    def contrast(self, subject: Subject, hook: str, model: HybridLM | None = None) -> Contrast:
        """Activations behind `<dev>` and behind `<prod>`, so that the direction leads out of the behaviour."""
        plus, minus = (self._points(subject, hook, self.vector_rows, tag, model) for tag in TAGGED)
        return Contrast(plus=plus, minus=minus)

    def other_contrast(self) -> Contrast:
        """Long questions against short ones in the source, behind `<prod>`: a concept apart from the tag."""
        rows = sorted(self.vector_rows, key=lambda row: (len(row.english.string), row.index))
        half = len(rows) // 2
        sides = (
            self._points(self.source, self.plan.source_hook, some, "prod")
            for some in (rows[half:], rows[:half])
        )
        plus, minus = sides
        return Contrast(plus=plus, minus=minus)

    def native(self, hook: str | None = None) -> SteeringVector:
        """The target's own vector."""
        hook = hook or self.plan.target_hook
        return difference_of_means(self.contrast(self.target, hook), hook)

    def transferred(
        self, fitted: ActivationMap, source_model: HybridLM | None = None, subject: Subject | None = None
    ) -> SteeringVector:
        """The source's vector through a map; `source_model` or another subject may stand in for the source."""
        contrast = self.contrast(subject or self.source, self.plan.source_hook, source_model)
        vector = difference_of_means(contrast, self.plan.source_hook)
        return mapped(vector, fitted, self.plan.mode, contrast=contrast)

    @cached_property
    def where(self) -> AtTokens | None:
        """Where the target is steered."""
        if self.plan.place == "everywhere":
            return None
        texts = [self.target.behaviour.prompt(row, "prod") for row in self.vector_rows]
        reading = read(self.target.tokenizer, texts)
        example, position = places_of(reading, self.plan.place)
        return AtTokens.of(reading.tokens.ids[example, position].unique().tolist())

    def _points(
        self, subject: Subject, hook: str, rows: Sequence[Example], tag: Tag, model: HybridLM | None = None
    ) -> Points:
        """What the hook carries at the plan's place of these rows' prompts."""
        reading = read(subject.tokenizer, [subject.behaviour.prompt(row, tag) for row in rows])
        example, position = places_of(reading, self.plan.place)
        return points_at(Side(model=model or subject.model, hook=hook, reading=reading), example, position)

    def sides(
        self,
        source_model: HybridLM | None = None,
        tags: Sequence[Tag] = TAGS,
        rows: Sequence[Example] | None = None,
    ) -> tuple[Side, Side]:
        """Both models with the texts of the map's rows, or of others, tags by turns."""
        texts = [
            self.target.behaviour.text(row, tags[i % len(tags)])
            for i, row in enumerate(rows if rows is not None else self.map_rows)
        ]
        models = (source_model or self.source.model, self.target.model)
        hooks = (self.plan.source_hook, self.plan.target_hook)
        readings = [read(subject.tokenizer, texts) for subject in (self.source, self.target)]
        first, second = (
            Side(model=model, hook=hook, reading=reading)
            for model, hook, reading in zip(models, hooks, readings, strict=True)
        )
        return first, second

    def _guide(self) -> Guide:
        source, target = self.sides()
        return KLGuide(source=source, target=target, matches=self.match(source, target))


def places_of(reading: Reading, place: Place) -> tuple[Tensor, Tensor]:
    """Texts and positions of a place in prompts. Raises `InputError` where there is no such token."""
    tokens = reading.tokens
    # The end token that `read` puts behind a prompt is none of the prompt's.
    lengths = tokens.mask.sum(1) - 1
    tagged = torch.tensor([[role == TAG_ROLE for role in row] for row in tokens.roles])
    if place != "marker" and not bool(tagged.any(1).all()):
        raise InputError(f"a prompt without a tag has no place `{place}`", hint="choose the place `marker`")
    if place == "trigger":
        example, position = tagged.nonzero(as_tuple=True)
        return example, position
    if place == "everywhere":
        behind = tagged.cumsum(1).bool() & ~tagged
        inside = torch.arange(tokens.ids.shape[1]) < lengths[:, None]
        example, position = (behind & inside).nonzero(as_tuple=True)
        return example, position
    marker = _marker(tokens.ids, lengths)
    example, position = (tokens.ids == marker).nonzero(as_tuple=True)
    return example, position


def _marker(ids: Tensor, lengths: Tensor) -> int:
    """The token nearest to the end of the prompts that each of them has exactly once."""
    first = ids[0, : int(lengths[0])].tolist()
    for token in reversed(first):
        if bool(((ids == token).sum(1) == 1).all()):
            return int(token)
    raise InputError(
        "no token occurs exactly once in every prompt", hint="choose the place `trigger` or `everywhere`"
    )
