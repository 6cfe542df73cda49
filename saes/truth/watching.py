"""A dictionary in training -> how well its latents match the roles by now, on tokens that it is not trained on."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from saes.activations import Activations, check_recorded
from saes.disk import SAE
from saes.training.cross_layer import CrossLayerTranscoder
from saes.truth.controls import encode_sparse
from saes.truth.forms import Coder, check_sides
from saes.truth.judging import Judge
from saes.truth.scoring import Draws, Scores, by_half


def hook_of(dictionary: SAE | CrossLayerTranscoder) -> str | None:
    """What a dictionary says that it reads, several hooks with a + between them; None where it says nothing."""
    if isinstance(dictionary, CrossLayerTranscoder):
        return " + ".join(dictionary.cfg.reads)
    return dictionary.cfg.metadata.hook_name


@dataclass(frozen=True, kw_only=True)
class RoleWatch:
    """Held-out tokens that a dictionary is scored on again and again.

    Example:
        >>> watch = RoleWatch.of(saes.record(model, held_out, hook))
        >>> [round(now["coverage"], 3) for now in saes.train_sae(activations, config, watch=watch).record.watched]
        [0.672, 0.697, 0.708, 0.718, 0.721, 0.719, 0.72, 0.723, 0.724, 0.727]
    """

    inputs: Activations
    outputs: Activations | None
    judge: Judge

    @staticmethod
    def of(inputs: Activations, outputs: Activations | None = None, *, seed: int = 0) -> RoleWatch:
        """Of what is read, and of what is written where that is something else; several hooks stand `side_by_side`.

        `seed` deals the examples into those that detectors are chosen on and those they are measured on. Raises
        `InputError` for what is no recording, and where there are too few examples to score any role.
        """
        check_recorded(*[side for side in (inputs, outputs) if side is not None])
        return RoleWatch(inputs=inputs, outputs=outputs, judge=Judge.of(inputs, seed))

    def __call__(self, dictionary: SAE | CrossLayerTranscoder) -> dict[str, float]:
        """Coverage with its 95 % interval, coverage of slots, FVU and L0; the numbers that `truth` gives there."""
        found = self.scores(dictionary)[0]
        low, high = found.coverage_interval
        assert found.fvu is not None, "`scores` measures it"
        return {
            "coverage": found.coverage,
            "coverage_low": low,
            "coverage_high": high,
            "slot_coverage": found.slot_coverage,
            "held_out_fvu": found.fvu,
            "held_out_l0": found.l0,
        }

    def scores(self, dictionary: SAE | CrossLayerTranscoder) -> tuple[Scores, Draws]:
        """All scores of its latents, and their coverage in each resample of the examples.

        Latents that never fire cover nothing. Raises `InputError` as `check` does.
        """
        coder, wanted = self._read_by(dictionary)
        encoded = encode_sparse(coder, self.inputs.values, wanted)
        parts = by_half(encoded.firings, self.judge.halves)
        return self.judge.score(coder.form, parts, self.judge.table(parts), encoded.fvu)

    def check(self, dictionary: SAE | CrossLayerTranscoder) -> None:
        """`InputError` for a dictionary of another hook, width or form; a training asks in front of its first step."""
        self._read_by(dictionary)

    def _read_by(self, dictionary: SAE | CrossLayerTranscoder) -> tuple[Coder, Float[Tensor, "token d_out"]]:
        """The dictionary's latents, and what they are to write at these tokens."""
        coder, hook = Coder.of(dictionary), hook_of(dictionary)
        if hook not in (None, self.inputs.hook):
            raise InputError(
                f"the {coder.form} reads `{hook}`, and `{self.inputs.hook}` is watched",
                hint="record held-out tokens at the hook that is trained on",
            )
        return coder, check_sides(coder, self.inputs, self.outputs)
