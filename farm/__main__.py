"""`python -m farm`, and the `farm` command: the only place that ends the process."""

import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    from farm.cli import run, streams  # noqa: PLC0415 - so that `import farm.__main__` is free

    streams.guard()
    sys.exit(run())


if __name__ == "__main__":
    main()
