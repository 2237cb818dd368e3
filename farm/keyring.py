"""Which key a call takes, when it may begin, and what others learn of how it went.

    ring.ask(want, now)              -> Turn | Later    a key, and when to begin
    ring.later(want, now)            -> Later | None    the same question; reserves nothing
    ring.stands(turn, now)           -> bool    asked just before the call
    ring.succeeded(turn, headers, now)
    ring.refused(turn, trouble, now)
    ring.turn(key, want)             -> Turn    what a call would count for
    ring.records(turn)                          what is known of that

All processes of a project share one answer, through `farm.credentials`: who is refused
makes everybody rest, and who is given a turn has moved the pace for all. A turn is
reserved under the lock of its pool; the rest is read without one and may be a moment
old, which costs a refused call.

`Later` without a time means that only people can help: no key here, or all refused.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from farm import circuit, pace, rest
from farm.agent import Agent
from farm.backoff import uniform
from farm.credentials import Change, Credentials
from farm.keys import Key, read_keys
from farm.pace import Pace
from farm.project import Project
from farm.rest import ALL, Rest, Scope
from farm.trouble import Kind, Trouble, organization, per_minute
from farm.words import moment

MOST_INLINE = 60.0  #: seconds that a call may wait for its turn while it holds a worker
_TRIES = 8  # turns that others may take from under us before we ask again later
_SOON = 1.0  # seconds
_TOLD_EVERY = 60.0  # seconds between two notes that a key is well
_URLS = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}


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


class Later(msgspec.Struct, frozen=True):
    """No call now; `until` is POSIX seconds, None if no time will help."""

    until: float | None
    why: str


class Records(NamedTuple):
    """All that may keep one call from going."""

    key: Scope
    pool: Scope  #: the key's own if it shares its limits with none
    endpoint: Scope


class _Seen(msgspec.Struct, frozen=True):
    """One key and all that keeps it from being used now."""

    turn: Turn
    free_at: float  #: by its rests and its endpoint
    begin: float  #: by its pace, too
    why: str


class Keyring:
    """The keys of this process's environment, and what everybody knows of them."""

    def __init__(
        self, project: Project, environ: Mapping[str, str], writer: str
    ) -> None:
        self._shared = Credentials(project, writer)
        self._environ = environ
        self._keys: dict[str, list[Key]] = {}
        self._scopes: dict[str, str] = {}  # of a key: its id there, by its own
        self._endpoints: dict[str, str] = {}  # the same, as others have recorded it

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
        self._scopes[key.id] = new.id
        self._shared.update(new.id, lambda scope: _with(scope, **told))

    @classmethod
    def as_recorded(cls, project: Project) -> Self:
        """The keys that workers have had, for who only looks: without their secrets."""
        ring = cls(project, {}, "")
        found: dict[str, Scope] = {}
        for scope in ring._shared.all():
            if scope.fingerprint:  # of two values the one that was written last counts
                found[scope.id.removesuffix(f".{scope.fingerprint}")] = scope
        for name, scope in found.items():
            key = Key(name, scope.provider, "", pool=scope.pool)
            ring._keys.setdefault(scope.provider, []).append(key)
            ring._scopes[name] = scope.id
            if scope.endpoint:
                ring._endpoints[name] = scope.endpoint
        return ring

    # -- asking --------------------------------------------------------------

    def ask(self, want: Want, now: float) -> Turn | Later:
        """A key and the time to begin, reserved; or when to ask again, and why."""
        for _ in range(_TRIES):
            best = self._best(want, now)
            if isinstance(best, Later):
                return best
            turn = self._reserve(best.turn, want, now)
            if turn is not None:
                return turn
        return Later(now + _SOON, "others were quicker")

    def later(self, want: Want, now: float) -> Later | None:
        """Until when, and why, no key can be had; None if one can."""
        best = self._best(want, now)
        return best if isinstance(best, Later) else None

    def _best(self, want: Want, now: float) -> _Seen | Later:
        keys = self.keys(want.provider)
        if not keys and want.keyless:
            keys = [_nobody(want)]
        seen = [self._look(key, want, now) for key in keys]
        if not seen:
            name = f"{want.provider.upper()}_API_KEY"
            return Later(None, f"it needs a key: set {name} where workers are started")
        best = min(seen, key=lambda one: (one.begin, uniform(0.0, 1.0)))
        if best.begin - now <= MOST_INLINE and best.free_at <= now:
            return best
        return Later(_ask_at(best, now), _sentence(seen, best, now))

    def _look(self, key: Key, want: Want, now: float) -> _Seen:
        turn = self.turn(key, want)
        own, pool, endpoint = self.records(turn)
        by_circuit = circuit.free_at(endpoint.circuit, now) if want.tells else now
        rests = [scope.rests for scope in (own, pool)]
        by_rest, there = max(
            (
                (rest.free_at(each, turn.model, now, probe=want.tells), each)
                for each in rests
            ),
            key=lambda one: one[0],
        )
        free_at = max(by_rest, by_circuit)
        why = ""
        if by_rest > now and by_rest >= by_circuit:
            why = _why(key, rest.worst(there, turn.model, now), now)
        elif by_circuit > now:
            why = f"{key.id} has an endpoint in trouble until {moment(by_circuit, now)}"
            why += _in_brackets(endpoint.last_error)
        begin = max(free_at, pace.begin(_pace(pool, turn.model), now))
        return _Seen(turn, free_at, begin, why)

    def spare(self, turn: Turn, want: Want, now: float) -> bool:
        """Whether another key than this turn's is free now."""
        others = (key for key in self.keys(want.provider) if key.id != turn.key.id)
        return any(self._look(key, want, now).free_at <= now for key in others)

    def elsewhere(self, turn: Turn) -> bool:
        """Whether another key is for another model or place than this turn's."""
        mine = (turn.key.model, turn.key.base_url)
        keys = self.keys(turn.key.provider)
        return any((key.model, key.base_url) != mine for key in keys)

    def stands(self, turn: Turn, now: float) -> bool:
        """Whether nobody was refused since it was given; else ask again.

        A turn may lie a minute ahead, and calls that go into a rest are all refused.
        """
        own, pool, endpoint = self.records(turn)
        if any(rest.is_news(s.rests, turn.model, turn.asked) for s in (own, pool)):
            return False
        known = endpoint.circuit
        return known.since < turn.asked or circuit.free_at(known, now) <= now

    def turn(self, key: Key, want: Want) -> Turn:
        """What a call with this key would be; its time is not reserved."""
        # A key is good where its owner says; to send it elsewhere would give it away.
        url = key.base_url or want.base_url or _URLS.get(want.provider, "")
        return Turn(
            key=key,
            model=key.model or want.model,
            base_url=url.rstrip("/"),
            at=0.0,
            pool=self._pool(key),
            endpoint=self._endpoints.get(key.id) or _endpoint(url),
        )

    def records(self, turn: Turn) -> Records:
        """What is known now of the key, the pool and the endpoint of a call."""
        scopes = (self._scope(turn.key), turn.pool, turn.endpoint)
        return Records(*map(self._shared.read, scopes))

    def _scope(self, key: Key) -> str:
        return self._scopes.get(key.id, key.id)

    def _pool(self, key: Key) -> str:
        """Where its limits are kept: by what people or responses say, or its own."""
        known = self._shared.read(self._scope(key))
        return pool_of(_with(known, provider=key.provider, pool=key.pool))

    def _reserve(self, turn: Turn, want: Want, now: float) -> Turn | None:
        """The same with its time, if it is still to be had; for a prober, alone."""
        found: list[float] = []

        def change(scope: Scope) -> Scope:
            found.clear()
            at = pace.begin(_pace(scope, turn.model), now)
            if (
                rest.free_at(scope.rests, turn.model, now) > now
                or at - now > MOST_INLINE
            ):
                return scope
            found.append(at)
            paces = {turn.model or ALL: pace.reserved(_pace(scope, turn.model), now)}
            tried = rest.probing(scope, turn.model, now) if want.tells else scope
            return _with(tried, paces=tried.paces | paces)

        self._shared.update(turn.pool, change)
        if not found:
            return None
        given = msgspec.structs.replace(turn, at=found[0], asked=now)
        return given if not want.tells or self._admitted(given, now) else None

    def _admitted(self, turn: Turn, now: float) -> bool:
        """Whether its endpoint may be called; where it is tried, by us alone."""
        if self._shared.read(turn.endpoint).circuit.until == 0.0:
            return True
        found: list[bool] = []

        def change(scope: Scope) -> Scope:
            found.append(circuit.free_at(scope.circuit, now) <= now)
            if not found[-1]:
                return scope
            return _with(scope, circuit=circuit.leased(scope.circuit, turn.at))

        self._shared.update(turn.endpoint, change)
        return found[-1]

    # -- learning ------------------------------------------------------------

    def succeeded(self, turn: Turn, headers: Mapping[str, str], now: float) -> None:
        """The call was answered: what was known against it before it began is over."""
        limit = per_minute(headers)

        def well(scope: Scope) -> Scope:
            after = rest.cleared(scope, turn.model, turn.at)
            if after is scope and abs(now - scope.last_ok) < _TOLD_EVERY:
                return scope
            return _with(after, last_ok=now)

        def paced(scope: Scope) -> Scope:
            old = _pace(scope, turn.model)
            new = pace.succeeded(pace.limited(old, limit, now) if limit else old)
            after = rest.cleared(scope, turn.model, turn.at)
            if new == old and after is scope:
                return scope
            return _with(after, paces=scope.paces | {model: new})

        model = turn.model or ALL
        for pool in self._pools(turn, organization(headers), now):
            self._change(pool, paced)
        self._change(self._scope(turn.key), well)
        self._calm(turn, now)

    def _pools(self, turn: Turn, organization: str | None, now: float) -> list[str]:
        """Where a call counts: its pool, and the one that its answer names."""
        if organization is not None and turn.key.pool is None and turn.key.secret:
            self._join(turn, _plain(organization), now)
        return list(dict.fromkeys((turn.pool, self._pool(turn.key))))

    def _join(self, turn: Turn, organization: str, now: float) -> None:
        """Let a key share the pace of its organization, once it is known."""
        own = self._shared.read(self._scope(turn.key))
        if own.organization == organization:
            return
        used = _pace(self._shared.read(turn.pool), turn.model)
        self._shared.update(own.id, lambda s: _with(s, organization=organization))

        def change(scope: Scope) -> Scope:
            both = pace.joined(_pace(scope, turn.model), used, now)
            return _with(scope, paces=scope.paces | {turn.model or ALL: both})

        self._shared.update(self._pool(turn.key), change)

    def _calm(self, turn: Turn, now: float) -> None:
        """Its endpoint has answered, whatever it said."""

        def calm(scope: Scope) -> Scope:
            return _with(scope, circuit=circuit.succeeded(scope.circuit, turn.at, now))

        if not self._shared.read(turn.endpoint).circuit.is_calm:
            self._shared.update(turn.endpoint, calm)

    def refused(self, turn: Turn, trouble: Trouble, now: float) -> None:
        """The call was refused: whoever shares what it met rests with it."""
        said = turn.key.hidden(trouble.message)
        trouble = msgspec.structs.replace(trouble, message=said)
        if trouble.kind is Kind.OVERLOAD:
            self._overloaded(turn, trouble, now)
            return
        self._calm(turn, now)
        found = rest.rest_of(trouble, now)
        if found is None:
            return
        for_model = trouble.kind in (Kind.RATE, Kind.FORBIDDEN, Kind.NO_MODEL)
        model = turn.model if for_model else None

        def change(scope: Scope) -> Scope:
            after = rest.rested(scope, model, found, now)
            if trouble.kind is not Kind.RATE:
                return after
            slowed = _slowed(_pace(scope, turn.model), turn, trouble, now)
            return _with(after, paces=after.paces | {turn.model or ALL: slowed})

        of_key = trouble.kind in (Kind.DEAD, Kind.FORBIDDEN, Kind.NO_MODEL)
        pools = self._pools(turn, trouble.organization, now)
        for scope in [self._scope(turn.key)] if of_key else pools:
            self._shared.update(scope, change)

    def _overloaded(self, turn: Turn, trouble: Trouble, now: float) -> None:
        def change(scope: Scope) -> Scope:
            after = circuit.failed(scope.circuit, turn.at, now, trouble.until)
            said = trouble.message
            return _with(scope, circuit=after, last_error=said, last_error_at=now)

        self._shared.update(turn.endpoint, change)

    def _change(self, scope: str, change: Change) -> None:
        """Change a record only if what is known of it now would change."""
        known = self._shared.read(scope)
        if change(known) is not known:
            self._shared.update(scope, change)


_TOLD = ("provider", "pool", "fingerprint", "endpoint")  # by the environment


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


def _endpoint(url: str) -> str:
    return f"endpoint-{_host(url)}"


def _nobody(want: Want) -> Key:
    """In place of a key, where none is needed; its limits are those of one server."""
    name = f"{want.provider}-none"
    return Key(f"{name}-{_host(want.base_url or '')}", want.provider, "")


def _ask_at(best: _Seen, now: float) -> float | None:
    """When to ask again: before the line is empty, or its pace would be lost."""
    if math.isinf(best.begin):
        return None
    return max(best.free_at, best.begin - MOST_INLINE / 2, now + _SOON)


def _why(key: Key, found: Rest | None, now: float) -> str:
    """Short, for every task that waits says it; `farm keys` has the provider's words."""
    reason = found.reason if found and found.until is not None else None
    return f"{key.id} {rest.words(found, now)}{_in_brackets(reason)}"


def _in_brackets(said: str | None) -> str:
    return f" ({said})" if said else ""


def _slowed(old: Pace, turn: Turn, trouble: Trouble, now: float) -> Pace:
    told = pace.limited(old, trouble.per_minute, now)
    until = trouble.until or now
    return pace.refused(told, turn.asked, now, until, slower=trouble.slower)


def _sentence(seen: list[_Seen], best: _Seen, now: float) -> str:
    """Which key frees when."""
    if not best.why:
        return f"{best.turn.key.id} has its next turn at {moment(best.begin, now)}"
    return best.why if len(seen) == 1 else f"all {len(seen)} keys rest; {best.why}"


def _pace(scope: Scope, model: str | None) -> Pace:
    return scope.paces.get(model or ALL, Pace())


def _host(url: str) -> str:
    try:
        there = urlsplit(url).netloc
    except ValueError:  # an address that no call reaches either
        there = ""
    return _plain(there.rpartition("@")[2] or "none")


def _plain(text: str) -> str:
    """As a part of a file's name."""
    return re.sub("[^A-Za-z0-9._-]", "_", text)[:100]


def _with(scope: Scope, **told: Any) -> Scope:
    """The same with these; the very same if nothing differs."""
    if all(getattr(scope, name) == value for name, value in told.items()):
        return scope
    return msgspec.structs.replace(scope, **told)
