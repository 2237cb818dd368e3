"""How an agent's API is spoken to: one module for each kind of agent.

Each of them has the same five functions, all pure:

    url(base_url)                       where calls go
    headers(agent, secret)              beside those of every call
    body(agent, model, prompt)          what is sent, as one JSON object
    whole(body)                         -> Answer, of an answer that came in one piece
    Parts()                             an answer that comes in pieces: `take(event)`, `end()`

An `Answer` is what was said, whether or not it is what was wanted; `fault` says so. What
is no answer at all is `farm.trouble`'s business. Unreadable answers raise `NoAnswerError`.
"""

import msgspec

from farm.agent import Agent
from farm.result import Usage

USER_AGENT = "dirfarm"
BROKEN_OFF = "the stream broke off"
NO_MESSAGE = "it is no message"
NO_OBJECT = "it is no JSON object"
_MOST = 1 << 53  # of a count; JSON readers take no more for whole numbers


class NoAnswerError(Exception):
    """What came is not what this format's answers look like."""


class Answer(msgspec.Struct, frozen=True):
    """What an agent answered; `fault` is None if that is what was asked for."""

    text: str
    usage: Usage
    model: str | None = None
    fault: str | None = None


def key_header(agent: Agent, secret: str) -> dict[str, str]:
    """The key, as the agent's `auth` says; none for a server that wants none."""
    if not secret:
        return {}
    if agent.auth == "x-api-key":
        return {"x-api-key": secret}
    return {"authorization": f"Bearer {secret}"}


def dig(value: object, *path: str | int) -> object:
    """`value[path[0]][path[1]]...`, or None where that leads nowhere."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def number(value: object, *path: str | int) -> int:
    """A count at this place; 0 if there is none that can be meant."""
    found = dig(value, *path)
    return found if isinstance(found, int) and 0 <= found <= _MOST else 0


def text(value: object, *path: str | int) -> str:
    """A text at this place; empty if there is none."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""
