"""`python -m bon batch`: a file of prompts in, a file of results or of training data out."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bon.batch import batch_run, export_formats
from bon.batch.input_rows import Dataset
from bon.cli.options import (
    INTERRUPTED,
    PROGRAM,
    Parser,
    add_model_options,
    add_settings,
    check_model_options,
    number_in,
    print_to_stderr,
    settings_from,
)
from bon.cli.output import progress_line
from bon.errors import InputError
from bon.messages import say
from bon.report import hub_writing
from bon.report.numbers import format_duration
from bon.result import printable
from bon.settings import number, whole

HELP = "a file of prompts in, results or training data out"


def run(args: argparse.Namespace) -> int:
    """Runs the batch and returns the exit status: 1 where rows failed, 130 after Ctrl+C."""
    settings = settings_from(args)
    options = check_model_options(args, settings)
    count = _count(args)
    if args.push_to_hub and not args.dry_run:
        _check_hub(args.push_to_hub)

    task = batch_run.Task(
        Dataset(args.input, args.prompt_column, args.template, args.skip_bad), Path(args.output), settings,
        export_formats.format_named(args.form), number("margin", number_in(args.margin)),
        args.resume, args.overwrite or args.dry_run,
    )
    if task.complete:
        print(f"{task.output} is complete: there is nothing to resume.")
        return 0

    names = ("model", "scorer", "target", "unit")
    loading = {name: value for name in names if (value := getattr(settings, name)) is not None} | options
    with _workers(args.ray, count, loading) as workers:
        return _preview(task, workers) if args.dry_run else _run(task, workers, args)


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        prog=f"{PROGRAM} batch", allow_abbrev=False,
        description="Best of n for every row of a file. A run that was stopped or killed goes on with --resume and "
        "comes to the same output.",
    )
    parser.add_argument("input", metavar="IN", help="prompts: .csv, .tsv, .jsonl, .parquet, or .txt (one a line)")
    parser.add_argument("output", metavar="OUT", help="results: .jsonl, .csv or .parquet")
    parser.add_argument("--prompt-column", metavar="NAME", help="the column that holds prompts or messages (found)")
    parser.add_argument("--template", help="makes prompts of columns: \"A review of {title}:\"")
    parser.add_argument("--as", dest="form", choices=list(export_formats.TRAINING_FORMATS),
                        help="training data: sft (prompt, completion), preference (prompt, chosen, rejected), "
                        "scored (all candidates)")
    parser.add_argument("--margin", default="0", help="least difference in score of a preference (0)")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do and how long it will take")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--resume", action="store_true", help="go on with an unfinished run, where there is one")
    which.add_argument("--overwrite", action="store_true", help="begin anew, and replace the output when done")
    parser.add_argument("--skip-bad", action="store_true", help="count rows that cannot be read as failed, and go on")
    parser.add_argument("--push-to-hub", metavar="USER/DATASET", help="send the output, with a card, to the Hub")
    parser.add_argument("--private", action="store_true", help="the data set is for you alone, where it is made anew")
    add_settings(parser)
    add_model_options(parser)
    parser.add_argument("--ray", metavar="ADDRESS", help="work on a Ray cluster: local (this machine), auto, HOST:PORT")
    parser.add_argument("--ray-workers", metavar="COUNT", help="of the cluster (one for each GPU, else for each core)")
    return parser


def _count(args) -> int | None:
    """How many workers of a cluster are asked for."""
    if args.ray and args.dry_run:
        raise InputError("dry_run", say("error.dry_run_with_ray"))
    if args.ray_workers is None:
        return None
    if not args.ray:
        raise InputError("ray_workers", say("error.workers_without_ray"))
    return whole("ray_workers", number_in(args.ray_workers), 1)


@contextmanager
def _workers(ray: str | None, count: int | None, loading: Mapping[str, Any]) -> Iterator[batch_run.Workers]:
    from bon.batch import ray_workers

    if ray:

        with ray_workers.connected(ray, loading, count) as workers:
            yield workers
    else:
        from bon import api

        sampler = api.load(**loading)
        yield batch_run.LocalWorker(sampler.engine, sampler.scorer)


def _check_hub(name: str) -> None:
    """What would fail after hours is said now."""

    hub_writing.check_repo_id(name, "dataset")
    hub_writing.authorized_api()


def _preview(task, workers) -> int:
    survey = task.survey
    bad = f", {survey.unreadable:,} of them unreadable" if survey.unreadable else ""
    print(f"{task.dataset.path}: {survey.rows:,} rows{bad}; columns: {', '.join(survey.columns)}")
    print("prompts by template" if task.dataset.template else f"prompts in {task.dataset.column}")
    for row, _ in zip(task.dataset.rows(), range(3), strict=False):
        text = row.error or (row.prompt if row.messages is None else str(row.messages))
        print(printable(f"  {row.number}: {text}")[:120])
    seconds = batch_run.estimate_seconds(task, workers.engine, workers.scorer)
    models = f"{workers.engine.name} and {workers.scorer.name}"
    print(f"{models} take about {format_duration(seconds)} for these; nothing written.")
    return 0


def _run(task, workers, args) -> int:
    if task.format.for_training and task.output.suffix.lower() == ".csv":
        print_to_stderr("in CSV, texts that look like formulas begin with an apostrophe: train from .jsonl or "
                        ".parquet.")
    deliver = (lambda finished: _push(args, task, finished)) if args.push_to_hub else None
    progress = finished = None
    try:
        with progress_line() as show, closing(batch_run.stream_with(workers, task, deliver)) as events:
            for event in events:
                if isinstance(event, batch_run.Finished):
                    finished = event
                    continue
                progress = event
                show(describe_progress(event))
    except KeyboardInterrupt:
        done = f"{progress.done:,} of {progress.rows:,} rows are kept" if progress else "nothing was done yet"
        print_to_stderr(f"stopped: {done}; the same command with --resume goes on.")
        return INTERRUPTED
    return _report(task, finished)


def _push(args, task, finished) -> None:
    from bon.batch import hub_upload

    print(f"sent: {hub_upload.push(args.push_to_hub, task.output, finished, args.private)}")


def _report(task, finished) -> int:
    for row, error in finished.errors.items():
        print_to_stderr(f"row {row} failed: {error}")
    for note in finished.notes:
        print_to_stderr(note)
    seed = finished.plan["seed"]
    print(f"{task.output}: {finished.written:,} rows from {finished.rows:,} prompts (seed {seed})")
    for reason, count in sorted(finished.left_out.items()):
        print(f"left out {export_formats.LEFT_OUT_REASONS[reason]}: {count:,}")
    if finished.failed:
        where = batch_run.failures_path(task.output) if task.format.for_training else "column error"
        print_to_stderr(f"{finished.failed:,} of {finished.rows:,} rows failed: see {where}.")
    return 1 if finished.failed else 0


def describe_progress(progress) -> str:
    """How far a batch is, in a line."""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    rate = f", {progress.rate:.1f} rows/s, {format_duration(progress.seconds_left)} left" if progress.rate else ""
    return f"{progress.done:,} of {progress.rows:,} rows{failed}{rate} "
