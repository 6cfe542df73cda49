"""Our model and pairs -> the same in EAP-IG (hannamw/EAP-IG) and auto-circuit (UFO-101/auto-circuit), where installed.

Both read TransformerLens' `HookedTransformer`. EAP-IG takes prompts as text; here its tokenizer is replaced by one
that hands the ids through, and it is given the sum of the metric over a batch: it divides by the number of examples
itself, and with the mean would do so twice. EAP-IG names the device "cuda" throughout, so it runs on the CPU only
with that word replaced in its files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from circuits.metrics import logit_diff
from circuits.scores import EdgeScores
from data_gen.errors import InputError
from tinysql.models.hybrid import HybridLM
from tinysql.tokens import TokenPairs

FLAGS = ("use_split_qkv_input", "use_attn_result", "use_hook_mlp_in")
NORMS = {"layer": "LN", "rms": "RMS"}
POSITIONS = {"learned": "standard", "rope": "rotary"}


def hooked_transformer(model: HybridLM) -> HookedTransformer:
    """The same weights in TransformerLens. Raises `InputError` for a pattern other than `*-*-...`."""
    shape = model.cfg
    layers = len(shape.pattern) // 2
    if shape.pattern != "*-" * layers or shape.positions not in POSITIONS:
        raise InputError(f"TransformerLens has no {shape.pattern} with positions {shape.positions!r}")
    theirs = HookedTransformer(
        HookedTransformerConfig(
            n_layers=layers,
            d_model=shape.d_model,
            n_ctx=shape.n_ctx,
            n_heads=shape.n_heads,
            n_key_value_heads=shape.kv_heads if shape.kv_heads != shape.n_heads else None,
            d_head=shape.head_width,
            d_mlp=shape.mlp_width,
            d_vocab=shape.d_vocab,
            act_fn=shape.activation,
            gated_mlp=shape.gated,
            normalization_type=NORMS[shape.norm],
            positional_embedding_type=POSITIONS[shape.positions],
            rotary_base=int(shape.rotary_base),
            rotary_dim=shape.head_width if shape.positions == "rope" else None,
            eps=shape.eps,
            device=str(model.device),
            dtype=model.embed.W_E.dtype,
        )
    )
    weights = {name: torch.zeros_like(value) for name, value in theirs.state_dict().items() if ".b_" in name}
    for name, value in model.state_dict().items():
        if not name.startswith("blocks."):
            weights[name] = value
            continue
        _, block, rest = name.split(".", 2)
        kind = "ln1" if int(block) % 2 == 0 else "ln2"
        rest = rest.replace("ln1", kind)
        if shape.kv_heads != shape.n_heads:
            rest = rest.replace("W_K", "_W_K").replace("W_V", "_W_V").replace("b_K", "_b_K")
            rest = rest.replace("b_V", "_b_V")
        weights[f"blocks.{int(block) // 2}.{rest}"] = value
    unknown = theirs.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown, unknown
    return theirs.eval()


class EAPIG:
    """Edge attribution as in EAP-IG. Raises `ImportError` where it is not installed."""

    def __init__(self, model: HybridLM, pairs: TokenPairs, batch_size: int) -> None:
        import eap.attribute
        import eap.evaluate
        from eap.graph import Graph

        eap.attribute.tokenize_plus = eap.evaluate.tokenize_plus = _as_tokenized
        self.attribute, self.evaluate = eap.attribute.attribute, eap.evaluate.evaluate_graph
        self.model, self.new_graph = hooked_transformer(model), Graph.from_model
        for flag in FLAGS:
            setattr(self.model.cfg, flag, True)
        self.model.cfg.ungroup_grouped_query_attention = model.cfg.kv_heads != model.cfg.n_heads
        self.loader = [
            (batch.clean.ids, batch.corrupt.ids, batch)
            for batch in (
                pairs[start : start + batch_size].to(model.device)
                for start in range(0, len(pairs), batch_size)
            )
        ]

    def scores(self, method: str, steps: int | None = None) -> Tensor:
        """Mean scores `[writer, reader]`, rows and columns as in our graph of a `*-*-...` model."""
        graph = self.new_graph(self.model)
        self.attribute(self.model, graph, self.loader, _summed, method, ig_steps=steps, quiet=True)
        return graph.scores

    def circuit(self, scores: EdgeScores, n: int) -> Callable[[], Tensor]:
        """The metric per example of the circuit of the `n` best edges."""
        graph = self.new_graph(self.model)
        graph.scores[:] = scores.values
        graph.apply_topn(n, True)
        return lambda: self.evaluate(self.model, graph, self.loader, _each, quiet=True)

    def all_but_one(self) -> Callable[[], Tensor]:
        """What their exact patching runs for each edge."""
        graph = self.new_graph(self.model)
        graph.in_graph |= graph.real_edge_mask
        next(iter(graph.edges.values())).in_graph = False
        return lambda: self.evaluate(self.model, graph, self.loader, _each, quiet=True)


def _as_tokenized(model: HookedTransformer, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    mask = torch.ones_like(ids)
    return ids, mask, mask.sum(1), ids.shape[1]


def _each(logits: Tensor, clean_logits: Tensor, lengths: Tensor, batch: TokenPairs) -> Tensor:
    return logit_diff(logits[torch.arange(len(batch)), batch.position], batch)


def _summed(logits: Tensor, clean_logits: Tensor, lengths: Tensor, batch: TokenPairs) -> Tensor:
    return _each(logits, clean_logits, lengths, batch).sum()


class AutoCircuit:
    """Mask gradients and circuits as in auto-circuit. Raises `ImportError` where it is not installed.

    Every pair's position must be the last: it looks at no other.
    """

    def __init__(self, model: HybridLM, pairs: TokenPairs, batch_size: int) -> None:
        from auto_circuit.data import PromptDataLoader, PromptDataset
        from auto_circuit.prune import run_circuits
        from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
        from auto_circuit.types import PatchType
        from auto_circuit.utils.graph_utils import patchable_model

        hooked = hooked_transformer(model)
        for flag in FLAGS:
            setattr(hooked.cfg, flag, True)
        self.model = patchable_model(
            hooked, factorized=True, slice_output="last_seq", separate_qkv=True, device=model.device
        )
        sides = [list(side.ids.to(model.device)) for side in (pairs.clean, pairs.corrupt)]
        answers = [
            list(answer[:, None].to(model.device)) for answer in (pairs.clean_answer, pairs.corrupt_answer)
        ]
        data = PromptDataset(*sides, *answers)
        self.loader = PromptDataLoader(data, pairs.clean.ids.shape[1], 0, batch_size=batch_size)
        self.gradients, self.run, self.tree = mask_gradient_prune_scores, run_circuits, PatchType.TREE_PATCH
        self.heads = model.cfg.n_heads

    def _column(self, module: str) -> slice:
        """Columns of our score matrix that a module's mask stands for."""
        _, block, hook = module.split(".")
        start = int(block) * (3 * self.heads + 1)
        if hook == "hook_resid_post":
            return slice(start + 3 * self.heads + 1, start + 3 * self.heads + 2)
        if hook == "hook_mlp_in":
            return slice(start + 3 * self.heads, start + 3 * self.heads + 1)
        port = "qkv".index(hook[len("hook_")])
        return slice(start + port * self.heads, start + (port + 1) * self.heads)

    def scores(self, steps: int | None = None) -> dict[str, Any]:
        """Prune scores by module; with `steps`, averaged over as many masks on the way from clean to corrupt."""
        chosen = {"mask_val": 0.0} if steps is None else {"integrated_grad_samples": steps - 1}
        return self.gradients(self.model, self.loader, None, "logit", "avg_diff", **chosen)

    def as_ours(self, found: dict[str, Any], shape: torch.Size) -> Tensor:
        """Prune scores as mean scores `[writer, reader]`: of the metric, which is minus their loss."""
        matrix = torch.zeros(shape)
        for module, mask in found.items():
            rows = mask.reshape(-1, mask.shape[-1]).T.cpu()
            matrix[: len(rows), self._column(module)] = -rows / len(self.loader)
        return matrix

    def circuit(self, scores: EdgeScores, n: int) -> Callable[[], Tensor]:
        """Logits of the circuit of the `n` best edges, all batches one behind the other."""
        masks = copy.deepcopy(self.model.new_prune_scores())
        for module, mask in masks.items():
            rows = scores.values[: mask.shape[-1], self._column(module)].T
            mask[:] = rows.reshape(mask.shape).to(mask)

        def run() -> Tensor:
            (found,) = self.run(self.model, self.loader, [n], masks, patch_type=self.tree).values()
            return torch.cat([found[batch.key] for batch in self.loader])

        return run
