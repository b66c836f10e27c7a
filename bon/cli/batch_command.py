"""`python -m bon batch`: a file of prompts in, a file of results or of training data out."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from bon.batch import batch_run, export_formats
from bon.batch.batch_run import Finished, LocalWorker, Progress, Task, Workers
from bon.batch.input_rows import Dataset
from bon.batch.resume_journal import count_records
from bon.cli.options import (
    INTERRUPTED,
    PROGRAM,
    Parser,
    add_encoding_option,
    add_model_options,
    add_settings,
    check_model_options,
    parse_number,
    settings_from,
)
from bon.cli.output import print_text, print_to_stderr, progress_line
from bon.errors import InputError, ModelError
from bon.messages import say
from bon.report import hub_writing
from bon.report.numbers import format_duration
from bon.result import printable
from bon.settings import number, whole


def run(args: argparse.Namespace) -> int:
    """Runs the batch and returns the exit status: 1 where rows failed, 130 after Ctrl+C."""
    settings = settings_from(args)
    options = check_model_options(args, settings)
    worker_count = _worker_count(args)
    if args.push_to_hub and not args.dry_run:
        _check_hub(args.push_to_hub)

    output = _output(args)
    dataset = Dataset(args.input, args.prompt_column, args.template, args.skip_bad, args.encoding)
    task = Task(
        dataset, output, settings, export_formats.format_named(args.form),
        number("margin", parse_number(args.margin)), args.resume, args.overwrite or args.dry_run,
    )
    if task.complete:
        print_text(f"{task.output} is complete: there is nothing to resume.")
        return 0

    names = ("model", "scorer", "target", "unit")
    loading = {name: value for name in names if (value := getattr(settings, name)) is not None} | options
    if args.dry_run:
        return _preview(task, _local_worker(loading))
    try:
        with _workers(args.ray, worker_count, loading) as workers:
            return _run(task, workers, args)
    except ModelError as error:  # as where the server is still away
        if not (task.resume and (done := count_records(task.output))):
            raise
        raise ModelError(say("error.batch_stopped", error=error.message, done=str(done), rows=str(task.survey.rows),
                             resume="--resume")) from error


def parser() -> Parser:
    """The command's options."""
    parser = Parser(
        prog=f"{PROGRAM} batch", allow_abbrev=False,
        description="Runs best of n for every row of a file. A run that was stopped or killed continues with --resume "
        "and writes the same output.",
    )
    parser.add_argument("input", metavar="IN", help="prompts: .csv, .tsv, .jsonl, .parquet, or .txt (one per line)")
    parser.add_argument("output", metavar="OUT", nargs="?", help="results: .jsonl, .csv or .parquet")
    parser.add_argument("-o", "--output", dest="output_option", metavar="OUT", help="the same as an option")
    parser.add_argument("--prompt-column", metavar="NAME", help="the column of prompts or messages (detected)")
    parser.add_argument("--template", help="a template that makes prompts from columns: \"A review of {title}:\"")
    parser.add_argument("--as", dest="form", choices=list(export_formats.TRAINING_FORMATS),
                        help="write training data: sft (prompt, completion), preference (prompt, chosen, rejected) "
                        "or scored (all candidates)")
    parser.add_argument("--margin", default="0", help="the least difference in score between chosen and rejected (0)")
    parser.add_argument("--dry-run", action="store_true",
                        help="print what the input holds and how long the run will take")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an unfinished run, where there is one")
    existing.add_argument("--overwrite", action="store_true", help="start again, and replace the output when done")
    parser.add_argument("--skip-bad", action="store_true",
                        help="count unreadable rows as failed instead of refusing the file")
    add_encoding_option(parser)
    parser.add_argument("--push-to-hub", metavar="USER/DATASET", help="upload the output, with a card, to the Hub")
    parser.add_argument("--private", action="store_true", help="make a new data set private")
    add_settings(parser)
    add_model_options(parser)
    parser.add_argument("--ray", metavar="ADDRESS",
                        help="run on a Ray cluster: local (this machine), auto or HOST:PORT")
    parser.add_argument("--ray-workers", metavar="COUNT",
                        help="number of workers (one per GPU of the cluster, else one per core)")
    return parser


def _output(args: argparse.Namespace) -> Path:
    """The file that OUT or -o names. Raises `InputError` where that is none or two."""
    names = [name for name in (args.output, args.output_option) if name is not None]
    if len(names) != 1:
        raise InputError("output", say("error.two_outputs" if names else "error.no_output",
                                       first=args.output, second=args.output_option, option="-o"))
    return Path(names[0])


def _worker_count(args: argparse.Namespace) -> int | None:
    """The value of --ray-workers. Raises `InputError` for options that exclude each other."""
    if args.ray and args.dry_run:
        raise InputError("dry_run", say("error.dry_run_with_ray"))
    if args.ray_workers is None:
        return None
    if not args.ray:
        raise InputError("ray_workers", say("error.workers_without_ray"))
    return whole("ray_workers", parse_number(args.ray_workers), 1)


@contextmanager
def _workers(address: str | None, count: int | None, loading: Mapping[str, Any]) -> Iterator[Workers]:
    """A context with the workers of the Ray cluster at this address, or this process where there is none."""
    if address:
        from bon.batch import ray_workers

        with ray_workers.connected(address, loading, count) as workers:
            yield workers
    else:
        yield _local_worker(loading)


def _local_worker(loading: Mapping[str, Any]) -> LocalWorker:
    from bon import api

    sampler = api.load(**loading)
    return LocalWorker(sampler.engine, sampler.scorer, print_to_stderr)


def _check_hub(repo_id: str) -> None:
    """Raises now what the upload would raise after hours: for an invalid id, or where there is no token."""
    hub_writing.check_repo_id(repo_id, "dataset")
    hub_writing.authorized_api()


def _preview(task: Task, worker: LocalWorker) -> int:
    """Prints the input's facts, its first prompts and an estimate of the run's time, and returns the exit status."""
    survey = task.survey
    unreadable = f", {survey.unreadable:,} of them unreadable" if survey.unreadable else ""
    print_text(f"{task.dataset.path}: {survey.rows:,} rows{unreadable}; columns: {', '.join(survey.columns)}")
    print_text("prompts by template" if task.dataset.template else f"prompts in {task.dataset.column}")
    for row in islice(task.dataset.rows(), 3):
        text = row.error or (row.prompt if row.messages is None else str(row.messages))
        print_text(printable(f"  {row.number}: {text}", escapes=sys.stdout.isatty())[:120])
    seconds = batch_run.estimate_seconds(task, worker.engine, worker.scorer, worker.tell)
    models = f"{worker.engine.name} and {worker.scorer.name}"
    print_text(f"{models} take about {format_duration(seconds)} for these; nothing written.")
    return 0


def _run(task: Task, workers: Workers, args: argparse.Namespace) -> int:
    """Runs the task with a line of progress, and returns the exit status."""
    if task.format.for_training and task.output.suffix.lower() == ".csv":
        print_to_stderr("in CSV, texts that look like formulas will begin with an apostrophe: train from .jsonl or "
                        ".parquet.")
    upload = _uploader(args, task) if args.push_to_hub else None
    progress: Progress | None = None
    finished: Finished | None = None
    try:
        with progress_line() as show, closing(batch_run.stream_with(workers, task, upload)) as events:
            for event in events:
                if isinstance(event, Finished):
                    finished = event
                else:
                    progress = event
                    show(describe_progress(event))
    except KeyboardInterrupt:
        kept = f"{progress.done:,} of {progress.rows:,} rows are kept" if progress else "nothing was done yet"
        print_to_stderr(f"stopped: {kept}; the same command with --resume goes on.")
        return INTERRUPTED
    assert finished is not None  # the last event
    return _print_summary(task, finished)


def _uploader(args: argparse.Namespace, task: Task) -> Callable[[Finished], None]:
    """The function that uploads the finished output to the Hub."""
    from bon.batch import hub_upload

    def upload(finished: Finished) -> None:
        print_text(f"sent: {hub_upload.push(args.push_to_hub, task.output, finished, args.private)}")

    return upload


def _print_summary(task: Task, finished: Finished) -> int:
    """Prints errors, notes and counts of a finished batch, and returns the exit status."""
    for row, error in finished.errors.items():
        print_to_stderr(f"row {row} failed: {error}")
    for note in finished.notes:
        print_to_stderr(note)
    seed = finished.plan["seed"]
    print_text(f"{task.output}: {finished.written:,} rows from {finished.rows:,} prompts (seed {seed})")
    for reason, count in sorted(finished.left_out.items()):
        print_text(f"left out {export_formats.LEFT_OUT_REASONS[reason]}: {count:,}")
    if finished.failed:
        where = batch_run.failures_path(task.output) if task.format.for_training else "column error"
        print_to_stderr(f"{finished.failed:,} of {finished.rows:,} rows failed: see {where}.")
    return 1 if finished.failed else 0


def describe_progress(progress: Progress) -> str:
    """A line on the rows done, rows failed, speed and time left."""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    rate, left = progress.rate, progress.seconds_left
    speed = "" if rate is None or left is None else f", {rate:.1f} rows/s, {format_duration(left)} left"
    return f"{progress.done:,} of {progress.rows:,} rows{failed}{speed} "
