"""Prompts of one agent over HTTP, several at a time, in one worker.

    hold_calls(worker, first, agent)

A worker that takes such a prompt holds up to the agent's `concurrency` of them at once:
each is claimed, answered and committed as any other task (`farm.pipe`), in one event
loop in the main thread; what they wait for is the network. Meanwhile the worker takes
nothing else. It returns when none is left that it may take: none ready, a stop, a task
of another kind that goes first by its priority, or one that has waited for
`OTHERS_WAIT`; then those that are under way are ended first.

The heart beats in its own thread all the while. A ring of the bell (a stop, a cancel) is
an event of the loop.
"""

import asyncio
import math
import time
from contextlib import suppress

import httpx2

from farm import pipe
from farm.agent import Agent
from farm.asking import answer
from farm.claim import Claim
from farm.job import Job
from farm.post import client
from farm.result import CANCELLED, Error, Outcome
from farm.standing import Doomed, Ready
from farm.states import Why
from farm.worker import Worker

OTHERS_WAIT = (
    60.0  # seconds that tasks of another kind stand behind calls of their rank
)
_LOOK_EVERY = 1.0  # seconds between two looks for more, while there is room


def hold_calls(worker: Worker, first: Ready, agent: Agent) -> None:
    """Answer prompts of this agent until none is left to take."""
    asyncio.run(_Calls(worker, agent).run(first))
    worker.look_anew()  # what was passed over has its turn again


class _Calls:
    """The calls of one worker that are under way."""

    def __init__(self, worker: Worker, agent: Agent) -> None:
        self._worker = worker
        self._agent = agent
        self._jobs: dict[asyncio.Task[Outcome], Job] = {}
        self._something = asyncio.Event()
        self._others_since: float | None = None  # monotonic seconds
        self._saw_others = False  # since the last look that found nothing more
        self._passed = -math.inf  # highest priority of a task of another kind
        self._closing = False

    async def run(self, first: Ready) -> None:
        """Until none is under way and none is to be taken."""
        bell = self._worker.stop.bell
        loop = asyncio.get_running_loop()
        loop.add_reader(bell.fd, self._rung)
        try:
            async with client(self._agent.concurrency) as http:
                self._try(first, http)
                self._fill(http)
                while self._jobs:
                    await self._wait()
                    self._end_those_asked_for()
                    self._reap()
                    self._fill(http)
        finally:
            loop.remove_reader(bell.fd)

    def _rung(self) -> None:
        self._worker.stop.bell.drain()
        self._something.set()

    async def _wait(self) -> None:
        """Until a call is over, the bell rings, or it is time to look for more."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._something.wait(), _LOOK_EVERY)
        self._something.clear()

    # -- taking --------------------------------------------------------------

    def _fill(self, http: httpx2.AsyncClient) -> None:
        """Take more of our agent's prompts, best first, while there is room."""
        worker = self._worker
        if self._has_room():
            worker.look()
        while self._has_room():
            # Not `next_item`: it would look anew, and show the same others, for ever.
            item = worker.queue.next()
            if item is None:
                if not self._saw_others:
                    self._others_since = None
                self._saw_others = False
                return
            self._consider(item, http)

    def _consider(self, item: Ready | Doomed, http: httpx2.AsyncClient) -> None:
        if isinstance(item, Doomed):
            pipe.try_to_end(self._worker, item)
        elif pipe.http_agent(self._worker.settings, item) != self._agent:
            self._pass_over(item)
        elif item.look.id in self._ids():
            self._worker.queue.refused(item.look.id, time.monotonic())  # by us
        elif item.look.priority < self._passed:
            self._closing = True
        else:
            self._try(item, http)

    def _has_room(self) -> bool:
        """Whether one more may be taken."""
        worker, since = self._worker, self._others_since
        waited = since is not None and time.monotonic() - since > OTHERS_WAIT
        over = worker.stop.soon or worker.displaced or not worker.health.is_healthy()
        full = len(self._jobs) >= self._agent.concurrency
        return not (full or over or waited or self._closing)

    def _pass_over(self, item: Ready) -> None:
        self._saw_others = True
        self._passed = max(self._passed, item.look.priority)
        if self._others_since is None:
            self._others_since = time.monotonic()

    def _ids(self) -> set[str]:
        return {job.claim.id for job in self._jobs.values()}

    def _try(self, item: Ready, http: httpx2.AsyncClient) -> None:
        worker = self._worker
        with pipe.mishaps(worker, item.look.id):
            taken = pipe.take(worker, item)
            if isinstance(taken, Claim):
                with taken.hold:
                    self._begin(pipe.job_of(worker, taken), http)
            elif taken is not None:
                pipe.report(worker, taken)

    def _begin(self, job: Job, http: httpx2.AsyncClient) -> None:
        call = asyncio.create_task(_outcome(job, self._agent, http))
        call.add_done_callback(lambda _: self._something.set())
        self._jobs[call] = job
        self._tell_the_heart()

    # -- ending --------------------------------------------------------------

    def _end_those_asked_for(self) -> None:
        for call, job in self._jobs.items():
            if (job.stop.now or job.cancelled) and not call.cancelling():
                call.cancel()

    def _reap(self) -> None:
        worker = self._worker
        for call in [call for call in self._jobs if call.done()]:
            job = self._jobs.pop(call)
            taken = job.claim
            with pipe.mishaps(worker, taken.id), taken.hold:
                outcome = pipe.judged(worker, taken, call.result())
                pipe.report(worker, pipe.finish(worker, taken, outcome))
        self._tell_the_heart()

    def _tell_the_heart(self) -> None:
        opened = (job.claim.opened for job in self._jobs.values())
        self._worker.running = tuple(opened)


async def _outcome(job: Job, agent: Agent, http: httpx2.AsyncClient) -> Outcome:
    """How one call ended, whatever ended it."""
    timeout = job.claim.opened.timeout
    try:
        async with asyncio.timeout(timeout):
            return await answer(job, agent, http)
    except TimeoutError:
        error = Error("timeout", f"timed out after {timeout:g} s")
        return Outcome(Why.TIMED_OUT, error=error)
    except asyncio.CancelledError:
        if job.cancelled:
            return Outcome(Why.CANCELLED, error=CANCELLED)
        message = f"ended because its worker was told to stop ({job.stop.reason})"
        return Outcome(Why.DRAINED, error=Error("drained", message))
    except Exception as error:  # noqa: BLE001 - one odd task must not end the worker
        return pipe.unexpected(error)
