"""Config + edit -> pairs of examples that differ in one word of the prompt and in the right answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from data_gen.config import DataConfig
from data_gen.edits import edit_named
from data_gen.errors import InputError
from data_gen.example import Example, write_example
from data_gen.lexicon import LEXICONS
from data_gen.query import COMMAND_SETS
from data_gen.sampling import sample_query, sample_schema, sample_style
from data_gen.seeding import stable_rng

ATTEMPTS = 1000
"""Draws after which an edit is taken to be impossible with a config."""


@dataclass(frozen=True, kw_only=True)
class CounterfactualPair:
    """Two valid examples of one style; one span of the prompt differs, and with it the SQL."""

    edit: str
    clean: Example
    corrupt: Example


def make_pair(config: DataConfig, edit: str, index: int, seed: int = 0) -> CounterfactualPair:
    """Pair `index`: a pure function of (config, edit, seed, index).

    The clean side is drawn like a row of `config`, but in a style in which the edit is one span, and only
    from queries that the edit can change.

    Raises:
        InputError: no such edit; the command sets have no ORDER BY where the edit needs it; or no row of
            this config can be changed so.
    """
    change = edit_named(edit)
    words = LEXICONS[config.lexicon]
    sets = [s for s in config.command_sets if COMMAND_SETS[s].orders or not change.needs_order_by]
    if not sets:
        raise InputError(
            f"edit `{edit}` needs ORDER BY, which {', '.join(config.command_sets)} does not have",
            hint=f"command sets with it: {', '.join(s.name for s in COMMAND_SETS.values() if s.orders)}",
        )
    for attempt in range(ATTEMPTS):
        rng = stable_rng("pair", config.seed, seed, config.split, config.lexicon, edit, index, attempt)
        schema = sample_schema(rng, config)
        query = sample_query(rng, sets[index % len(sets)], schema, max_keys=config.max_keys)
        changed = change(rng, config, query)
        if changed is not None:
            style = sample_style(
                rng, query, words, hide_table=change.hide_table, flip_one_word=change.flip_one_word
            )
            return CounterfactualPair(
                edit=edit,
                clean=write_example(index, query, style),
                corrupt=write_example(index, changed, style),
            )
    raise InputError(
        f"no row in {ATTEMPTS} can be changed by edit `{edit}`",
        hint="give the tables more columns (max_columns)",
    )


def counterfactuals(
    config: DataConfig | str, *, edit: str, n: int, seed: int = 0
) -> list[CounterfactualPair]:
    """`n` pairs for `edit`; a command set's name stands for its test rows.

    The first k pairs are the same for every n >= k.

    Example: `counterfactuals("cs2", edit="order_by.0.direction", n=256, seed=0)`.

    Raises:
        InputError: as `make_pair`, or n is not positive.
    """
    if isinstance(config, str):
        config = DataConfig(command_sets=(config,), split="test")
    if n < 1:
        raise InputError(f"n is {n}, expected at least 1 pair")
    # Random names would differ in the number of tokens, so pairs keep to the lexicon's own names.
    config = replace(config, random_names=0.0)
    return [make_pair(config, edit, index, seed) for index in range(n)]
