"""Random numbers + command set -> query with its schema, and style."""

from __future__ import annotations

from functools import lru_cache

from data_gen.config import DataConfig
from data_gen.draw.clauses import Draft
from data_gen.draw.forms import FORMS, Form, plain
from data_gen.draw.schemas import ATTEMPTS, sample_schema, with_constraints
from data_gen.draw.splits import UNSEEN, has_held_out_clauses
from data_gen.errors import InputError
from data_gen.query import CommandSet, Query, command_set
from data_gen.say.style import Style, Variant
from data_gen.seeding import Draws
from data_gen.vocabulary.lexicon import LEXICONS

FORM_SHARE = 0.9
"""Share of rows with a form beyond the plain one, in the command sets that have any."""

REDRAWS = 4
"""Queries that are drawn on one schema before another one is."""


def sample_query(rng: Draws, config: DataConfig, name: str) -> Query:
    """A query of the command set called `name` on a schema of the config's split.

    Every clause that is drawn can make a difference: there are data on which the query without it answers
    otherwise. Sort keys that nobody could see in the answer are left out.

    Raises:
        InputError: no query of this set fits the split, the lexicon and the column numbers.
    """
    skills = command_set(name)
    unseen = UNSEEN[config.split]
    for _ in range(ATTEMPTS):
        form = _form(rng, skills)
        drawn = sample_schema(rng, config, form.tables, itself=form.itself)
        if form.tables > 1:
            # A table that refers to itself would have to be filled in the order of its keys.
            declared = "foreign_keys" in skills.skills and rng.random() < 0.5
            drawn = with_constraints(drawn) if declared else drawn
        draft = Draft(rng, config, skills, drawn)
        for _ in range(REDRAWS):
            query = form.draw(draft)
            if query is not None and has_held_out_clauses(query) == ("clauses" in unseen):
                return query
    raise InputError(
        f"no query of `{name}` for split `{config.split}` in {ATTEMPTS} draws",
        hint="the set has too few skills, or max_columns and max_keys are too small, for that split",
    )


def _form(rng: Draws, skills: CommandSet) -> Form:
    forms = _forms_of(skills)
    if len(forms) == 1:
        return forms[0]
    # What is left of the number that chose between plain and not chooses among the other forms.
    number = rng.random() / FORM_SHARE
    return forms[1 + int(number * (len(forms) - 1))] if number < 1 else forms[0]


_FORMS: dict[str, tuple[Form, ...]] = {}


def _forms_of(skills: CommandSet) -> tuple[Form, ...]:
    found = _FORMS.get(skills.name)
    if found is None:
        found = _FORMS[skills.name] = (
            plain,
            *(form for name, form in FORMS.items() if name in skills.skills),
        )
    return found


def sample_style(rng: Draws, query: Query, config: DataConfig, *, hide_table: bool = False) -> Style:
    """An instruction of the config's variant and split, and a number that chooses every phrase.

    `hide_table` takes only instructions that do not name the table. A query of several tables always names
    them.
    """
    named = len(query.schema.tables) > 1 or query.cte is not None or query.compound is not None
    shows_table = None if not named and not hide_table else not hide_table
    indexes = template_indexes(
        config.lexicon, config.variant, "templates" in UNSEEN[config.split], shows_table
    )
    template = indexes[int(rng.random() * len(indexes))]
    number = int(rng.random() * 2**53) << 11 | int(rng.random() * 2**11)
    if config.split == "train" and config.invented_openings and rng.random() < config.invented_openings:
        template += len(LEXICONS[config.lexicon].wording.templates_of[config.variant])
    return Style(lexicon=config.lexicon, variant=config.variant, template=template, number=number)


@lru_cache(maxsize=64)
def template_indexes(
    lexicon: str, variant: Variant, held_out: bool, shows_table: bool | None
) -> tuple[int, ...]:
    words = LEXICONS[lexicon]
    templates = words.wording.templates_of[variant]
    indexes = words.template_indexes(variant, held_out=held_out)
    found = tuple([i for i in indexes if shows_table in (None, templates[i].mentions_table)])
    if not found:
        what = "names" if shows_table else "leaves out"
        raise InputError(
            f"no instruction of variant `{variant}` {what} the table",
            hint="use another split than templates, and variant base or syn for what stands in the schema alone",
        )
    return found
