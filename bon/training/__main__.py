"""`python -m bon.training`: trains and measures the embedded language model, scorers and judge."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from bon import configure_threads
from bon.assets_folder import assets_folder
from bon.training import report, train

#: What trains a model and saves it to a folder, by the model's name.
TRAINERS: dict[str, Callable[[Path], None]] = {
    "reviews": train.language_model, "sentiment": train.classifier, "judge": train.judge, "weak": train.weak,
}


def main() -> None:
    """Trains, measures and writes the model cards; an hour to an hour and a half on two cores, a line per 100 steps."""
    configure_threads()  # the same weights with any number of threads
    parser = argparse.ArgumentParser(prog="python -m bon.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=assets_folder() / "models", help="folder for all (assets/models)")
    parser.add_argument("--only", choices=tuple(TRAINERS), help="train one of them")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure and write the cards")
    args = parser.parse_args()
    start = time.perf_counter()
    if not args.measure:
        for name, train_and_save in TRAINERS.items():
            if args.only in (None, name):
                train_and_save(args.out / name)
        print(f"trained in {(time.perf_counter() - start) / 60:.0f} minutes")
    figures = report.measure(args.out)
    report.write_cards(args.out, figures)
    print(*figures.lines(), sep="\n")


if __name__ == "__main__":
    main()
