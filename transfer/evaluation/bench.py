"""Two subjects + plan -> rows, pairs, contrasts and vectors: what conditions and controls are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from data_gen.config import DataConfig
from data_gen.draw.splits import Split
from data_gen.errors import InputError
from data_gen.example import Example, make_examples
from data_gen.seeding import stable_hash
from saes.disk import load
from tinysql.models.hybrid import HybridLM
from transfer.alignment import Matches, Reading, match
from transfer.asked import check_plan
from transfer.behaviours.asking import read_prompts, read_texts
from transfer.behaviours.behaviour import Aim, Behaviour, Condition
from transfer.behaviours.gates import SEARCHED, telling
from transfer.behaviours.training import Subject
from transfer.evaluation.plan import Place, Plan
from transfer.latents import contrast_latent, sae_at
from transfer.maps.activation_map import ActivationMap
from transfer.maps.fit import fit
from transfer.maps.trained import Guide
from transfer.names import SAE_LATENT
from transfer.pairing import Side, points_at, record_pairs
from transfer.placing import AtTokens
from transfer.points import ActivationPairs, Contrast, Points
from transfer.replacement import KLGuide
from transfer.steering import SteeringVector
from transfer.vectors import OF_CONTRAST, PAIRED, mapped

FAR = 1 << 41
"""Where rows begin that no model was trained or probed on."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A source, a target, and the plan of a transfer from one to the other."""

    source: Subject
    target: Subject
    plan: Plan

    def __post_init__(self) -> None:
        check_plan(self.source.taught, self.target.taught, self.plan)
        if self.plan.vector in PAIRED:
            self._check_paired()

    @property
    def behaviour(self) -> Behaviour:
        """What both were taught."""
        return self.target.behaviour

    @property
    def aim(self) -> Aim:
        """What the steering is for."""
        return self.behaviour.aim(self.plan.aim)

    def rows(self, split: Split, first: int, count: int, half: int | None = None) -> list[Example]:
        """`count` rows of a split that the behaviour can be told on.

        With `half`, only those whose schema falls in that half of all schemas.
        """
        config = replace(self.target.run.data, split=split, seed=self.plan.seed)
        return list(_rows(config, self.behaviour, first, count, half))

    @cached_property
    def map_rows(self) -> list[Example]:
        """Of every kind, as the models were trained on."""
        config = replace(self.target.run.data, split="train", seed=self.plan.seed)
        return list(make_examples(config, FAR, FAR + self.plan.map_rows))

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

    def pairs(
        self, source_model: HybridLM | None = None, conditions: Sequence[Condition] | None = None
    ) -> ActivationPairs:
        """Activations of both models on the map's texts, conditions by turns; `source_model` may pose as the source."""
        source, target = self.sides(source_model, conditions)
        return record_pairs(source, target, self.match(source, target))

    def match(self, source: Side, target: Side) -> Matches:
        """Partners under the plan's alignment."""
        return _matches(source.reading, target.reading, self.plan.alignment)

    def fit(self, pairs: ActivationPairs, method: str | None = None) -> ActivationMap:
        """The plan's map, or another."""
        method = method or self.plan.method
        guide = self._guide() if method == "autoencoder-kl" else None
        return fit(method, pairs, rank=self.plan.rank, guide=guide, seed=self.plan.seed)

    def contrast(self, subject: Subject, hook: str, model: HybridLM | None = None) -> Contrast:
        """Activations under the two conditions of the aim, so that the direction leads to what is wanted."""
        sides = [self._places(subject, self.vector_rows, one) for one in (self.aim.plus, self.aim.minus)]
        (_, of_plus, _), (_, of_minus, _) = sides
        plus, minus = (
            points_at(Side(model=model or subject.model, hook=hook, reading=reading), example, position)
            for reading, example, position in sides
        )
        return Contrast(plus=plus, minus=minus, prompts=(of_plus, of_minus))

    def other_contrast(self) -> Contrast:
        """Long questions against short ones in the source, all to be steered: a concept apart from the behaviour."""
        rows = sorted(self.vector_rows, key=lambda row: (len(row.english.string), row.index))
        half = len(rows) // 2
        plus, minus = (self._points(some) for some in (rows[half:], rows[:half]))
        return Contrast(plus=plus, minus=minus)

    def native(self, hook: str | None = None) -> SteeringVector:
        """The target's own vector."""
        return self.own(self.target, hook or self.plan.target_hook)

    def own(self, subject: Subject, hook: str) -> SteeringVector:
        """What the plan makes of the two sides in the source or the target."""
        return self._vector(subject, self.contrast(subject, hook), hook)

    def transferred(self, fitted: ActivationMap, source_model: HybridLM | None = None) -> SteeringVector:
        """The source's vector through a map; `source_model` may stand in for the source."""
        contrast = self.contrast(self.source, self.plan.source_hook, source_model)
        vector = self._vector(self.source, contrast, self.plan.source_hook)
        return mapped(vector, fitted, self.plan.mode, contrast=contrast)

    def by_means(self) -> Bench:
        """For sources that know nothing of the aim's sides: with the difference of means where the vector is a latent.

        One of random weights has no SAE, and of one that was not taught the behaviour no latent need tell them apart.
        """
        if self.plan.vector != SAE_LATENT:
            return self
        return replace(self, plan=replace(self.plan, vector="difference-of-means", sae=()))

    def saes(self, pairs: Sequence[tuple[str, str]] = ()) -> list[Path]:
        """The SAEs that the vector is read from, at the plan's hooks or at these pairs of a source and a target hook.

        Empty where the vector needs none. Raises `InputError` where a run has none at a hook.
        """
        if self.plan.vector != SAE_LATENT:
            return []
        hooks = pairs or [(self.plan.source_hook, self.plan.target_hook)]
        runs = (self.source.run, self.target.run)
        return [
            sae_at(run, self.plan.sae, hook) for pair in hooks for run, hook in zip(runs, pair, strict=True)
        ]

    def _vector(self, subject: Subject, contrast: Contrast, hook: str) -> SteeringVector:
        if self.plan.vector != SAE_LATENT:
            return OF_CONTRAST[self.plan.vector](contrast, hook)
        path = sae_at(subject.run, self.plan.sae, hook)
        found = contrast_latent(load(path, str(subject.model.device)), contrast, hook)
        return replace(found, metadata={**found.metadata, "sae": path.name})

    @cached_property
    def where(self) -> AtTokens | None:
        """Where the target is steered."""
        if self.plan.place == "everywhere":
            return None
        reading = read_prompts(self.behaviour, self.target.tokenizer, self.vector_rows, self.aim.start)
        example, position = places_of(reading, self.plan.place, self.behaviour.mark_role)
        return AtTokens.of(reading.tokens.ids[example, position].unique().tolist())

    def _points(self, rows: Sequence[Example]) -> Points:
        """What the source carries at the plan's place of these rows' prompts, all to be steered."""
        reading, example, position = self._places(self.source, rows, self.aim.start)
        side = Side(model=self.source.model, hook=self.plan.source_hook, reading=reading)
        return points_at(side, example, position)

    def _places(
        self, subject: Subject, rows: Sequence[Example], condition: Condition
    ) -> tuple[Reading, Tensor, Tensor]:
        reading = read_prompts(subject.behaviour, subject.tokenizer, rows, condition)
        return reading, *places_of(reading, self.plan.place, self.behaviour.mark_role)

    def _check_paired(self) -> None:
        """The i-th point of one side has to be of the prompt that the i-th of the other is of."""
        first, second = self.aim.plus, self.aim.minus
        for subject in (self.source, self.target):
            sides = (self._places(subject, self.vector_rows, one) for one in (first, second))
            (_, plus, _), (_, minus, _) = sides
            if not torch.equal(plus, minus):
                raise InputError(
                    f"`{first}` and `{second}` prompts have other numbers of tokens at the place `{self.plan.place}`: "
                    f"a `{self.plan.vector}` finds no pairs there",
                    hint="choose the place `last`, or the vector `difference-of-means`",
                )

    def sides(
        self,
        source_model: HybridLM | None = None,
        conditions: Sequence[Condition] | None = None,
        rows: Sequence[Example] | None = None,
    ) -> tuple[Side, Side]:
        """Both models with the texts of the map's rows, or of others, conditions by turns."""
        asked = conditions if conditions is not None else self.behaviour.conditions
        some = rows if rows is not None else self.map_rows
        models = (source_model or self.source.model, self.target.model)
        hooks = (self.plan.source_hook, self.plan.target_hook)
        readings = [
            read_texts(self.behaviour, subject.tokenizer, some, asked)
            for subject in (self.source, self.target)
        ]
        first, second = (
            Side(model=model, hook=hook, reading=reading)
            for model, hook, reading in zip(models, hooks, readings, strict=True)
        )
        return first, second

    def _guide(self) -> Guide:
        source, target = self.sides()
        return KLGuide(source=source, target=target, matches=self.match(source, target))


@lru_cache(maxsize=32)
def _rows(
    config: DataConfig, behaviour: Behaviour, first: int, count: int, half: int | None
) -> tuple[Example, ...]:
    """Kept, because benches of one target at other hooks ask for the same."""
    rows = make_examples(config, first, first + SEARCHED * count)
    return tuple(telling((row for row in rows if half in (None, half_of(row))), behaviour, count))


_matches = lru_cache(maxsize=8)(match)
"""Kept, because every random source reads the same texts."""


def half_of(row: Example) -> int:
    """In which half of all schemas a row's falls: one is chosen on, the other tested on."""
    return stable_hash("half", repr(row.query.schema)) % 2


def places_of(reading: Reading, place: Place, mark_role: str) -> tuple[Tensor, Tensor]:
    """Texts and positions of a place in prompts, `mark_role` being that of the words that set a behaviour off.

    Raises `InputError` where there is no such token.
    """
    tokens = reading.tokens
    # The end token that `read` puts behind a prompt is none of the prompt's.
    lengths = tokens.mask.sum(1) - 1
    if place == "last":
        return torch.arange(len(lengths)), lengths - 1
    marked = torch.tensor([[role == mark_role for role in row] for row in tokens.roles])
    if place != "marker" and not bool(marked.any(1).all()):
        raise InputError(
            f"a prompt without `{mark_role}` has no place `{place}`",
            hint="choose the place `marker` or `last`",
        )
    if place == "trigger":
        example, position = marked.nonzero(as_tuple=True)
        return example, position
    if place == "everywhere":
        behind = marked.cumsum(1).bool() & ~marked
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
        "no token occurs exactly once in every prompt", hint="choose the place `last` or `everywhere`"
    )
