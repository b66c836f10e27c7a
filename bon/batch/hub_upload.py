"""The output of a batch as a data set on the Hugging Face Hub: the file, and a card that says how it was made."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, DatasetCardData, HfApi

from bon.batch.batch_run import Finished
from bon.batch.export_formats import LEFT_OUT_REASONS
from bon.report import hub_writing
from bon.result import printable

#: What a card says of the export format.
FORMAT_DESCRIPTIONS = {
    None: "Every row of the input with the best of its candidates, its score, and what one sample scores on average.",
    "sft": "Prompts and their best completions, for supervised fine-tuning.",
    "preference": "Prompts with their best and their worst candidate, for preference tuning and reward models.",
    "scored": "Every candidate with its score; label says whether it scores above the mean of its prompt's.",
}


def push(repo_id: str, output: Path, finished: Finished, private: bool = False, api: HfApi | None = None) -> str:
    """Makes the data set where there is none, sends file and card in one commit, and returns its address.

    api: None for one with the token of this machine. Raises `InputError` for an id that cannot be or where there is no
    token, and `BonError` with the Hub's answer where it refuses.
    """
    hub_writing.check_repo_id(repo_id, "dataset")
    api = api or hub_writing.authorized_api()
    file = "data/train" + output.suffix.lower().replace(".ndjson", ".jsonl")
    with hub_writing.hub_errors(repo_id):
        url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.create_commit(
            repo_id, repo_type="dataset", commit_message="Bring the data up to date", operations=[
                CommitOperationAdd("README.md", card(repo_id, file, finished).encode()),
                CommitOperationAdd(file, output),
            ],
        )
    return str(url)


def card(repo_id: str, file: str, finished: Finished) -> str:
    """The data set's README. file: the path of the data in the repository."""
    plan = finished.plan
    metadata = DatasetCardData(
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
        size_categories=[_size_category(finished.written)], tags=["synthetic", "best-of-n"],
    )
    unit = f"{_code(plan['target'])} {plan['unit']}" if plan["target"] else plan["unit"]
    left_out = [f"- left out, {LEFT_OUT_REASONS[reason]}: {count:,}"
                for reason, count in sorted(finished.left_out.items())]
    failed = [f"- rows that failed: {finished.failed:,}"] if finished.failed and not plan["as"] else []
    counts = "\n".join([f"- prompts: {finished.rows:,}", f"- rows: {finished.written:,}", *left_out, *failed])
    settings = "\n".join(f"| {key} | {_code(value)} |" for key, value in plan.items() if value is not None)
    return f"""---
{metadata.to_yaml()}
---

# {repo_id.split("/")[1]}

{FORMAT_DESCRIPTIONS[plan["as"]]}

Best of {plan["n"]}: {_code(plan["model"])} wrote {plan["n"]} continuations of each prompt, {_code(plan["scorer"])}
scored them ({unit}). The texts are the model's own and were checked by nobody else.

{counts}

## How it was made

By `python -m bon batch`, version {plan["version"]}. The same input with these settings makes the same data again.

| setting | value |
|---|---|
{settings}
"""


def _code(value: object) -> str:
    """A value as code of a Markdown table's cell, which no name of a model or label can leave."""
    text = printable(str(value)).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"


def _size_category(rows: int) -> str:
    """The Hub's name for so many rows, from below 1,000 to 1,000,000,000,000."""
    bounds = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    if rows < 1_000:
        return "n<1K"
    lower = len(str(rows)) - len("1000")
    return f"{bounds[lower]}<n<{bounds[lower + 1]}"
