"""What is known of every key, for people."""

import secrets
from pathlib import Path

import msgspec
import pytest

from farm.circuit import Circuit
from farm.credentials import Credentials
from farm.errors import UsageError
from farm.inventory import (
    Inventory,
    KeyView,
    Known,
    View,
    describe,
    meant,
    reset,
    take_stock,
)
from farm.keyring import Keyring
from farm.ledger import Claimed, Ledger, Using
from farm.life import Life
from farm.pace import Pace
from farm.project import Project
from farm.rest import Level, Rest, Scope
from farm.scopes import Scopes, Turn, Want
from farm.states import Why
from farm.trouble import HOUR, Kind, Trouble
from tests import attempts
from tests.lives import FOREIGN, lay_life_file

NOW = 1_000_000_000.0
WANT = Want("acme", "big", base_url="https://acme.example")
COOLING = Rest(Level.COOLING, Kind.RATE, NOW, NOW + 60, said="slow down")
SPENT = Rest(Level.EXHAUSTED, Kind.SPENT, NOW, None, NOW + HOUR, said="no money")
DEAD = Rest(Level.DISABLED, Kind.DEAD, NOW, said="dead key (401)")


def key(name: str = "acme-1", mark: str = "aaaaaaaaaaaa", **told: object) -> Scope:
    known = Scope(id=f"{name}.{mark}", provider="acme", fingerprint=mark)
    return msgspec.structs.replace(known, **told)


def look(
    *scopes: Scope, here: frozenset[str] = frozenset(), **used: int
) -> tuple[list[KeyView], list[View]]:
    """The views of records that were written in this order."""
    records = {scope.id: scope for scope in scopes}
    written = {scope.id: float(n) for n, scope in enumerate(scopes) if scope.provider}
    names = {name.replace("_", "-"): count for name, count in used.items()}
    return describe(Known(records, written, here, names), NOW)


def one(*scopes: Scope) -> KeyView:
    [view], _ = look(*scopes)
    return view


# -- how a key stands -------------------------------------------------------------------


def test_of_a_key_without_trouble_all_is_ok() -> None:
    view = one(key(pool="ours"))

    assert (view.id, view.provider, view.pool) == ("acme-1", "acme", "ours")
    assert view.fingerprint == "aaaaaaaaaaaa"
    assert (view.state, view.until, view.by, view.why) == (Level.OK, None, None, None)
    assert (view.models, view.in_use, view.last_error) == ({}, 0, None)


@pytest.mark.parametrize("rest", [COOLING, SPENT, DEAD], ids=lambda rest: rest.level)
def test_a_key_stands_as_its_rest_says(rest: Rest) -> None:
    view = one(key(rests={"": rest}))

    assert (view.state, view.by) == (rest.level, "acme-1")
    assert view.why is not None
    assert view.why.endswith(f"({rest.said})")


def test_times_are_told_as_far_as_they_are_known() -> None:
    cooling, spent = (one(key(rests={"": rest})) for rest in (COOLING, SPENT))

    assert (cooling.until, cooling.tried_at) == ("2001-09-09T01:47:40.000Z", None)
    assert (spent.until, spent.tried_at) == (None, "2001-09-09T02:46:40.000Z")


def test_what_is_over_is_not_told() -> None:
    over = msgspec.structs.replace(COOLING, since=NOW - 60, until=NOW)
    view = one(key(rests={"": over, "big": over}))

    assert (view.state, view.models) == (Level.OK, {})


def test_what_holds_for_one_model_is_told_of_that_model() -> None:
    view = one(key(rests={"big": DEAD, "small": COOLING}))

    assert view.state is Level.OK
    assert {model: hold.state for model, hold in view.models.items()} == {
        "big": Level.DISABLED,
        "small": Level.COOLING,
    }


@pytest.mark.parametrize("names", [{"pool": "ours"}, {"organization": "ours"}])
def test_a_key_rests_with_its_pool(names: dict[str, str]) -> None:
    pool = Scope(id="pool-acme-ours", rests={"": SPENT, "big": COOLING})
    [view], [shared] = look(key(**names), pool)

    assert (view.state, view.by, view.pool) == (
        Level.EXHAUSTED,
        "pool-acme-ours",
        "ours",
    )
    assert view.models["big"].by == "pool-acme-ours"
    assert (shared.id, shared.state) == ("pool-acme-ours", Level.EXHAUSTED)


def test_a_key_rests_with_its_endpoint() -> None:
    opened = Circuit(since=NOW, until=NOW + 60)
    name = "endpoint-acme.example"
    endpoint = Scope(
        id=name, circuit=opened, last_error="overload (529)", last_error_at=NOW
    )
    [view], [shared] = look(key(endpoint=name), endpoint)

    assert (view.state, view.by) == (Level.COOLING, "endpoint-acme.example")
    assert (view.until, view.last_error) == (
        "2001-09-09T01:47:40.000Z",
        "overload (529)",
    )
    assert (shared.id, shared.state) == ("endpoint-acme.example", Level.COOLING)


@pytest.mark.parametrize("rest", [COOLING, SPENT], ids=lambda rest: rest.level)
def test_of_all_that_rests_what_lasts_longest_is_told(rest: Rest) -> None:
    pool = Scope(id="pool-acme-ours", rests={"": DEAD})
    view = one(key(pool="ours", rests={"": rest}), pool)

    assert (view.state, view.by) == (Level.DISABLED, "pool-acme-ours")


def test_the_last_error_of_key_pool_and_endpoint_is_told() -> None:
    pool = Scope(id="pool-acme-ours", last_error="newer", last_error_at=NOW)
    own = key(pool="ours", last_error="older", last_error_at=NOW - 1)
    view = one(own, pool)

    assert (view.last_error, view.last_error_at) == (
        "newer",
        "2001-09-09T01:46:40.000Z",
    )


def test_keys_are_listed_by_number() -> None:
    views, _ = look(*(key(f"acme-{number}") for number in (10, 9, 1)), key("acme"))

    assert [view.id for view in views] == ["acme", "acme-1", "acme-9", "acme-10"]


# -- two values of one key -----------------------------------------------------------------


def test_of_two_values_the_one_that_was_written_last_is_in_use() -> None:
    views, _ = look(key(mark="b" * 12), key(), acme_1=3)

    assert [(view.fingerprint, view.old, view.in_use) for view in views] == [
        ("a" * 12, False, 3),
        ("b" * 12, True, 0),
    ]


def test_a_value_that_is_in_this_environment_is_not_old() -> None:
    views, _ = look(key(mark="b" * 12), key(), here=frozenset({f"acme-1.{'b' * 12}"}))

    assert [(view.here, view.old) for view in views] == [(False, False), (True, False)]


# -- looking -------------------------------------------------------------------------------


@pytest.fixture
def secret() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def environ(secret: str) -> dict[str, str]:
    return {
        "ACME_API_KEY_1": f"{secret}1",
        "ACME_API_KEY_2": f"{secret}2",
        "ACME_POOL_1": "ours",
        "ACME_POOL_2": "ours",
        "ACME_BASE_URL": "https://acme.example",
    }


@pytest.fixture
def ring(project: Project, environ: dict[str, str]) -> Keyring:
    """The keys of a worker."""
    return Keyring(Scopes(project, environ, "ada"))


def refuse(ring: Keyring, kind: Kind, times: int = 1) -> None:
    """A worker's calls are refused now."""
    turns = [ring.ask(WANT, NOW) for _ in range(times)]
    for turn in turns:
        assert isinstance(turn, Turn), turn
        ring.refused(turn, Trouble(kind, f"{kind} (400)"), NOW)


def test_keys_that_nobody_has_used_are_known_by_the_environment(
    project: Project, environ: dict[str, str]
) -> None:
    stock = take_stock(project, environ, NOW)

    assert [(view.id, view.here, view.old) for view in stock.keys] == [
        ("acme-1", True, False),
        ("acme-2", True, False),
    ]
    assert [view.fingerprint for view in stock.keys] == [None, None]
    assert not list(Path(project.credentials).iterdir())


def test_keys_that_workers_have_used_are_known_without_the_environment(
    project: Project, ring: Keyring
) -> None:
    refuse(ring, Kind.SPENT)
    stock = take_stock(project, {}, NOW)

    assert [(view.id, view.here, view.state) for view in stock.keys] == [
        ("acme-1", False, Level.EXHAUSTED),
        ("acme-2", False, Level.EXHAUSTED),
    ]
    assert stock.ids == ["acme-1", "acme-2", "pool-acme-ours"]


def test_a_key_in_both_is_told_once(
    project: Project, environ: dict[str, str], ring: Keyring
) -> None:
    refuse(ring, Kind.SPENT)
    stock = take_stock(project, environ, NOW)

    assert [(view.id, view.here) for view in stock.keys] == [
        ("acme-1", True),
        ("acme-2", True),
    ]
    assert all(len(view.fingerprint or "") == 12 for view in stock.keys)


def test_the_endpoint_of_a_key_is_known_from_its_record(
    project: Project, ring: Keyring
) -> None:
    refuse(ring, Kind.OVERLOAD, times=5)

    assert [view.by for view in take_stock(project, {}, NOW).keys] == [
        "endpoint-acme.example"
    ] * 2


def test_a_key_that_cannot_be_read_hides_no_other(
    project: Project, environ: dict[str, str]
) -> None:
    stock = take_stock(project, environ | {"ODD_API_KEY": "a b"}, NOW)

    assert len(stock.keys) == 2
    assert [fault.split()[0] for fault in stock.faults] == ["ODD_API_KEY"]


def test_nothing_of_a_key_is_in_an_inventory(
    project: Project, environ: dict[str, str], ring: Keyring, secret: str
) -> None:
    refuse(ring, Kind.SPENT)
    shown = msgspec.json.encode(take_stock(project, environ, NOW)).decode()
    whole = f"{secret}1"

    assert not any(whole[at : at + 8] in shown for at in range(len(whole) - 7))


def test_who_uses_a_key_is_counted_in_the_ledgers_of_what_runs(
    project: Project, environ: dict[str, str], alive: Life
) -> None:
    for name, used in (("a", "acme-2"), ("b", "acme-2"), ("c", "acme-2"), ("d", None)):
        attempts.drop(project, name)
        taken = attempts.begin(project, name, alive, NOW)
        if used is not None:
            taken.hold.ledger.append(Using(taken.opened.token, "acme-1"))
            taken.hold.ledger.append(Using(taken.opened.token, used))
        if name == "c":
            attempts.end(project, taken, Why.FAILED, NOW)
    used_by = {key.id: key.in_use for key in take_stock(project, environ, NOW).keys}

    assert used_by == {"acme-1": 0, "acme-2": 2}


def test_an_attempt_of_a_dead_worker_uses_nothing(
    project: Project, environ: dict[str, str]
) -> None:
    lay_life_file(project, "far", FOREIGN)
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", "far", FOREIGN, NOW))
    ledger.append(Using("token", "acme-1"))
    ledger.let_go()

    assert [key.in_use for key in take_stock(project, environ, NOW).keys] == [0, 0]


# -- resetting --------------------------------------------------------------------------------


def stock_of(project: Project) -> Inventory:
    return take_stock(project, {}, NOW)


def test_a_key_is_reset_with_its_pool(project: Project, ring: Keyring) -> None:
    refuse(ring, Kind.DEAD)
    refuse(ring, Kind.SPENT)
    dead = next(k.id for k in stock_of(project).keys if k.models or k.by == k.id)
    scopes = meant(stock_of(project), project, dead)

    assert len(reset(project, scopes, NOW)) == 2
    assert [view.state for view in stock_of(project).keys] == [Level.OK, Level.OK]
    assert reset(project, scopes, NOW) == []
    assert isinstance(ring.ask(WANT, NOW), Turn)


def test_who_is_reset_waits_in_no_line(project: Project) -> None:
    shared = Credentials(project, "ada")
    paces = {"big": Pace(tat=NOW + 200, learned_step=3.0)}
    shared.update("pool-acme-ours", lambda s: msgspec.structs.replace(s, paces=paces))

    assert reset(project, ["pool-acme-ours"], NOW) == ["pool-acme-ours"]
    assert shared.read("pool-acme-ours").paces == {
        "big": Pace(tat=NOW, learned_step=3.0)
    }


def test_an_endpoint_is_reset_by_its_own_name(project: Project, ring: Keyring) -> None:
    refuse(ring, Kind.OVERLOAD, times=5)
    before = stock_of(project)
    reset(project, meant(before, project, "acme-1"), NOW)
    assert [view.state for view in stock_of(project).keys] == [Level.COOLING] * 2
    reset(project, meant(before, project, "endpoint-acme.example"), NOW)
    assert [view.state for view in stock_of(project).keys] == [Level.OK] * 2


def test_all_values_of_a_key_are_reset(project: Project, secret: str) -> None:
    for value in "xy":
        refuse(
            Keyring(Scopes(project, {"ACME_API_KEY": f"{secret}{value}"}, value)),
            Kind.DEAD,
        )
    scopes = meant(stock_of(project), project, "acme")

    assert len(reset(project, scopes, NOW)) == 2


def test_the_last_error_outlives_a_reset(project: Project, ring: Keyring) -> None:
    refuse(ring, Kind.SPENT)
    reset(project, meant(stock_of(project), project, "acme-1"), NOW)

    assert stock_of(project).keys[0].last_error == "spend limit (400)"


def test_what_nobody_knows_cannot_be_meant(project: Project, ring: Keyring) -> None:
    refuse(ring, Kind.SPENT)
    with pytest.raises(UsageError, match=r"acme-3, did you mean `acme-\d`\?"):
        meant(stock_of(project), project, "acme-3")


def test_a_key_without_a_record_has_nothing_to_reset(
    project: Project, environ: dict[str, str]
) -> None:
    stock = take_stock(project, environ, NOW)

    assert meant(stock, project, "acme-1") == []
    assert not list(Path(project.credentials).iterdir())
