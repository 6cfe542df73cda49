"""What a directory of shards was made of -> its README.md, a dataset card that `datasets` reads."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from data_gen.config import DataConfig

_HEAD = """\
| column | what it holds |
|---|---|
"""
_PUBLISHED = """\
| `command_set` | the subset of SQL |
| `table_name`, `table_name_synonym`, `table_name_use_synonym` | the table asked about, and how the question says it |
| `create_statement` | every CREATE TABLE that the question needs |
| `english_prompt` | the question |
| `sql_statement` | the one right answer |
| `table_fields`, `select`, `order_by` | JSON lists: fields with name, type and synonym; selected items with \
aggregate; sort keys with direction. `order_by` is null in sets without ORDER BY |
"""
_OURS = """\
| `index`, `seed`, `split`, `variant` | which row of which data this is |
| `prompt` | what a model reads: `### Instruction: ... ### Context: ... ### Response:` |
| `query` | the typed query as JSON, the source of every text of the row |
| `style` | the phrases as numbers, JSON: `query` and `style` make the row again |
| `roles` | what each character is for: spans of `prompt + " " + sql_statement`, without gaps |
"""
_DATABASES = "| `databases` | databases on which wrong answers show, each a list of INSERT statements |\n"
_PAIRS = """\
| `index`, `command_set`, `split`, `variant` | which pair this is |
| `edit`, `seed` | the slot in which the two sides differ, and the seed of the pairs |
| `clean_...`, `corrupt_...` | the two sides: `prompt`, `sql_statement`, `query`, `style`, `roles`, as in a dataset |
| `..._prompt_change` | start, end and role of the characters of this side's `prompt` that differ from the other's |
| `..._sql_change` | the same in its `sql_statement`, from the first slot that differs to the last one |
"""
_TOKENS = """\
| `prompt_tokens` | how many tokens each of the two prompts has, with nothing added at its ends |
| `position` | in the tokens of `prompt + " " + sql_statement`, the one whose logits predict where the answers part |
| `..._answer_id`, `..._answer_token` | the token of this side behind `position`: its id, and as the vocabulary has it |
"""


def write_card(header: Mapping[str, Any], files: str, *, published: bool = False) -> str:
    """The card of data with this header (as in `config.json`), whose files match the pattern `files`.

    `published`: they have the columns of the published datasets alone.
    """
    config = header["config"]
    sets, split, form = " ".join(config["command_sets"]), header["split"], header["format"]
    name = f"TinySQL {sets}, {config['variant']}, {split}"
    pairs = header["kind"] == "pairs"
    seed = header.get("pair_seed", config["seed"])
    front = [
        f"pretty_name: {_quoted(name)}",
        "license: mit",
        "language: [en]",
        "task_categories: [text-generation]",
        "tags: [text-to-sql, sql, synthetic, mechanistic-interpretability]",
        f"size_categories: [{_size(header['rows'])}]",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {split}",
        f"    path: {files}",
    ]
    what = (
        "pairs of questions that differ in one slot"
        if pairs
        else "questions about SQL schemas with their answers"
    )
    load = "load_from_disk" if form == "arrow" else "load_dataset"
    ours = _OURS + (_DATABASES if header.get("databases") else "")
    aligned = _TOKENS if "tokenizer_sha256" in header else ""
    table = _HEAD + (_PAIRS + aligned if pairs else _PUBLISHED if published else _PUBLISHED + ours)
    body = f"""\
# {name}

{header["rows"]:,} {what}: command sets {sets}, variant `{config["variant"]}`, split `{split}`, seed {seed}.
Everything is synthetic. Every row is written from a typed query, so the role of each character is known.

```python
import datasets

rows = datasets.{load}("path/to/this/directory")
```

{table}
{_listed(header["versions"])} write the same bytes again by

```
{_command(header)} --out DIR
```
"""
    return "---\n" + "\n".join(front) + "\n---\n\n" + body


def _listed(versions: Mapping[str, str]) -> str:
    *before, last = [f"{name} {version}" for name, version in versions.items()]
    return f"{', '.join(before)} and {last}"


def _command(header: Mapping[str, Any]) -> str:
    """The shortest command that makes these rows."""
    given, usual = header["config"], DataConfig().to_dict()
    words = ["tinysql", "data", "make", *given["command_sets"]]
    if header["kind"] == "pairs":
        words[2:3], words[len(words) :] = ["pairs"], ["--edit", header["edit"]]
        words += ["--seed", str(header["pair_seed"])] if header.get("pair_seed") else []
        words += ["--novel"] if header.get("novel") else []
        words += ["--tokenizer", "tokenizer.json"] if "tokenizer_sha256" in header else []
    words += ["--rows", str(header["rows"]), "--split", given["split"]]
    for name, value in given.items():
        if name in ("command_sets", "split") or value == usual[name]:
            continue
        # Pairs have a seed of their own.
        own = name in ("variant", "lexicon") or (name == "seed" and header["kind"] != "pairs")
        words += [f"--{name}", str(value)] if own else ["--set", f"{name}={value}"]
    if header["format"] != "parquet":
        words += ["--format", header["format"]]
    if header.get("databases"):
        words.append("--databases")
    return shlex.join([*words, "--shard-rows", str(header["shard_rows"])])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _size(rows: int) -> str:
    """The hub's name for a number of rows."""
    steps = [(1000, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")]
    steps += [(10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B")]
    return next((name for limit, name in steps if rows < limit), "n>1T" if rows > 10**12 else "1B<n<10B")
