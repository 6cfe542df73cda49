"""A run's SAE -> its truth, its effects and its page, as files beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from data_gen.errors import InputError
from data_gen.files import read_json, write_atomic
from data_gen.outputs import claim_file
from data_gen.pairs.counterfactual import counterfactuals
from saes.activations import record, record_many
from saes.artefacts import train_form
from saes.asked import check_hooks
from saes.disk import SAE, load
from saes.places import TRUTH, directory_of, read_made, scored_in
from saes.rows import examples_of, tokens_of
from saes.training.config import Form, SAEConfig
from saes.training.cross_layer import load_cross_layer
from saes.training.penalty import LEAST, search
from saes.truth.alignment import Alignment, Untrained, align, scored_table
from saes.truth.causal import Effects, effects
from saes.truth.context import Excerpts
from saes.truth.dashboard import dashboard
from saes.truth.effects_file import EFFECTS, Swaps, kept_swaps, read_effects, write_effects
from saes.truth.forms import sides
from saes.truth.interchange import interchange, latents_for
from saes.truth.recovered import Fidelity, fidelity
from tinysql.config import from_json
from tinysql.models.hybrid import HybridLM
from tinysql.runs import Run, provenance
from tinysql.tokens import Tokenizer, Tokens
from tinysql.written import mended_by

DASHBOARD = "dashboard.html"
PAIRS = 48
"""Counterfactual pairs that latents are swapped on, per edit."""


def eval_on_run(
    run: Run, *, name: str, rows: int = 600, seed: int = 0, device: str = "cpu", untrained: bool = False
) -> Alignment:
    """Score RUN/saes/`name` on the first `rows` test examples and write its `truth.json`.

    What is there may be of any form: it is scored as `align` says. With `untrained`, one of the same settings is
    trained on the same rows and hooks of the same model before any training (weights drawn from `seed`), and scored
    beside it: it shows what needs no learned model.
    """
    path = directory_of(run, name)
    if rows < 4:
        raise InputError(
            f"--rows is {rows}, expected at least 4", hint="600 rows of the demo are some 27,000 tokens"
        )
    out = claim_file(path / TRUTH)
    form = _form(path)
    dictionary = load_cross_layer(path, device) if form == "cross_layer_transcoder" else load(path, device)
    model, tokenizer = run.load(device)
    hooks = _hooks(path)
    check_hooks(model, hooks, form, hint=f"name what it was trained on in `hooks` of {path / 'config.json'}")
    tokens = tokens_of(run, tokenizer, "test", rows)
    blank = _untrained(run, path, model, tokenizer, tokens, seed) if untrained else None
    inputs, outputs = sides(record_many(model, tokens, hooks, show_progress=True), form)
    excerpts = Excerpts(tokens=tokens, tokenizer=tokenizer)
    alignment = align(dictionary, inputs, outputs=outputs, untrained=blank, excerpts=excerpts, seed=seed)
    made = {**alignment.to_json(), "made_by": provenance()}
    write_atomic(out, json.dumps(made, allow_nan=False))
    return alignment


def _form(path: Path) -> Form:
    """The form of a dictionary, an SAE unless its `config.json` says otherwise; `InputError` for what is no form."""
    settings = read_made(path).get("sae", {})
    form = settings.get("form", "sae") if isinstance(settings, dict) else settings
    if form not in get_args(Form):
        raise InputError(
            f"{path / 'config.json'}: the form of `sae` is {form!r}, expected one of {', '.join(get_args(Form))}",
            hint="restore the file, or train again with `tinysql sae train --overwrite`",
        )
    return cast(Form, form)


def _hooks(path: Path) -> list[str]:
    """What a dictionary reads and then, where that is something else, writes; `InputError` where nothing says it."""
    made = read_made(path)
    hooks = made.get("hooks") or [made.get("hook") or load(path).cfg.metadata.hook_name]
    if not isinstance(hooks, list) or not all(isinstance(hook, str) for hook in hooks):
        raise InputError(
            f"{path / 'config.json'}: `hooks` is {hooks!r}, expected the names of those it was trained on",
            hint='name them, as in ["blocks.1.hook_resid_post"]',
        )
    return hooks


def _trained_with(path: Path) -> tuple[SAEConfig, int]:
    """The settings of a dictionary and the rows it was trained on; `InputError` where `config.json` has them not."""
    made = read_made(path)
    config = from_json(SAEConfig, made.get("sae"), where=f"{path / 'config.json'}: sae")
    rows = made.get("rows")
    if not isinstance(rows, int) or rows < 1:
        raise InputError(
            f"{path / 'config.json'}: `rows` is {rows!r}, expected how many examples it was trained on",
            hint="restore the file, or leave --untrained out",
        )
    return config, rows


def _untrained(
    run: Run, path: Path, model: HybridLM, tokenizer: Tokenizer, tokens: Tokens, seed: int
) -> Untrained:
    """A dictionary trained as the one in `path` was, but on the run's model as drawn, and what that carries.

    As active as that one, too: where a penalty decides it, the weight is another on other activations.
    """
    config, rows = _trained_with(path)
    blank = HybridLM(model.cfg, seed=seed).to(model.device)
    known = record_many(blank, tokens_of(run, tokenizer, "train", rows), _hooks(path), show_progress=True)
    if not config.is_k_sparse:

        def l0_of(weight: float) -> float:
            return train_form(known, replace(config, sparsity=weight), "untrained")[1].l0

        wanted = max(read_json(path / "metrics.json")["l0"], LEAST)
        config = replace(config, sparsity=search(l0_of, wanted, first=config.sparsity))
    dictionary, _ = train_form(known, config, "untrained")
    return (
        dictionary,
        *sides(record_many(blank, tokens, _hooks(path), show_progress=True), config.form),
    )


def show_on_run(run: Run, *, name: str, device: str = "cpu") -> Path:
    """Write RUN/saes/`name`/dashboard.html from the rows that its `truth.json` was scored on; gives its path.

    Raises `InputError` for no such SAE, and for one that was not scored.
    """
    path = scored_in(run, name)
    sae, alignment = _scored(path, run, device)
    changes = read_effects(path)
    out = claim_file(path / DASHBOARD)
    model, tokenizer = run.load(device)
    tokens = tokens_of(run, tokenizer, "test", alignment.examples)
    activations = record(model, tokens, alignment.hook, show_progress=True)
    page = dashboard(
        sae,
        model,
        tokens,
        activations,
        tokenizer,
        alignment,
        title=f"SAE {name} of {run.path.name}",
        effects=changes,
    )
    write_atomic(out, page)
    return out


def effects_on_run(
    run: Run,
    *,
    name: str,
    rows: int = 32,
    on: int = 100,
    edits: Sequence[str] = (),
    device: str = "cpu",
) -> tuple[Effects, Fidelity, Swaps]:
    """What the latents of a scored SAE do, and RUN/saes/`name`/effects.json.

    Every latent that fires is switched off while the model answers the first `rows` test examples; the `on` latents of
    the best F1 are switched on too. For each of `edits`, latents are swapped on `PAIRS` counterfactual pairs of the
    test split; swaps of other edits that the file holds already stay in it, and are among those returned. Raises
    `InputError` as `show_on_run` does, and, before anything is run, for an edit that the rows do not have or whose
    roles were not scored, and where such swaps were found on other weights or another scoring.
    """
    for option, given, least in (("--rows", rows, 1), ("--on", on, 0)):
        if given < least:
            raise InputError(
                f"{option} is {given}, expected at least {least}",
                hint="32 rows of the demo take some minutes, 100 latents switched on some more",
            )
    path = scored_in(run, name)
    sae, alignment = _scored(path, run, device)
    out = claim_file(path / EFFECTS)
    of = {
        "weights": run.fingerprint(),
        "scored_rows": alignment.examples,
        "seed": alignment.seed,
        "pairs": PAIRS,
    }
    others = kept_swaps(out, edits, of)
    model, tokenizer = run.load(device)
    data = run.split("test")
    pairs = {edit: counterfactuals(data, edit=edit, n=PAIRS, encode=tokenizer.encode_text) for edit in edits}
    scored_rows = tokens_of(run, tokenizer, "test", alignment.examples)
    activations = record(model, scored_rows, alignment.hook, show_progress=True)
    firings, table = scored_table(sae, activations, alignment.seed)
    for edit in edits:
        latents_for(table, edit)
    best = table.chosen_f1.amax(1).argsort(descending=True, stable=True)[:on].tolist()
    examples = examples_of(run, tokenizer, "test", rows)
    live = (firings.fired > 0).nonzero()[:, 0].tolist()
    found = effects(sae, model, tokenizer, examples, hook=alignment.hook, off=live, on=best, table=table)
    kept = fidelity(sae, model, tokenizer, examples, hook=alignment.hook)
    swaps = others | {
        edit: interchange(sae, model, tokenizer, of_edit, hook=alignment.hook, table=table)
        for edit, of_edit in pairs.items()
    }
    write_effects(out, found, kept, swaps, of)
    return found, kept, swaps


def _scored(path: Path, run: Run, device: str) -> tuple[SAE, Alignment]:
    """An SAE and its truth; `InputError` for what is no SAE of one hook."""
    alignment = read_truth(path)
    if alignment.form != "SAE":
        raise InputError(
            f"{path} is a {alignment.form}, and effects and pages are of SAEs of one hook",
            hint="its scores are in truth.json and in the report: tinysql report RUN",
        )
    sae = load(path, device)
    if len(sae.W_dec) != alignment.n_latents:
        raise InputError(
            f"{path} has {len(sae.W_dec)} latents, and {alignment.n_latents} were scored",
            hint=f"score it again with: tinysql sae eval {run.path} --name {path.name}",
        )
    return sae, alignment


def read_truth(path: Path) -> Alignment:
    """The `truth.json` of an SAE directory."""
    run, name = path.parents[1], path.name
    with mended_by(path / TRUTH, hint=f"score it again with `tinysql sae eval {run} --name {name}`"):
        values = read_json(path / TRUTH)
        values.pop("made_by", None)
        return Alignment.from_json(values, where=str(path / TRUTH))
