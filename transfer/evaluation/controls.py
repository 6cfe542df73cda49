"""Bench -> the sixteen controls: what else could do what the transferred vector does.

Controls that are directions have the length of the transferred vector and its scale, so that direction alone differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from tinysql.models.hybrid import HybridLM
from transfer.asked import check_clean
from transfer.behaviours.behaviour import Condition
from transfer.behaviours.training import Subject
from transfer.choosing import Setting
from transfer.evaluation.bench import Bench
from transfer.evaluation.plan import Plan
from transfer.maps.activation_map import ActivationMap
from transfer.maps.fit import TRAINED
from transfer.names import CONTROLS
from transfer.placing import Reading, changing
from transfer.points import ActivationPairs, shuffled
from transfer.steering import SteeringVector
from transfer.vectors import difference_of_means, mapped

Steering = Callable[[], AbstractContextManager[None]]
"""Within what it returns, the target is steered."""
EXPLAINED = 0.9
"""Share of the target's variance that its top components hold."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """One row of the table of controls."""

    number: int
    """Of the sixteen."""
    name: str
    draws: tuple[Steering, ...]
    condition: Condition | None = None
    """Under which the prompts are asked; None: as the aim has it."""


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What was made on the way to the transferred vector, for the controls to use."""

    bench: Bench
    pairs: ActivationPairs
    fitted: ActivationMap
    native: SteeringVector
    transferred: SteeringVector
    setting: Setting
    """With what the transferred vector is applied."""
    clean: Subject | None = None
    """A source that was taught no payload."""

    def steer(self, vector: SteeringVector) -> Steering:
        """The target, steered with a vector that gets the transferred one's length; a zero vector stays one."""
        same = vector.with_norm(self.transferred.norm) if vector.norm else vector
        setting, bench = self.setting, self.bench
        return lambda: same.apply(bench.target.model, setting.scale, bench.where, operator=setting.operator)


def all_controls(made: Materials) -> Iterator[Control]:
    """Every control that can be run, in the order of the table; what a draw needs is made when it is run.

    Numbers 2 and 15 come of choosing the scale and of the conditions themselves; number 9 needs a clean source, and
    number 14 an aim whose prompts have something that can be deleted.
    """
    yield Control(number=1, name="no steering", draws=(nullcontext,))
    yield from directions(made)
    yield from maps(made)
    yield from sources(made)
    yield Control(number=10, name="other concept", draws=(made.steer(_other_concept(made)),))
    yield Control(number=11, name="wrong layer", draws=(_wrong_layer(made),))
    orthogonal = made.transferred.without(made.native) if made.native.norm else made.transferred
    yield Control(number=12, name="orthogonal to native", draws=(made.steer(orthogonal),))
    yield Control(number=13, name="mean ablation", draws=(lambda: _ablate(made),))
    if made.bench.aim.without is not None:
        yield Control(
            number=14, name="trigger deleted", draws=(nullcontext,), condition=made.bench.aim.without
        )


def names_of(bench: Bench, clean: Subject | None, only: Sequence[str] | None) -> list[str]:
    """The names of the controls that will be run: what `all_controls` gives, less what is not asked for."""
    lacking = set()
    if clean is None:
        lacking.add("clean source")
    if bench.aim.without is None:
        lacking.add("trigger deleted")
    asked = [name for name in CONTROLS if name not in lacking and (only is None or name in only)]
    return ["no steering", *asked]


def directions(made: Materials) -> Iterator[Control]:
    """Same-norm Gaussian, a random direction among the target's top components, and the other sign."""
    generator = torch.Generator().manual_seed(made.bench.plan.seed)
    width, count = len(made.native.vector), made.bench.plan.draws
    gaussian = torch.randn(count, width, generator=generator)
    axes = top_components(made.pairs.target.values)
    inside = torch.randn(count, len(axes), generator=generator).to(axes) @ axes
    yield Control(number=3, name="gaussian", draws=tuple(made.steer(_at(made, v)) for v in gaussian))
    yield Control(number=4, name="top components", draws=tuple(made.steer(_at(made, v)) for v in inside))
    yield Control(number=5, name="sign flip", draws=(made.steer(-made.transferred),))


def maps(made: Materials) -> Iterator[Control]:
    """The same map from permuted pairs, and maps that know tokens alone; then one that never saw the trigger."""
    bench = made.bench

    def through(pairs: Callable[[], ActivationPairs]) -> Steering:
        return lambda: made.steer(bench.transferred(bench.fit(pairs())))()

    for name, within in (("shuffled pairs", False), ("shuffled within tokens", True)):
        seeds = range(bench.plan.seed, bench.plan.seed + _refits(bench.plan))
        wrong = (partial(shuffled, made.pairs, seed=seed, within_ids=within) for seed in seeds)
        yield Control(number=6, name=name, draws=tuple(map(through, wrong)))
    for name, method in (("token look-up", "token"), ("position and token look-up", "position-token")):
        yield Control(number=7, name=name, draws=(partial(_look_up, made, method),))
    unseen = through(lambda: bench.pairs(conditions=bench.behaviour.elsewhere))
    yield Control(number=16, name="map without the trigger", draws=(unseen,))


def sources(made: Materials) -> Iterator[Control]:
    """Sources that cannot know: random weights, and a model that was taught no payload."""
    first = 10_000 + made.bench.plan.seed
    seeds = range(first, first + _refits(made.bench.plan))
    yield Control(
        number=8, name="random source", draws=tuple(partial(_random_source, made, seed) for seed in seeds)
    )
    if made.clean is not None:
        yield Control(number=9, name="clean source", draws=(partial(_clean_source, made, made.clean),))


def _random_source(made: Materials, seed: int) -> AbstractContextManager[None]:
    bench = made.bench.by_means()
    random = HybridLM(bench.source.model.cfg, seed=seed).to(bench.target.model.device).eval()
    return made.steer(bench.transferred(bench.fit(bench.pairs(random)), random))()


def clean_bench(bench: Bench, clean: Subject) -> Bench:
    """The bench with a clean source for its source, under the source's behaviour, so that it reads the same texts.

    Raises `InputError` unless it was taught the payload `none` of that behaviour, on rows of the same kind.
    """
    check_clean(clean.taught, bench.behaviour.kind)
    return replace(bench, source=replace(clean, behaviour=bench.source.behaviour))


def _clean_source(made: Materials, clean: Subject) -> AbstractContextManager[None]:
    other = clean_bench(made.bench, clean).by_means()
    return made.steer(other.transferred(other.fit(other.pairs())))()


def top_components(values: Tensor) -> Tensor:
    """Principal axes `[component d_model]` that hold `EXPLAINED` of the variance, each as long as its deviation."""
    centred = (values - values.mean(0)).double()
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(values))
    share = variances.flip(0).cumsum(0) / variances.sum()
    count = int((share < EXPLAINED).sum()) + 1
    return (axes.flip(1)[:, :count] * variances.flip(0)[:count].clamp(min=0).sqrt()).T.float()


def _refits(plan: Plan) -> int:
    """Draws of a control each of which needs a map of its own: all where a map is a matter of moments.

    One that is trained is paid for step by step; then they are a quarter, and `transfer.show` says what that does.
    """
    return max(1, plan.draws // 4) if plan.method in TRAINED else plan.draws


def _at(made: Materials, vector: Tensor) -> SteeringVector:
    return SteeringVector(hook=made.bench.plan.target_hook, vector=vector.to(made.native.vector))


def _look_up(made: Materials, method: str) -> AbstractContextManager[None]:
    """A look-up has no derivative to speak of; what it tells of two sets of tokens is the difference of their means.

    So whatever the plan's vector is.
    """
    bench = made.bench
    contrast = bench.contrast(bench.source, bench.plan.source_hook)
    vector = difference_of_means(contrast, bench.plan.source_hook)
    image = mapped(vector, bench.fit(made.pairs, method), "difference", contrast=contrast)
    return made.steer(image)()


def _other_concept(made: Materials) -> SteeringVector:
    """Long questions against short ones, through the same map: nothing that has to do with the behaviour.

    Always the difference of means: the two sides are not the same prompts.
    """
    bench, contrast = made.bench, made.bench.other_contrast()
    vector = difference_of_means(contrast, bench.plan.source_hook)
    return mapped(vector, made.fitted, bench.plan.mode, contrast=contrast)


def _wrong_layer(made: Materials) -> Steering:
    """The transferred vector at the end of the target that is farther from its hook."""
    bench = made.bench
    hooks = [f"blocks.{i}.hook_resid_post" for i in range(len(bench.target.model.cfg.pattern))]
    at = hooks.index(bench.plan.target_hook) if bench.plan.target_hook in hooks else 0
    far = hooks[0] if at >= len(hooks) / 2 else hooks[-1]
    setting = made.setting
    return lambda: made.transferred.apply(
        bench.target.model, setting.scale, bench.where, operator=setting.operator, hooks=[far]
    )


def _ablate(made: Materials) -> AbstractContextManager[None]:
    """The target's mean activation in place of its own, where it is steered."""
    bench, mean = made.bench, made.pairs.target.values.mean(0)

    def put(value: Tensor, now: Reading) -> Tensor:
        return torch.where(now.mask(bench.where)[..., None], mean.to(value), value)

    return changing(bench.target.model, bench.plan.target_hook, put)
