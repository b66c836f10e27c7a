"""`python -m bon.training`: makes the embedded writer, scorers and judge from nothing and says what they reach."""

import argparse
import time
from pathlib import Path

from bon import configure_threads
from bon.assets_folder import assets_folder
from bon.training import report, train

MAKERS = {"reviews": train.language_model, "sentiment": train.classifier, "judge": train.judge,
          "weak": train.weak}


def main() -> None:
    """Trains, measures and writes the model cards; an hour to an hour and a half on two cores, a line per 100 steps."""
    configure_threads()  # the same weights with any number of threads
    parser = argparse.ArgumentParser(prog="python -m bon.training", description=__doc__)
    parser.add_argument("--out", type=Path, default=assets_folder() / "models", help="folder for all (assets/models)")
    parser.add_argument("--only", choices=tuple(MAKERS), help="train one of them")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure and write the cards")
    args = parser.parse_args()
    start = time.perf_counter()
    if not args.measure:
        for name, make in MAKERS.items():
            if args.only in (None, name):
                make(args.out / name)
        print(f"trained in {(time.perf_counter() - start) / 60:.0f} minutes")
    figures = report.measure(args.out)
    report.write_cards(args.out, figures)
    print(*figures.lines(), sep="\n")


if __name__ == "__main__":
    main()
