"""`python -m farm`, and the `farm` command: the only place that ends the process."""

import sys


def main() -> None:
    """Run the command line and end with its exit code."""
    # Late, so that `import farm.__main__` is free.
    from farm.first_process import fork_once  # noqa: PLC0415 - see above

    fork_once()
    from farm.cli import leavers, run, streams  # noqa: PLC0415 - see above

    streams.guard()
    code = run()
    for leave in leavers:
        leave(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
