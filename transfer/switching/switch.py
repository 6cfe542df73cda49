"""Fine-tuned model + map at one hook -> a switch: on, the hook carries what the base would; off, nothing is there.

arXiv 2503.04429, section 6: a map from the fine-tuned model's activations to its base's, at one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from data_gen.errors import InputError
from data_gen.text import Text
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import Tokenizer
from transfer.alignment import match_spans, read
from transfer.maps.activation_map import ActivationMap
from transfer.maps.fit import fit
from transfer.pairing import Side, record_pairs
from transfer.placing import Reading, changing


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A model and a map from what one of its hooks carries to what another model's carries there.

    Example:
        >>> with switch.on():
        ...     answers = tinysql.answer(switch.model, tokenizer, prompts)
    """

    model: HybridLM
    fitted: ActivationMap

    def __post_init__(self) -> None:
        _check_one_width(*self.fitted.widths)

    @staticmethod
    def of(
        model: HybridLM,
        base: HybridLM,
        tokenizer: Tokenizer,
        texts: Sequence[Text],
        hook: str,
        *,
        method: str = "affine",
        rank: int = 16,
        seed: int = 0,
    ) -> Switch:
        """Fitted on what both models' hooks carry on `texts`; `method`, `rank` and `seed` as for `transfer.fit`.

        Raises `InputError` for a hook that a model lacks, for one of unequal widths and for an unknown method.
        """
        reading = read(tokenizer, texts)
        source, target = (Side(model=one, hook=hook, reading=reading) for one in (model, base))
        pairs = record_pairs(source, target, match_spans(reading, reading))
        _check_one_width(pairs.source.values.shape[1], pairs.target.values.shape[1])
        return Switch(model=model, fitted=fit(method, pairs, rank=rank, seed=seed))

    @property
    def hook(self) -> str:
        """Where it acts."""
        return self.fitted.made.source_hook

    @contextmanager
    def on(self) -> Iterator[None]:
        """Within it every position of the hook is mapped, in generation too; afterwards no hook is left.

        Raises `InputError` when the model runs and the hook is of another width than the map.
        """
        fitted = self.fitted

        def put(value: Float[Tensor, "batch seq d_model"], now: Reading) -> Tensor:
            if value.shape[2] != fitted.widths[0]:
                raise InputError(
                    f"hook `{self.hook}` is {value.shape[2]} wide in this model, the map was fitted on "
                    f"{fitted.widths[0]} wide ones",
                    hint="switch the model whose activations the map was fitted on",
                )
            positions = now.places.expand(len(now.ids), -1).flatten()
            mapped = fitted.apply(value.flatten(0, 1), now.ids.flatten(), positions)
            return mapped.reshape(*value.shape[:2], -1)

        with changing(self.model, self.hook, put):
            yield

    @property
    def parameters(self) -> int:
        """Numbers that the map needs: those of its tensors, or of its two factors where it has a low rank."""
        settings = self.fitted.made.settings
        if "rank" in settings:
            d_in, d_out = self.fitted.widths
            return int(settings["rank"]) * (d_in + d_out) + d_out
        return sum(one.numel() for one in self.fitted.tensors().values())


def _check_one_width(d_in: int, d_out: int) -> None:
    if d_in != d_out:
        raise InputError(
            f"a switch puts a map's images back where it reads, but they are {d_out} wide and the hook {d_in} wide",
            hint="switch between a model and the base it was fine-tuned from; between widths, map a vector",
        )
