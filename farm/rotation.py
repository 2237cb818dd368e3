"""API keys that take turns: the published pattern's object, alone or shared.

    state = APIRotationState()                     # ANTHROPIC_API_KEY_1, _2, ...
    key = state.get_current()                      # None: none can be used now
    if state.should_rotate(status, text):          # of a call that failed
        goes_on = state.rotate(text)

Alone it knows what it was told itself, until the process ends: `rotate` goes to the next
key, and a daily quota exhausts the one that met it.

`APIRotationState(project_dir=...)` is the same object over the records of a farm
(`farm.keyring`). What one process rotates away from rests for all of them, and for the
farm's workers; what workers have learnt keeps keys away here. There a refusal means what
it means to a worker (`farm.trouble`): a rate limit rests the key's pool for a minute, or
for as long as an error's body says; a spent quota rests it for a day, or until the date
that is told; a key that is not accepted is out until its value changes. `rotate` knows
the status if `should_rotate` was asked with the same words before.

`is_exhausted` is then what the folder says: spent, or not accepted. A key that merely
cools down is not handed out, and not exhausted. Who does not name the `model` that is
called, and whose key names none, rests for the rate limits of all models.

An object is for one thread. It reserves no turn and probes nothing: workers do.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from farm import circuit, rest
from farm.keyring import Keyring
from farm.keys import Key, read_keys
from farm.life import default_name
from farm.process import identify
from farm.project import Project
from farm.rest import ALL, Level, Rest
from farm.scopes import Scopes, Turn, Want
from farm.trouble import DAY, DEFAULT_REST, HOUR, Kind, Reply, Trouble, trouble
from farm.words import plain

_LIMITED = 429
_ROTATING = (_LIMITED, 401, 403)
_DAILY = "daily quota"
_MOST_READ, _MOST_SAID = 4000, 300  # letters of an error
_OUT = (Level.EXHAUSTED, Level.DISABLED)


@dataclass
class APICredential:
    """One key and where it is good. Its repr shows nothing of the key."""

    api_key: str = field(repr=False)
    base_url: str | None = None
    model: str | None = None
    is_exhausted: bool = False
    last_error: str | None = None  #: a sentence without any part of a key


class APIRotationState:
    """The keys of one provider, and whose turn it is."""

    def __init__(
        self,
        *,
        provider: str = "anthropic",
        project_dir: str | os.PathLike[str] | None = None,
        model: str | None = None,
    ) -> None:
        """The keys of this process's environment; ConfigError if one cannot be read."""
        self._shared = None
        if project_dir is None:
            keys = read_keys(provider, os.environ)
        else:
            self._shared = _Shared(Project.open(project_dir), provider, model)
            keys = self._shared.keys
        self._provider = provider
        self._credentials = [_credential(key) for key in keys]
        self._given: APICredential | None = None
        self._heard: tuple[int, str] | None = None
        self.current_index = 0  #: the current one is the first usable from here on

    @property
    def credentials(self) -> list[APICredential]:
        """All keys; shared ones as the folder knows them now."""
        if self._shared is not None:
            self._shared.tell(self._credentials, time.time())
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: list[APICredential]) -> None:
        self._credentials = credentials

    def get_current(self) -> APICredential | None:
        """A key that can be used now; None if there is none."""
        at = self._place()
        self._given = None if at is None else self._at(at)
        return self._given

    def rotate(self, error_message: str) -> bool:
        """Leave the current key because of this error; whether there is still one.

        RACE: another process may have put the current key to rest since it was handed
        out. The error is still this one's, and not that of the key which is next now.
        """
        current = self._given or self.get_current()
        if current is not None:
            self._leave(current, error_message)
            self.current_index = self._behind(current)
        return self.get_current() is not None

    def should_rotate(self, status_code: int, error_text: str) -> bool:
        """Whether another key may help against this answer."""
        self._heard = (status_code, error_text)
        return status_code in _ROTATING or "quota" in error_text.lower()

    # -- turns -------------------------------------------------------------------

    def _place(self) -> int | None:
        """Where the first usable key is, counted on from `current_index`."""
        known = self.credentials
        at = range(self.current_index, self.current_index + len(known))
        return next((place for place in at if self._is_usable(self._at(place))), None)

    def _at(self, place: int) -> APICredential:
        return self._credentials[place % len(self._credentials)]

    def _behind(self, current: APICredential) -> int:
        """The place after a key, counted on from `current_index`."""
        begin = self.current_index
        for place in range(begin, begin + len(self._credentials)):
            if self._at(place) is current:
                return place + 1
        return begin + 1  # somebody has taken it off the list

    def _is_usable(self, credential: APICredential) -> bool:
        if self._shared is not None and self._shared.rests(credential, time.time()):
            return False
        return not credential.is_exhausted

    def _leave(self, current: APICredential, error: str) -> None:
        status = self._heard[0] if self._heard and self._heard[1] == error else _LIMITED
        self._heard = None
        now = time.time()
        found = refusal(status, self._without_keys(error), now)
        current.last_error = found.message
        current.is_exhausted = current.is_exhausted or is_daily(error)
        if self._shared is not None:
            self._shared.refused(current, found, now)

    def _without_keys(self, text: str) -> str:
        """The text on one line, without any word that holds a part of one of our keys."""
        text = plain(text)
        if len(text) > _MOST_READ:  # a key may be cut there
            text = re.sub(r"\S*\Z", "", text[:_MOST_READ])
        for credential in self._credentials:
            text = Key("", self._provider, credential.api_key).hidden(text)
        return text


def _credential(key: Key) -> APICredential:
    return APICredential(key.secret, key.base_url, key.model)


# -- what an error means ----------------------------------------------------------


def is_daily(text: str) -> bool:
    """Whether it is said that a day's quota is used up."""
    return _DAILY in text.lower()


def refusal(status: int, text: str, now: float) -> Trouble:
    """What an error means for the key that met it; it always keeps it away for a time."""
    body = _json(text)
    told = body or {"error": {"message": text}}
    found = trouble(Reply(status, {}, msgspec.json.encode(told)), now)
    kind, until = found.kind, found.until
    if is_daily(text):
        kind, until = Kind.SPENT, until if kind is Kind.SPENT else None
    elif rest.rest_of(found, now) is None:
        kind, until = Kind.RATE, now + DEFAULT_REST
    if kind is Kind.SPENT and until is None:
        until = now + DAY
    return Trouble(kind, found.message if body else text[:_MOST_SAID], until=until)


def _json(text: str) -> Mapping[str, Any]:
    """The error as an API writes it; empty if it is other words."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}


# -- through the folder -----------------------------------------------------------


class _Shared:
    """What all processes know of these keys."""

    def __init__(self, project: Project, provider: str, model: str | None) -> None:
        writer = default_name(identify())
        self._scopes = Scopes(project, os.environ.copy(), writer)
        self._ring = Keyring(self._scopes)
        self.keys = self._scopes.keys(provider)
        self._by_secret = {key.secret: key for key in self.keys}
        self._want = Want(provider, model)

    def tell(self, credentials: Iterable[APICredential], now: float) -> None:
        """Put into each what is known of it now."""
        for credential in credentials:
            turn = self._turn(credential)
            if turn is None:
                continue
            there = self._rests(turn, now)
            credential.is_exhausted = any(one.level in _OUT for one in there)
            key, pool, _ = self._scopes.records(turn)
            last = max((key, pool), key=lambda scope: scope.last_error_at)
            credential.last_error = last.last_error or credential.last_error

    def rests(self, credential: APICredential, now: float) -> bool:
        """Whether it, its pool or its endpoint is better left alone."""
        turn = self._turn(credential)
        if turn is None:
            return False
        endpoint = self._scopes.records(turn).endpoint
        is_open = circuit.free_at(endpoint.circuit, now) > now
        return is_open or bool(self._rests(turn, now))

    def refused(self, credential: APICredential, found: Trouble, now: float) -> None:
        """Let everybody know what a key has met."""
        turn = self._turn(credential)
        if turn is None:
            return
        if turn.model is None and found.kind in (Kind.FORBIDDEN, Kind.NO_MODEL):
            # It may be good for other models than the one that nobody has named.
            found = msgspec.structs.replace(found, until=now + HOUR)
        self._ring.refused(turn, found, now)

    def _turn(self, credential: APICredential) -> Turn | None:
        """What a call with it counts for; None for a key that a program has added."""
        key = self._by_secret.get(credential.api_key)
        return None if key is None else self._scopes.turn(key, self._want)

    def _rests(self, turn: Turn, now: float) -> list[Rest]:
        key, pool, _ = self._scopes.records(turn)
        return [
            there
            for model, there in (*key.rests.items(), *pool.rests.items())
            if _concerns(model, there, turn.model) and not rest.ended(there, now)
        ]


def _concerns(model: str, there: Rest, wanted: str | None) -> bool:
    """Whether a rest for one model, or for all, keeps away calls for the wanted one."""
    if wanted is None and model != ALL:
        return there.level is Level.COOLING
    return model in (ALL, wanted)
