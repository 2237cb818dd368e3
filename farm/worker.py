"""What one worker process holds, from its birth to its tidy end.

    with Worker.begin(project, settings, ...) as worker:
        end = work_loop(worker)          # farm.work

A worker needs nobody and shares nothing with others but the folder: its life
lock, a queue, a journal, the files its callables print to, and a heart that
beats in a thread of its own.
"""

import errno
import os
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Self

from farm import disk, life, rescue, trial
from farm.backoff import AdaptiveBackoff
from farm.bell import Bell
from farm.called import CallGuard
from farm.capture import CANCELLED_IN, ENDED_IN, Capture
from farm.claim import Holder
from farm.commit import Desk, End, Ending
from farm.compact import compact
from farm.config import Settings
from farm.control import DRAIN, Control
from farm.followed import Followed
from farm.health import Health, WorkerHealthState, write_health
from farm.heart import Heart
from farm.inside import around
from farm.job import Job, Scratch, Secrets, environ_for
from farm.journal import Journal
from farm.late import not_from
from farm.ledger import Claimed
from farm.life import Life
from farm.process_state import ProcessState
from farm.project import Project
from farm.queue import Queue
from farm.reload import Modules
from farm.result import MOST_SAID, ends_of
from farm.standing import Doomed, Ready, Stripe, Waiting
from farm.stop import Stop
from farm.task import Task
from farm.watcher import Watcher
from farm.words import plain

if TYPE_CHECKING:
    from farm.hooks import Hooks
    from farm.keyring import Keyring
    from farm.shortage import Shortage

AT_START = frozenset(("heartbeat", "trust"))  # settings that need a restart
NOT_OURS = frozenset(("heartbeat_timeout", "workers"))  # settings of a supervisor
REFRESH_EVERY = 1.0  # seconds; a busy worker lists the folder again
HOOKS_PATIENCE = 30.0  # seconds; a worker that ends lets its hooks finish
STUCK = 70  # exit code: a cancelled callable let nothing else end it
REFRESH_SHARE = 10  # ... but not for 10 times as long as the last listing took
LONGEST_LOOK = 6.0  # seconds; what took longer stood still: the next one will not
IDLE_LOOK = 5.0  # seconds; an idle worker looks by itself, for mounts without events
BLIND_LOOK = 1.0  # seconds; the same where no file events are to be had
IDLE_SHARE = 50  # ... but neither for 50 times as long as the last listing took
SPREAD = 0.5  # ... and up to a half longer, by the worker's name: not all at once


class Worker:
    """Everything one worker process holds; see the module's docstring."""

    def __init__(
        self,
        project: Project,
        settings: Settings,
        life_: Life,
        stop: Stop,
        supervisor: int | None,
    ) -> None:
        self.project, self.settings = project, settings
        self.life, self.stop = life_, stop
        self.holder = Holder(life_.name, life_.record.who)
        self.desk = Desk(project, self.holder, settings)
        self.health = WorkerHealthState(life_.name)
        self.running: tuple[
            Claimed, ...
        ] = ()  #: the attempts that run; calls go together
        self.tasks_ended = 0
        self.displaced = False  #: our life file was deleted; be born anew
        self.modules = Modules(project.root, network=project.network)
        self.secrets = Secrets.take(os.environ)
        self.capture = Capture(project, life_.name)
        self.state = ProcessState(project.root)
        self.call_guard = CallGuard(self.capture)
        self.journal = Journal(project, life_.name)
        self.hooks = self._hooks()  # before what follows sets a task's variables
        self.watcher = Watcher(project, stop.bell)
        #: whether we watch files, and whether the system gives us file events
        self.watching, self.events = False, True
        self.queue = Queue(project, self._put_off)
        self.sweep_due = self.trim_due = 0.0  #: monotonic seconds
        self.scratch = Scratch(
            needs=project.aside_path(life_.name, "needs.json"),
            progress=project.aside_path(life_.name, "progress"),
        )
        self.environ = environ_for(project, life_.name, self.scratch)
        self.needs_written: dict[str, str] | None = None  #: what FARM_NEEDS holds
        self.listed_at, self.listing_took = float("-inf"), 0.0  #: monotonic, seconds
        self.backoff = AdaptiveBackoff.full(0.2, 30.0)
        #: gives the machine so many seconds; an event loop must not wait for that
        self.rest_for: Callable[[float], object] = stop.bell.wait
        self._supervisor, self._control = supervisor, Control(project)
        self._written: Health | None = None
        self._beat_trouble: str | None = None  # as it was said last
        self._followed = Followed(
            project.settings, settings, AT_START, not_ours=NOT_OURS
        )
        self.heart = Heart(life_, settings.heartbeat, self._at_beat, self._no_beat)

    @classmethod
    def begin(
        cls,
        project: Project,
        settings: Settings,
        *,
        name: str | None = None,
        supervisor: int | None = None,
    ) -> Self:
        """Be born in this process: check the mount, take the life lock, beat.

        From here on signals ask the worker to stop (`farm.stop`); main thread only.
        """
        stop = Stop(Bell())
        stop.listen()
        trial.check_folder(project, stop.bell)
        born = Life.begin(project, name, time.time(), settings.heartbeat)
        try:
            holder = Holder(born.name, born.record.who)
            if rescue.was_unclean(project, born.record.who):
                rescue.check_results(project, holder, time.time())
            worker = cls(project, settings, born, stop, supervisor)
            if supervisor is None:
                stop.announce = worker.say
            os.chdir(project.root)
            worker.capture.begin()
            worker.heart.start()
        except BaseException:
            born.end()
            raise
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.watcher.stop()
        if self.hooks:
            self.hooks.end(HOOKS_PATIENCE, lambda: self.stop.now)
        self.heart.end()
        self.journal.close()
        self.capture.end()
        for path in (self.scratch.needs, self.scratch.progress):
            disk.clear(path)
        self.life.end()
        if self._supervisor is None:
            compact(self.project, at_rest=False)

    def _hooks(self) -> "Hooks | None":
        if not (self.settings.hooks_on_failure or self.settings.hooks_on_done):
            return None
        from farm.hooks import Hooks  # noqa: PLC0415 - most farms have none

        return Hooks(self.project, self.settings, os.environ.copy(), self.say)

    @cached_property
    def around(self) -> str | None:
        """The task that has started us; asked between two tasks of our own."""
        return around(self.project, self.secrets.back_into(os.environ))

    @cached_property
    def ring(self) -> "Keyring":
        """The API keys that we were started with, and what everybody knows of them."""
        with not_from(self.project.root):
            from farm.keyring import Keyring  # noqa: PLC0415 - most farms have none
            from farm.scopes import Scopes  # noqa: PLC0415 - the same
        environ = self.secrets.back_into(self.environ)
        return Keyring(Scopes(self.project, environ, self.life.name))

    @cached_property
    def shortage(self) -> "Shortage":
        """Whether a task that needs a key can have one."""
        with not_from(self.project.root):
            from farm.shortage import Shortage  # noqa: PLC0415 - as above
        return Shortage(self.settings, self.ring)

    @property
    def is_supervised(self) -> bool:
        """Whether a process that is its parent puts another in its place."""
        return self._supervisor is not None

    def _put_off(self, task: Task, now: float) -> Waiting | None:
        return self.shortage.put_off(task, now)

    def say(self, text: str) -> None:
        """A line for people, on the stderr that the worker was started with."""
        text = plain(self.secrets.clean_text(text))
        self.capture.say(f"{time.strftime('%H:%M:%S')}  {text}")

    @cached_property
    def _said(self) -> set[str]:
        return set()

    def say_once(self, sentences: list[str]) -> None:
        """Each of these, unless it was said before."""
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                self.say(sentence)

    # -- at each beat, in the heart's thread -------------------------------------

    def _at_beat(self) -> None:
        if not self.life.in_place():
            self.displaced = True
            self.stop.bell.ring()
        if self._supervisor is not None and os.getppid() != self._supervisor:
            self.stop.ask_once("its supervisor is gone")
        orders = self._control.read()
        if orders.drain:
            self.stop.ask_once(DRAIN)
        running = self.running
        for opened in running:
            if orders.cancels_run(opened.task, opened.token):
                asked = self.stop.cancel(opened.token)
                self._end_if_stuck(opened.token, asked, f"{CANCELLED_IN}{opened.token}")
        self._look_after_callable()
        health = Health(
            task=running[0].task if running else None,
            tasks_ended=self.tasks_ended,
            consecutive_failures=self.health.consecutive_failures,
            last_error_type=self.health.last_error_type,
            quiet_since=round(self.call_guard.quiet.since, 3),
            last_said=self.secrets.clean_text(self.call_guard.quiet.last),
        )
        if health != self._written:
            write_health(self.project, self.life.name, health, self.life.name)
            self._written = health
        self._beat_trouble = None

    def _look_after_callable(self) -> None:
        job = self.call_guard.quiet.callable
        called = job.as_called() if isinstance(job, Job) else None
        verdict = self.call_guard.look(called, time.monotonic())
        if called is not None and verdict is not None:
            asked = self.stop.end(called.token, verdict)
            why, message = verdict.why, plain(verdict.error.message)
            headline = f"{ENDED_IN}{called.token} {why} {message}"
            self._end_if_stuck(called.token, asked, headline)

    def _end_if_stuck(self, token: str, asked_for: float, headline: str) -> None:
        """End a callable that was asked to end and does not yield, and us with it."""
        is_stuck = self.stop.interruptible == token
        if is_stuck and asked_for > max(self.settings.grace, self.settings.heartbeat):
            # RACE: it may end in this moment; then the attempt that has just begun
            # is lost with us, which costs it nothing but time.
            self.capture.leave_stacks(headline)
            os._exit(STUCK)

    def _no_beat(self, error: OSError) -> None:
        if error.strerror != self._beat_trouble:  # said once, not at every beat
            self._beat_trouble = error.strerror
            self.say(f"cannot beat: {error.strerror}")
        if error.errno == errno.EBADF:  # a task closed what is not its own
            self.stop.ask_once("its life lock was closed")

    # -- settings ------------------------------------------------------------

    def follow_settings(self) -> None:
        """Obey farm.toml if it has changed; between two tasks of ours."""
        news = self._followed.news(time.monotonic())
        if news is None:
            return
        self.say(news.words)
        self.settings = news.settings
        self.desk = Desk(self.project, self.holder, news.settings)
        self.__dict__.pop("shortage", None)
        if self.hooks:
            self.hooks.obey(news.settings)
        else:
            self.hooks = self._hooks()

    # -- looking for work ----------------------------------------------------

    def refresh(self) -> None:
        """Look at the settings, then at the whole folder."""
        self.follow_settings()
        began = time.monotonic()
        moved = self.queue.refresh(time.time(), began, self._stripe())
        if self.queue.drains:
            self.stop.ask_once(DRAIN)
        self.listed_at = time.monotonic()
        took = min(self.listed_at - began, LONGEST_LOOK)
        # A look at a folder where nothing happened is quick, and the next one may not be.
        self.listing_took = took if moved else max(took, self.listing_took)

    def look_anew(self) -> None:
        """Look at the whole folder before anything else is taken."""
        self.listed_at = float("-inf")

    def stop_watching(self) -> None:
        """A busy worker watches no files."""
        if self.watching:
            self.watcher.stop()
            self.watching = False

    def _stripe(self) -> Stripe:
        """Our part of the ready tasks: what was a dead worker's part is ours as well."""
        # Over a network so many questions, each worker's of each other, are too many.
        names = self.project.worker_names()
        if not self.project.network:
            with suppress(OSError):  # locks have ceased to work: the next claim says so
                names = life.living(self.project)
        if self.life.name not in names:
            return Stripe()
        return Stripe(names.index(self.life.name), len(names))

    def longest_sleep(self) -> float:
        """Seconds after which an idle worker looks by itself, whatever events tell."""
        least = IDLE_LOOK if self.events else BLIND_LOOK
        # A task that is dropped during one's look, which may be long, is for the others.
        spread = SPREAD * zlib.crc32(self.life.name.encode()) / 2**32
        return (1 + spread) * max(least, IDLE_SHARE * self.listing_took)

    def _look_is_due(self) -> bool:
        age = time.monotonic() - self.listed_at
        if age <= max(REFRESH_EVERY, REFRESH_SHARE * self.listing_took):
            return False
        return not self.watching or self.sleep_is_over()

    def sleep_is_over(self) -> bool:
        """Whether an idle worker must look at the whole folder, whatever events tell."""
        if time.monotonic() - self.listed_at >= self.longest_sleep():
            return True
        due = self.queue.due()  # while we watch, nothing else comes without an event
        return due is not None and due <= time.time()

    def next_known(self) -> Ready | Doomed | None:
        """The best task that is known; looks at the folder only when that is due."""
        if self._look_is_due() or self.queue.orders_changed():
            self.refresh()
        self.queue.read_on(time.time(), time.monotonic())
        return None if self.stop.soon else self.queue.next()

    def next_item(self) -> Ready | Doomed | None:
        """The best task to try; looks at the folder when that is due, or none is known."""
        item = self.next_known()
        if self.stop.soon:
            return None
        if item is None and not self.watching:
            self.refresh()
            item = self.queue.next()
        while item is None and self.queue.unread:
            self.refresh()
            item = self.queue.next()
        return item

    def record(self, ending: Ending) -> None:
        """Report one ending: journal, health, the terminal."""
        self.tasks_ended += 1
        if ending.end is not End.FENCED:
            try:
                self.journal.append(ending.entry(self.life.name))
            except OSError as error:  # only a cache: the result is what counts
                self.say(f"cannot write the journal: {error.strerror}")
        if self.hooks and ending.status is not None:
            self.hooks.fire(ending.id, ending.status)
        if self._supervisor is None:
            self.say(describe(ending))


def describe(ending: Ending) -> str:
    """One line about one ending."""
    said = f": {ends_of(ending.error.message, MOST_SAID)}" if ending.error else ""
    if ending.end is End.FENCED:
        return (
            f"{ending.id} was not ours any more; our result is kept in .farm/logs{said}"
        )
    if ending.end is End.RETRY:
        return f"{ending.id} {ending.why}, attempt {ending.attempt}, runs again{said}"
    return f"{ending.id} {ending.status} in {ending.duration:.2f} s{said}"
