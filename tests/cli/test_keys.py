"""`farm keys` and `farm keys reset`."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from farm.cli.keys import describe
from farm.inventory import Hold, Inventory, KeyView, View
from farm.keyring import Keyring
from farm.project import Project
from farm.rest import Level
from farm.scopes import Scopes, Turn, Want
from farm.trouble import Kind, Trouble
from tests.cli.conftest import Run
from tests.cli.test_completion import offered
from tests.driver import Farm

NOW = 1_000_000_000.0
WANT = Want("acme", "big", base_url="https://acme.example")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have keys of his own."""
    for name in [name for name in os.environ if "_API_KEY" in name]:
        monkeypatch.delenv(name)


def view(**told: Any) -> KeyView:
    """A key without trouble, but for these fields."""
    usual: dict[str, Any] = {
        "id": "acme-1",
        "provider": "acme",
        "pool": None,
        "fingerprint": "77c0d19e0b3a",
        "models": {},
        "in_use": 2,
        "here": True,
        "old": False,
        "last_error": None,
        "last_error_at": None,
    }
    return KeyView(**usual | told)


def lines(
    *keys: KeyView, shared: tuple[View, ...] = (), with_old: bool = False
) -> list[str]:
    """What is shown, each blank as one."""
    stock = Inventory([*keys], [*shared], [])
    shown = describe(stock, NOW, with_old=with_old)
    return [" ".join(line.split()) for line in shown]


# -- lines -----------------------------------------------------------------------------


def test_no_key_is_no_line() -> None:
    assert lines() == []


def test_a_key_is_a_line_under_a_heading() -> None:
    assert lines(view()) == [
        "ID PROVIDER FINGERPRINT IN USE STATE",
        "acme-1 acme 77c0d19e0b3a 2 ok",
    ]


@pytest.mark.usefixtures("zone")
def test_what_keeps_a_key_from_work_is_told_with_its_last_error() -> None:
    held = view(
        pool="ours",
        state=Level.COOLING,
        until="2001-09-09T01:47:40Z",
        by="pool-acme-ours",
        why="cools down",
        last_error="rate limit (429)",
        last_error_at="2001-09-09T01:46:10Z",
    )

    heading, line = lines(held)

    assert heading == "ID PROVIDER POOL FINGERPRINT IN USE STATE UNTIL BY LAST ERROR"
    assert line == (
        "acme-1 acme ours 77c0d19e0b3a 2 cooling 14:32:40 pool-acme-ours"
        " 30 s ago: rate limit (429)"
    )


@pytest.mark.usefixtures("zone")
def test_of_a_spent_key_it_is_told_when_it_is_tried() -> None:
    spent = view(state=Level.EXHAUSTED, tried_at="2001-09-09T02:46:40Z", by="acme-1")

    assert lines(spent)[1].endswith("2 exhausted ?, tried at 15:31:40")


def test_of_a_disabled_key_it_is_told_what_to_do() -> None:
    dead = view(
        state=Level.DISABLED,
        by="acme-1",
        why="is not accepted: give it another value (dead key (401))",
        last_error="dead key (401)",
    )

    assert lines(dead)[1].endswith(
        "2 disabled reset is not accepted: give it another value (dead key (401))"
    )


def test_what_holds_for_one_model_has_a_line_of_its_own() -> None:
    models = {
        "big": Hold(state=Level.DISABLED, by="acme-1", why="has no permission"),
        "small": Hold(state=Level.EXHAUSTED, by="pool-a"),
    }
    held = view(models=models, last_error="no money")

    assert lines(held)[1:] == [
        "acme-1 acme 77c0d19e0b3a 2 disabled for big reset has no permission",
        "exhausted for small ? pool-a",
    ]


def test_an_old_value_is_told_apart_and_only_if_asked_for() -> None:
    old = view(fingerprint="0123456789ab", old=True)

    assert len(lines(view(), old)) == 2
    assert lines(view(), old, with_old=True)[-1] == (
        "acme-1 acme 0123456789ab 2 ok (old value)"
    )


def test_pools_and_endpoints_follow_if_they_rest() -> None:
    def shared(name: str, state: Level) -> View:
        return View(
            id=name, state=state, models={}, last_error=None, last_error_at=None
        )

    rests, well = shared("pool-a", Level.EXHAUSTED), shared("pool-b", Level.OK)

    assert lines(view(), shared=(rests, well))[2:] == [
        "",
        "POOL OR ENDPOINT STATE UNTIL",
        "pool-a exhausted ?",
    ]


def test_what_a_provider_says_steers_no_terminal() -> None:
    shown = "".join(lines(view(last_error="no\x1b[31m\nmoney")))

    assert shown.endswith("no money")


# -- typed -----------------------------------------------------------------------------


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """Two keys of this shell end so."""
    made = secrets.token_hex(16)
    for number in (1, 2):
        monkeypatch.setenv(f"ACME_API_KEY_{number}", f"{number}{made}")
    return made


def refuse(project: Project, kind: Kind, times: int = 1) -> None:
    """A worker of this shell is refused."""
    ring, now = Keyring(Scopes(project, os.environ, "ada")), time.time()
    for turn in [ring.ask(WANT, now) for _ in range(times)]:
        assert isinstance(turn, Turn), turn
        ring.refused(turn, Trouble(kind, f"{kind} (400): no"), now)


def states(run: Run, project: Project) -> list[str]:
    _, out, _ = run("keys", "-C", project.root, "--json")
    return [key["state"] for key in json.loads(out)["keys"]]


def test_who_has_no_key_is_told_what_to_set(run: Run, project: Project) -> None:
    code, out, err = run("keys", "-C", project.root)

    assert (code, out) == (0, "")
    assert "ANTHROPIC_API_KEY_1" in err
    assert "OPENAI_API_KEY" in err


def test_without_keys_json_is_json_too(run: Run, project: Project) -> None:
    code, out, err = run("keys", "-C", project.root, "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == {"keys": [], "shared": [], "faults": []}


def test_nothing_of_a_key_is_shown(run: Run, project: Project, secret: str) -> None:
    refuse(project, Kind.SPENT)
    said = run("keys", "-C", project.root)
    told = run("keys", "-C", project.root, "--json")
    shown = f"{said}{told}"

    assert said[0] == told[0] == 0
    assert not any(secret[at : at + 6] in shown for at in range(len(secret) - 5))


def test_it_writes_nothing(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "tasks").mkdir()
    code, out, _ = run("keys", "-C", tmp_path)

    assert (code, len(out.splitlines()), len(secret)) == (0, 3, 32)
    assert [path.name for path in tmp_path.iterdir()] == ["tasks"]


@pytest.mark.usefixtures("secret")
def test_a_value_that_was_replaced_is_counted_until_it_is_asked_for(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(project, Kind.DEAD)
    for number in (1, 2):
        monkeypatch.setenv(f"ACME_API_KEY_{number}", secrets.token_hex(16))
    refuse(project, Kind.RATE)
    _, out, err = run("keys", "-C", project.root)
    _, everything, silent = run("keys", "-C", project.root, "--all")

    assert (len(out.splitlines()), err) == (
        3,
        "2 old values not shown: farm keys --all\n",
    )
    assert (len(everything.splitlines()), silent) == (5, "")


@pytest.mark.usefixtures("secret")
def test_a_key_that_cannot_be_read_is_named_and_the_others_are_shown(
    run: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_API_KEY", "a b")
    code, out, err = run("keys", "-C", project.root)

    assert (code, len(out.splitlines())) == (1, 3)
    assert err.startswith("ODD_API_KEY holds")


@pytest.mark.usefixtures("secret")
def test_a_key_is_reset(run: Run, project: Project) -> None:
    refuse(project, Kind.SPENT)
    refuse(project, Kind.SPENT)
    assert states(run, project) == ["exhausted", "exhausted"]
    assert run("keys", "reset", "acme-2", "-C", project.root) == (
        0,
        "acme-2: may work again\n",
        "",
    )
    assert states(run, project) == ["exhausted", "ok"]
    assert run("keys", "-C", project.root, "reset", "acme-2")[1] == (
        "acme-2: nothing kept it from work\n"
    )


@pytest.mark.usefixtures("secret")
def test_what_was_reset_is_told_as_json(run: Run, project: Project) -> None:
    refuse(project, Kind.SPENT)
    refuse(project, Kind.SPENT)
    _, out, _ = run("keys", "reset", "acme-1", "-C", project.root, "--json")
    told = json.loads(out)

    assert told["id"] == "acme-1"
    assert [scope.split(".")[0] for scope in told["reset"]] == ["acme-1"]


def test_who_resets_a_key_is_told_of_its_endpoint(
    run: Run, project: Project, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_BASE_URL", "https://acme.example")
    refuse(project, Kind.OVERLOAD, times=5)
    _, _, err = run("keys", "reset", "acme-1", "-C", project.root)
    name = "endpoint-acme.example"
    assert err == f"{name} still rests: farm keys reset {name}\n"
    assert run("keys", "reset", name, "-C", project.root)[1:] == (
        f"{name}: may work again\n",
        "",
    )
    assert (states(run, project), len(secret)) == (["ok", "ok"], 32)


@pytest.mark.usefixtures("secret")
def test_a_slip_is_wrong_usage_and_the_nearest_name_is_told(
    run: Run, project: Project
) -> None:
    code, out, err = run("keys", "reset", "acme-11", "-C", project.root)

    assert (code, out) == (2, "")
    assert "there is no key, pool or endpoint acme-11, did you mean `acme-1`?" in err


@pytest.mark.usefixtures("secret")
def test_no_project_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert run("keys", "-C", tmp_path)[0] == 2


@pytest.mark.usefixtures("secret")
@pytest.mark.processes
def test_names_are_completed(project: Project) -> None:
    refuse(project, Kind.OVERLOAD)
    there = Path(project.root)

    assert offered(there, "farm keys re") == ["reset"]
    assert offered(there, "farm keys reset a") == ["acme-1", "acme-2"]
    assert offered(there, "farm keys reset e") == ["endpoint-acme.example"]
    above = there.parent
    assert offered(above, f"farm -C {there} keys reset acme-2") == ["acme-2"]
    assert offered(above, "farm keys reset a") == []


@pytest.mark.processes
def test_without_a_terminal_it_is_plain_text(farm: Farm) -> None:
    made = secrets.token_hex(16)
    said = farm.farm("keys", NO_COLOR="1", ACME_API_KEY=made)

    assert (said.returncode, said.stderr) == (0, "")
    assert len(said.stdout.splitlines()) == 2
    assert "\x1b" not in said.stdout
    assert made[-4:] not in said.stdout
