"""`scripts/run-agents`: a farm of agents to watch, with a provider and keys of our own.

    python -m tests.provider.show PROJECT

It starts the provider in this process and a supervisor with three workers beside it, and
shows what the farm's own verbs say once a second: on a terminal in place, elsewhere as
lines, where something changed. When half of the prompts are answered, somebody else is
said to use up what the last key may. It ends when all is done; Ctrl-C, SIGTERM and a
closed terminal end all of it. The exit code is the supervisor's, or 130.

The keys are made up at each start and live in the environment of what it starts.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType

from tests.provider.rows import ROWS
from tests.provider.server import Provider

POOLS = {1: "first", 2: "first", 3: "second"}  # key -> pool
WANTED = 3
PER_MINUTE = 60
ANSWER = 0.7  # seconds
REST = "5"  # seconds, which a refusal asks for
FRAME = 1.0  # seconds
PATIENCE = (3.0, 10.0)  # seconds for what runs; for giving it back
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CLEAR = "\x1b[H\x1b[J"
INTERRUPTED = 130
OTHERS = "Others of your organization have used what this key may."


def main() -> int:
    project = Path(sys.argv[1]).resolve()
    for number in ENDINGS:
        signal.signal(number, interrupt)
    try:
        with Provider(retry_after=REST) as provider:
            provider.slow(ANSWER)
            environ = {**clean(os.environ), **keys(provider)}
            with supervisor(project, environ) as running:
                return watch(running, Show(project, environ), provider)
    except KeyboardInterrupt:
        return INTERRUPTED


def interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Without keys of anybody's own: they have nothing to do here."""
    return {n: v for n, v in environ.items() if not n.startswith("ANTHROPIC_")}


def keys(provider: Provider) -> dict[str, str]:
    """New ones, known to the provider and to who gets these variables."""
    found = {"ANTHROPIC_BASE_URL": provider.url, "NO_PROXY": "127.0.0.1"}
    for number, pool in POOLS.items():
        secret = secrets.token_hex(20)
        provider.add_key(str(number), secret, pool=pool, per_minute=PER_MINUTE)
        found[f"ANTHROPIC_API_KEY_{number}"] = secret
        found[f"ANTHROPIC_POOL_{number}"] = pool
    return found


# -- the farm -------------------------------------------------------------------------


def farm(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "farm", *words]


@contextmanager
def supervisor(
    project: Path, environ: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Three workers until all is done; none is left, however this ends."""
    command = farm("supervise", str(project), "-j", str(WANTED), "--until-done")
    with TemporaryFile() as said:
        running = subprocess.Popen(command, env=environ, stdout=said, stderr=said)
        try:
            yield running
        finally:
            end(running)
        if running.returncode:
            said.seek(0)
            print(said.read().decode(errors="replace"), file=sys.stderr)


def end(running: "subprocess.Popen[bytes]") -> None:
    """Once finishes what runs, twice gives it back; nothing keeps us from seeing to it."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    for seconds in PATIENCE:
        if running.poll() is None:
            running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(seconds)
            return
    running.kill()
    running.wait()


def watch(running: "subprocess.Popen[bytes]", show: "Show", provider: Provider) -> int:
    """Show it until it has ended; half way, let the last key's limit be used up."""
    others_came = False
    while running.poll() is None:
        show.frame()
        if not others_came and show.is_half_done():
            others_came = True
            refusal = ROWS["rate_limit"].saying(OTHERS).with_headers(retry_after=REST)
            provider.answer_with(refusal, key=str(max(POOLS)))
        with suppress(subprocess.TimeoutExpired):
            running.wait(FRAME)
    show.frame()
    show.next_steps()
    return running.returncode


# -- what is seen -----------------------------------------------------------------------


class Show:
    """What `farm keys` and `farm status` say of a project."""

    def __init__(self, project: Path, environ: Mapping[str, str]) -> None:
        self._project = project
        size = shutil.get_terminal_size()
        self._environ = {**environ, "COLUMNS": str(size.columns)}
        self._room = size.lines - 1
        self._in_place = sys.stdout.isatty()
        self._shown = ""
        self._count = len(list(project.glob("tasks/**/*.json")))

    def is_half_done(self) -> bool:
        return 2 * len(list(self._project.glob("tasks/**/*.result.json"))) > self._count

    def frame(self) -> None:
        """Keys first; of the status as much as there is room for."""
        keys, status = self._said("keys"), self._said("status")
        if self._in_place:
            lines = [*keys, "", *status][: self._room]
            print(CLEAR + "\n".join(lines), flush=True)
            return
        text = "\n".join([*keys, *status[1:2]])
        if text != self._shown:
            print(f"{time.strftime('%H:%M:%S')}\n{text}\n", flush=True)
        self._shown = text

    def _said(self, verb: str) -> list[str]:
        command = farm(verb, "-C", str(self._project))
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr).splitlines()

    def next_steps(self) -> None:
        project = os.path.relpath(self._project)
        print(
            f"\nNow look at {project}/book.txt, at the results in {project}/tasks/ (who"
            f"\nanswered: `asked`, refusals: `attempts`), at {project}/farm.toml, at what"
            f"\nall processes know of the keys: {project}/.farm/credentials/, and at"
            "\n\n    farm help keys"
        )


if __name__ == "__main__":
    sys.exit(main())
