"""The output of a batch as a data set on the Hugging Face Hub: the file, and a card that says how it was made."""

from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd

from bon.batch.batch_run import Finished
from bon.batch.export_formats import REASONS
from bon.report import hub

#: What the forms are, for the reader of a card.
FORMS = {
    None: "Every row of the input with the best of its candidates, its score, and what one sample scores on average.",
    "sft": "Prompts and their best completions, for supervised fine-tuning.",
    "preference": "Prompts with their best and their worst candidate, for preference tuning and reward models.",
    "scored": "Every candidate with its score; label says whether it scores above the mean of its prompt's.",
}


def push(name: str, output: Path, finished: Finished, private: bool = False, api: Any = None) -> str:
    """Makes the data set where there is none, sends file and card in one commit, and returns its address.

    api: a `huggingface_hub.HfApi`, or None for one with the token of this machine. Raises `InputError` for a name that
    cannot be or where there is no token, and `BonError` with the Hub's answer where it refuses.
    """
    hub.check_name(name, "dataset")
    api = api or hub.writing()
    file = "data/train" + output.suffix.lower().replace(".ndjson", ".jsonl")
    with hub.told(name):
        url = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.create_commit(
            name, repo_type="dataset", commit_message="Bring the data up to date", operations=[
                CommitOperationAdd("README.md", card(name, file, finished).encode()), CommitOperationAdd(file, output),
            ],
        )
    return str(url)


def card(name: str, file: str, finished: Finished) -> str:
    """The data set's README."""
    plan = finished.plan
    unit = f"{plan['target']} {plan['unit']}" if plan["target"] else plan["unit"]
    left_out = [f"- left out, {REASONS[reason]}: {count:,}" for reason, count in sorted(finished.left_out.items())]
    failed = [f"- rows that failed: {finished.failed:,}"] if finished.failed and not plan["as"] else []
    settings = "\n".join(f"| {key} | `{value}` |" for key, value in plan.items() if value is not None)
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: {file}
size_categories:
- {_size(finished.written)}
tags:
- synthetic
- best-of-n
---

# {name.split("/")[1]}

{FORMS[plan["as"]]}

Best of {plan["n"]}: `{plan["model"]}` wrote {plan["n"]} continuations of each prompt, `{plan["scorer"]}` scored them
({unit}). The texts are the model's own and were checked by nobody else.

- prompts: {finished.rows:,}
- rows: {finished.written:,}
{chr(10).join([*left_out, *failed])}

## How it was made

By `python -m bon batch`, version {plan["version"]}. The same input with these settings makes the same data again.

| setting | value |
|---|---|
{settings}
"""


def _size(rows: int) -> str:
    """The Hub's name for so many rows."""
    ends = [(1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"), (10_000_000, "10M")]
    if rows < 1_000:
        return "n<1K"
    low = [name for count, name in ends if count <= rows]
    return f"{low[-1]}<n<{ends[len(low)][1]}" if len(low) < len(ends) else "10M<n<100M"
