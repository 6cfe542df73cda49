"""Names of the architectures of dictionaries, without what computes them: settings are refused at once."""

from __future__ import annotations

from typing import Literal, get_args

Architecture = Literal["topk", "batchtopk", "matryoshka", "standard", "gated", "jumprelu"]
"""TopK (Gao et al. 2024), BatchTopK (Bussmann et al. 2024), Matryoshka (Bussmann et al. 2025), ReLU with L1
(Bricken et al. 2023), gated (Rajamanoharan et al. 2024a) and JumpReLU (Rajamanoharan et al. 2024b)."""
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
K_SPARSE: tuple[Architecture, ...] = ("topk", "batchtopk", "matryoshka")
"""Those whose number of active latents is chosen by k, not by a penalty."""
