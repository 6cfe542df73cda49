"""Config + edit -> pairs of examples that differ in one span of the prompt and in the right answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from data_gen.config import DataConfig
from data_gen.draw.sampling import sample_query, sample_style
from data_gen.draw.splits import UNSEEN, has_held_out_clauses, is_test_schema
from data_gen.errors import InputError
from data_gen.example import Example, write_example
from data_gen.pairs.alignment import (
    ChangedSpans,
    Divergence,
    Encode,
    Misfit,
    align,
    changed_span,
    changed_stretch,
)
from data_gen.pairs.alignment import encoder_of as encoder_of
from data_gen.pairs.changes import PairDraft
from data_gen.pairs.edits import Edit, edit_named, sets_with
from data_gen.pairs.slots import is_sound, names_used
from data_gen.query import SKILLS, Query
from data_gen.seeding import Draws, stable_hash
from data_gen.vocabulary.lexicon import LEXICONS

ATTEMPTS = 2000
"""Draws after which an edit is taken to be impossible with a config."""
CANDIDATES = 8
"""Changes tried for one draw."""
STYLES = 8
"""Styles tried for one draw."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualPair:
    """Two valid examples of one style; one slot of the query differs, one span of the prompt, and the SQL."""

    edit: str
    clean: Example
    corrupt: Example

    @cached_property
    def change(self) -> ChangedSpans:
        """The span of each prompt in which they differ.

        Raises:
            InputError: they differ in more than one, so it was not `make_pair` that made them.
        """
        found = changed_span(self.clean.prompt, self.corrupt.prompt)
        if found is None:
            raise InputError(f"the prompts of a pair of edit `{self.edit}` differ in other than one place")
        return found

    @cached_property
    def sql_change(self) -> ChangedSpans:
        """The span of each SQL from the first slot that differs to the last one, with the role of the first."""
        return changed_stretch(self.clean.sql, self.corrupt.sql)

    @property
    def sql_offset(self) -> int:
        """The index of the first character in which the two SQL strings differ."""
        clean, corrupt = self.clean.sql.string, self.corrupt.sql.string
        pairs = enumerate(zip(clean, corrupt, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(clean), len(corrupt)))

    def divergence(self, encode: Encode) -> Divergence:
        """The position whose logits predict the token in which the two answers part, and the two tokens.

        Raises:
            InputError: the two sides are not aligned under this tokenizer.
        """
        found = align(self.clean, self.corrupt, encode)
        if isinstance(found, Misfit):
            raise InputError(
                f"a pair of edit `{self.edit}` is not aligned under this tokenizer: the two sides {found}",
                hint="make the pairs with encode=..., which chooses substitutes of equally many tokens",
            )
        return found


def make_pair(
    config: DataConfig,
    edit: str,
    index: int,
    seed: int = 0,
    encode: Encode | None = None,
    *,
    novel: bool = False,
) -> CounterfactualPair:
    """Pair `index`: a pure function of (config, edit, seed, index, novel) and of what `encode` gives.

    Rows of `config` and changes of them are drawn until the prompts differ in one span. With `encode` the
    prompts also have equally many tokens, differ in them only where the span is, and the answers part at one
    token; without it nothing is promised about tokens. With `novel` the changed name is one that training
    never sees.

    Raises:
        InputError: no such edit; the command sets do not have its slot; a name was to be new where none
            changes; or no row of this config can be changed so.
    """
    change = edit_named(edit)
    sets = _sets(config, change)
    if novel and change.names is None:
        raise InputError(
            f"edit `{edit}` changes no name of the lexicon, so there is no novel one", hint="leave out novel"
        )
    if config.random_names or config.invented_names or config.invented_openings:
        # Random names would differ in the number of tokens, so pairs keep to the lexicon's own words.
        config = replace(config, random_names=0.0, invented_names=0.0, invented_openings=0.0)
    parts = ("pair", config.seed, seed, config.split, config.lexicon, config.variant, edit, novel, index)
    key = stable_hash(*parts)
    reasons: Counter[Misfit] = Counter()
    for attempt in range(ATTEMPTS):
        maker = _Maker(Draws(key, attempt), config, change, index, encode, novel)
        found = maker.draw(sets[index % len(sets)])
        if isinstance(found, CounterfactualPair):
            return found
        reasons[found] += 1
    counts = ", ".join(
        f"{count:,} {f'have no {change.slot}' if reason is Misfit.SLOT else reason}"
        for reason, count in reasons.most_common()
    )
    raise InputError(f"0 of {ATTEMPTS:,} draws fit edit `{edit}`: {counts}", hint=_remedy(reasons, change))


def counterfactuals(
    config: DataConfig | str,
    *,
    edit: str,
    n: int,
    seed: int = 0,
    encode: Encode | None = None,
    novel: bool = False,
) -> list[CounterfactualPair]:
    """`n` pairs for `edit`; a command set's name stands for its test rows.

    Of several command sets those are left out whose queries do not have the edit's slot: `sets_without` names them.
    The first k pairs are the same for every n >= k.

    Example: `counterfactuals("cs2", edit="order_by.0.direction", n=256, encode=tokenizer.encode_text)`.

    Raises:
        InputError: as `make_pair`, or n is not positive.
    """
    if isinstance(config, str):
        config = DataConfig(command_sets=(config,), split="test")
    if n < 1:
        raise InputError(f"n is {n}, expected at least 1 pair")
    return [make_pair(config, edit, index, seed, encode, novel=novel) for index in range(n)]


def sets_without(config: DataConfig, edit: str) -> list[str]:
    """The command sets of `config` that no pair for `edit` is made of, as their queries do not have its slot.

    Raises:
        InputError: as `make_pair`: no such edit, or all of them.
    """
    found = _sets(config, edit_named(edit))
    return [name for name in config.command_sets if name not in found]


def _sets(config: DataConfig, edit: Edit) -> list[str]:
    found = [name for name in config.command_sets if edit.suits(name)]
    if not found:
        needed = " or ".join(" and ".join(SKILLS.get(s, s) for s in some.split("+")) for some in edit.needs)
        raise InputError(
            f"edit `{edit.name}` needs {needed}, which {', '.join(config.command_sets)} does not have",
            hint=f"command sets with it: {', '.join(sets_with(edit))}",
        )
    return found


def _remedy(reasons: Counter[Misfit], edit: Edit) -> str:
    """What to do about the reason that stopped the draw which came furthest."""
    furthest = max(reasons, key=_ORDER.index)
    return edit.remedy if furthest is Misfit.SLOT else _REMEDIES[furthest]


_ORDER = list(Misfit)
_TOKENS = "choose another tokenizer, variant base, or another edit"
_REMEDIES = {
    Misfit.SENSE: "choose another command set, or give the tables more columns (max_columns)",
    Misfit.SPLIT: "choose another split, which may have both sides",
    Misfit.NAME: "leave out novel, or choose a lexicon with more held-out names",
    Misfit.PROMPT: "choose another variant: base says each slot in one place",
    Misfit.COUNT: "under this tokenizer the substitutes hardly ever have as many tokens; try variant base, or another",
    Misfit.RUN: _TOKENS,
    Misfit.ANSWER: _TOKENS,
}


class _Maker:
    """What one draw of a pair depends on."""

    def __init__(
        self, rng: Draws, config: DataConfig, edit: Edit, index: int, encode: Encode | None, novel: bool
    ) -> None:
        self.rng, self.config, self.edit = rng, config, edit
        self.index, self.encode, self.novel = index, encode, novel

    def draw(self, name: str) -> CounterfactualPair | Misfit:
        """A pair from one row of the command set `name`, or how far the best attempt came."""
        query = sample_query(self.rng, self.config, name)
        draft = PairDraft(self.rng, self.config, query, novel=self.novel)
        furthest = Misfit.SLOT
        for clean in islice(self.edit.clean(draft, query), CANDIDATES):
            if clean is not query and not (is_sound(clean) and self.fits_split(clean)):
                furthest = max(furthest, Misfit.SPLIT, key=_ORDER.index)
                continue
            found = self.pair_with(clean, list(islice(self.edit.change(draft, clean), CANDIDATES)))
            if isinstance(found, CounterfactualPair):
                return found
            furthest = max(furthest, found, key=_ORDER.index)
        return furthest

    def pair_with(self, clean: Query, changed: list[Query]) -> CounterfactualPair | Misfit:
        """A pair of `clean` and one of `changed` in some style."""
        if not changed:
            return Misfit.SLOT
        changed = [corrupt for corrupt in changed if is_sound(corrupt)]
        if not changed:
            return Misfit.SENSE
        changed = [corrupt for corrupt in changed if self.fits_split(corrupt)]
        if not changed:
            return Misfit.SPLIT
        changed = [corrupt for corrupt in changed if not self.novel or self.is_novel(clean, corrupt)]
        furthest = Misfit.NAME
        for _ in range(STYLES if changed else 0):
            style = sample_style(self.rng, clean, self.config, hide_table=self.edit.hide_table)
            one = write_example(self.index, clean, style)
            for corrupt in changed:
                other = write_example(self.index, corrupt, style)
                found = self.fit(one, other)
                if found is None:
                    return CounterfactualPair(edit=self.edit.name, clean=one, corrupt=other)
                furthest = max(furthest, found, key=_ORDER.index)
        return furthest

    def fit(self, clean: Example, corrupt: Example) -> Misfit | None:
        """Why the two are no pair, if so."""
        if self.encode is not None:
            found = align(clean, corrupt, self.encode)
            return found if isinstance(found, Misfit) else None
        return None if changed_span(clean.prompt, corrupt.prompt) else Misfit.PROMPT

    def fits_split(self, query: Query) -> bool:
        """Whether the split may have `query`; otherwise test schemas or held-out clauses would leak."""
        unseen = UNSEEN[self.config.split]
        if has_held_out_clauses(query) != ("clauses" in unseen):
            return False
        if self.novel or unseen & {"tables", "columns"}:
            # No training schema has a held-out name.
            return True
        is_test = is_test_schema(query.schema, self.config.test_fraction)
        return is_test == ("schemas" in unseen)

    def is_novel(self, clean: Query, corrupt: Query) -> bool:
        """Whether every name that only `corrupt` uses is a held-out one."""
        new = _names(corrupt) - _names(clean)
        return bool(new) and new <= LEXICONS[self.config.lexicon].unseen_names


def _names(query: Query) -> set[str]:
    tables = {query.table, *(join.table for join in query.joins)}
    return tables | {name for name in names_used(query) if name not in {i.alias for i in query.select}}
