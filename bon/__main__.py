"""`python -m bon`: the command line (`bon.cli`)."""

from bon.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
