"""SAE, tokens, Alignment -> one page that opens from disk: every latent, searchable, with what is known of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saes.activations import Activations, HookedModel
from saes.disk import SAE
from saes.truth.alignment import Alignment, scored_table
from saes.truth.firing import Firings
from saes.truth.labels import auto_label, role_words
from saes.truth.scoring import Scores, Table
from tinysql.tokens import END, Tokenizer, Tokens

EXAMPLES, ROLES, NEIGHBOURS, LOGITS, BINS = 6, 6, 6, 8, 20
"""Most that is shown of a latent: examples, roles, nearest decoder rows, tokens raised and lowered; bars."""
TEMPLATE = "dashboard.html"


def dashboard(
    sae: SAE,
    model: HookedModel,
    tokens: Tokens,
    activations: Activations,
    tokenizer: Tokenizer,
    alignment: Alignment,
    *,
    title: str,
    effects: Mapping[int, Mapping[str, Mapping[str, float]]] | None = None,
) -> str:
    """The page as HTML with everything inside it.

    `activations` are those of `tokens` at the SAE's hook, and `alignment` what `align` gave for them. `effects` holds,
    for some latents, "off" and "on" -> clause -> share of answers that changed.
    """
    data = page_data(sae, model, tokens, activations, tokenizer, alignment, effects or {})
    template = files("saes.truth").joinpath(TEMPLATE).read_text()
    # `<` never appears in the data, so nothing in it can end the script.
    inside = json.dumps({"title": title, **data}, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )
    return template.replace("__DATA__", inside)


@torch.no_grad()
def page_data(
    sae: SAE,
    model: HookedModel,
    tokens: Tokens,
    activations: Activations,
    tokenizer: Tokenizer,
    alignment: Alignment,
    effects: Mapping[int, Mapping[str, Mapping[str, float]]],
) -> dict[str, Any]:
    """What the page shows, as JSON values; examples that no latent shows are left out."""
    firings, table = scored_table(sae, activations, alignment.seed)
    words = [tokenizer.decode([int(i)]) or END for i in range(int(tokens.ids.max()) + 1)]
    shown = _Shown(firings, activations, words)
    near = neighbours(sae)
    raised = logit_effects(sae, model, activations.hook)
    vocabulary = [tokenizer.decode([i]) or END for i in range(raised.shape[1])] if raised is not None else []
    latents = []
    for j in range(firings.n_latents):
        if not int(firings.fired[j]):
            continue
        best = _scores(table, j)
        entry: dict[str, Any] = {"id": j, "roles": best, **shown.of(j)}
        entry["label"] = auto_label(best[0][0], best[0][1], shown.by_token(j)) if best else "no role"
        entry["near"] = [[int(i), round(float(c), 3)] for i, c in zip(*near(j), strict=True)]
        if raised is not None:
            entry["logits"] = _extremes(raised[j], vocabulary)
        if j in effects:
            entry["effects"] = {way: dict(values) for way, values in effects[j].items()}
        latents.append(entry)
    return {
        "hook": alignment.hook,
        "tokens": alignment.tokens,
        "examples_total": alignment.examples,
        "n_latents": alignment.n_latents,
        "dead": alignment.dead,
        "fvu": alignment.sae.fvu,
        "l0": alignment.sae.l0,
        "rows": [_row(s) for s in (alignment.sae, *alignment.controls, *alignment.ceilings)],
        "published": asdict(alignment.published),
        "roles": {name: role_words(name) for name in sorted({*table.names, *activations.roles})},
        "examples": shown.texts(tokens),
        "latents": latents,
    }


class _Shown:
    """The strongest examples of latents, and the examples that any of them shows."""

    def __init__(self, firings: Firings, activations: Activations, words: list[str]) -> None:
        self.firings, self.words = firings, words
        self.example, self.position = activations.example.tolist(), activations.position.tolist()
        self.ids = activations.ids.tolist()
        self.starts, self.fired = firings.starts.tolist(), firings.fired.tolist()
        self.used: set[int] = set()

    def _own(self, j: int) -> tuple[list[int], list[float]]:
        own = slice(self.starts[j], self.starts[j] + self.fired[j])
        return self.firings.token[own].tolist(), self.firings.value[own].tolist()

    def of(self, j: int) -> dict[str, Any]:
        """Its strongest examples with every activation in them, its density, and how its activations spread."""
        token, value = self._own(j)
        here: dict[int, list[list[float]]] = defaultdict(list)
        for t, a in zip(token, value, strict=True):
            here[self.example[t]].append([self.position[t], round(a, 3)])
        top = list(here)[:EXAMPLES]  # as firings fall, the first mention of an example is its strongest
        self.used.update(top)
        bars = torch.histc(self.firings.value.new_tensor(value).cpu(), bins=BINS, min=0, max=value[0])
        return {
            "density": self.fired[j] / self.firings.n_tokens,
            "max": round(value[0], 3),
            "bars": [int(bar) for bar in bars],
            "top": [[example, sorted(here[example])] for example in top],
        }

    def by_token(self, j: int) -> dict[str, float]:
        """What a latent's activations add up to at each token."""
        total: dict[str, float] = defaultdict(float)
        for t, a in zip(*self._own(j), strict=True):
            total[self.words[self.ids[t]]] += a
        return total

    def texts(self, tokens: Tokens) -> dict[int, list[list[str]]]:
        """Example -> its words and their roles."""
        found = {}
        for example in sorted(self.used):
            n = int(tokens.mask[example].sum())
            ids = tokens.ids[example, :n].tolist()
            found[example] = [[self.words[i] for i in ids], list(tokens.roles[example][:n])]
        return found


def neighbours(sae: SAE) -> Any:
    """Latent -> the latents whose decoder rows lie nearest, and their cosines."""
    rows = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-30)
    n = min(NEIGHBOURS + 1, len(rows))

    def near(j: int) -> tuple[Int[Tensor, " near"], Float[Tensor, " near"]]:
        cosine = rows @ rows[j]
        cosine[j] = -2
        found = cosine.topk(n - 1)
        return found.indices, found.values

    return near


def logit_effects(sae: SAE, model: HookedModel, hook: str) -> Float[Tensor, "latent d_vocab"] | None:
    """What one unit of a latent writes straight to the logits, past all later blocks; None where it cannot.

    Decoder row times unembedding, centred over the vocabulary. The last norm is left out: it scales a token's logits
    alike, but for its weights.
    """
    unembed = getattr(getattr(model, "unembed", None), "W_U", None)
    writes = (
        hook.endswith(("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "_out")) or hook == "hook_embed"
    )
    if unembed is None or not writes or unembed.shape[0] != sae.W_dec.shape[1]:
        return None
    effect = sae.W_dec @ unembed.detach().to(sae.W_dec)
    return effect - effect.mean(1, keepdim=True)


def _extremes(effect: Float[Tensor, " d_vocab"], words: list[str]) -> list[list[list[Any]]]:
    """The tokens raised most and lowered most."""
    n = min(LOGITS, len(effect))
    sides = []
    for sign in (1, -1):
        found = (sign * effect).topk(n)
        sides.append(
            [[words[i], round(sign * v, 3)] for v, i in zip(*(t.tolist() for t in found), strict=True)]
        )
    return sides


def _scores(table: Table, j: int) -> list[list[Any]]:
    """The roles that a latent detects best, chosen on one half and measured on the other."""
    chosen = table.chosen_f1[j]
    order = [c for c in chosen.argsort(descending=True, stable=True).tolist()[:ROLES] if chosen[c] > 0]
    columns = (table.f1, table.auroc, table.average_precision, table.precision, table.recall)
    return [[table.names[c], *(round(float(column[j, c]), 3) for column in columns)] for c in order]


def _row(scores: Scores) -> list[Any]:
    return [
        scores.name,
        scores.coverage,
        *scores.coverage_interval,
        scores.slot_coverage,
        scores.fvu,
        scores.l0,
    ]
