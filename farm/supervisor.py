"""Keep N workers alive; start, watch, restart, sweep, say what goes on.

The supervisor runs no task and imports no worker: it starts processes
(`python -m farm worker ...`) and meets them only on disk: their life locks,
health files, journals. If it dies, its workers finish what they hold and stop;
started again it carries on. There is one for each host and project
(`farm.singleton`); `scale-<host>` changes how many workers it keeps.

The loop is `tick`: reap the dead, sweep, start what is due, look at the vitals,
say what ended, report. `judge` and `restart_delay` (`farm.health`) decide; slots
obey (`farm.slot`). No error of the disk ends a supervisor.

Supervising must cost next to nothing (`farm.cadence`): a look at the whole folder is
rare where it is long, and in between the journals say how the counts have moved.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Protocol

from farm import control, disk, life, process, rescue, retention
from farm.backoff import exponential
from farm.bell import Bell
from farm.cadence import TICK, Looks, nap
from farm.claim import Holder
from farm.compact import compact
from farm.config import Settings, usable_cpus
from farm.control import DRAIN, Control
from farm.endings import Endings
from farm.errors import FarmError
from farm.followed import Followed
from farm.health import LONGEST_REST
from farm.inside import around
from farm.journal import Entry, Reader
from farm.keys import in_files
from farm.listing import holds_more
from farm.project import Project
from farm.report import Report, Survey, advanced
from farm.singleton import Singleton
from farm.slot import Slot, SlotEnd
from farm.states import Status, Why
from farm.stop import NOW, SOON, Stop
from farm.words import counted

SWEEP_EVERY = 30.0  # seconds; a death sweeps at once
#: settings of which slots and workers have been told at their start
AT_START = frozenset(("heartbeat", "heartbeat_timeout", "trust"))
SMALL = 1_000  # files; a folder with more is first looked at when its workers are
FIRST_LOOK = 5.0  # ... so many seconds old, as they look at it themselves,
BUSY_LOOK = 10.0  # ... or so many while tasks end; a live screen is not to stay empty
#: endings that do not show that a worker can do its work: it ran nothing, or could not
_NOT_ITS_WORK = (Why.FAULT, Why.LOST, None)
LAST_PATIENCE = 5.0  # seconds beyond the grace, before workers are killed


class Screen(Protocol):
    """Where a supervisor says what goes on."""

    pause: float  #: seconds after which another report is worth showing
    is_live: bool  #: it shows for how long tasks have been running

    def event(self, text: str) -> None:
        """Something happened to a worker or to the farm."""

    def ended(self, entries: Sequence[Entry]) -> None:
        """These attempts ended."""

    def show(self, report: Report) -> None:
        """The project as it is now."""


class Supervisor:
    """See the module's docstring. Times inside are monotonic seconds."""

    def __init__(
        self,
        project: Project,
        settings: Settings,
        screen: Screen,
        *,
        until_done: bool,
        flags: Mapping[str, object] | None = None,
    ) -> None:
        """`flags` are those of the command line: they outweigh what farm.toml says."""
        in_files(os.environ)  # ConfigError now: no worker could start, again and again
        self.stop = Stop(Bell())
        self._project = project
        self._followed = Followed(project.settings, settings, AT_START, flags or {})
        self._settings = settings
        self._screen = screen
        self._until_done = until_done
        count = settings.workers or usable_cpus()
        self._slots = [Slot(number, project, settings) for number in range(count)]
        self._holder = Holder.passing()
        self._host = self._holder.who.host
        self._control = Control(project)
        self._journal = Reader(project, Entry, from_now=True)
        self._survey = Survey(project, glance=True, around=around(project, os.environ))
        self._report: Report | None = None  # before the first look
        waits = not screen.is_live and holds_more(project.tasks, SMALL)
        now = time.monotonic()
        self._looks = Looks(now + BUSY_LOOK * waits, now + FIRST_LOOK * waits)
        self._sweep_due = self._vitals_due = self._trim_due = 0.0
        self._traces: tuple[int, ...] = ()  # as of the last look
        self._endings = Endings(time.time())
        self._moves = False  # tasks ended at the last tick
        self._heard = False  # ... or since the last look
        self._counted: set[str] = set()  # those that ended since then for good
        self._told = (False, 0)  # the request to stop that was passed on
        self._kill_at = float("inf")
        self._trouble = ""  # the last one that was said
        self._idle_rounds = 0  # starts that found nothing to do after all

    def run(self) -> Report:
        """Supervise until stopped, or until nothing is left; the last report.

        Main thread only: it takes SIGINT, SIGTERM, SIGHUP and SIGCHLD. Raises BusyError
        if this project has a supervisor on this host already.
        """
        singleton = Singleton(self._project)
        self.stop.listen()
        signal.signal(signal.SIGCHLD, _wake_up)
        try:
            self.tick(time.monotonic())
            while not self._is_over(time.monotonic()):
                self.stop.bell.wait(self.patience(time.monotonic()))
                self.tick(time.monotonic())
        finally:
            self._end_workers()
            singleton.release()
        for step in (partial(self._say_what_ended, last=True), self._look_at_last):
            if trouble := _guarded(step):
                _guarded(partial(self._screen.event, trouble))
        compact(self._project, at_rest=True)  # all that was told has been read
        return self._report or self._survey.look(time.time(), time.monotonic())

    def patience(self, now: float) -> float:
        """Seconds that it may sleep if nothing wakes it."""
        dues = [self._vitals_due, self._kill_at]
        if not self.stop.soon:
            dues += [slot.start_at for slot in self._slots if slot.is_empty]
        if self._moves or self.stop.now:
            dues.append(now + TICK)
        if self._report is None or (self._screen.is_live and self._report.running):
            dues.append(self._looks.soonest)
        return nap(now, dues)

    def _is_over(self, now: float) -> bool:
        if now > self._kill_at:
            return True
        if any(slot.popen for slot in self._slots):
            return False
        if self.stop.soon:
            return True
        if not self._slots:
            return False  # scaled to none: it waits to be scaled again
        return all(slot.done for slot in self._slots) and not self._start_again(now)

    def _start_again(self, now: float) -> bool:
        """Whether somebody dropped a task just as the last worker ended."""
        if _guarded(self._look_around):
            return False
        if self._report is None or not self._report.pending:
            return False
        self._idle_rounds += 1
        wait = exponential(self._idle_rounds, TICK, LONGEST_REST)
        for slot in self._slots:
            slot.done, slot.start_at = False, now + wait
        return True

    # -- the loop's steps ----------------------------------------------------

    def tick(self, now: float) -> None:
        """Do once everything that is due: the order is that of the docstring."""
        # Orders first: workers that drained must not be followed by others.
        steps: list[Callable[[], None]] = [self._obey]
        steps += [partial(self._reap, slot, now) for slot in self._slots]
        if now >= self._sweep_due:
            steps.append(partial(self._sweep, now))
        if now >= self._trim_due:
            steps.append(partial(self._trim, now))
        if not self.stop.soon:
            steps += [partial(self._start, slot, now) for slot in self._slots]
        if now >= self._vitals_due:
            self._vitals_due = now + self._settings.heartbeat
            steps.append(partial(self._follow_settings, now))
            kills = process.oom_kills()
            steps += [partial(self._look_after, s, now, kills) for s in self._slots]
        steps.append(self._say_what_ended)
        if now >= self._looks.soonest and self._looks.due(now, moved=self._moved()):
            steps.append(self._look_around)
        steps.append(self._pass_on_stop)
        troubles = [trouble for step in steps if (trouble := _guarded(step))]
        if troubles and troubles[0] != self._trouble:
            _guarded(partial(self._screen.event, troubles[0]))
        self._trouble = troubles[0] if troubles else ""

    def _reap(self, slot: Slot, now: float) -> None:
        if slot.has_ended():
            self._hear()  # what it did counts before it is judged by its death
        ended = slot.reap(now, is_last=self.stop.soon)
        if ended is None:
            return
        end, sentence = ended
        if slot.leaving:
            self._slots.remove(slot)
        if end is SlotEnd.DIED:
            self._sweep_due = now
            self._screen.event(sentence)
            return
        slot.done = self._until_done

    def _sweep(self, now: float) -> None:
        self._sweep_due = now + SWEEP_EVERY
        settled = rescue.sweep(self._project, self._holder, time.time())
        if settled:
            self._screen.event(f"gave back {settled} task(s) of dead workers")
        compact(self._project, at_rest=False)

    def _trim(self, now: float) -> None:
        self._trim_due = now + retention.EVERY
        retention.trim(self._project, self._settings, time.time())

    def _start(self, slot: Slot, now: float) -> None:
        slot.start_if_due(now, os.getpid(), until_done=self._until_done)

    def _obey(self) -> None:
        if not self._control.changed():
            return
        orders = self._control.read()
        if orders.drain:
            self.stop.ask_once(DRAIN)
        if self._host in orders.scale and not self.stop.soon:
            said = control.take(self._project, control.scale_name(self._host))
            wanted = control.worker_count(said)
            if wanted is not None:
                self._scale(wanted)

    def _scale(self, wanted: int) -> None:
        """Keep so many workers: start more, or let the last ones finish and end."""
        staying = [slot for slot in self._slots if not slot.leaving]
        for slot in staying[wanted:]:
            slot.leave()
        self._slots = [s for s in self._slots if s.popen or not s.leaving]
        taken = {slot.state.worker_id for slot in self._slots}
        free = (number for number in itertools.count() if number not in taken)
        for number in itertools.islice(free, max(0, wanted - len(staying))):
            self._slots.append(Slot(number, self._project, self._settings))
        self._screen.event(f"{counted(wanted, 'worker')} from now on")

    def _follow_settings(self, now: float) -> None:
        news = self._followed.news(now)
        if news is None:
            return
        self._screen.event(news.words)
        before, self._settings = self._settings.workers, news.settings
        if news.settings.workers != before and not self.stop.soon:
            self._scale(news.settings.workers or usable_cpus())

    def _look_after(self, slot: Slot, now: float, oom_kills: int) -> None:
        if sentence := slot.look_after(now, oom_kills):
            self._screen.event(sentence)

    def _hear(self) -> None:
        """Take in what workers wrote: who did its work is well, and all of it is told."""
        entries = [entry for entry in self._journal.poll() if entry.is_ending]
        self._endings.add(entries)
        self._heard = self._heard or bool(entries)
        well = {entry.worker for entry in entries if entry.why not in _NOT_ITS_WORK}
        for slot in self._slots:
            if any(slot.ran(worker) for worker in well):
                slot.state.forgive()

    def _say_what_ended(self, *, last: bool = False) -> None:
        self._hear()
        entries = self._endings.take(last=last)
        self._moves = bool(entries or self._endings)
        if self._moves:
            self._idle_rounds = 0
        if entries:
            self._screen.ended(entries)
        if entries and self._report is not None:
            self._report = advanced(self._report, self._not_counted(entries))
            self._screen.show(self._report)

    def _not_counted(self, entries: Iterable[Entry]) -> dict[str, Status]:
        """How tasks ended that were open at the last look, and were not counted since."""
        known = self._survey.ends
        ended = {
            entry.id: entry.status
            for entry in entries
            if entry.status is not None
            and entry.id not in self._counted
            and entry.id not in known
        }
        self._counted |= ended.keys()
        return ended

    def _moved(self) -> bool:
        """Whether a look may show something else than the last one did."""
        if self._heard:
            return True
        if self._report is None:
            return False  # there was none, and it is due all the same
        if self._screen.is_live and self._report.running:
            return True
        return self._traces == () or self._traces != _traces(self._project)

    def _look_around(self) -> None:
        began = time.monotonic()
        self._looks = Looks.after(began, began, TICK)  # should this very look fail
        self._traces = _traces(self._project)
        self._report = self._survey.look(time.time(), began)
        self._counted, self._heard = set(), False
        screen, ended = self._screen, time.monotonic()
        self._looks = Looks.after(began, ended, screen.pause, live=screen.is_live)
        if entries := self._endings.take(last=True):  # they are counted in this report
            screen.ended(entries)
        screen.show(self._report)

    def _look_at_last(self) -> None:
        """Unless nothing has moved since the look that found nothing left to do."""
        if self._report is None or self._moved():
            self._survey.recheck()  # the exit code is what the results say
            self._look_around()

    def _pass_on_stop(self) -> None:
        is_news = (self.stop.soon, self.stop.asked) != self._told
        # RACE: a signal may go to another thread of the worker than the one that waits in
        # a system call. So it is asked to end at once again and again, until it has ended.
        if is_news or self.stop.now:
            self._tell_workers()
        if not is_news:
            return
        self._told = (self.stop.soon, self.stop.asked)
        if self.stop.now:
            patience = self._settings.grace + LAST_PATIENCE
            self._kill_at = min(self._kill_at, time.monotonic() + patience)
        self._screen.event(self.stop.sentence)  # now that it is so

    def _tell_workers(self) -> None:
        for slot in self._slots:
            slot.tell(NOW if self.stop.now else SOON)

    # -- the end -------------------------------------------------------------

    def _end_workers(self) -> None:
        """Nobody is left behind, however the loop ended."""
        patience = time.monotonic() + self._settings.grace + LAST_PATIENCE
        until = min(self._kill_at, patience)
        left = [slot.popen for slot in self._slots if slot.popen is not None]
        self._tell_workers()
        for popen in left:
            try:
                popen.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        if left:
            _guarded(partial(self._sweep, time.monotonic()))
        _guarded(self._end_drain)

    def _end_drain(self) -> None:
        if self.stop.reason == DRAIN and not life.living(self._project):
            control.take(self._project, DRAIN)


def _traces(project: Project) -> tuple[int, ...]:
    """What moves when a task is dropped, claimed or ends, or a worker comes or goes.

    A drop into a folder below `tasks/` shows when it is claimed. () if .farm is gone, or
    if something may move from now on and would not show.
    """
    folders = (project.tasks, project.locks, project.workers, project.control)
    try:
        times = [os.stat(folder).st_mtime_ns for folder in folders]
    except OSError:
        return ()
    known = all(disk.has_settled(at, network=project.network) for at in times)
    return tuple(times) if known else ()


def _guarded(step: Callable[[], None]) -> str:
    """Do it; a sentence if the machine did not let us: a full disk, say."""
    try:
        step()
    except OSError as error:
        return f"supervisor: {error.strerror}: {error.filename or 'no file named'}"
    except FarmError as error:
        return f"supervisor: {error}"
    return ""


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """SIGCHLD: the wake-up pipe of `Stop.listen` has rung already."""
