"""Ring a bell when files under a project change.

A `Watcher` watches `tasks/` and `.farm/control/`, but only while its owner is
idle: watching the folder one works in costs more than it tells. It is a doorbell
with a name tag: `take()` gives the ids whose files changed, or `everything` when
events were lost, too many, or about folders. Where the system gives no more
watches, `start` says so and the owner looks by itself now and then, as it must
anyway (network mounts report nothing).
"""

import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from farm.bell import Bell
from farm.late import not_from
from farm.project import RESULT, TASK, Project, is_usable

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers.api import BaseObserver

MOST_NAMES = 1000  #: kept between two looks; more than that means "everything"


class Changes(msgspec.Struct, frozen=True):
    """What changed since the last look."""

    ids: frozenset[str] = frozenset()
    everything: bool = False  #: look at all of it


class Watcher:
    """Rings a bell when files under a project change; see the module's docstring."""

    def __init__(self, project: Project, bell: Bell) -> None:
        self._project = project
        self._bell = bell
        self._mutex = threading.Lock()
        self._ids: set[str] = set()
        self._everything = False
        self._observer: BaseObserver | None = None

    def start(self) -> str | None:
        """Begin to watch; a sentence if the system has no watches or threads left."""
        try:
            self._observer = self._observe()
        except (OSError, RuntimeError) as error:
            return f"no file events: looking every second instead; {_advice(error)}"
        return None

    def _observe(self) -> "BaseObserver":
        with not_from(self._project.root):
            import logging  # noqa: PLC0415 - for watchdog alone

            from watchdog.observers import Observer  # noqa: PLC0415 - 45 ms that a busy worker never needs

        # It would complain on our terminal of being stopped in the middle.
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)
        # RACE: a folder that is made while the watch of it begins is met twice, by the
        # walk and by its event. That is harmless, and it would warn of it.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        handler, kinds = _handler(self._note), _kinds()
        observer = Observer()  # asks for an inotify instance
        try:
            for path, deep in (
                (self._project.tasks, True),
                (self._project.control, False),
            ):
                observer.schedule(handler, path, recursive=deep, event_filter=kinds)
            observer.start()
        except BaseException:
            observer.stop()  # gives its inotify instance back
            raise
        return observer

    def stop(self) -> None:
        """Stop watching; what was not taken is forgotten."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self.take()

    def take(self) -> Changes:
        """What changed since the last call."""
        with self._mutex:
            changes = Changes(frozenset(self._ids), self._everything)
            self._ids, self._everything = set(), False
        return changes

    def _note(self, event: "FileSystemEvent") -> None:
        """In the observer's thread: remember what an event is about, and ring."""
        with self._mutex:
            for path in (event.src_path, event.dest_path):
                self._note_path(os.fsdecode(path), folder=event.is_directory)
        self._bell.ring()

    def _note_path(self, path: str, *, folder: bool) -> None:
        inside = f"{self._project.tasks}/"
        if folder or not path.startswith(inside) or len(self._ids) >= MOST_NAMES:
            self._everything |= bool(path)
            return
        for suffix in (RESULT, TASK):
            if path.endswith(suffix):
                task_id = path[len(inside) : -len(suffix)]
                if is_usable(task_id):
                    self._ids.add(task_id)
                return


def _handler(note: "Callable[[FileSystemEvent], None]") -> "FileSystemEventHandler":
    """Gives each event to `note`, with nothing in between."""
    from watchdog.events import FileSystemEventHandler  # noqa: PLC0415 - the same

    class Handler(FileSystemEventHandler):
        def dispatch(self, event: "FileSystemEvent") -> None:
            note(event)

    return Handler()


def _kinds() -> "list[type[FileSystemEvent]]":
    """What may mean that there is something to do: no event for what is only read."""
    from watchdog import events  # noqa: PLC0415 - the same

    return [
        events.DirCreatedEvent,
        events.DirMovedEvent,
        events.FileClosedEvent,
        events.FileCreatedEvent,
        events.FileDeletedEvent,
        events.FileMovedEvent,
    ]


def _advice(error: OSError | RuntimeError) -> str:
    if isinstance(error, RecursionError):
        return "the folders in tasks/ are nested too deep to be watched"
    if isinstance(error, RuntimeError):
        return f"{error}: allow more processes (ulimit -u)"
    return f"{error.strerror}: raise fs.inotify.max_user_watches or max_user_instances"
