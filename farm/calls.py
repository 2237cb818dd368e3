"""Prompts of one agent over HTTP, several at a time, in one worker.

    hold_calls(worker, first, agent)

A worker that takes such a prompt holds up to the agent's `concurrency` of them at once:
each is claimed, answered and committed as any other task (`farm.pipe`), in one event
loop in the main thread; what they wait for is the network. Meanwhile the worker takes
nothing else. It returns when none is left that it may take, and those under way are over.

Tasks of another kind that stand before our prompts are overtaken, but by none of lower
priority, and for no longer than `OTHERS_WAIT`: then nothing more is taken, and when the
calls under way are over it is their turn. A task that somebody runs waits for nobody.

The heart beats in its own thread all the while. A ring of the bell (a stop, a cancel) is
an event of the loop. Nothing in the loop waits for the machine: while the disk takes
nothing, answers are kept with their locks, and no more is asked.
"""

import asyncio
import math
import resource
import time
from contextlib import suppress

import httpx2
import msgspec

from farm import ledger, life, pipe
from farm.agent import Agent
from farm.asking import answer
from farm.claim import Claim
from farm.job import Job, drained
from farm.life import Owner
from farm.post import client
from farm.result import CANCELLED, Outcome
from farm.standing import Doomed, Ready
from farm.states import Why
from farm.worker import Worker

OTHERS_WAIT = 60.0  # seconds for which tasks of another kind may be overtaken
_LOOK_EVERY = 1.0  # seconds between two looks for more, while there is room
_FILES_OF_A_CALL = 2  # its ledger and its connection
_OTHER_FILES = 64  # of a worker


def hold_calls(worker: Worker, first: Ready, agent: Agent) -> None:
    """Answer prompts of this agent until none is left to take."""
    worker.stop_watching()  # file events are for who has nothing to do
    calls, rest_for = _Calls(worker, agent), worker.rest_for
    worker.rest_for = calls.rest_for
    try:
        asyncio.run(calls.run(first))
    finally:
        worker.rest_for, worker.running = rest_for, ()
    worker.look_anew()  # what was passed over has its turn again


def most_at_once(concurrency: int, files: int) -> int:
    """How many calls fit into a process that may open so many files."""
    return max(1, min(concurrency, (files - _OTHER_FILES) // _FILES_OF_A_CALL))


class _Over(msgspec.Struct, frozen=True):
    """A call that is over and not committed yet."""

    claim: Claim
    outcome: Outcome
    at: float  #: POSIX seconds


class _Calls:
    """The calls of one worker that are under way."""

    def __init__(self, worker: Worker, agent: Agent) -> None:
        self._worker = worker
        self._agent = agent
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = most_at_once(agent.concurrency, files)
        self._claims: dict[str, Claim] = {}  # all whose lock we hold, by task
        self._jobs: dict[asyncio.Task[Outcome], Job] = {}
        self._over: list[_Over] = []
        self._something = asyncio.Event()
        self._rests_until = -math.inf  # monotonic seconds; the machine has failed us
        self._overtaken: Ready | None = None  # the best one in this look
        self._overtaken_since = math.inf  # monotonic seconds; by looks before, too

    async def run(self, first: Ready) -> None:
        """Until none is under way and none is to be taken."""
        bell = self._worker.stop.bell
        loop = asyncio.get_running_loop()
        loop.add_reader(bell.fd, self._rung)
        try:
            async with client(self._most) as http:
                self._try(first, http)
                self._fill(http)
                while self._claims:
                    await self._wait()
                    self._end_those_asked_for()
                    self._reap()
                    self._commit()
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

    def rest_for(self, seconds: float) -> None:
        """Take and commit nothing for so long; the calls under way go on."""
        self._rests_until = time.monotonic() + seconds

    def _rests(self) -> bool:
        return time.monotonic() < self._rests_until

    # -- taking --------------------------------------------------------------

    def _fill(self, http: httpx2.AsyncClient) -> None:
        """Take more of our agent's prompts, best first, while there is room."""
        worker = self._worker
        while self._has_room() and (item := self._next()) is not None:
            if isinstance(item, Doomed):
                pipe.try_to_end(worker, item)
            elif item.look.id in self._claims:
                by_us = (item.look.id, time.time(), time.monotonic())
                worker.queue.refused(*by_us)
            elif pipe.http_agent(worker.settings, item) != self._agent:
                self._pass_over(item)
            elif self._may_overtake(item):
                self._try(item, http)
            else:
                return

    def _has_room(self) -> bool:
        """Whether one more may be taken."""
        worker = self._worker
        over = worker.stop.soon or worker.displaced or not worker.health.is_healthy()
        return not (over or self._rests() or len(self._claims) >= self._most)

    def _next(self) -> Ready | Doomed | None:
        worker, looked_at = self._worker, self._worker.listed_at
        try:
            item = worker.next_known()
        except OSError as error:
            pipe.cannot_look(worker, error)
            return None
        if worker.listed_at != looked_at:  # a new look gives everything again
            if self._overtaken is None:
                self._overtaken_since = math.inf
            self._overtaken = None
        return item

    def _pass_over(self, item: Ready) -> None:
        if self._overtaken is not None:
            return
        tick = time.monotonic()
        if _somebody_runs(self._worker, item):
            self._worker.queue.refused(item.look.id, time.time(), tick)
            return
        self._overtaken = item
        self._overtaken_since = min(self._overtaken_since, tick)

    def _may_overtake(self, item: Ready) -> bool:
        """Whether it may go before the best of the tasks that were passed over."""
        if self._overtaken is None:
            return True
        waited = time.monotonic() - self._overtaken_since
        return (
            item.look.priority >= self._overtaken.look.priority
            and waited <= OTHERS_WAIT
        )

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
        self._claims[job.claim.id] = job.claim
        self._tell_the_heart()

    # -- ending --------------------------------------------------------------

    def _end_those_asked_for(self) -> None:
        for call, job in self._jobs.items():
            if (job.stop.now or job.cancelled) and not call.cancelling():
                call.cancel()

    def _reap(self) -> None:
        for call in [call for call in self._jobs if call.done()]:
            taken = self._jobs.pop(call).claim
            outcome = pipe.judged(self._worker, taken, call.result())
            self._over.append(_Over(taken, outcome, time.time()))

    def _commit(self) -> None:
        """Commit what is over; what the disk does not take is tried again later."""
        worker, waiting = self._worker, self._over
        self._over = []
        for one in waiting:
            if self._rests() and not worker.stop.now:
                self._over.append(one)
                continue
            del self._claims[one.claim.id]
            with pipe.mishaps(worker, one.claim.id), one.claim.hold:
                ending = pipe.finish_once(worker, one.claim, one.outcome, one.at)
                if ending is not None:
                    pipe.report(worker, ending)
                else:
                    self._claims[one.claim.id] = one.claim
                    self._over.append(one)
        self._tell_the_heart()

    def _tell_the_heart(self) -> None:
        self._worker.running = tuple(c.opened for c in self._claims.values())


def _somebody_runs(worker: Worker, item: Ready) -> bool:
    """Whether a living worker has it, as far as one can see without its lock."""
    path = worker.project.ledger_path(item.look.id)
    past = ledger.open_attempt(ledger.peek(path))
    if past is None:
        return False
    owner = past.claimed
    seen = life.owner_of(worker.project, owner.holder, owner.who, worker.life.name)
    return seen is Owner.ALIVE


async def _outcome(job: Job, agent: Agent, http: httpx2.AsyncClient) -> Outcome:
    """How one call ended, whatever ended it."""
    try:
        return await answer(job, agent, http)
    except asyncio.CancelledError:
        if job.cancelled:
            return Outcome(Why.CANCELLED, error=CANCELLED)
        return Outcome(Why.DRAINED, error=drained(job))
    except Exception as error:  # noqa: BLE001 - one odd task must not end the worker
        return pipe.unexpected(error)
