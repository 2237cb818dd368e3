"""One prompt to an agent over HTTP: a turn, a call, and what follows from its end.

    outcome = await answer(job, agent, http)

The only loop that tries again: it takes a turn from the ring of keys, waits for it,
calls, and tells the ring how it went, so that everybody knows. A key that is refused is
another key's turn at once. Waiting and trying share one minute (`MOST_INLINE`); what
takes longer gives the task back, uncounted, with the time at which a key frees, so that
no worker is held by a wait. The task's `timeout` is for its calls alone: to wait for a
turn is nobody's failure.

Cancelling it (a stop, a cancel, a deadline) ends the call where it is.
"""

import asyncio
import time
from collections.abc import Callable

import httpx2
import msgspec

from farm.agent import Agent
from farm.backoff import AdaptiveBackoff
from farm.errors import ConfigError, TaskFileError
from farm.formats import Answer, messages, openai
from farm.guard import IDLE
from farm.job import Job, prompt_of
from farm.keyring import MOST_INLINE, Later, without_key
from farm.ledger import Using
from farm.post import Got, Question, post
from farm.result import Asked, Error, Outcome
from farm.scopes import Turn, want_of
from farm.states import Why
from farm.trouble import ERROR_KINDS, Kind, Trouble, request_id, unreachable
from farm.value import judged
from farm.words import duration

_FORMATS = {"messages": messages, "openai": openai}
_FIRST, _LONGEST = 0.5, 20.0  # seconds before a call that may be made again at once


class _Patience:
    """The minute that one attempt may spend on waiting."""

    def __init__(self) -> None:
        self._until = time.monotonic() + MOST_INLINE
        self._backoff = AdaptiveBackoff.full(_FIRST, _LONGEST)

    def lasts(self, until: float) -> bool:
        """Whether a wait until then, POSIX seconds, is still within it."""
        return time.monotonic() + (until - time.time()) <= self._until

    def pause(self) -> float:
        """Seconds before the next try of a call that brought no answer."""
        self._backoff.record_failure()
        return self._backoff.get_delay()


async def answer(job: Job, agent: Agent, http: httpx2.AsyncClient) -> Outcome:
    """What an agent answers to a claimed task; a failure of either is an outcome."""
    try:
        prompt = prompt_of(job)
    except TaskFileError as fault:
        return Outcome(Why.FAILED, error=Error("environment", str(fault)))
    asking = _Asking(job, agent, http)
    while True:
        try:
            turn = await asking.turn()
        except ConfigError as error:  # a key's file: whoever started us can mend it
            return _put_off(Later(None, str(error)), None)
        if isinstance(turn, Outcome):
            return turn
        outcome = await asking.call(turn, prompt)
        if outcome is not None:
            return outcome


class _Asking:
    """One attempt: turns and calls until one of them says how it ended."""

    def __init__(self, job: Job, agent: Agent, http: httpx2.AsyncClient) -> None:
        self._job = job
        self._agent = agent
        self._ring = job.keys
        self._http = http
        want = want_of(agent)
        assert want is not None, "who is asked over HTTP is somebody"  # noqa: S101 - for mypy
        self._want = want
        self._patience = _Patience()
        self._last: Trouble | None = None  # why the call before was refused
        self._idle = job.idle_timeout(agent.idle_timeout)
        self._left = job.claim.opened.timeout  # seconds for calls; None: no limit

    async def turn(self) -> Turn | Outcome:
        """A key whose time has come, or the task given back until there is one."""
        while True:
            turn = self._ring.ask(self._want, time.time())
            if isinstance(turn, Later):
                if turn.until is None or not self._patience.lasts(turn.until):
                    return _put_off(turn, self._last)
                await _sleep_until(turn.until)
                continue
            if turn.model is None:
                message = "the agent has no `model`, and its key names none"
                return _failed("agent", message)
            await _sleep_until(turn.at)
            # RACE: somebody may have been refused meanwhile, and all rest with him.
            if self._ring.stands(turn, time.time()):
                return turn

    async def call(self, turn: Turn, prompt: str) -> Outcome | None:
        """How the attempt ended with this call; None if another is to be made."""
        opened, ledger = self._job.claim.opened, self._job.claim.hold.ledger
        ledger.append(Using(opened.token, turn.key.id))
        got = await self._post(_question(self._agent, turn, prompt, self._idle), turn)
        if isinstance(got, Outcome):
            return got
        if isinstance(got.answer, Answer):
            self._ring.succeeded(turn, got.headers, time.time())
            return _answered(self._agent, turn, got.answer, got)
        refused = without_key(got.answer, turn.key)
        trouble = self._last = self._ring.blame(turn, refused)
        self._ring.refused(turn, trouble, time.time())
        ledger.append(Using(opened.token))  # while it waits it uses none
        if trouble.kind is Kind.BAD:
            message = trouble.message
            return _failed(ERROR_KINDS[Kind.BAD], message, _asked(turn, got))
        if trouble.kind in (Kind.AGAIN, Kind.OVERLOAD):
            return await self._pause(trouble)
        return None  # the key rests: the next turn is another's

    async def _post(self, question: Question, turn: Turn) -> Got | Outcome:
        """What came; or how the attempt ended whose time was over before."""
        began, limit = time.monotonic(), asyncio.timeout(self._left)
        silence = asyncio.timeout(self._idle)
        try:
            async with limit, silence:
                return await post(self._http, question, self._put_off_of(silence))
        except TimeoutError:
            if silence.expired():
                return self._silent(turn)
            if not limit.expired():  # the machine's, which is an OSError
                raise
            return _timed_out(self._job.claim.opened.timeout, turn)
        finally:
            if self._left is not None:
                self._left -= time.monotonic() - began

    def _put_off_of(self, silence: asyncio.Timeout) -> Callable[[], None]:
        """What each sign of work does."""
        idle, clock = self._idle, asyncio.get_running_loop().time
        return lambda: silence.reschedule(clock() + idle) if idle else None

    def _silent(self, turn: Turn) -> Outcome:
        """Nothing came for too long; others learn that its endpoint is in trouble."""
        message = f"no sign of work for {duration(self._idle or 0.0)} (`idle_timeout`)"
        trouble = self._ring.blame(turn, unreachable(f"{turn.base_url}: {message}"))
        self._ring.refused(turn, trouble, time.time())
        asked = Asked(turn.model, turn.key.id)
        return Outcome(Why.TIMED_OUT, error=Error(IDLE, message), asked=asked)

    async def _pause(self, trouble: Trouble) -> Outcome | None:
        again = time.time() + self._patience.pause()
        if not self._patience.lasts(again):
            return _put_off(Later(again, "it is tried again then"), trouble)
        await _sleep_until(again)
        return None


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.time()))


def _question(agent: Agent, turn: Turn, prompt: str, idle: float | None) -> Question:
    return Question(
        format=_FORMATS[agent.kind],
        agent=agent,
        base_url=turn.base_url,
        secret=turn.key.secret,
        model=turn.model or "",
        prompt=prompt,
        idle=idle,
    )


# -- outcomes ---------------------------------------------------------------------


def _asked(turn: Turn, got: Got) -> Asked:
    told = turn.key.unless_told(request_id(got.headers))
    return Asked(model=turn.model, credential=turn.key.id, request_id=told)


def _failed(kind: str, message: str, asked: Asked | None = None) -> Outcome:
    return Outcome(Why.FAILED, error=Error(kind, message), asked=asked)


def _timed_out(timeout: float | None, turn: Turn) -> Outcome:
    error = Error("timeout", f"timed out after {timeout:g} s of calls")
    return Outcome(Why.TIMED_OUT, error=error, asked=Asked(turn.model, turn.key.id))


def _put_off(later: Later, last: Trouble | None) -> Outcome:
    """Given back until a key frees; the last refusal says more than that they rest."""
    kind = "rate_limited" if later.until else "credentials"  # which people can mend
    kind = kind if last is None else ERROR_KINDS[last.kind]
    message = later.why if last is None else f"{last.message}; {later.why}"
    error = Error(kind, message)
    return Outcome(Why.THROTTLED, error=error, not_before=later.until or 0.0)


def _value(text: str) -> msgspec.Raw | None:
    """The JSON that an answer is; None if it is none, or none that results can hold."""
    try:
        return judged(msgspec.json.decode(text)).value
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _answered(agent: Agent, turn: Turn, answer: Answer, got: Got) -> Outcome:
    value, fault = None, answer.fault
    if agent.output_schema is not None and fault is None:
        value = _value(answer.text)
        if value is None:
            fault = "the answer is not the JSON that `output_schema` asks for"
    model = turn.key.unless_told(answer.model) or turn.model
    asked = msgspec.structs.replace(_asked(turn, got), model=model)
    return Outcome(
        Why.SUCCEEDED if fault is None else Why.FAILED,
        error=Error("agent", fault) if fault else None,
        text=answer.text,
        value=value,
        usage=answer.usage,
        asked=asked,
    )
