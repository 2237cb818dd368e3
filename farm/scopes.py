"""The records that a call concerns: its key's, its pool's and its endpoint's.

    scopes.keys(provider)      the keys of this process, each with a record of its own
    scopes.turn(key, want)     -> Turn      what a call with a key would be, and count for
    scopes.records(turn)       -> Records   what is known of that now
    scopes.join(turn, organization, now)    its key's limits are those of all with it

A key's record is `<key's id>.<fingerprint>`: two hosts with different keys under one
number do not undo each other's state, and a new value starts afresh. What is used up
together is recorded together: in `pool-<provider>-<name>`, by what the environment or
the responses say, or with the key itself. An endpoint is known by its host.

Records are read without a lock (`farm.credentials`), and may be a moment old.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from farm import pace
from farm.agent import Agent
from farm.credentials import Change, Credentials
from farm.keys import Key, read_keys
from farm.project import Project
from farm.rest import ALL, Scope, changed

_URLS = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}
_TOLD = ("provider", "pool", "fingerprint", "endpoint")  # by the environment


class Want(msgspec.Struct, frozen=True):
    """What a call needs: whose key, for which model, where."""

    provider: str
    model: str | None = None
    base_url: str | None = None
    keyless: bool = False  #: whether it can do without one
    tells: bool = True  #: whether we learn how it fared; else it is not to probe


def want_of(agent: Agent) -> Want | None:
    """What a call of an agent needs; None for a command that takes no key of ours."""
    if agent.provider is None:
        return None
    keyless = not agent.is_http or agent.base_url is not None
    return Want(agent.provider, agent.model, agent.base_url, keyless=keyless)


class Turn(msgspec.Struct, frozen=True):
    """Leave to make one call, beginning at `at` (POSIX seconds)."""

    key: Key
    model: str | None
    base_url: str
    at: float
    pool: str  #: scopes that it counts for
    endpoint: str
    asked: float = 0.0  #: when it was given


class Records(NamedTuple):
    """All that may keep one call from going."""

    key: Scope
    pool: Scope  #: the key's own if it shares its limits with none
    endpoint: Scope


class Scopes:
    """The keys of this process's environment, and the records of them all."""

    def __init__(
        self, project: Project, environ: Mapping[str, str], writer: str
    ) -> None:
        self._shared = Credentials(project, writer)
        self._environ = environ
        self._keys: dict[str, list[Key]] = {}
        self._ids: dict[str, str] = {}  # of a key's record, by the key's own
        self._endpoints: dict[str, str] = {}  # the same, as others have recorded it

    @classmethod
    def as_recorded(cls, project: Project) -> Self:
        """The keys that workers have had, for who only looks: without their secrets."""
        scopes = cls(project, {}, "")
        found: dict[str, Scope] = {}
        for scope in scopes._shared.all():
            if scope.fingerprint:  # of two values the one that was written last counts
                found[scope.id.removesuffix(f".{scope.fingerprint}")] = scope
        for name, scope in found.items():
            key = Key(name, scope.provider, "", pool=scope.pool)
            scopes._keys.setdefault(scope.provider, []).append(key)
            scopes._ids[name] = scope.id
            if scope.endpoint:
                scopes._endpoints[name] = scope.endpoint
        return scopes

    # -- keys and calls ------------------------------------------------------

    def keys(self, provider: str) -> list[Key]:
        """The keys of a provider; ConfigError if one cannot be read."""
        if provider not in self._keys:
            found = read_keys(provider, self._environ)
            for key in found:
                self._introduce(key)
            self._keys[provider] = found
        return self._keys[provider]

    def _introduce(self, key: Key) -> None:
        """Give it a record of its own, so that people see it before its first call."""
        new = first_record(key, key.fingerprint(self._shared.salt()))
        told = {name: getattr(new, name) for name in _TOLD}
        self._ids[key.id] = new.id
        self._shared.update(new.id, lambda scope: changed(scope, **told))

    def turn(self, key: Key, want: Want) -> Turn:
        """What a call with this key would be; its time is not reserved."""
        # A key is good where its owner says; to send it elsewhere would give it away.
        url = key.base_url or want.base_url or _URLS.get(want.provider, "")
        return Turn(
            key=key,
            model=key.model or want.model,
            base_url=url.rstrip("/"),
            at=0.0,
            pool=self.pool(key),
            endpoint=self._endpoints.get(key.id) or _endpoint(url),
        )

    # -- records -------------------------------------------------------------

    def records(self, turn: Turn) -> Records:
        """What is known now of the key, the pool and the endpoint of a call."""
        ids = (self.id_of(turn.key), turn.pool, turn.endpoint)
        return Records(*map(self.read, ids))

    def id_of(self, key: Key) -> str:
        """The id of a key's own record."""
        return self._ids.get(key.id, key.id)

    def pool(self, key: Key) -> str:
        """Where its limits are kept: by what people or responses say, or its own."""
        known = self.read(self.id_of(key))
        return pool_of(changed(known, provider=key.provider, pool=key.pool))

    def read(self, scope: str) -> Scope:
        """A record as it lies there."""
        return self._shared.read(scope)

    def update(self, scope: str, change: Change) -> None:
        """Change a record under its lock (`Credentials.update`)."""
        self._shared.update(scope, change)

    def update_if_news(self, scope: str, change: Change) -> None:
        """The same, without a lock where what is known now would stay as it is."""
        known = self.read(scope)
        if change(known) is not known:
            self.update(scope, change)

    def join(self, turn: Turn, organization: str, now: float) -> None:
        """Let a key share the pace of its organization, once an answer names it."""
        name = _plain(organization)
        own, pool, _ = self.records(turn)
        if own.organization == name or turn.key.pool is not None or not turn.key.secret:
            return
        used = pool.pace(turn.model)
        self.update(own.id, lambda scope: changed(scope, organization=name))

        def change(scope: Scope) -> Scope:
            both = pace.joined(scope.pace(turn.model), used, now)
            return changed(scope, paces=scope.paces | {turn.model or ALL: both})

        self.update(self.pool(turn.key), change)


def first_record(key: Key, fingerprint: str) -> Scope:
    """What the environment tells of a key."""
    return Scope(
        id=f"{key.id}.{fingerprint}",
        provider=key.provider,
        pool=key.pool,
        fingerprint=fingerprint,
        endpoint=_endpoint(key.base_url) if key.base_url else None,
    )


def pool_of(key: Scope) -> str:
    """The id of the record where a key's limits are kept, by its own record."""
    name = key.pool or key.organization
    return f"pool-{key.provider}-{name}" if name else key.id


def endpoint_of(key: Scope) -> str | None:
    """The id of the record of a key's endpoint, where its agent names no other."""
    url = _URLS.get(key.provider)
    return key.endpoint or (_endpoint(url) if url else None)


def nobody(want: Want) -> Key:
    """In place of a key, where none is needed; its limits are those of one server."""
    name = f"{want.provider}-none"
    return Key(f"{name}-{_host(want.base_url or '')}", want.provider, "")


def _endpoint(url: str) -> str:
    return f"endpoint-{_host(url)}"


def _host(url: str) -> str:
    try:
        there = urlsplit(url).netloc
    except ValueError:  # an address that no call reaches either
        there = ""
    return _plain(there.rpartition("@")[2] or "none")


def _plain(text: str) -> str:
    """As a part of a file's name."""
    return re.sub("[^A-Za-z0-9._-]", "_", text)[:100]
