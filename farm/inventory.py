"""Every API key that is known here: how it stands, what keeps it from work, who uses it.

    take_stock(project, environ, now) -> Inventory      for `farm keys`
    meant(inventory, name)            -> list[str]      the records that a word means
    reset(project, scopes, now)       -> list[str]      those of them that rested

Known is a key with a record in `.farm/credentials/`, or in this environment. What rests
is often not the key itself: its pool does, or its endpoint. A view of a key says how it
stands by all three, and `by` names the record that holds it up; pools and endpoints have
views of their own, as have servers that need no key.

Two records with one id are two values of one key: the environment of some worker was
changed, or differs from another's. The one that was written last counts as in use, and
so does this environment's own; others are `old`.

`describe` is pure. To take stock takes no lock and writes nothing, and no view holds a
secret. How many attempts use a key is counted in the ledgers of what runs now: a
counter would be wrong after the first crash.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from farm import circuit, disk, rest
from farm.credentials import Credentials
from farm.crew import alive_ones, last_attempts
from farm.errors import ConfigError, UsageError
from farm.keys import Key, providers, read_keys
from farm.life import default_name
from farm.locate import did_you_mean
from farm.process import identify
from farm.project import Project
from farm.rest import ALL, Level, Rest, Scope
from farm.result import rfc3339
from farm.scopes import endpoint_of, first_record, pool_of
from farm.words import moment

_SEVERITY = list(Level)
_UNMARKED = "unmarked"  # in place of a fingerprint, before anybody has made the salt
_LATEST = 253402300799.0  # the last second of the year 9999


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """How something stands, and what keeps it from work."""

    state: Level = Level.OK
    until: str | None = None  #: RFC 3339; None while it rests: nobody knows
    tried_at: str | None = None  #: when one call may try all the same
    by: str | None = None  #: the record that keeps it from work
    why: str | None = None  #: a sentence


class View(Hold, frozen=True, kw_only=True):
    """A record; its own state holds for every model."""

    id: str
    models: dict[str, Hold]  #: what rests for one model only
    last_error: str | None
    last_error_at: str | None


class KeyView(View, frozen=True, kw_only=True):
    """A key, by all that may keep it from work."""

    provider: str
    pool: str | None
    fingerprint: str | None  #: None before the first worker has made the salt
    in_use: int  #: running attempts that use it now
    here: bool  #: whether this environment holds this very value
    old: bool  #: another value has taken its place


class Inventory(msgspec.Struct, frozen=True):
    """All keys, then what they share."""

    keys: list[KeyView]
    shared: list[View]
    faults: list[str]  #: why keys of this environment cannot be read

    @property
    def ids(self) -> list[str]:
        """What may be named."""
        return [*dict.fromkeys(view.id for view in (*self.keys, *self.shared))]


class Known(msgspec.Struct, frozen=True):
    """What `describe` looks at."""

    records: Mapping[str, Scope]
    written: Mapping[str, float]  #: when each record was, by the clock of its disk
    here: frozenset[str]  #: records of keys in this environment
    used: Mapping[str, int]  #: running attempts, by the key's id


# -- looking ----------------------------------------------------------------------


def take_stock(project: Project, environ: Mapping[str, str], now: float) -> Inventory:
    """Every key that is known in this project or to this environment."""
    credentials = _credentials(project)
    records = {scope.id: scope for scope in credentials.all()}
    written = {scope: credentials.written(scope) for scope in records}
    keys, faults = _keys_of(environ)
    salt = _salt(project)
    mine = [
        first_record(key, key.fingerprint(salt) if salt else _UNMARKED) for key in keys
    ]
    new = {scope.id: scope for scope in mine if scope.id not in records}
    here = frozenset(scope.id for scope in mine)
    known = Known(records | new, written, here, _used(project, now))
    keys_seen, shared = describe(known, now)
    return Inventory(keys_seen, shared, faults)


def _credentials(project: Project) -> Credentials:
    return Credentials(project, default_name(identify()))


def _salt(project: Project) -> bytes | None:
    """What fingerprints were made with; None if nobody has made one."""
    with suppress(OSError):
        return disk.read_file(project.salt_path(), disk.SMALL)
    return None


def _keys_of(environ: Mapping[str, str]) -> tuple[list[Key], list[str]]:
    keys, faults = [], []
    for provider in providers(environ):
        try:
            keys += read_keys(provider, environ)
        except ConfigError as error:
            faults.append(str(error))
    return keys, faults


def _used(project: Project, now: float) -> Mapping[str, int]:
    pasts = last_attempts(project)
    running = alive_ones(project, pasts, now)
    return Counter(
        past.using.credential
        for past in pasts
        if past.claimed.task in running
        and past.using is not None
        and past.using.credential is not None
    )


# -- describing -------------------------------------------------------------------


def describe(known: Known, now: float) -> tuple[list[KeyView], list[View]]:
    """The views of all keys, and of what they share."""
    every = sorted(known.records.values(), key=lambda scope: _by_number(scope.id))
    latest = _latest(known)
    keys = [_key_view(known, scope, latest, now) for scope in every if _is_key(scope)]
    others = [scope for scope in every if not _is_key(scope)]
    return keys, [_view(scope, now) for scope in others]


def _is_key(scope: Scope) -> bool:
    return bool(scope.fingerprint)


def _by_number(name: str) -> tuple[str, int, str]:
    """`anthropic-10` goes behind `anthropic-2`."""
    head, _, mark = name.partition(".")
    stem, _, number = head.rpartition("-")
    return (stem, int(number), mark) if number.isdecimal() else (head, 0, mark)


def key_id(scope: Scope) -> str:
    """What people call the key of a record: `anthropic-1`."""
    return scope.id.removesuffix(f".{scope.fingerprint}")


def _latest(known: Known) -> dict[str, str]:
    """By a key's id, the record that was written last."""
    keys = [scope for scope in known.records.values() if _is_key(scope)]
    keys.sort(key=lambda scope: (known.written.get(scope.id, 0.0), scope.id))
    return {key_id(scope): scope.id for scope in keys}


def _key_view(
    known: Known, key: Scope, latest: Mapping[str, str], now: float
) -> KeyView:
    name = key_id(key)
    is_latest = latest[name] == key.id
    empty = Scope()
    pool = known.records.get(pool_of(key), empty)
    endpoint = known.records.get(endpoint_of(key) or "", empty)
    parts = (key, endpoint) if pool.id == key.id else (key, pool, endpoint)
    whole, models = _holds(parts, now)
    last = max(parts, key=lambda scope: scope.last_error_at)
    return KeyView(
        **msgspec.structs.asdict(whole),
        id=name,
        models=models,
        last_error=last.last_error,
        last_error_at=_time(last.last_error_at) if last.last_error else None,
        provider=key.provider,
        pool=key.pool or key.organization,
        fingerprint=None if key.fingerprint == _UNMARKED else key.fingerprint,
        in_use=known.used.get(name, 0) if is_latest else 0,
        here=key.id in known.here,
        old=not is_latest and key.id not in known.here,
    )


def _view(scope: Scope, now: float) -> View:
    whole, models = _holds([scope], now)
    return View(
        **msgspec.structs.asdict(whole),
        id=scope.id,
        models=models,
        last_error=scope.last_error,
        last_error_at=_time(scope.last_error_at) if scope.last_error else None,
    )


def _holds(scopes: Iterable[Scope], now: float) -> tuple[Hold, dict[str, Hold]]:
    """What keeps all calls that need these away; then those for one model alone."""
    found: dict[str, list[tuple[float, Hold]]] = {}
    for scope in scopes:
        for model, there in scope.rests.items():
            if not rest.ended(there, now):
                held = (rest.until(there, now), _by_rest(scope, there, now))
                found.setdefault(model, []).append(held)
        opens = circuit.free_at(scope.circuit, now)
        if opens > now:
            held = (opens, _by_circuit(scope, opens, now))
            found.setdefault(ALL, []).append(held)
    worst = {model: _worst(held) for model, held in sorted(found.items())}
    return worst.pop(ALL, Hold()), worst


def _worst(held: list[tuple[float, Hold]]) -> Hold:
    return max(held, key=lambda one: (one[0], _SEVERITY.index(one[1].state)))[1]


def _by_rest(scope: Scope, there: Rest, now: float) -> Hold:
    said = f" ({there.said})" if there.said else ""
    tried_at = rest.free_at({ALL: there}, None, now)
    return Hold(
        state=there.level,
        until=_time(rest.until(there, now)),
        tried_at=_time(tried_at) if there.probe_at is not None else None,
        by=_name(scope),
        why=f"{rest.words(there, now)}{said}",
    )


def _by_circuit(scope: Scope, opens: float, now: float) -> Hold:
    said = f" ({scope.last_error})" if scope.last_error else ""
    return Hold(
        state=Level.COOLING,
        until=_time(opens),
        by=_name(scope),
        why=f"has an endpoint in trouble until {moment(opens, now)}{said}",
    )


def _name(scope: Scope) -> str:
    return key_id(scope) if _is_key(scope) else scope.id


def _time(at: float) -> str | None:
    return rfc3339(min(at, _LATEST)) if math.isfinite(at) else None


# -- resetting --------------------------------------------------------------------


def meant(inventory: Inventory, project: Project, name: str) -> list[str]:
    """The records that a word means: of a key all values, and their pools.

    UsageError, with the nearest word, if it means nothing that is known.
    """
    if name not in inventory.ids:
        near = did_you_mean(name, inventory.ids)
        raise UsageError(f"there is no key, pool or endpoint {name}{near}")
    found = []
    for scope in _credentials(project).all():
        if _name(scope) == name:
            found += [scope.id, pool_of(scope)] if _is_key(scope) else [scope.id]
    return [*dict.fromkeys(found)]


def reset(project: Project, scopes: Iterable[str], now: float) -> list[str]:
    """End the rests, circuits and lines of these; the records that had any.

    RACE: a call that was refused before may tell of it after this; then it rests again.
    """
    shared = _credentials(project)
    return [scope for scope in scopes if _was_reset(shared, scope, now)]


def _was_reset(shared: Credentials, scope: str, now: float) -> bool:
    found: list[bool] = []

    def change(old: Scope) -> Scope:
        new = rest.reset(old, now)
        found.append(new is not old)
        return new

    shared.update(scope, change)
    return found[-1]
