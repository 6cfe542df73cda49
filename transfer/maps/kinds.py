"""Fitted tensors -> map: an affine one, a look-up by token, and an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfer.maps.activation_map import ActivationMap, Made

POSITIONS = 1 << 32
"""What a position is multiplied with in the key of a position and a token."""


@dataclass(frozen=True, kw_only=True)
class AffineMap(ActivationMap):
    """`y = x W + b`: also the mean (W = 0), the identity, and every closed-form fit."""

    made: Made
    weight: Float[Tensor, "d_in d_out"]
    bias: Float[Tensor, " d_out"]

    @property
    def widths(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def is_affine(self) -> bool:
        return True

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    def apply(
        self,
        values: Float[Tensor, "token d_in"],
        ids: Int[Tensor, " token"],
        positions: Int[Tensor, " token"],
    ) -> Float[Tensor, "token d_out"]:
        return values @ self.weight.to(values) + self.bias.to(values)


@dataclass(frozen=True, kw_only=True)
class LookupMap(ActivationMap):
    """The mean target activation of each token, or of each token at each position, whatever the source says.

    A token that was not seen at that position gets the mean of the token, one that was not seen at all the mean of all.
    """

    made: Made
    width: Int[Tensor, ""]
    """Of the source, which is read by none."""
    keys: Int[Tensor, " entry"]
    """Token ids, or `position * 2^32 + token id`, rising; position keys are at least 2^32, so both fit in one table."""
    table: Float[Tensor, "entry d_out"]
    mean: Float[Tensor, " d_out"]

    @property
    def widths(self) -> tuple[int, int]:
        return int(self.width), len(self.mean)

    @property
    def is_affine(self) -> bool:
        return False

    def tensors(self) -> dict[str, Tensor]:
        return {"width": self.width, "keys": self.keys, "table": self.table, "mean": self.mean}

    def apply(
        self,
        values: Float[Tensor, "token d_in"],
        ids: Int[Tensor, " token"],
        positions: Int[Tensor, " token"],
    ) -> Float[Tensor, "token d_out"]:
        found = self.mean.to(values).expand(len(values), -1)
        for wanted in (ids, position_keys(ids, positions)):
            keys = self.keys.to(values.device)
            at = torch.searchsorted(keys, wanted.to(values.device)).clamp(max=len(keys) - 1)
            known = keys[at] == wanted.to(values.device)
            found = torch.where(known[:, None], self.table.to(values)[at], found)
        # Zero times the values, so that the derivative exists, and is zero.
        return found + 0 * values.sum(1, keepdim=True)


def position_keys(ids: Int[Tensor, " token"], positions: Int[Tensor, " token"]) -> Int[Tensor, " token"]:
    """The key of each token at its position; position 0 counts as 1, so that no key is a token id."""
    return (positions + 1) * POSITIONS + ids


@dataclass(frozen=True, kw_only=True)
class Autoencoder(ActivationMap):
    """`y = relu(x W_enc + b_enc) W_dec + b_dec` (arXiv 2503.04429, section 3)."""

    made: Made
    W_enc: Float[Tensor, "d_in hidden"]
    b_enc: Float[Tensor, " hidden"]
    W_dec: Float[Tensor, "hidden d_out"]
    b_dec: Float[Tensor, " d_out"]

    @property
    def widths(self) -> tuple[int, int]:
        return self.W_enc.shape[0], self.W_dec.shape[1]

    @property
    def is_affine(self) -> bool:
        return False

    def tensors(self) -> dict[str, Tensor]:
        return {"W_enc": self.W_enc, "b_enc": self.b_enc, "W_dec": self.W_dec, "b_dec": self.b_dec}

    def apply(
        self,
        values: Float[Tensor, "token d_in"],
        ids: Int[Tensor, " token"],
        positions: Int[Tensor, " token"],
    ) -> Float[Tensor, "token d_out"]:
        hidden = torch.relu(values @ self.W_enc.to(values) + self.b_enc.to(values))
        return hidden @ self.W_dec.to(values) + self.b_dec.to(values)
