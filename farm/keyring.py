"""Which key a call takes, when it may begin, and what others learn of how it went.

    ring.ask(want, now)              -> Turn | Later    a key, and when to begin
    ring.later(want, now)            -> Later | None    the same question; reserves nothing
    ring.stands(turn, now)           -> bool    asked just before the call
    ring.succeeded(turn, headers, now)
    ring.blame(turn, trouble)        -> Trouble    the key's, or the task's own
    ring.refused(turn, trouble, now)

All processes of a project share one answer, through `farm.scopes`: who is refused makes
everybody rest, and who is given a turn has moved the pace for all. A turn is reserved
under the lock of its pool; the rest is read without one and may be a moment old, which
costs a refused call.

`Later` without a time means that only people can help: no key here, or all refused.
"""

import math
from collections.abc import Mapping

import msgspec

from farm import circuit, pace, rest
from farm.backoff import uniform
from farm.keys import Key
from farm.pace import Pace
from farm.rest import ALL, Rest, Scope, changed
from farm.scopes import Scopes, Turn, Want, nobody
from farm.trouble import Kind, Trouble, organization, per_minute
from farm.words import moment

MOST_INLINE = 60.0  #: seconds that a call may wait for its turn while it holds a worker
_TRIES = 8  # turns that others may take from under us before we ask again later
_SOON = 1.0  # seconds
_TOLD_EVERY = 60.0  # seconds between two notes that a key is well


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
    """The keys of a process, in turn; see the module's docstring."""

    def __init__(self, scopes: Scopes) -> None:
        self._scopes = scopes

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
        keys = self._scopes.keys(want.provider)
        if not keys and want.keyless:
            keys = [nobody(want)]
        seen = [self._look(key, want, now) for key in keys]
        if not seen:
            name = f"{want.provider.upper()}_API_KEY"
            return Later(None, f"it needs a key: set {name} where workers are started")
        best = min(seen, key=lambda one: (one.begin, uniform(0.0, 1.0)))
        if best.begin - now <= MOST_INLINE and best.free_at <= now:
            return best
        return Later(_ask_at(best, now), _sentence(seen, best, now))

    def _look(self, key: Key, want: Want, now: float) -> _Seen:
        turn = self._scopes.turn(key, want)
        own, pool, endpoint = self._scopes.records(turn)
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
        begin = max(free_at, pace.begin(pool.pace(turn.model), now))
        return _Seen(turn, free_at, begin, why)

    def spare(self, turn: Turn, want: Want, now: float) -> bool:
        """Whether another key than this turn's is free now."""
        others = (
            key for key in self._scopes.keys(want.provider) if key.id != turn.key.id
        )
        return any(self._look(key, want, now).free_at <= now for key in others)

    def stands(self, turn: Turn, now: float) -> bool:
        """Whether nobody was refused since it was given; else ask again.

        A turn may lie a minute ahead, and calls that go into a rest are all refused.
        """
        own, pool, endpoint = self._scopes.records(turn)
        if any(rest.is_news(s.rests, turn.model, turn.asked) for s in (own, pool)):
            return False
        known = endpoint.circuit
        return known.since < turn.asked or circuit.free_at(known, now) <= now

    def _reserve(self, turn: Turn, want: Want, now: float) -> Turn | None:
        """The same with its time, if it is still to be had; for a prober, alone."""
        found: list[float] = []

        def change(scope: Scope) -> Scope:
            found.clear()
            at = pace.begin(scope.pace(turn.model), now)
            if (
                rest.free_at(scope.rests, turn.model, now) > now
                or at - now > MOST_INLINE
            ):
                return scope
            found.append(at)
            paces = {turn.model or ALL: pace.reserved(scope.pace(turn.model), now)}
            tried = rest.probing(scope, turn.model, now) if want.tells else scope
            return changed(tried, paces=tried.paces | paces)

        self._scopes.update(turn.pool, change)
        if not found:
            return None
        given = msgspec.structs.replace(turn, at=found[0], asked=now)
        return given if not want.tells or self._admitted(given, now) else None

    def _admitted(self, turn: Turn, now: float) -> bool:
        """Whether its endpoint may be called; where it is tried, by us alone."""
        if self._scopes.read(turn.endpoint).circuit.until == 0.0:
            return True
        found: list[bool] = []

        def change(scope: Scope) -> Scope:
            found.append(circuit.free_at(scope.circuit, now) <= now)
            if not found[-1]:
                return scope
            return changed(scope, circuit=circuit.leased(scope.circuit, turn.at))

        self._scopes.update(turn.endpoint, change)
        return found[-1]

    # -- learning ------------------------------------------------------------

    def succeeded(self, turn: Turn, headers: Mapping[str, str], now: float) -> None:
        """The call was answered: what was known against it before it began is over."""
        limit = per_minute(headers)

        def well(scope: Scope) -> Scope:
            after = rest.cleared(scope, turn.model, turn.at)
            if after is scope and abs(now - scope.last_ok) < _TOLD_EVERY:
                return scope
            return changed(after, last_ok=now)

        def paced(scope: Scope) -> Scope:
            old = scope.pace(turn.model)
            new = pace.succeeded(pace.limited(old, limit, now) if limit else old)
            after = rest.cleared(scope, turn.model, turn.at)
            if new == old and after is scope:
                return scope
            return changed(after, paces=scope.paces | {model: new})

        model = turn.model or ALL
        for pool in self._pools(turn, organization(headers), now):
            self._scopes.update_if_news(pool, paced)
        self._scopes.update_if_news(self._scopes.id_of(turn.key), well)
        self._calm(turn, now)

    def _pools(self, turn: Turn, organization: str | None, now: float) -> list[str]:
        """Where a call counts: its pool, and the one that its answer names."""
        organization = turn.key.unless_told(organization)
        if organization is not None:
            self._scopes.join(turn, organization, now)
        return list(dict.fromkeys((turn.pool, self._scopes.pool(turn.key))))

    def _calm(self, turn: Turn, now: float) -> None:
        """Its endpoint has answered, whatever it said."""

        def calm(scope: Scope) -> Scope:
            return changed(
                scope, circuit=circuit.succeeded(scope.circuit, turn.at, now)
            )

        if not self._scopes.read(turn.endpoint).circuit.is_calm:
            self._scopes.update(turn.endpoint, calm)

    def blame(self, turn: Turn, trouble: Trouble) -> Trouble:
        """The same, or the task's own where no other key would help against it."""
        if trouble.kind is not Kind.NO_MODEL:
            return trouble
        keys = self._scopes.keys(turn.key.provider)
        places = {(key.model, key.base_url) for key in keys}
        if places - {(turn.key.model, turn.key.base_url)}:
            return trouble
        return msgspec.structs.replace(trouble, kind=Kind.BAD)

    def refused(self, turn: Turn, trouble: Trouble, now: float) -> None:
        """The call was refused: whoever shares what it met rests with it."""
        trouble = without_key(trouble, turn.key)
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
            slowed = _slowed(scope.pace(turn.model), turn, trouble, now)
            return changed(after, paces=after.paces | {turn.model or ALL: slowed})

        of_key = trouble.kind in (Kind.DEAD, Kind.FORBIDDEN, Kind.NO_MODEL)
        pools = self._pools(turn, trouble.organization, now)
        for scope in [self._scopes.id_of(turn.key)] if of_key else pools:
            self._scopes.update(scope, change)

    def _overloaded(self, turn: Turn, trouble: Trouble, now: float) -> None:
        def change(scope: Scope) -> Scope:
            after = circuit.failed(scope.circuit, turn.at, now, trouble.until)
            said = trouble.message
            return changed(scope, circuit=after, last_error=said, last_error_at=now)

        self._scopes.update(turn.endpoint, change)


def without_key(trouble: Trouble, key: Key) -> Trouble:
    """The same, if it quotes the key, without: it becomes a record, and a result."""
    return msgspec.structs.replace(
        trouble,
        message=key.hidden(trouble.message),
        request_id=key.unless_told(trouble.request_id),
        organization=key.unless_told(trouble.organization),
    )


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
