"""`Provider`: a real HTTP server on loopback that answers as model providers do.

    with Provider() as provider:
        provider.add_key("a", secret, pool="acme", per_minute=600)
        provider.answer_with(ROWS["overloaded"], times=2, key="a")
        ...  # calls to provider.url
        assert provider.count(status=529) == 2

What a call gets is decided, counted and recorded in one step when it arrives: first
the key, then the request, then a planned answer, then the limit; `slow` and `hold` only
keep the answer back. A planned row takes no token; a planned answer with status 200
does, and stays planned while the limit refuses.
"""

import math
import secrets
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.provider.answers import Answer, Planned, Says, planned_for
from tests.provider.buckets import full_bucket, tightest, wait_for_all
from tests.provider.calls import OK, Call, Record, chosen, most_within
from tests.provider.forms import FORMS, Form
from tests.provider.keys import Key, Keyring
from tests.provider.replies import Asked, read_object, reply_to, status_of
from tests.provider.rows import ROWS, Row
from tests.provider.wire import Reply, Request, Server

PATIENCE = 20.0  # seconds, until a test that waits for calls fails


class Provider:
    """Serves from `with` to its end; every method may be called at any time."""

    def __init__(
        self,
        port: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        retry_after: str | None = None,
        names_pool: bool = True,
        log: Callable[[Call], None] | None = None,
    ) -> None:
        """`retry_after` of every refusal by a limit; None: until a token is there."""
        self._clock = clock
        self._retry_after = retry_after
        self._names_pool = names_pool
        self._deciding = threading.Lock()
        self._keys = Keyring()
        self._answers: list[Planned[Answer]] = []
        self._holds: list[Planned[threading.Event]] = []
        self._delay = 0.0
        self._gate = threading.Event()
        self._over = threading.Event()
        self._record = Record(log)
        self._server = Server(port, self._meet)
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self.release()
        self._server.stop()

    # -- who may call

    def add_key(
        self,
        label: str,
        secret: str,
        *,
        pool: str | None = None,
        per_minute: int | None = None,
        burst: float | None = None,
    ) -> None:
        """Let this key in, or give a key a new value.

        The pool (by default one of its own) has the limit of its first key, unless
        `limit_pool` says another.
        """
        pool = pool or label
        with self._deciding:
            now = self._clock()
            bucket = full_bucket(per_minute, burst, now)
            self._keys.add(secret, Key(label, pool, bucket))
            if not self._keys.has_pool(pool):
                self._keys.limit_pool(pool, per_minute, burst, now)

    def remove_key(self, label: str) -> None:
        """It is refused from now on, as any unknown key."""
        with self._deciding:
            self._keys.remove(label)

    def limit_pool(
        self, pool: str, per_minute: int | None, burst: float | None = None
    ) -> None:
        with self._deciding:
            self._keys.limit_pool(pool, per_minute, burst, self._clock())

    # -- what goes wrong

    def answer_with(
        self, answer: Answer, times: int | None = 1, key: str | None = None
    ) -> None:
        """The next calls (None: all), of this key or any, get this."""
        with self._deciding:
            self._answers.append(Planned(answer, times, key))

    def slow(self, seconds: float) -> None:
        """Every answer waits so long from now on."""
        self._delay = seconds

    def hold(self, times: int | None = None, key: str | None = None) -> None:
        """Answer these calls (None: all) only after `release`."""
        with self._deciding:
            self._holds.append(Planned(self._gate, times, key))

    def release(self) -> None:
        """What is held or stalled goes on, and nothing more is held."""
        with self._deciding:
            self._holds.clear()
            self._gate.set()
            if not self._over.is_set():
                self._gate = threading.Event()

    # -- what it got

    @property
    def calls(self) -> list[Call]:
        """In order of arrival."""
        return self._record.all()

    def count(
        self,
        status: int | None = None,
        key: str | None = None,
        pool: str | None = None,
    ) -> int:
        return len(chosen(self.calls, status=status, key=key, pool=pool))

    def wait_for_calls(self, number: int, timeout: float = PATIENCE) -> list[Call]:
        return self._record.wait_for(number, timeout)

    def most_within(
        self, seconds: float, key: str | None = None, pool: str | None = None
    ) -> int:
        """The most calls accepted in any window of this length."""
        accepted = chosen(self.calls, status=OK, key=key, pool=pool)
        return most_within(seconds, [call.at for call in accepted])

    # -- one call

    def _meet(self, request: Request) -> Reply:
        """Decide what it gets and record it; then wait, if waiting was asked for."""
        with self._deciding:
            now = self._clock()
            key = self._keys.find(request.secret)
            asked = self._asked(request, key)
            answer = self._decide(asked, key, now)
            limits = self._limit_headers(asked.form, key, now)
            reply = reply_to(answer, asked._replace(limit_headers=limits), self._gate)
            self._record.add(recorded(asked, key, reply.status, now))
            hold = planned_for(self._holds, key.label if key else None)
            gate = hold.use() if hold else None
        self._over.wait(self._delay)
        if gate:
            gate.wait()
        return reply

    def _asked(self, request: Request, key: Key | None) -> Asked:
        form = FORMS.get(request.path, FORMS["/v1/messages"])
        request_id = f"req_{secrets.token_hex(12)}"
        pool = key.pool if key and self._names_pool else None
        return Asked(
            form,
            request,
            read_object(request.raw),
            request_id,
            form.other_headers(request_id, pool),
            {},
        )

    def _decide(self, asked: Asked, key: Key | None, now: float) -> Answer:
        if asked.request.path not in FORMS:
            return ROWS["not_found"].saying("Not found")
        if key is None:
            return asked.form.unknown_key
        complaint = asked.form.complaint(asked.body, asked.request.headers)
        if complaint:
            return asked.form.bad_request.saying(complaint)
        plan = planned_for(self._answers, key.label)
        answer = plan.thing if plan else Says()
        if status_of(answer, wants_stream=asked.wants_stream) == OK:
            wait = wait_for_all(self._keys.buckets(key), now)
            if wait:
                return self._over_limit(asked.form, key, wait, now)
        return plan.use() if plan else answer

    def _over_limit(self, form: Form, key: Key, wait: float, now: float) -> Row:
        seconds = self._retry_after or str(max(1, math.ceil(wait)))
        row = form.over_limit.with_headers(retry_after=seconds)
        limits = self._limit_headers(form, key, now)
        return row._replace(headers=row.headers | limits)

    def _limit_headers(self, form: Form, key: Key | None, now: float) -> dict[str, str]:
        limits = tightest(self._keys.buckets(key), now) if key else None
        return form.limit_headers(limits, time.time()) if limits else {}


def recorded(asked: Asked, key: Key | None, status: int, at: float) -> Call:
    return Call(
        at=at,
        key=key.label if key else None,
        pool=key.pool if key else None,
        path=asked.request.path,
        status=status,
        request_id=asked.request_id,
        key_header=asked.request.key_header,
        headers=asked.request.headers,
        body=asked.body,
    )
