"""Why a task is where it is, in sentences: `farm why`, and a part of `farm show`.

`explain(survey, id, now)` after `survey.look(...)`. It reads what workers read and
decides as they decide, takes no lock and writes nothing. The first sentence of `why`
is the answer; the others are its proof, or the next things in the way. What it says
was true when it looked.
"""

from collections.abc import Iterable, Sequence

import msgspec

from farm import register, unlock
from farm.control import Control
from farm.crew import Running
from farm.history import History, read_history
from farm.life import LifeLock, observe
from farm.locate import did_you_mean
from farm.look import Look, read_look
from farm.needs import Needs
from farm.pattern import matches
from farm.project import Project
from farm.report import Survey
from farm.result import MOST_SAID, VERSION, Attempt, ends_of, posix, reason
from farm.skipped import Causes
from farm.states import State, Status
from farm.task import Task
from farm.words import counted, duration, moment

_BY_ITSELF = (Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT)  # what it did
_MOST_NAMES = 10  # of withheld variables
MOST_NEEDS = 10  # open needs named one by one; the rest is counted

NEXT = {
    Status.SUCCEEDED: "nothing: it has succeeded (farm retry {id} runs it again)",
    Status.FAILED: "nothing by itself: farm retry {id} runs it again",
    Status.TIMED_OUT: "nothing by itself: farm retry {id} runs it again",
    Status.CANCELLED: "nothing by itself: farm retry {id} runs it again",
    Status.LOST: "nothing by itself: farm retry {id} runs it again",
    Status.SKIPPED: "nothing by itself: {remedy} runs it again, too",
    Status.INVALID: "it is tried again when its file changes: farm check says what is wrong",
}


class Explanation(msgspec.Struct, frozen=True):
    """Where a task is, why, and what happens next."""

    id: str
    state: State
    status: Status | None
    why: list[str]  #: sentences; the first one answers
    next: str


def explain(survey: Survey, task_id: str, now: float) -> Explanation:
    """Explain one of `survey.ids`, as it was at the survey's last look."""
    past = read_history(survey.project, task_id)
    # RACE: it may have ended since the look, or been made ready again.
    if past.result is not None and register.counts(survey.project, task_id) is not None:
        why, status = _ended(survey, past, now), past.result.status
        why += _locked(survey.project, task_id)
        remedy = ""
        if status is Status.SKIPPED:
            cause = Causes(survey.project, survey.ids, survey.word).of(task_id)
            remedy = cause.remedy(task_id)
        follows = NEXT[status].format(id=task_id, remedy=remedy)
        return Explanation(task_id, State.FINAL, status, why, follows)
    running = survey.running(task_id)
    if running is not None and past.open is not None:
        return _running(survey, past, running, now)
    return _open(survey, past, now)


def explain_archived(past: History, where: str, now: float) -> Explanation:
    """Explain what an archive holds; `where` says which, and how it comes back."""
    told = past.result
    assert told is not None, "only what has ended is archived"  # noqa: S101 - for mypy
    why = [where, *_ending(past, now)]
    return Explanation(past.id, State.FINAL, told.status, why, _RESTORE.format(past.id))


_RESTORE = "nothing: it is archived (farm restore {} puts it back)"


# -- ended -------------------------------------------------------------------------


def _ended(survey: Survey, past: History, now: float) -> list[str]:
    why = _ending(past, now)
    if survey.project.task_signature(past.id) is None:
        why.append("its task file is gone; its result is all that is left")
    return why


def _ending(past: History, now: float) -> list[str]:
    told = past.result
    assert told is not None, "asked only about what has ended"  # noqa: S101 - for mypy
    text = f"{told.status.words}{_ago(told.finished, now)}"
    if told.status is not Status.SUCCEEDED:
        text = f"{text}: {reason(told.error, told.exit_code, told.signal)}"
    elif told.attempts:
        text = f"{text}, in {duration(told.duration_s)}"
    why = [text, *map(attempt_words, past.ended if len(past.ended) > 1 else ())]
    if told.error is not None and told.error.withheld:
        why.append(withheld_words(told.error.withheld))
    if told.version > VERSION:
        why.append(
            f"its result is of version {told.version}, written by a newer farm than"
            f" this (which writes {VERSION}): not all of it is shown"
        )
    return why


def withheld_words(names: Sequence[str]) -> str:
    """Which variables a task that failed did not get, and how it gets one."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (
        f"withheld from it, as they look like secrets: {', '.join(names[:_MOST_NAMES])}"
        f'{more}; a task gets what it names: "env_from": ["{names[0]}"]'
    )


def _ago(finished: str, now: float) -> str:
    """` 5 s ago`; nothing if nobody wrote down when."""
    at = posix(finished)
    return f" {duration(max(0.0, now - at))} ago" if at else ""


def attempt_words(attempt: Attempt) -> str:
    """How one attempt ended: `attempt 2 failed after 2.1 s on ada: exit code 3`."""
    took = duration(max(0.0, posix(attempt.finished) - posix(attempt.started)))
    text = f"attempt {attempt.attempt} {attempt.why.replace('_', ' ')} after {took}"
    text += f" on {attempt.worker}"
    if attempt.error is not None:
        text += f": {ends_of(attempt.error.message, MOST_SAID)}"
    return text if attempt.counted or attempt.error is None else f"{text} (not counted)"


# -- running -----------------------------------------------------------------------


def _running(
    survey: Survey, past: History, running: Running, now: float
) -> Explanation:
    assert past.open is not None, "asked only about what runs"  # noqa: S101 - for mypy
    opened = past.open.claimed
    why = [
        f"it runs for {duration(running.elapsed_s)}, attempt {running.attempt}",
        *([running.silence] if running.silence else ()),
        unlock.held_by(survey.project, opened),
        *(f"{w.name}: {w.health}" for w in survey.workers if w.name == opened.holder),
        *map(attempt_words, past.ended),
    ]
    follows = "it ends by itself"
    if opened.timeout is not None:
        left = opened.acquired_at + opened.timeout - now
        when = f"in {duration(left)}" if left > 0 else "now"
        follows += f", or at its deadline {when} (timeout {duration(opened.timeout)})"
    if Control(survey.project).read().cancels_run(past.id, opened.token):
        follows = "it is cancelled: its worker ends it at its next heartbeat"
    return Explanation(past.id, State.RUNNING, None, why, follows)


# -- ready or waiting ----------------------------------------------------------------


def _open(survey: Survey, past: History, now: float) -> Explanation:
    """In the order in which a worker asks; several may hold at once."""
    project, task_id = survey.project, past.id
    look = read_look(project, task_id)
    task = look.task if look else None
    waits = survey.waits(task_id)
    refused = survey.refused(task_id)
    why = [waits.why] if waits and (task is None or refused) else []
    why += _by_people(project, task_id)
    if look is not None and task is not None and not refused:
        why += _by_time(look, task, past, now)
        why += _by_needs(survey, task_id, task, now)
    if waits and not why:
        why.append(waits.why)
    doom = survey.doom(task_id)
    state = State.WAITING if why else State.READY
    follows = "it starts when that is over" if why else "the next free worker takes it"
    if refused:
        follows = "it ends as invalid, unless its file changes before that"
    if doom is not None:
        why = [ends_of(doom.error.message, MOST_SAID)]
        follows = f"the next free worker writes that down: {doom.status.words}"
    if locked := [] if past.alive else _locked(project, task_id):
        why, follows = [*why, *locked], "it starts when its lock is free"
    why = why or [_place(survey, task_id)]
    why += _left_behind(project, past)
    why += map(attempt_words, past.ended)
    if not any(worker.alive for worker in survey.workers):
        nobody = "no worker is alive here: farm supervise, or farm worker, starts one"
        why.append(nobody)
        follows = f"nothing until there is a worker; then {follows}"
    return Explanation(task_id, state, None, why, follows)


def _by_people(project: Project, task_id: str) -> list[str]:
    orders = Control(project).read()
    found = []
    if file := orders.holds(task_id):
        found.append(f"paused by .farm/control/{file}: farm resume starts it again")
    if orders.drain:
        found.append("all workers are told to end (.farm/control/drain)")
    return found


def _by_time(look: Look, task: Task, past: History, now: float) -> list[str]:
    found = []
    if task.not_before is not None and task.not_before > now:
        when, wait = moment(task.not_before, now), duration(task.not_before - now)
        found.append(f"its `not_before` is {when}, in {wait}")
    if past.ended and past.not_before > now and past.sha256 == look.sha256:
        when, wait = moment(past.not_before, now), duration(past.not_before - now)
        last = past.ended[-1].attempt
        found.append(
            f"attempt {last} did not succeed; the next starts {when}, in {wait}"
        )
    return found


def _by_needs(survey: Survey, task_id: str, task: Task, now: float) -> list[str]:
    needs = Needs(survey.ids, set(), lambda _: None)
    found = []
    for need in task.needs:
        members = sorted(
            needs.expand(need) - ({task_id} if needs.is_glob(need) else set())
        )
        unmet = [i for i in members if _word(survey, i) != Status.SUCCEEDED]
        if not members:
            found.append(f"it needs {need}, which matches nothing yet")
        if needs.is_glob(need) and (not members or unmet):
            found += _archived_members(survey, need)
        found += [f"it needs {i}{stands(survey, i, now)}" for i in unmet[:MOST_NEEDS]]
        if more := len(unmet) - MOST_NEEDS:
            found += [f"it needs {more} more that match {need}"] if more > 0 else []
    return found


def _word(survey: Survey, task_id: str) -> str:
    return survey.word(task_id) if task_id in survey.ids else "missing"


def stands(survey: Survey, task_id: str, now: float) -> str:
    """Where a needed task is, to follow its name: `, which runs for 3 s on ada`."""
    if task_id not in survey.ids:
        return f", which {_absent(survey, task_id)}"
    running = survey.running(task_id)
    if running is not None:
        return f", which runs for {duration(running.elapsed_s)} on {running.worker}"
    if waits := survey.waits(task_id):
        return f", which waits: {waits.why}"
    word = survey.word(task_id)
    if not isinstance(word, Status):
        return ", which is ready and has not started"
    head = register.counts(survey.project, task_id)
    if head is None:
        return f", which was {word.words}"
    said = reason(head.error, head.exit_code, head.signal)
    was = "" if head.status in _BY_ITSELF else "was "
    return f", which {was}{head.status.words}{_ago(head.finished, now)}: {said}"


def _absent(survey: Survey, task_id: str) -> str:
    """Where a needed task is that does not lie in `tasks/`."""
    place = survey.archived.get(task_id)
    if place is None:
        return f"is not in tasks/{did_you_mean(task_id, _nearest(task_id, survey.ids))}"
    was = "has" if place.status in _BY_ITSELF else "was"
    file = survey.project.relative(place.archive)
    how = f"{was} {place.status.words} and lies in {file}"
    return f"{how}: farm restore {task_id} puts it back"


def _archived_members(survey: Survey, need: str) -> list[str]:
    """What a glob would mean as well, were it not archived."""
    found = [i for i in survey.archived if matches(need, i) and i not in survey.ids]
    if not found:
        return []
    files = sorted({survey.archived[i].archive for i in found})
    where = survey.project.relative(files[-1])
    where += f" and {len(files) - 1} more" if len(files) > 1 else ""
    tasks = counted(len(found), "task")
    back = f"farm restore '{need}' puts them back"
    return [f"{tasks} more that match {need} lie in {where}: {back}"]


def _nearest(task_id: str, ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=lambda i: abs(len(i) - len(task_id)))[:1000]


def _place(survey: Survey, task_id: str) -> str:
    ready = survey.ready_ids()
    if task_id not in ready:
        return f"it is ready, behind the {len(ready)} that are looked at first"
    before = ready.index(task_id)
    where = f"behind {counted(before, 'task')}" if before else "the first"
    return f"it is ready, {where}"


def _locked(project: Project, task_id: str) -> list[str]:
    """A process that has its lock and is not a worker."""
    return [words] if (words := unlock.locked_by(project, task_id)) else []


def _left_behind(project: Project, past: History) -> list[str]:
    """An attempt that is open although its owner is dead."""
    if past.open is None or past.alive:
        return []
    holder = past.open.claimed.holder
    dead = observe(project, holder) is not LifeLock.HELD
    how = "is dead" if dead else "has let it go"
    return [f"attempt {past.open.claimed.attempt} was lost: its worker {holder} {how}"]
