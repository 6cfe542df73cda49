"""Config + row numbers -> a batch of rows, to the bit as `make_example` makes them one by one."""

from __future__ import annotations

import numpy as np

from data_gen.bulk.bodies import draw_bodies, shows_held_out
from data_gen.bulk.drawing import Batch, TooRare, draw_forms, draw_schemas, draw_styles
from data_gen.bulk.numbers import Numbers
from data_gen.config import DataConfig
from data_gen.draw.sampling import REDRAWS
from data_gen.draw.splits import UNSEEN

ROUNDS = 100
"""Schemas that are tried for a row."""


def draw_batch(config: DataConfig, name: str, key: int, rows: range) -> Batch:
    """Rows of the command set called `name`, which `suits`.

    Raises:
        TooRare: some row is not found in so many draws; `make_example` draws on, or tells why there is none.
    """
    batch, numbers = Batch(config, name, rows), Numbers(key, rows)
    wants = "clauses" in UNSEEN[config.split]
    pending = np.arange(len(rows))
    for _ in range(ROUNDS):
        draw_forms(batch, numbers, pending)
        draw_schemas(batch, numbers, pending)
        for _ in range(REDRAWS):
            draw_bodies(batch, numbers, pending)
            pending = pending[shows_held_out(batch, pending) != wants]
            if not len(pending):
                draw_styles(batch, numbers, np.arange(len(rows)))
                return batch
    raise TooRare
