"""Everything that is known of one task's attempts, and where each one's output is.

`read_history(project, id)` reads the result, or else the ledger without its lock: a
hint that was true when it was read. `output(...)` says where an attempt's stdout or
stderr is to be had: inside the result, in its log, or in the scratch file of the
worker that runs it. Results of a newer farm are read as far as they can be.
"""

import errno
import os

import msgspec

from farm import disk, life
from farm.commit import attempt_of
from farm.ledger import Past, history, peek
from farm.life import Owner
from farm.look import read_look
from farm.project import Project
from farm.result import VERSION, Asked, Attempt, Error, Usage, parse_head
from farm.states import Status


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result, as much of it as this version can read."""

    status: Status
    version: int = VERSION
    started: str = ""
    finished: str = ""
    duration_s: float = 0.0
    worker: str = ""
    host: str = ""
    attempts: list[Attempt] = []
    stdout: str = ""
    stderr: str = ""
    exit_code: int | None = None
    signal: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"")  #: JSON; empty if there is none
    text: str | None = None
    usage: Usage | None = None
    asked: Asked | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    error: Error | None = None


class _Version(msgspec.Struct, frozen=True):
    version: int = 0


#: nothing, or no regular file: as `farm.register` sees it, no result
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ESPIPE, errno.ENXIO)
_TOLD = msgspec.json.Decoder(Told)


class History(msgspec.Struct, frozen=True):
    """One task's attempts: those that ended, and the one that is open."""

    id: str
    result: Told | None
    ended: list[Attempt]
    open: Past | None = None
    alive: bool = False  #: the owner of the open one lives
    not_before: float = 0.0  #: POSIX seconds: when the next attempt may start
    sha256: str | None = None  #: of the bytes that the last attempt ran


def read_history(project: Project, task_id: str) -> History:
    """What is known now; OSError if the result may not be read."""
    told = _read_result(project, task_id)
    if told is not None:
        return History(task_id, told, told.attempts)
    pasts = history(peek(project.ledger_path(task_id)))
    # RACE: it may have ended since: first its result was there, then no ledger.
    if not pasts and (told := _read_result(project, task_id)) is not None:
        return History(task_id, told, told.attempts)
    ended = [attempt_of(past) for past in pasts if past.ended]
    last = pasts[-1].ended if pasts else None
    if not pasts or last:
        delay = last.not_before if last else 0.0
        sha256 = pasts[-1].claimed.sha256 if pasts else None
        return History(task_id, None, ended, not_before=delay, sha256=sha256)
    owner = pasts[-1].claimed
    alive = life.owner_of(project, owner.holder, owner.who, me="") is Owner.ALIVE
    return History(task_id, None, ended, pasts[-1], alive)


def history_of(task_id: str, raw: bytes) -> History | None:
    """What the bytes of a result tell; None if they are none."""
    told = _parse(raw)
    return History(task_id, told, told.attempts) if told else None


def _read_result(project: Project, task_id: str) -> Told | None:
    try:
        raw = disk.read_file(project.result_path(task_id))
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    return _parse(raw)


def _parse(raw: bytes) -> Told | None:
    try:
        return _TOLD.decode(raw)
    except disk.NO_JSON:
        return _told_in_part(raw)


def _told_in_part(raw: bytes) -> Told | None:
    """What every version's result says."""
    head = parse_head(raw)
    if head is None:
        return None
    known = msgspec.structs.asdict(head)
    del known["sha256"]
    return Told(version=_version(raw), **known)


def _version(raw: bytes) -> int:
    try:
        return msgspec.json.decode(raw, type=_Version).version
    except disk.NO_JSON:
        return 0


class Output(msgspec.Struct, frozen=True):
    """Where one stream of one attempt is: a file, or text; neither is nothing."""

    path: str | None = None
    text: str = ""
    growing: bool = False  #: the attempt runs
    scratch: bool = False  #: the worker's next callable writes there, too
    lost: str | None = None  #: the file that should be there and is not


def numbers(past: History) -> list[int]:
    """The attempts there were, in order."""
    opened = [past.open.claimed.attempt] if past.open else []
    return [attempt.attempt for attempt in past.ended] + opened


def output(project: Project, past: History, attempt: int, suffix: str) -> Output:
    """Where an attempt's output is; suffix is out or err."""
    if past.open is not None and past.open.claimed.attempt == attempt:
        return _growing(project, past.open, suffix, alive=past.alive)
    one = next(one for one in past.ended if one.attempt == attempt)
    path = one.stdout_path if suffix == "out" else one.stderr_path
    if path is not None:
        return _kept(project, path)
    is_last = past.result is not None and one is past.ended[-1]
    if past.result is None or not is_last:
        return Output()
    return Output(text=past.result.stdout if suffix == "out" else past.result.stderr)


def _kept(project: Project, relative: str) -> Output:
    # Results lie where people write: what one says must not lead out of the logs.
    path = f"{project.logs}/{os.path.basename(relative)}"
    return Output(path) if os.path.isfile(path) else Output(lost=relative)


def _growing(project: Project, past: Past, suffix: str, *, alive: bool) -> Output:
    """A command writes its log; what a callable prints lies in its worker's scratch."""
    opened = past.claimed
    log = project.log_path(opened.task, opened.attempt, suffix)
    scratch = project.aside_path(opened.holder, suffix)
    # Every worker has a scratch file; a command that has no log yet has nothing.
    look = read_look(project, opened.task)
    calls = look is not None and look.task is not None and look.task.call is not None
    places = (log, scratch) if calls else (log,)
    path = next((p for p in places if os.path.exists(p)), None)
    return Output(path, growing=alive, scratch=path == scratch)
