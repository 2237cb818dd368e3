"""One call to an agent's API over HTTP: a question in, an answer or a refusal out.

    async with client(most) as http:
        got = await post(http, question)

It never raises for what a server or a network does: that is a `Trouble` (`farm.trouble`).
Nothing is tried again here, and no redirect is followed: a key goes nowhere but where it
was sent. Cancel it like any coroutine.
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Any

import httpx2
import msgspec

from farm import trouble
from farm.agent import Agent
from farm.events import EventError, Events
from farm.formats import NO_OBJECT, USER_AGENT, Answer, NoAnswerError
from farm.trouble import Reply, Trouble

CONNECT = 15.0  # seconds until a connection stands
SILENCE = 600.0  # seconds between two bytes of an answer; a long one is thought about
_PING = "ping"  # an event that says no more than that the connection stands
_MOST_BYTES = 64 * 1024 * 1024  # of an answer, also of one that comes as a stream
_USER = re.compile("//[^/@ ]*@")  # in an address; a password may be there


class Question(msgspec.Struct, frozen=True):
    """What is asked, of whom, in which format (a module of `farm.formats`)."""

    format: ModuleType
    agent: Agent
    base_url: str
    secret: str
    model: str
    prompt: str
    idle: float | None = None  #: seconds that may pass between two signs of work

    def __repr__(self) -> str:
        return f"Question({self.model})"  # no secret, and no long prompt


class Got(msgspec.Struct, frozen=True):
    """What came, and the headers that came with it, in small letters."""

    answer: Answer | Trouble
    headers: Mapping[str, str]


def client(most: int) -> httpx2.AsyncClient:
    """A client for so many calls at once; proxies as the environment says."""
    return httpx2.AsyncClient(
        timeout=_timeout(None),
        limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
        headers={"user-agent": USER_AGENT},
    )


def no_matter() -> None:
    """Nobody waits for signs of work."""


def _timeout(idle: float | None) -> httpx2.Timeout:
    """Of a connection on which nothing comes, not even what is no sign of work."""
    silence = max(SILENCE, 2 * (idle or 0.0))
    return httpx2.Timeout(silence, connect=CONNECT, pool=None)


async def post(
    http: httpx2.AsyncClient, question: Question, sign: Callable[[], None] = no_matter
) -> Got:
    """Ask, and wait for the whole answer; `sign` is called for each sign of work."""
    form, agent = question.format, question.agent
    said = form.body(agent, question.model, question.prompt)
    headers: dict[str, str] = {}
    try:
        async with http.stream(
            "POST",
            form.url(question.base_url),
            content=msgspec.json.encode(said),
            headers={
                "content-type": "application/json",
                **form.headers(agent, question.secret),
            },
            timeout=_timeout(question.idle),
        ) as response:
            headers |= {name.lower(): text for name, text in response.headers.items()}
            answer = await _read(question, response, headers, sign)
            return Got(answer, headers)
    except (NoAnswerError, EventError) as error:
        words = f"{question.base_url} gave no answer: {error}"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        words = f"cannot reach {question.base_url}: {_words(error)}"
    return Got(trouble.unreachable(_USER.sub("//", words)), headers)


async def _read(
    question: Question,
    response: httpx2.Response,
    headers: Mapping[str, str],
    sign: Callable[[], None],
) -> Answer | Trouble:
    if not response.is_success:
        reply = Reply(response.status_code, headers, await _whole(response))
        return trouble.trouble(reply, time.time())
    if headers.get("content-type", "").lower().startswith("text/event-stream"):
        return await _parts(question, response, headers, sign)
    try:
        body = msgspec.json.decode(await _whole(response))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise NoAnswerError(NO_OBJECT)
    if _is_error(body):
        return trouble.in_stream(body, headers, time.time())
    answer: Answer = question.format.whole(body)
    return answer


async def _parts(
    question: Question,
    response: httpx2.Response,
    headers: Mapping[str, str],
    sign: Callable[[], None],
) -> Answer | Trouble:
    events, parts = Events(), question.format.Parts()
    async for chunk in _bounded(response):
        for event in events.feed(chunk):
            if _is_error(event):
                return trouble.in_stream(event, headers, time.time())
            if event.get("type") != _PING:
                sign()
            parts.take(event)
    answer: Answer = parts.end()
    return answer


async def _whole(response: httpx2.Response) -> bytes:
    return b"".join([chunk async for chunk in _bounded(response)])


async def _bounded(response: httpx2.Response) -> AsyncIterator[bytes]:
    """What comes, in one piece or as a stream; NoAnswerError where it does not end."""
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > _MOST_BYTES:
            raise NoAnswerError(f"it has more than {_MOST_BYTES} bytes")
        yield chunk


def _is_error(body: Mapping[str, Any]) -> bool:
    return bool(body.get("error"))  # some servers say null in every answer


def _words(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name
