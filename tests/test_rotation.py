"""`APIRotationState`: keys that take turns, alone and through the folder."""

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import farm
from farm import rest, rotation
from farm.credentials import Credentials
from farm.errors import ConfigError
from farm.keyring import Keyring
from farm.project import Project
from farm.rotation import APICredential, APIRotationState
from farm.scopes import Scopes, Turn, Want
from farm.trouble import DAY, HOUR, Kind, Trouble

NOW = 1_000_000_000.0
WANT = Want("acme", "big", base_url="https://acme.example")

Keys = Callable[[str], list[str]]
Share = Callable[..., APIRotationState]


class Clock:
    """The time, as this process has it."""

    now = NOW


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have keys of his own."""
    for name in [name for name in os.environ if "_API_KEY" in name]:
        monkeypatch.delenv(name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    there = Clock()
    monkeypatch.setattr(rotation, "time", SimpleNamespace(time=lambda: there.now))
    return there


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Set `ACME_API_KEY_N`, one for each letter, which names its pool; the keys."""

    def given(pools: str) -> list[str]:
        made = [secrets.token_hex(16) for _ in pools]
        for number, (pool, key) in enumerate(zip(pools, made, strict=True), 1):
            monkeypatch.setenv(f"ACME_API_KEY_{number}", key)
            if pool != "-":
                monkeypatch.setenv(f"ACME_POOL_{number}", pool)
        return made

    return given


@pytest.fixture
def share(project: Project, clock: Clock) -> Share:
    """The object of one more process of the project."""
    assert clock.now == NOW

    def state(model: str | None = None) -> APIRotationState:
        return APIRotationState(provider="acme", project_dir=project.root, model=model)

    return state


def alone() -> APIRotationState:
    return APIRotationState(provider="acme")


def place(state: APIRotationState) -> int | None:
    """Which of its keys is current, counted from 1; None if none is."""
    current = state.get_current()
    known = state.credentials
    return None if current is None else 1 + [c is current for c in known].index(True)


def worker(project: Project) -> Keyring:
    """The keys of a worker that was started with the same environment."""
    name = f"worker-{secrets.token_hex(2)}"
    return Keyring(Scopes(project, os.environ, name))


def learn(project: Project, kind: Kind, key: str, seconds: float | None = None) -> None:
    """A worker is refused with this key now."""
    ring = worker(project)
    until = None if seconds is None else NOW + seconds
    for _ in range(100):
        turn = ring.ask(WANT, NOW)
        if isinstance(turn, Turn) and turn.key.id == key:
            ring.refused(turn, Trouble(kind, f"{kind} (400)", until=until), NOW)
            return
    raise AssertionError(key)


# -- alone ----------------------------------------------------------------------------


def test_both_names_are_farms() -> None:
    assert farm.APIRotationState is APIRotationState
    assert farm.APICredential is APICredential


def test_a_credential_shows_nothing_of_its_key() -> None:
    key = secrets.token_hex(16)
    shown = repr(APICredential(key, "https://acme.example", "big"))

    assert "big" in shown
    assert not any(key[at : at + 4] in shown for at in range(len(key) - 3))


def test_numbered_keys_come_in_order_and_may_have_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = {number: secrets.token_hex(16) for number in (10, 2, 7)}
    for number, key in made.items():
        monkeypatch.setenv(f"ANTHROPIC_API_KEY_{number}", key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL_7", "https://seven.example")
    monkeypatch.setenv("ANTHROPIC_MODEL_10", "big")
    found = APIRotationState().credentials

    assert [c.api_key == made[n] for c, n in zip(found, (2, 7, 10), strict=True)] == [
        True
    ] * 3
    assert [c.base_url for c in found] == [None, "https://seven.example", None]
    assert [c.model for c in found] == [None, None, "big"]


def test_without_numbers_it_is_the_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = secrets.token_hex(16)
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    [found] = APIRotationState().credentials

    assert found.api_key == key


def test_a_key_may_lie_in_a_file_of_ours_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = secrets.token_hex(16)
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(f"{key}\n")
    monkeypatch.setenv("ANTHROPIC_API_KEY_1_FILE", str(path))
    [found] = APIRotationState().credentials
    path.chmod(0o644)

    assert found.api_key == key
    with pytest.raises(ConfigError, match="others may read"):
        APIRotationState()


def test_who_has_no_key_has_none_to_rotate_to() -> None:
    state = alone()

    assert state.credentials == []
    assert state.get_current() is None
    assert not state.rotate("daily quota exceeded")


@pytest.mark.parametrize(
    ("status", "text", "rotates"),
    [
        (429, "slow down", True),
        (401, "who are you", True),
        (403, "not for you", True),
        (400, "Quota exceeded", True),
        (400, "bad request", False),
        (500, "oh no", False),
        (529, "overloaded", False),
    ],
)
def test_limits_refusals_and_quotas_rotate(
    status: int, text: str, rotates: bool
) -> None:
    assert alone().should_rotate(status, text) is rotates


def test_keys_take_turns(keys: Keys) -> None:
    keys("---")
    state = alone()
    turns = [(place(state), state.rotate("slow down")) for _ in range(4)]

    assert turns == [(1, True), (2, True), (3, True), (1, True)]
    assert state.current_index == 4


def test_a_daily_quota_exhausts_the_key_that_met_it(keys: Keys) -> None:
    keys("--")
    state = alone()
    assert state.rotate("Your Daily Quota is used up")
    assert [c.is_exhausted for c in state.credentials] == [True, False]
    assert state.rotate("slow down")
    assert place(state) == 2
    assert not state.rotate("daily quota exceeded")
    assert state.get_current() is None


def test_no_key_is_passed_over_because_another_is_exhausted(keys: Keys) -> None:
    keys("----")
    state = alone()
    seen = []
    while state.rotate("daily quota exceeded"):
        seen.append(place(state))

    assert seen == [2, 3, 4]


def test_no_key_has_two_turns_because_another_is_exhausted(keys: Keys) -> None:
    keys("---")
    state = alone()
    state.rotate("slow down")
    state.rotate("daily quota exceeded")
    turns = [(place(state), state.rotate("slow down"))[0] for _ in range(4)]

    assert turns == [3, 1, 3, 1]


def test_an_error_is_remembered_by_the_key_that_met_it(keys: Keys) -> None:
    keys("--")
    state = alone()
    state.rotate("slow down")

    assert [c.last_error for c in state.credentials] == ["slow down", None]


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_is_remembered_without_any_part_of_any_key(
    keys: Keys, share: Share, project: Project, shared: bool
) -> None:
    made = keys("--")
    state = share() if shared else alone()
    quoted = f"{made[1]}: not the end {made[0][-4:]}, {made[0]} nor\n{made[0][3:20]}."
    state.should_rotate(401, quoted)
    state.rotate(quoted + " long" * 1000 + made[1])
    [said] = [c.last_error for c in state.credentials if c.last_error]
    files = [path for path in Path(project.credentials).rglob("*") if path.is_file()]
    written = said + "".join(path.read_text(errors="replace") for path in files)
    parts = [key[at : at + 8] for key in made for at in range(len(key) - 7)]

    assert said.startswith("***: not the end ***, *** nor *** long")
    assert len(said) <= 300
    assert not any(part in written for part in parts)


def test_a_key_that_is_cut_off_tells_nothing_either(keys: Keys) -> None:
    first, second = keys("--")
    state = alone()
    state.rotate(f"{first[:8]}{'x' * 3984} {second}")
    said = state.credentials[0].last_error or ""

    assert (said.split(), second[:4] in said) == (["***"], False)


def test_an_error_of_an_api_is_remembered_as_a_sentence(keys: Keys) -> None:
    keys("-")
    state = alone()
    error = {"type": "rate_limit_error", "message": "Slow down"}
    state.rotate(json.dumps({"type": "error", "error": error}))

    assert state.credentials[0].last_error == (
        "rate limit (429 rate_limit_error): Slow down"
    )


# -- through the folder ----------------------------------------------------------------


def test_what_one_leaves_rests_for_all(keys: Keys, share: Share) -> None:
    keys("ab")
    state, other = share(), share()
    assert (place(state), place(other)) == (1, 1)
    assert state.rotate("slow down")
    assert (place(state), place(other)) == (2, 2)
    assert [c.last_error for c in other.credentials] == ["slow down", None]
    assert [c.is_exhausted for c in other.credentials] == [False, False]
    assert not other.rotate("slow down")
    assert place(state) is None


def test_a_rate_limit_is_over_after_a_minute(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("-")
    assert not share().rotate("slow down")
    clock.now = NOW + 59
    assert place(share()) is None
    clock.now = NOW + 61
    assert place(share()) == 1


def test_keys_of_one_pool_rest_together(keys: Keys, share: Share) -> None:
    keys("aab")
    share().rotate("slow down")

    assert place(share()) == 3


def test_a_daily_quota_exhausts_for_all_and_for_a_day(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("--")
    share().rotate("daily quota exceeded")
    state = share()
    assert [c.is_exhausted for c in state.credentials] == [True, False]
    assert place(state) == 2
    clock.now = NOW + DAY + 1
    assert [c.is_exhausted for c in state.credentials] == [False, False]


def test_a_spent_limit_lasts_until_the_date_that_is_told(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("-")
    text = "You have reached your specified usage limits. Back on 2001-09-12."
    share().rotate(text)
    state = share()
    clock.now = NOW + 2 * DAY
    assert state.credentials[0].is_exhausted
    clock.now = NOW + 3 * DAY
    assert not state.credentials[0].is_exhausted


def test_a_key_that_is_not_accepted_is_out_until_its_value_changes(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("-")
    state = share()
    assert state.should_rotate(401, "invalid x-api-key")
    assert not state.rotate("invalid x-api-key")
    clock.now = NOW + 100 * DAY
    assert place(share()) is None
    assert share().credentials[0].is_exhausted
    keys("-")
    assert place(share()) == 1


def test_a_status_that_was_told_with_other_words_is_not_this_errors(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("-")
    state = share()
    state.should_rotate(401, "invalid x-api-key")
    state.rotate("slow down")
    clock.now = NOW + 61
    assert place(share()) == 1


def test_who_names_no_model_lacks_permission_for_an_hour_only(
    keys: Keys, share: Share, clock: Clock
) -> None:
    keys("-")
    for model, comes_back in (("big", False), (None, True)):
        state = share(model)
        state.should_rotate(403, "not for you")
        state.rotate("not for you")
        clock.now += HOUR + 1
        assert (place(state) == 1) is comes_back


@pytest.mark.parametrize("status", [500, 400, 529])
def test_a_key_that_is_left_for_any_reason_rests(
    keys: Keys, share: Share, status: int
) -> None:
    keys("--")
    state = share()
    state.should_rotate(status, "quota of something")
    assert state.rotate("quota of something")
    assert (place(state), place(share())) == (2, 2)


def test_an_error_is_not_blamed_on_the_key_that_is_next(
    keys: Keys, share: Share
) -> None:
    keys("--")
    state, other = share(), share()
    assert (place(state), place(other)) == (1, 1)
    state.rotate("slow down")
    other.rotate("slow down")
    assert (place(state), place(other)) == (2, 2)


# -- with workers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "exhausted"), [(Kind.RATE, False), (Kind.SPENT, True), (Kind.DEAD, True)]
)
def test_what_a_worker_has_learnt_is_known(
    keys: Keys, share: Share, project: Project, kind: Kind, exhausted: bool
) -> None:
    keys("--")
    state = share()
    learn(project, kind, "acme-1", 50 if kind is Kind.RATE else None)

    assert place(state) == 2
    assert state.credentials[0].is_exhausted is exhausted
    assert state.credentials[0].last_error == f"{kind} (400)"


def test_a_key_that_is_no_good_for_another_model_is_current(
    keys: Keys, share: Share, project: Project
) -> None:
    keys("--")
    learn(project, Kind.FORBIDDEN, "acme-1")

    assert [place(share(model)) for model in ("big", "small", None)] == [2, 1, 1]


def test_a_rate_limit_for_another_model_keeps_only_those_away_who_name_none(
    keys: Keys, share: Share, project: Project
) -> None:
    keys("--")
    learn(project, Kind.RATE, "acme-1", 50)

    assert [place(share(model)) for model in ("big", "small", None)] == [2, 1, 2]


def test_an_endpoint_in_trouble_is_left_alone(
    keys: Keys, share: Share, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys("--")
    monkeypatch.setenv("ACME_BASE_URL_1", "https://acme.example")
    monkeypatch.setenv("ACME_BASE_URL_2", "https://other.example")
    for _ in range(5):
        learn(project, Kind.OVERLOAD, "acme-1")

    assert place(share()) == 2


def test_a_worker_keeps_away_from_what_was_left_here(
    keys: Keys, share: Share, project: Project
) -> None:
    keys("ab")
    share().rotate("slow down")
    ring = worker(project)
    found = [ring.ask(WANT, NOW + 1) for _ in range(10)]

    assert {turn.key.id for turn in found if isinstance(turn, Turn)} == {"acme-2"}


def test_what_is_reset_can_be_used_again(
    keys: Keys, share: Share, project: Project
) -> None:
    keys("-")
    state = share()
    state.rotate("daily quota exceeded")
    shared = Credentials(project, "me")
    for scope in project.scopes():
        shared.update(scope, lambda old: rest.reset(old, NOW))

    assert place(state) == 1
    assert not state.credentials[0].is_exhausted


def test_a_key_that_a_program_has_added_is_its_own_affair(
    keys: Keys, share: Share
) -> None:
    keys("-")
    state = share()
    state.credentials = [APICredential(secrets.token_hex(16))]
    assert state.rotate("slow down")
    assert not state.rotate("daily quota exceeded")
    assert place(share()) == 1


def test_a_program_may_set_the_list_of_keys() -> None:
    state = APIRotationState(provider="acme")
    state.credentials = [APICredential(secrets.token_hex(16)) for _ in range(2)]
    assert state.rotate("slow down")
    assert place(state) == 2
