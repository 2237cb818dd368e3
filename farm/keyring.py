"""Which key a call takes, when it may begin, and what others learn of how it went.

    ring.ask(want, now)              -> Turn | Later    a key, and when to begin
    ring.later(want, now)            -> Later | None    the same question; reserves nothing
    ring.succeeded(turn, headers, now)
    ring.refused(turn, trouble, now)

All processes of a project share one answer, through `farm.credentials`: who is refused
makes everybody rest, and who is given a turn has moved the pace for all. A turn is
reserved under the lock of its pool; the rest is read without one and may be a moment
old, which costs a refused call.

`Later` without a time means that only people can help: no key here, or all refused.
"""

import math
import random
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from farm import circuit, pace, rest
from farm.credentials import Change, Credentials
from farm.keys import Key, read_keys
from farm.pace import Pace
from farm.project import Project
from farm.rest import ALL, Scope
from farm.trouble import Kind, Trouble, per_minute
from farm.words import moment

MOST_INLINE = 60.0  #: seconds that a call may wait for its turn while it holds a worker
_ORGANIZATION = "anthropic-organization-id"
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


class Turn(msgspec.Struct, frozen=True):
    """Leave to make one call, beginning at `at` (POSIX seconds)."""

    key: Key
    model: str | None
    base_url: str
    at: float
    pool: str  #: scopes that it counts for
    endpoint: str


class Later(msgspec.Struct, frozen=True):
    """No call now; `until` is POSIX seconds, None if no time will help."""

    until: float | None
    why: str


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
        mark = key.fingerprint(self._shared.salt())
        name = f"{key.id}.{mark}"
        self._scopes[key.id] = name

        def change(scope: Scope) -> Scope:
            told = {"provider": key.provider, "pool": key.pool, "fingerprint": mark}
            return _with(scope, **told)

        self._shared.update(name, change)

    # -- asking --------------------------------------------------------------

    def ask(self, want: Want, now: float) -> Turn | Later:
        """A key and the time to begin, reserved; or when to ask again, and why."""
        for _ in range(_TRIES):
            best = self._best(want, now)
            if isinstance(best, Later):
                return best
            turn = self._reserve(best.turn, now)
            if turn is not None:
                return turn
        return Later(now + _SOON, "others were quicker")

    def later(self, want: Want, now: float) -> Later | None:
        """Until when, and why, no key can be had; None if one can."""
        best = self._best(want, now)
        return best if isinstance(best, Later) else None

    def holds(self, turn: Turn, now: float) -> bool:
        """Whether nothing that others met since speaks against its call."""
        found = self._look(turn.key, _want_of(turn), now)
        return found.free_at <= now

    def _best(self, want: Want, now: float) -> _Seen | Later:
        keys = self.keys(want.provider)
        if not keys and want.keyless:
            keys = [Key(f"{want.provider}-none", want.provider, "")]
        seen = [self._look(key, want, now) for key in keys]
        if not seen:
            name = f"{want.provider.upper()}_API_KEY"
            return Later(
                None, f"no key: {name} is not set where this worker was started"
            )
        best = min(seen, key=lambda one: (one.begin, random.random()))  # noqa: S311 - no secret
        if best.begin - now <= MOST_INLINE and best.free_at <= now:
            return best
        until = None if math.isinf(best.begin) else best.begin
        return Later(until, _sentence(seen, best, now))

    def _look(self, key: Key, want: Want, now: float) -> _Seen:
        turn = self._turn(key, want)
        own, pool = self._shared.read(self._scope(key)), self._shared.read(turn.pool)
        endpoint = self._shared.read(turn.endpoint)
        by_circuit = circuit.free_at(endpoint.circuit, now)
        rests = [
            (scope, rest.free_at(scope.rests, turn.model, now)) for scope in (own, pool)
        ]
        scope, by_rest = max(rests, key=lambda one: one[1])
        free_at = max(by_rest, by_circuit)
        why = ""
        if free_at > now:
            found = rest.worst(scope.rests, turn.model, now)
            by_key = by_rest >= by_circuit and found is not None
            said = scope.last_error if by_key else endpoint.last_error
            how = (
                rest.words(found, now)
                if by_key
                else "has an endpoint that is in trouble"
            )
            why = f"{key.id} {how}" + (f" ({said})" if said else "")
        begin = max(free_at, pace.begin(_pace(pool, turn.model), now))
        return _Seen(turn, free_at, begin, why)

    def _turn(self, key: Key, want: Want) -> Turn:
        url = want.base_url or key.base_url or _URLS.get(want.provider, "")
        return Turn(
            key=key,
            model=key.model or want.model,
            base_url=url.rstrip("/"),
            at=0.0,
            pool=self._pool(key),
            endpoint=f"endpoint-{_host(url)}",
        )

    def _scope(self, key: Key) -> str:
        return self._scopes.get(key.id, key.id)

    def _pool(self, key: Key) -> str:
        """Where its limits are kept: by what people or responses say, or its own."""
        if key.pool is not None:
            return f"pool-{key.provider}-{key.pool}"
        own = self._scope(key)
        organization = self._shared.read(own).organization
        return f"pool-{key.provider}-{organization}" if organization else own

    def _reserve(self, turn: Turn, now: float) -> Turn | None:
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
            tried = rest.probing(scope, turn.model, now)
            return _with(tried, id=turn.pool, paces=tried.paces | paces)

        self._shared.update(turn.pool, change)
        if not found or not self._admitted(turn, now):
            return None
        return msgspec.structs.replace(turn, at=found[0])

    def _admitted(self, turn: Turn, now: float) -> bool:
        """Whether its endpoint may be called; where it is tried, by us alone."""
        if self._shared.read(turn.endpoint).circuit.until == 0.0:
            return True
        found: list[bool] = []

        def change(scope: Scope) -> Scope:
            found.append(circuit.free_at(scope.circuit, now) <= now)
            if not found[-1]:
                return scope
            return _with(scope, circuit=circuit.leased(scope.circuit, now))

        self._shared.update(turn.endpoint, change)
        return found[-1]

    # -- learning ------------------------------------------------------------

    def succeeded(self, turn: Turn, headers: Mapping[str, str], now: float) -> None:
        """The call was answered: what was known against it before it began is over."""
        limit = per_minute(headers)
        organization = headers.get(_ORGANIZATION)

        def well(scope: Scope) -> Scope:
            after = rest.cleared(scope, turn.model, turn.at)
            if after is scope and now - scope.last_ok < _TOLD_EVERY:
                return scope
            return _with(after, last_ok=now)

        def paced(scope: Scope) -> Scope:
            old = _pace(scope, turn.model)
            new = pace.succeeded(pace.limited(old, limit) if limit else old)
            after = rest.cleared(scope, turn.model, turn.at)
            if new == old and after is scope:
                return scope
            return _with(after, paces=scope.paces | {turn.model or ALL: new})

        def calm(scope: Scope) -> Scope:
            return _with(scope, circuit=circuit.succeeded(scope.circuit, turn.at, now))

        self._change(turn.pool, paced)
        self._change(self._scope(turn.key), well)
        if organization is not None and turn.key.pool is None:
            name = _plain(organization)
            self._change(self._scope(turn.key), lambda s: _with(s, organization=name))
        if not self._shared.read(turn.endpoint).circuit.is_calm:
            self._shared.update(turn.endpoint, calm)

    def refused(self, turn: Turn, trouble: Trouble, now: float) -> None:
        """The call was refused: whoever shares what it met rests with it."""
        found = rest.rest_of(trouble, now)
        if trouble.kind is Kind.OVERLOAD:
            self._shared.update(
                turn.endpoint,
                lambda scope: _with(
                    scope,
                    circuit=circuit.failed(scope.circuit, turn.at, now, trouble.until),
                    last_error=trouble.message,
                    last_error_at=now,
                ),
            )
        if found is None:
            return
        of_key = trouble.kind in (Kind.DEAD, Kind.FORBIDDEN, Kind.NO_MODEL)
        for_model = trouble.kind in (Kind.RATE, Kind.FORBIDDEN, Kind.NO_MODEL)
        model = turn.model if for_model else None

        def change(scope: Scope) -> Scope:
            after = rest.rested(scope, model, found, trouble.message, now)
            if trouble.kind is not Kind.RATE:
                return after
            slowed = pace.refused(
                _pace(scope, turn.model),
                now,
                trouble.until or now,
                slower=trouble.slower,
            )
            return _with(after, paces=after.paces | {turn.model or ALL: slowed})

        self._shared.update(self._scope(turn.key) if of_key else turn.pool, change)

    def _change(self, scope: str, change: Change) -> None:
        """Change a record only if what is known of it now would change."""
        known = self._shared.read(scope)
        if change(known) is not known:
            self._shared.update(scope, change)


def _want_of(turn: Turn) -> Want:
    return Want(turn.key.provider, turn.model, turn.base_url)


def _sentence(seen: list[_Seen], best: _Seen, now: float) -> str:
    """Which key frees when."""
    if not best.why:
        return f"{best.turn.key.id} has its next turn at {moment(best.begin, now)}"
    return best.why if len(seen) == 1 else f"all {len(seen)} keys rest; {best.why}"


def _pace(scope: Scope, model: str | None) -> Pace:
    return scope.paces.get(model or ALL, Pace())


def _host(url: str) -> str:
    parts = urlsplit(url)
    return _plain(parts.netloc.rpartition("@")[2] or "none")


def _plain(text: str) -> str:
    """As a part of a file's name."""
    return re.sub("[^A-Za-z0-9._-]", "_", text)[:100]


def _with(scope: Scope, **told: Any) -> Scope:
    """The same with these; the very same if nothing differs."""
    if all(getattr(scope, name) == value for name, value in told.items()):
        return scope
    return msgspec.structs.replace(scope, **told)
