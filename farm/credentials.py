"""What all processes know of keys, pools and endpoints: files in `.farm/credentials/`.

    read(scope)            the record as it lies there, without a lock
    update(scope, change)  read it under its lock, change it, put the new one in place
    forget(scope)          everything that is known of it

Each scope is a file `<scope>.json` of its owner alone, replaced in one step, and a
`<scope>.lock` beside it. A secret is never in it: keys are told apart by a fingerprint
(HMAC with the project's own salt). To delete a file is a legal repair.

What is lost here costs a refused call and nothing else. So a lock that nobody gives
back (its holder was stopped) is waited for no longer than `PATIENCE`, and by nobody
after that; an unreadable record counts as none; and a disk that takes nothing (OSError)
is nobody's failure: what it did not take is known to this process alone.

A record is read again when its file has another inode, size or time.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from farm import disk
from farm.backoff import uniform
from farm.flock import lock_descriptor
from farm.project import Project, Signature, signature_of
from farm.rest import VERSION, Scope

PATIENCE = 2.0  # seconds; a lock is held for less than one of their thousandths
_PAUSES = (0.0005, 0.002)  # seconds between two tries at a lock
_SALT_BYTES = 16
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MOST = 1 << 20  # bytes of a record
_SCOPE = msgspec.json.Decoder(Scope)

Change = Callable[[Scope], Scope]


class Credentials:
    """The shared records of one project; `writer` makes temporary names its own."""

    def __init__(self, project: Project, writer: str) -> None:
        self._project = project
        self._writer = writer
        self._read: dict[str, tuple[Signature, Scope]] = {}
        self._unwritten: dict[str, Scope] = {}
        self._salt = b""

    def read(self, scope: str) -> Scope:
        """What is known of it now; an empty record if nothing is."""
        if scope in self._unwritten:
            return self._unwritten[scope]
        try:
            signature = signature_of(os.stat(self._project.scope_path(scope)))
        except OSError:
            return Scope(id=scope)
        known = self._read.get(scope)
        if known is not None and known[0] == signature:
            return known[1]
        found = self._load(scope)
        # RACE: within one tick of the clock the third file may look like the first.
        if disk.has_settled(signature[-1], network=self._project.network):
            self._read[scope] = (signature, found)
        return found

    def update(self, scope: str, change: Change) -> Scope:
        """Put a changed record in place of the one that lies there; the new one.

        Nothing is written where `change` returns the very record it was given.
        """
        with self._locked(scope):
            old = self._load(scope)
            new = change(old)
            if new is not old:
                generation = old.generation + 1
                new = msgspec.structs.replace(
                    new, version=VERSION, generation=generation
                )
                self._write(scope, new)
        return new

    def forget(self, scope: str) -> bool:
        """Whether there was something to forget."""
        with self._locked(scope):
            unwritten = self._unwritten.pop(scope, None)
            return disk.unlink(self._project.scope_path(scope)) or bool(unwritten)

    def all(self) -> list[Scope]:
        """Every record that lies there, in the order in which they were written last."""
        scopes = sorted(self._project.scopes(), key=self.written)
        return [self.read(scope) for scope in scopes]

    def written(self, scope: str) -> float:
        """When a record was written last, POSIX seconds by its disk's clock; or 0.0."""
        with suppress(OSError):  # it was deleted meanwhile
            return os.stat(self._project.scope_path(scope)).st_mtime
        return 0.0

    def salt(self) -> bytes:
        """What makes fingerprints this project's own: made once, by whoever is first."""
        try:
            while len(self._salt) != _SALT_BYTES:
                self._salt = self._shared_salt()
        except OSError:  # nothing is shared here, fingerprints neither
            self._salt = os.urandom(_SALT_BYTES)
        return self._salt

    def _shared_salt(self) -> bytes:
        path = self._project.salt_path()
        disk.make_folders(self._project.credentials, disk.FOLDER_MODE)
        aside = self._project.aside_path(self._writer, "salt")
        disk.write_aside(aside, os.urandom(_SALT_BYTES))
        try:
            disk.link_new(aside, path)
        finally:
            disk.unlink(aside)
        salt = disk.read_file(path, disk.SMALL)
        if len(salt) != _SALT_BYTES:
            disk.unlink(path)  # a power cut left it empty
        return salt

    # -- files -------------------------------------------------------------------

    def _load(self, scope: str) -> Scope:
        if scope in self._unwritten:
            return self._unwritten[scope]
        try:
            raw = disk.read_file(self._project.scope_path(scope), _MOST)
            found = _SCOPE.decode(raw)
        except (OSError, *disk.NO_JSON):
            return Scope(id=scope)
        return found if found.id == scope else Scope(id=scope)

    def _write(self, scope: str, new: Scope) -> None:
        aside = self._project.aside_path(self._writer, f"scope-{scope}")
        path = self._project.scope_path(scope)
        try:
            disk.replace(path, msgspec.json.encode(new) + b"\n", aside)
        except OSError:
            self._unwritten[scope] = new
        else:
            self._unwritten.pop(scope, None)

    @contextmanager
    def _locked(self, scope: str) -> Iterator[None]:
        path = f"{self._project.credentials}/{scope}.lock"
        fd = self._open_lock(path)
        try:
            if fd is not None:
                with suppress(OSError):  # a file system without locks
                    _wait_for(fd, path)
            yield
        finally:
            if fd is not None:
                os.close(fd)

    def _open_lock(self, path: str) -> int | None:
        with suppress(OSError):  # see the module's docstring
            disk.make_folders(self._project.credentials, disk.FOLDER_MODE)
            return os.open(path, _FLAGS, disk.FILE_MODE)
        return None


def _wait_for(fd: int, path: str) -> None:
    """Until the lock is ours, or its holder has had it for too long.

    RACE: who is late to give up may remove the lock that another has made anew since;
    then one of two updates is lost, which costs a refused call.
    """
    until = time.monotonic() + PATIENCE
    while not lock_descriptor(fd):
        if time.monotonic() > until:
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                os.unlink(path)  # or everybody would wait for it each time
            return
        threading.Event().wait(uniform(*_PAUSES))
