"""What rests, why, and until when: pure decisions on one record for each scope.

A scope is a key, a pool of keys that share their limits, or an endpoint; its record is
a file in `.farm/credentials/` (`farm.credentials`). A rest holds for one model or,
under the name "", for all. Severity: disabled > exhausted > cooling. Two rests are
merged by that, and `until` by max, so that the order of updates does not matter.
A success clears only what was known before its call began.

Times are POSIX seconds, since several hosts share them. A rest from the future (a
clock was set back) is none; an end that nobody can mean is an hour after its begin.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from farm.circuit import Circuit
from farm.pace import Pace
from farm.trouble import DAY, HOUR, LONGEST, Kind, Trouble
from farm.words import moment

VERSION = 1
CLOCK_SLACK = 60.0  # seconds by which hosts' clocks may differ
ALL = ""  #: a rest or a pace for every model


class Level(StrEnum):
    """How a scope stands; the word in `farm keys`."""

    OK = "ok"
    COOLING = "cooling"  #: until a time
    EXHAUSTED = "exhausted"  #: until a date, or nobody knows; probed
    DISABLED = "disabled"  #: until somebody does something


_SEVERITY = list(Level)
_LEVELS = {
    Kind.RATE: Level.COOLING,
    Kind.SPENT: Level.EXHAUSTED,
    Kind.HELD: Level.DISABLED,
    Kind.DEAD: Level.DISABLED,
    Kind.FORBIDDEN: Level.DISABLED,
    Kind.NO_MODEL: Level.DISABLED,
}


class Rest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why nothing goes to a scope, and until when."""

    level: Level
    reason: Kind
    since: float
    until: float | None = None  #: None: nobody knows
    probe_at: float | None = None  #: one call may try then, all the same
    probe_every: float = HOUR
    said: str = ""  #: what the provider said, for people


class Scope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of one key, pool or endpoint. It never holds a secret."""

    version: int = VERSION
    id: str = ""
    provider: str = ""
    pool: str | None = None
    fingerprint: str = ""
    endpoint: str | None = None  #: of a key that is good at one place only
    organization: str | None = None  #: as responses name it
    rests: dict[str, Rest] = {}  #: by model
    paces: dict[str, Pace] = {}  #: by model
    circuit: Circuit = Circuit()
    last_error: str | None = None
    last_error_at: float = 0.0
    last_ok: float = 0.0
    generation: int = 0  #: how often it was written

    def pace(self, model: str | None) -> Pace:
        """How fast calls for a model may follow each other."""
        return self.paces.get(model or ALL, Pace())


def changed(scope: Scope, **told: Any) -> Scope:
    """The same with these; the very same if nothing differs."""
    if all(getattr(scope, name) == value for name, value in told.items()):
        return scope
    return msgspec.structs.replace(scope, **told)


def rest_of(trouble: Trouble, now: float) -> Rest | None:
    """The rest that a refusal brings to a key or pool; None for other troubles."""
    if trouble.kind not in _LEVELS:
        return None
    level = _LEVELS[trouble.kind]
    # A wrong header must not keep a key away for weeks.
    is_long = trouble.until is not None and trouble.until - now > trouble.probe_every
    probed = level is Level.EXHAUSTED or (level is Level.COOLING and is_long)
    return Rest(
        level,
        trouble.kind,
        since=now,
        until=trouble.until,
        probe_at=now + trouble.probe_every if probed else None,
        probe_every=trouble.probe_every,
        said=trouble.message,
    )


def merged(old: Rest | None, new: Rest, now: float) -> Rest:
    """What holds when both were said; the order does not matter."""
    if old is None or ended(old, now):
        return new
    if ended(new, now):
        return old
    if old.level is not new.level:
        return max(old, new, key=lambda rest: _SEVERITY.index(rest.level))
    return msgspec.structs.replace(
        max(old, new, key=lambda one: (one.since, one.reason, one.said)),
        until=_later(old.until, new.until),
        probe_at=_later(old.probe_at, new.probe_at),
        probe_every=max(old.probe_every, new.probe_every),
    )


def _later(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def until(rest: Rest, now: float) -> float:
    """When it ends by itself; infinite if nobody knows."""
    if rest.since > now + CLOCK_SLACK:
        return now
    if rest.until is None:
        return math.inf
    is_meant = rest.until <= rest.since + LONGEST + CLOCK_SLACK
    return rest.until if is_meant else rest.since + HOUR


def ended(rest: Rest, now: float) -> bool:
    """Whether it is over by time."""
    return until(rest, now) <= now


def free_at(
    rests: Mapping[str, Rest], model: str | None, now: float, *, probe: bool = True
) -> float:
    """When the next call for a model may go, if wanted to probe; infinite for never."""
    when = _free_at if probe else until
    return max((when(rest, now) for rest in _for(rests, model)), default=now)


def _free_at(rest: Rest, now: float) -> float:
    return max(now, min(until(rest, now), _probe_at(rest, now)))


def _probe_at(rest: Rest, now: float) -> float:
    if rest.probe_at is None:
        return math.inf
    return max(rest.probe_at, now) if rest.probe_at <= now + DAY + CLOCK_SLACK else now


def _for(rests: Mapping[str, Rest], model: str | None) -> list[Rest]:
    """Those that matter for a model.

    Who does not say which it will call had better not meet the limit of any; that one
    model is not to be had says nothing of the others.
    """
    if model is None:
        known = rests.items()
        return [r for m, r in known if m == ALL or r.level is not Level.DISABLED]
    return [rests[name] for name in (ALL, model) if name in rests]


def worst(rests: Mapping[str, Rest], model: str | None, now: float) -> Rest | None:
    """The rest that keeps calls for a model away for the longest; None if none does."""
    there = [rest for rest in _for(rests, model) if not ended(rest, now)]
    return max(there, key=lambda rest: _free_at(rest, now), default=None)


def rested(scope: Scope, model: str | None, rest: Rest, now: float) -> Scope:
    """A scope after a refusal; `model` None for all of them."""
    name = model or ALL
    kept = {m: r for m, r in scope.rests.items() if not ended(r, now)}
    return msgspec.structs.replace(
        scope,
        rests=kept | {name: merged(kept.get(name), rest, now)},
        last_error=rest.said,
        last_error_at=now,
    )


def is_news(rests: Mapping[str, Rest], model: str | None, asked: float) -> bool:
    """Whether a rest began since a call for a model got its turn."""
    return any(rest.since >= asked for rest in _for(rests, model))


def probing(scope: Scope, model: str | None, now: float) -> Scope:
    """A scope of which one call tries whether it is still exhausted: no second one."""
    probed = {
        name: msgspec.structs.replace(rest, probe_at=now + rest.probe_every)
        for name, rest in scope.rests.items()
        if name in (ALL, model) and rest.probe_at is not None and not ended(rest, now)
    }
    return changed(scope, rests=scope.rests | probed)


def cleared(scope: Scope, model: str | None, began: float) -> Scope:
    """A scope after a success: what was known before its call began is over.

    RACE: a call that began before a refusal may succeed after it, and says nothing.
    """
    kept = {
        name: rest
        for name, rest in scope.rests.items()
        if name not in (ALL, model) or rest.since > began
    }
    return changed(scope, rests=kept)


def reset(scope: Scope, now: float) -> Scope:
    """A scope of which somebody says that nothing keeps it from work any more.

    The next call may begin at once; how fast calls may follow each other was learnt
    and stays, as does the last error.
    """
    free = {
        model: msgspec.structs.replace(pace, tat=min(pace.tat, now))
        for model, pace in scope.paces.items()
    }
    return changed(scope, rests={}, circuit=Circuit(), paces=free)


_HELP = {
    Kind.DEAD: "is not accepted: give it another value",
    Kind.FORBIDDEN: "has no permission for this model",
    Kind.NO_MODEL: "does not know this model",
    Kind.HELD: "is on hold: ask its provider",
}


def words(rest: Rest | None, now: float) -> str:
    """A rest for people, to follow a key's name."""
    if rest is None or ended(rest, now):
        return "is ok"
    if rest.level is Level.DISABLED:
        return _HELP.get(rest.reason, "is disabled")
    end = until(rest, now)
    told = "nobody knows when" if math.isinf(end) else moment(end, now)
    probe_at = _probe_at(rest, now)
    probe = "" if math.isinf(probe_at) else f", tried again at {moment(probe_at, now)}"
    if rest.level is Level.COOLING:
        return f"cools down until {told}{probe}"
    return f"has spent what it may until {told}{probe}"
