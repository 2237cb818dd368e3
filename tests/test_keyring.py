"""Which key a call takes, when, and what all processes learn of how it went."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from farm.keyring import Keyring, Later
from farm.project import Project
from farm.scopes import Scopes, Turn, Want
from farm.trouble import DAY, HOUR, Kind, Trouble

NOW = 1_000_000_000.0
WANT = Want("acme", "big", base_url="https://acme.example")
LIMIT = {"anthropic-ratelimit-requests-limit": "600"}

Make = Callable[..., Keyring]


@pytest.fixture
def secret() -> str:
    return secrets.token_hex(16)


@pytest.fixture
def make(project: Project, secret: str) -> Make:
    """Keyrings of several processes of one project; `acme-N` has the pool `pools[N]`."""
    names = iter(f"worker-{number}" for number in range(1000))

    def ring(pools: str = "a", **more: str) -> Keyring:
        environ = {
            f"ACME_API_KEY_{n}": f"{secret}{n}" for n in range(1, len(pools) + 1)
        }
        environ |= {
            f"ACME_POOL_{n}": pool for n, pool in enumerate(pools, 1) if pool != "-"
        }
        return Keyring(Scopes(project, environ | more, next(names)))

    return ring


def turn_of(ring: Keyring, now: float = NOW, want: Want = WANT) -> Turn:
    found = ring.ask(want, now)
    assert isinstance(found, Turn), found
    return found


def later_of(ring: Keyring, now: float = NOW, want: Want = WANT) -> Later:
    found = ring.ask(want, now)
    assert isinstance(found, Later), found
    return found


def turn_at(ring: Keyring, key: str, now: float = NOW) -> Turn:
    """A turn of that very key."""
    for _ in range(200):
        found = turn_of(ring, now)
        if found.key.id == key:
            return found
    raise AssertionError(key)


def rate(seconds: float, now: float = NOW) -> Trouble:
    return Trouble(Kind.RATE, "rate limit (429): slow down", until=now + seconds)


OVERLOAD = Trouble(Kind.OVERLOAD, "overload (529)")


def say(kind: Kind) -> Trouble:
    return Trouble(kind, f"{kind} (400)")


# -- asking -------------------------------------------------------------------------


def test_a_key_that_rests_for_nobody_is_given_at_once(make: Make) -> None:
    turn = turn_of(make())
    assert (turn.key.id, turn.at, turn.asked) == ("acme-1", NOW, NOW)
    assert turn.base_url == "https://acme.example"


def test_without_a_key_only_people_can_help(make: Make) -> None:
    later = later_of(make(""))
    assert later.until is None
    assert later.why == "it needs a key: set ACME_API_KEY where workers are started"


def test_who_can_do_without_a_key_needs_none(make: Make) -> None:
    want = Want("acme", "big", base_url="http://127.0.0.1:8000/v1/", keyless=True)
    turn = turn_of(make(""), want=want)
    assert (turn.key.secret, turn.base_url) == ("", "http://127.0.0.1:8000/v1")


def test_servers_without_keys_do_not_share_their_limits(make: Make) -> None:
    ring = make("")
    here, there = (
        Want("acme", "big", base_url=f"http://127.0.0.1:{port}", keyless=True)
        for port in (8000, 9000)
    )
    ring.refused(turn_of(ring, want=here), rate(50), NOW)
    assert later_of(ring, want=here).until == NOW + 50
    assert turn_of(ring, want=there).at == NOW


@pytest.mark.parametrize("url", ["http://[x", "", "http://", "x:y:z"])
def test_an_odd_address_is_no_error_of_the_ring(make: Make, url: str) -> None:
    assert (
        turn_of(make(), want=Want("acme", "big", base_url=url)).key.provider == "acme"
    )


def test_to_look_whether_a_key_is_free_reserves_nothing(make: Make) -> None:
    ring = make()
    for _ in range(50):
        assert ring.later(WANT, NOW) is None
    assert turn_of(ring).at == NOW


def test_a_line_of_more_than_a_minute_is_joined_later(make: Make) -> None:
    ring = make()
    ring.succeeded(turn_of(ring), {"anthropic-ratelimit-requests-limit": "60"}, NOW)
    turns = []
    while isinstance(found := ring.ask(WANT, NOW), Turn):
        turns.append(found.at)
    assert len(turns) == 58
    assert turns[0] > NOW + 1
    assert turns[-1] <= NOW + 60
    assert found.until is not None
    assert NOW + 30 <= found.until < NOW + 35
    assert found.why.startswith("acme-1 has its next turn at ")


def test_keys_of_two_pools_share_the_calls_by_what_their_pools_allow(
    make: Make,
) -> None:
    ring = make("aab")
    for key in ("acme-1", "acme-3"):
        ring.succeeded(turn_at(ring, key), LIMIT, NOW)
    found = [turn_of(make("aab"), NOW + 60) for _ in range(100)]
    of_b = sum(turn.key.id == "acme-3" for turn in found)
    assert 48 <= of_b <= 52
    assert {turn.key.id for turn in found} == {"acme-1", "acme-2", "acme-3"}
    assert max(turn.at for turn in found) < NOW + 60 + 50 / 9.7


# -- rate limits ----------------------------------------------------------------------


def test_a_key_that_cools_down_says_until_when_and_why(make: Make) -> None:
    ring = make()
    ring.refused(turn_of(ring), rate(5), NOW)
    later = later_of(make())
    assert later.until == NOW + 5
    assert later.why.startswith("acme-1 cools down until ")
    assert later.why.endswith("(rate limit)")
    assert turn_of(make(), NOW + 5).at >= NOW + 5


def test_a_refusal_rests_the_whole_pool_and_no_other(make: Make) -> None:
    ring = make("aab")
    ring.refused(turn_at(ring, "acme-1"), rate(50), NOW)
    found = {turn_of(make("aab"), NOW + 1).key.id for _ in range(20)}
    assert found == {"acme-3"}


def test_a_rate_limit_holds_for_its_model(make: Make) -> None:
    ring = make()
    ring.refused(turn_of(ring), rate(50), NOW)
    assert (
        turn_of(ring, want=msgspec.structs.replace(WANT, model="small")).key.provider
        == "acme"
    )


def test_of_all_keys_that_rest_the_first_to_be_free_is_told(make: Make) -> None:
    ring = make("abc")
    for key, seconds in (("acme-1", 50), ("acme-2", 20), ("acme-3", 90)):
        ring.refused(turn_at(ring, key), rate(seconds), NOW)
    later = later_of(make("abc"), NOW + 1)
    assert later.until == NOW + 20
    assert later.why.startswith("all 3 keys rest; acme-2 cools down until ")


def test_keys_of_one_organization_share_its_limits_once_it_is_known(
    make: Make,
) -> None:
    ring = make("--")
    for key in ("acme-1", "acme-2"):
        ring.succeeded(turn_at(ring, key), {"anthropic-organization-id": "org/1"}, NOW)
    ring.refused(turn_at(ring, "acme-1", NOW + 9), rate(50, NOW + 9), NOW + 9)
    assert later_of(make("--"), NOW + 10).until == NOW + 59


def test_an_organization_may_be_told_by_a_refusal(make: Make) -> None:
    ring = make("--")
    ring.succeeded(turn_at(ring, "acme-2"), {"anthropic-organization-id": "org"}, NOW)
    told = msgspec.structs.replace(rate(50), organization="org", per_minute=600.0)
    ring.refused(turn_at(ring, "acme-1"), told, NOW)
    assert later_of(make("--"), NOW + 1).until == NOW + 50


def test_a_late_success_does_not_clear_a_newer_cool_down(make: Make) -> None:
    ring, other = make(), make()
    slow, quick = turn_of(ring), turn_of(other)
    other.refused(quick, rate(50, NOW + 2), NOW + 2)
    ring.succeeded(slow, LIMIT, NOW + 3)
    assert later_of(ring, NOW + 3).until == NOW + 52


def test_a_turn_that_lies_ahead_does_not_stand_when_a_rest_was_learnt(
    make: Make,
) -> None:
    ring, other = make(), make()
    first, second = turn_of(ring), turn_of(other)
    assert other.stands(second, NOW + 1)
    ring.refused(first, rate(50, NOW + 1), NOW + 1)
    assert not other.stands(second, NOW + 2)


def test_a_clock_that_is_set_back_keeps_no_key_away(make: Make) -> None:
    ring = make()
    ring.refused(turn_of(ring), rate(50), NOW)
    assert turn_of(make(), NOW - DAY).at <= NOW - DAY + 1


# -- spent, dead, forbidden -----------------------------------------------------------


def test_a_spent_key_is_tried_by_one_of_many_at_its_time(make: Make) -> None:
    ring = make()
    ring.refused(turn_of(ring), say(Kind.SPENT), NOW)
    assert later_of(ring).until == NOW + HOUR
    assert "until nobody knows when, tried again at " in later_of(ring).why
    then = NOW + HOUR
    found = [make().ask(WANT, then) for _ in range(10)]
    turns = [one for one in found if isinstance(one, Turn)]
    assert len(turns) == 1
    assert ring.stands(turns[0], then)
    ring.succeeded(turns[0], {}, then + 1)
    assert turn_of(make(), then + 2).key.provider == "acme"


def test_a_dead_key_is_given_to_nobody_until_its_value_changes(
    project: Project, make: Make, secret: str
) -> None:
    ring = make()
    ring.refused(turn_of(ring), say(Kind.DEAD), NOW)
    later = later_of(make(), NOW + 100 * DAY)
    assert later.until is None
    assert later.why.startswith("acme-1 is not accepted: give it another value")
    changed = Keyring(Scopes(project, {"ACME_API_KEY_1": f"{secret}new"}, "changed"))
    assert turn_of(changed, NOW + 1).key.provider == "acme"


def test_a_dead_key_of_two_leaves_the_other(make: Make) -> None:
    ring = make("aa")
    ring.refused(turn_at(ring, "acme-1"), say(Kind.DEAD), NOW)
    assert {turn_of(make("aa"), NOW + 1).key.id for _ in range(20)} == {"acme-2"}


@pytest.mark.parametrize("kind", [Kind.FORBIDDEN, Kind.NO_MODEL])
def test_a_key_without_permission_lacks_it_for_that_model_only(
    make: Make, kind: Kind
) -> None:
    ring = make("aa")
    ring.refused(turn_at(ring, "acme-1"), say(kind), NOW)
    assert {turn_of(ring, NOW + 1).key.id for _ in range(20)} == {"acme-2"}
    small = msgspec.structs.replace(WANT, model="small")
    assert {turn_of(ring, NOW + 1, small).key.id for _ in range(40)} == {
        "acme-1",
        "acme-2",
    }


def test_an_organization_on_hold_rests_its_pool(make: Make) -> None:
    ring = make("aab")
    ring.refused(turn_at(ring, "acme-1"), say(Kind.HELD), NOW)
    assert {turn_of(ring, NOW + 1).key.id for _ in range(20)} == {"acme-3"}


@pytest.mark.parametrize("kind", [Kind.BAD, Kind.AGAIN])
def test_a_call_that_was_its_own_fault_rests_nobody(make: Make, kind: Kind) -> None:
    ring = make()
    ring.refused(turn_of(ring), say(kind), NOW)
    assert ring.later(WANT, NOW) is None


# -- the endpoint -----------------------------------------------------------------------


def overload(ring: Keyring, count: int = 5) -> None:
    for turn in [turn_of(ring) for _ in range(count)]:
        ring.refused(turn, OVERLOAD, NOW)


def test_an_overload_rests_the_endpoint_and_rotates_no_key(make: Make) -> None:
    overload(make("abc"))
    later = later_of(make("abc"), NOW + 0.1)
    assert later.until is not None
    assert NOW < later.until <= NOW + 5
    assert "has an endpoint in trouble until " in later.why
    assert later.why.endswith("(overload (529))")
    elsewhere = msgspec.structs.replace(WANT, base_url="https://other.example")
    assert turn_of(make("abc"), NOW + 0.1, elsewhere).key.provider == "acme"


def test_an_endpoint_that_may_be_well_again_is_tried_by_one(make: Make) -> None:
    overload(make())
    then = NOW + 30
    found = [make().ask(WANT, then) for _ in range(10)]
    turns = [one for one in found if isinstance(one, Turn)]
    assert len(turns) == 1
    assert make().stands(turns[0], then)
    make().succeeded(turns[0], {}, then + 1)
    assert turn_of(make(), then + 2).key.provider == "acme"


@pytest.mark.parametrize("kind", [Kind.BAD, Kind.RATE, Kind.DEAD, Kind.AGAIN])
def test_an_endpoint_that_answers_at_all_is_well(make: Make, kind: Kind) -> None:
    ring = make("ab")
    overload(ring)
    then = NOW + 30
    prober = turn_of(ring, then)
    ring.refused(prober, Trouble(kind, "no", until=then + 50), then)
    assert ring.later(WANT, then + 1) is None


def test_a_turn_does_not_stand_when_its_endpoint_fell_ill(make: Make) -> None:
    ring = make()
    waiting = turn_of(ring)
    overload(make())
    assert not ring.stands(waiting, NOW + 0.1)


# -- secrecy, and disks -----------------------------------------------------------------


def pieces(secret: str, number: int) -> list[bytes]:
    """Every four letters of a key."""
    whole = f"{secret}{number}".encode()
    return [whole[at : at + 8] for at in range(len(whole) - 7)] + [whole[-4:]]


def test_nothing_of_a_key_is_in_a_file_or_a_sentence(
    project: Project, make: Make, secret: str
) -> None:
    ring = make("a")
    turn = turn_of(ring)
    quoted = f"your key {secret}1 is odd, it ends in {(secret + '1')[-4:]}."
    for kind in Kind:
        for now in (NOW, NOW + 40 * DAY):
            found = ring.ask(WANT, now)
            if isinstance(found, Turn):
                ring.refused(found, Trouble(kind, quoted, until=now + 1), now)
    written = b"".join(
        path.read_bytes() for path in Path(project.root).rglob("*") if path.is_file()
    )
    said = f"{turn} {ring.ask(WANT, NOW)} {ring.later(WANT, NOW)}".encode()
    assert b"your key ***" in written
    assert not [piece for piece in pieces(secret, 1) if piece in written + said]


def test_a_disk_that_takes_nothing_still_has_one_process_keep_its_pace(
    project: Project, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("open", "link", "mkdir"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os,
            name,
            lambda path, flags=0, *rest, real=real, **more: (
                full() if flags != os.O_RDONLY else real(path, flags, *rest, **more)
            ),
        )
    ring = make()
    ring.refused(turn_of(ring), rate(50), NOW)
    assert later_of(ring).until == NOW + 50


def test_records_that_somebody_deletes_or_damages_cost_a_call_and_no_more(
    project: Project, make: Make
) -> None:
    ring = make()
    turn = turn_of(ring)
    ring.refused(turn, rate(50), NOW)
    for path in Path(project.credentials).glob("*.json"):
        path.write_bytes(b"\x00torn")
    again = turn_of(ring)
    for path in Path(project.credentials).iterdir():
        path.unlink()
    ring.refused(again, rate(50), NOW)
    assert later_of(ring).until == NOW + 50


# -- those who tell nothing, and other keys -------------------------------------------


def test_who_does_not_tell_how_it_fared_is_not_sent_to_probe(make: Make) -> None:
    ring = make()
    ring.refused(turn_of(ring), say(Kind.SPENT), NOW)
    quiet = msgspec.structs.replace(WANT, tells=False)

    assert later_of(ring, NOW + 2 * HOUR, quiet).until is None
    assert turn_of(ring, NOW + 2 * HOUR).key.id == "acme-1"  # who tells may


def test_a_spare_key_is_another_one_that_is_free(make: Make) -> None:
    ring = make("ab")
    one, other = turn_at(ring, "acme-1"), turn_at(ring, "acme-2")
    assert ring.spare(one, WANT, NOW)
    ring.refused(other, rate(60), NOW)

    assert not ring.spare(one, WANT, NOW)
    assert ring.spare(other, WANT, NOW)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("what", ["MODEL", "BASE_URL"])
def test_for_an_unknown_model_the_task_is_to_blame_unless_a_key_is_for_another(
    make: Make, what: str, kind: Kind
) -> None:
    alike, other = make("ab"), make("ab", **{f"ACME_{what}_2": "http://other"})
    unknown = kind is Kind.NO_MODEL
    to_blame = alike.blame(turn_at(alike, "acme-1"), say(kind))

    assert to_blame.kind is (Kind.BAD if unknown else kind)
    assert other.blame(turn_at(other, "acme-1"), say(kind)).kind is kind


def test_who_only_looks_knows_keys_by_what_others_have_recorded(
    make: Make, project: Project
) -> None:
    assert Keyring(Scopes.as_recorded(project)).later(WANT, NOW) is not None  # nobody's
    ring = make()
    turn = turn_of(ring)
    assert Keyring(Scopes.as_recorded(project)).later(WANT, NOW) is None
    ring.refused(turn, rate(60), NOW)
    later = Keyring(Scopes.as_recorded(project)).later(WANT, NOW)

    assert later is not None
    assert later.until == NOW + 60
    assert later.why.startswith("acme-1 cools down until")


def test_a_key_goes_where_it_is_good_and_not_where_an_agent_is(make: Make) -> None:
    turn = turn_of(make(ACME_BASE_URL_1="https://gateway.example"))

    assert turn.base_url == "https://gateway.example"
