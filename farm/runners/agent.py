"""Ask an agent's command line: a `prompt` task.

The prompt goes to its stdin from a file without a name, never into its arguments. It
gets one key of ours in its environment, or, where we have none, its own login. Its
stdout is its log; read once, after the end, that says what came of the turn
(`farm.presets`).

Each attempt goes on in the session of an earlier one, if that one's log shows a session
that began; the ledger names the session, and the key, before the program starts. A
session that the program does not know any more is begun afresh, in the same attempt.
"""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from farm import disk, keys, middle, turns
from farm.agent import Agent
from farm.command import Ended, Plan, execute, last_line, not_started
from farm.errors import MACHINE, ConfigError, TaskFileError
from farm.guard import IDLE, Signs
from farm.job import Job, environment, prompt_of, working_folder
from farm.ledger import Past, Using
from farm.presets import Answer, Exited, Preset, preset_of
from farm.result import Asked, Error, Outcome, reason
from farm.scopes import Turn, Want, want_of
from farm.signs import LONGEST_LINE, EventSigns
from farm.states import Why

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # the first ends a turn with a result


class _Call(NamedTuple):
    """All that a turn needs, but for its session."""

    agent: Agent
    preset: Preset
    env: dict[str, str]
    secrets: tuple[str, ...]  # what is in `env` and must not be in a log
    folder: str
    want: Want | None = None
    turn: Turn | None = None


class _Session(NamedTuple):
    """In which session a prompt is said."""

    id: str | None
    prompt: str
    resume: bool = False


def run(job: Job) -> Outcome:
    """Ask the command line of a claimed task's agent; who is asked over HTTP, see `calls`."""
    try:
        agent = job.settings.agent(job.claim.task.agent)
    except ConfigError as fault:
        return Outcome(Why.FAILED, error=Error("agent", str(fault)))
    try:
        return _run(job, agent, prompt_of(job))
    except (TaskFileError, ConfigError) as fault:
        return Outcome(Why.FAILED, error=Error("environment", str(fault)))


def _run(job: Job, agent: Agent, prompt: str) -> Outcome:
    call = _call(job, agent)
    if isinstance(call, Outcome):
        return call
    fresh = str(uuid.uuid4()) if call.preset.CHOOSES_SESSION else None
    session = _earlier(job, call.preset) or _Session(fresh, prompt)
    try:
        ended, answer = _ask(job, call, session)
        if session.resume and answer.unknown_session and ended.why is Why.SUCCEEDED:
            session = _Session(fresh, prompt)
            ended, answer = _ask(job, call, session)
    except (OSError, ValueError) as error:
        return not_started(job, call.preset.argv(agent, None, resume=False)[0], error)
    told = _judged(job, call, ended, answer)
    return msgspec.structs.replace(
        told,
        exit_code=ended.exit.code,
        signal=ended.exit.signal,
        text=answer.text,
        usage=answer.usage,
        asked=_asked(call, answer, session),
        stdout=ended.stdout,
        stderr=ended.stderr,
    )


# -- before ------------------------------------------------------------------------


def _call(job: Job, agent: Agent) -> _Call | Outcome:
    """What does not depend on the session; the key last, for its turn is reserved."""
    preset = preset_of(agent)
    env, folder = environment(job), working_folder(job)
    given = job.secrets.given(job.claim.task.env_from)
    call = _Call(agent, preset, env, given, folder)
    want = want_of(agent)
    if want is None:
        return call
    turn = turns.take(job, want)
    if isinstance(turn, Outcome):
        return turn
    agent = msgspec.structs.replace(agent, model=turn.model)
    call = call._replace(agent=agent, want=want, turn=turn)
    return _with_key(job, call, turn) if turn.key.secret else _with_login(job, call)


def _with_key(job: Job, call: _Call, turn: Turn) -> _Call:
    """One key, and nothing beside it by which the program could log in otherwise."""
    env = keys.without(call.env, turn.key.provider)
    env = {n: v for n, v in env.items() if n not in call.preset.LOGIN}
    env |= call.preset.variables(turn.key)
    if call.want is not None and job.keys.spare(turn, call.want, time.time()):
        env |= call.preset.HURRY
    return call._replace(env=env, secrets=(*call.secrets, turn.key.secret))


def _with_login(job: Job, call: _Call) -> _Call:
    """What the program logs in with by itself, as it was when the worker started."""
    found = {name: job.secrets.get(name, job.environ) for name in call.preset.LOGIN}
    login = {name: value for name, value in found.items() if value}
    secrets = (*call.secrets, *login.values())
    return call._replace(env=login | call.env, secrets=secrets)


def _earlier(job: Job, preset: Preset) -> _Session | None:
    """The session to go on with: of the newest attempt whose log shows one."""
    past = job.claim.past
    for one in reversed(past):
        if one.using is None:
            continue  # it never came to a start
        log = job.project.log_path(job.claim.id, one.claimed.attempt, "out")
        found = preset.session(_lines(log))
        if found is not None:
            return _Session(found, _go_on(past[-1]), resume=True)
    return None


def _go_on(last: Past) -> str:
    ended = last.ended
    how = reason(ended.error, ended.exit_code, ended.signal) if ended else "it was lost"
    return (
        f"Your previous attempt at this task was ended early ({how})."
        " Look at what is already done, and continue until the task is finished."
    )


# -- the turn ------------------------------------------------------------------------


def _ask(job: Job, call: _Call, session: _Session) -> tuple[Ended, Answer]:
    """One turn of the program, to its end; OSError or ValueError if it cannot start."""
    argv = call.preset.argv(call.agent, session.id, resume=session.resume)
    key = call.turn.key.id if call.turn else None
    token = job.claim.opened.token
    job.claim.hold.ledger.append(Using(token, key, session.id))
    stdin = _nameless(job, session.prompt.encode())
    try:
        idle, signs = job.idle_timeout(call.agent.idle_timeout), _signs(job, call)
        plan = Plan(
            argv, call.env, call.folder, stdin, _SIGNALS, call.secrets, idle, signs
        )
        ended = execute(job, plan)
    finally:
        os.close(stdin)
    return ended, call.preset.read(
        _output(job, call, ended), _exited(job, ended), time.time()
    )


def _signs(job: Job, call: _Call) -> Callable[[int, int], Signs] | None:
    """Signs of work in its log; of a program that no preset knows, all that it does."""
    if call.agent.preset is None:
        return None
    token = job.claim.opened.token
    return lambda log, ticks: EventSigns(log, call.preset, token, ticks)


def _nameless(job: Job, data: bytes) -> int:
    """These bytes as a file to read that nobody can find."""
    path = job.project.aside_path(job.worker, "prompt")
    disk.write_aside(path, data)
    try:
        return disk.open_to_read(path)
    finally:
        disk.unlink(path)


def _output(job: Job, call: _Call, ended: Ended) -> Iterator[bytes]:
    if ended.stdout is None:
        return iter(())
    if call.agent.preset is None:  # all of it is the answer, bounded as any output
        return iter((disk.read_tail(ended.stdout, job.settings.inline_output)[0],))
    return _lines(ended.stdout)


def _lines(path: str) -> Iterator[bytes]:
    """The lines of a log, but for one that is too long; none of what is no log."""
    fd = _opened(path)
    if fd is None:
        return
    try:
        yield from middle.lines(fd, LONGEST_LINE)
    finally:
        os.close(fd)


def _opened(path: str) -> int | None:
    try:
        return disk.open_regular(path)
    except OSError as error:
        if error.errno in MACHINE:
            raise
        return None  # gone, say: logs are kept for a while only


def _exited(job: Job, ended: Ended) -> Exited:
    code, signum = ended.exit.code, ended.exit.signal
    if ended.lingered:  # how it was made to end says nothing of its turn
        return Exited(ok=True, stderr=last_line(ended.stderr))
    by_itself = ended.why is Why.SUCCEEDED
    return Exited(
        ok=by_itself and code in job.claim.task.ok_exit_codes,
        words=f"killed by {signum}" if signum else f"exit code {code}",
        stderr=last_line(ended.stderr),
    )


# -- after -----------------------------------------------------------------------------


def _judged(job: Job, call: _Call, ended: Ended, answer: Answer) -> Outcome:
    """What the turn means for the task; others learn what it means for the key."""
    refused = _learned(job, call, answer)
    if ended.why in (Why.CANCELLED, Why.DRAINED):
        return Outcome(ended.why, error=ended.error)
    if ended.error is not None and ended.error.kind == IDLE:
        return Outcome(ended.why, error=ended.error)  # whatever it waited for
    if refused is not None:
        return refused
    if ended.error is not None:
        return Outcome(ended.why, error=ended.error)
    return Outcome(Why.FAILED if answer.error else Why.SUCCEEDED, error=answer.error)


def _learned(job: Job, call: _Call, answer: Answer) -> Outcome | None:
    """Tell how the key fared; what a refusal makes of the attempt."""
    if call.want is None or call.turn is None:
        return None
    if answer.trouble is not None:
        return turns.refused(job, call.want, call.turn, answer.trouble)
    if answer.was_given:
        job.keys.succeeded(call.turn, {}, time.time())
    return None


def _asked(call: _Call, answer: Answer, session: _Session) -> Asked:
    told = (answer.model, answer.trouble.request_id if answer.trouble else None)
    model, request = map(call.turn.key.unless_told, told) if call.turn else told
    return Asked(
        model=model or call.agent.model,
        credential=call.turn.key.id if call.turn else None,
        session_id=answer.session or session.id,
        request_id=request,
    )
