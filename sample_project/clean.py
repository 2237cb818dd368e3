"""Remove what earlier runs left: results, products and farm's own folder.

    python3 clean.py            of the picture
    python3 clean.py agents     of the project in that folder

The task files stay, so the next run does everything again. Refuses while
workers run here, whose folder must not vanish under them. (Only for a sample:
in a project of your own, delete the results of what should run again.)
"""

import fcntl
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.joinpath(*sys.argv[1:])
PRODUCTS = ("mandelbrot.png", "book.txt")


def main() -> None:
    """Clean up, or end with a sentence that says why not."""
    busy = next(filter(is_held, PROJECT.glob(".farm/**/*.lock")), None)
    if busy is not None:
        sys.exit(
            f"somebody works in {PROJECT} and holds {busy.relative_to(PROJECT)}:"
            " wait until that run ends, or stop it, then try again"
        )
    for result in PROJECT.glob("tasks/**/*.result.json"):
        result.unlink(missing_ok=True)
    for name in PRODUCTS:
        (PROJECT / name).unlink(missing_ok=True)
    for folder in (PROJECT / "build", PROJECT / ".farm"):
        if folder.exists():
            shutil.rmtree(folder)


def is_held(lock: Path) -> bool:
    """Say whether a living process holds `lock`; only the kernel knows."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False  # its task ended since it was listed
    return False


if __name__ == "__main__":
    main()
