"""Firings -> example tokens: where a latent is strongest, with the words around it."""

from __future__ import annotations

from dataclasses import dataclass

from saes.activations import Activations
from saes.truth.firing import Firings
from tinysql.tokens import END, Tokenizer, Tokens

SHOWN = 6
"""Most tokens that are shown of a latent."""


@dataclass(frozen=True, kw_only=True)
class TopToken:
    """One strong activation of one latent; the texts are empty when no tokenizer was given."""

    example: int
    """Row of the tokens."""
    position: int
    activation: float
    role: str
    before: str = ""
    token: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Excerpts:
    """Cuts a token out of its example with the words around it."""

    tokens: Tokens
    tokenizer: Tokenizer
    window: int = 6
    """Tokens shown on each side."""

    def of(self, example: int, position: int) -> tuple[str, str, str]:
        """The text before, at and after a token."""
        ids = self.tokens.ids[example][self.tokens.mask[example]].tolist()
        before = ids[max(position - self.window, 0) : position]
        after = ids[position + 1 : position + 1 + self.window]
        # The end of the answer is the one special token that a latent can fire at, and decodes to nothing.
        return (
            self.tokenizer.decode(before),
            self.tokenizer.decode([ids[position]]) or END,
            self.tokenizer.decode(after),
        )


def top_tokens(
    firings: Firings, latent: int, activations: Activations, excerpts: Excerpts | None
) -> tuple[TopToken, ...]:
    """The strongest tokens of a latent, each from another example."""
    start, fired = int(firings.starts[latent]), int(firings.fired[latent])
    found: dict[int, TopToken] = {}
    for i in range(start, start + fired):
        row = int(firings.token[i])
        example, position = int(activations.example[row]), int(activations.position[row])
        if example in found:
            continue
        before, token, after = excerpts.of(example, position) if excerpts else ("", "", "")
        found[example] = TopToken(
            example=example,
            position=position,
            activation=float(firings.value[i]),
            role=activations.roles[row],
            before=before,
            token=token,
            after=after,
        )
        if len(found) == SHOWN:
            break
    return tuple(found.values())
