"""API keys, as the environment gives them."""

import os
import secrets
from pathlib import Path

import pytest

from farm.errors import ConfigError
from farm.keys import (
    Key,
    check_provider,
    is_url,
    providers,
    read_keys,
    variables,
    without,
)


@pytest.fixture
def secret() -> str:
    return secrets.token_hex(16)


def ids(environ: dict[str, str]) -> list[str]:
    return [key.id for key in read_keys("acme", environ)]


def test_keys_are_read_by_number_and_gaps_are_allowed(secret: str) -> None:
    environ = {f"ACME_API_KEY_{n}": f"{secret}{n}" for n in (10, 2, 7)}
    assert ids(environ) == ["acme-2", "acme-7", "acme-10"]


def test_the_key_without_a_number_counts_only_alone(secret: str) -> None:
    assert ids({"ACME_API_KEY": secret}) == ["acme"]
    assert ids({"ACME_API_KEY": secret, "ACME_API_KEY_3": f"{secret}x"}) == ["acme-3"]


def test_a_key_that_is_given_twice_counts_once(secret: str) -> None:
    environ = {"ACME_API_KEY_1": secret, "ACME_API_KEY_2": f" {secret}\n"}
    assert ids(environ) == ["acme-1"]


@pytest.mark.parametrize(
    "name",
    [
        "ACME_API_KEY_",
        "ACME_API_KEY_x",
        "ACME_API_KEY_01",
        "XACME_API_KEY_1",
        "ACME_API_KEY_1_EXTRA",
        "acme_api_key_1",
        f"ACME_API_KEY_{'9' * 5000}",
    ],
    ids=lambda name: name[:24],
)
def test_other_names_are_no_keys(name: str, secret: str) -> None:
    assert ids({name: secret}) == []


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_key_is_none(blank: str) -> None:
    assert ids({"ACME_API_KEY_1": blank, "ACME_API_KEY_1_FILE": blank}) == []
    assert providers({"ACME_API_KEY": blank}) == []


def test_a_key_has_its_own_settings_or_those_of_all(secret: str) -> None:
    environ = {
        "ACME_API_KEY_1": secret,
        "ACME_API_KEY_2": f"{secret}2",
        "ACME_BASE_URL": "https://all.example",
        "ACME_BASE_URL_2": "https://two.example",
        "ACME_MODEL_2": "big",
        "ACME_POOL": "ours",
    }
    one, two = read_keys("acme", environ)
    assert (one.base_url, one.model, one.pool) == ("https://all.example", None, "ours")
    assert (two.base_url, two.model, two.pool) == ("https://two.example", "big", "ours")


def test_the_providers_of_an_environment_are_those_with_a_key(secret: str) -> None:
    environ = {
        "ACME_API_KEY_2": secret,
        "OTHER_ONE_API_KEY_FILE": "/x",
        "PATH": "/bin",
    }
    assert providers(environ) == ["acme", "other_one"]


def test_a_child_gets_one_key_under_its_usual_names(secret: str) -> None:
    key = Key("acme-2", "acme", secret, base_url="https://two.example", model="big")
    given = variables(key)
    assert sorted(given) == ["ACME_API_KEY", "ACME_BASE_URL", "ACME_MODEL"]
    assert given["ACME_API_KEY"] == secret


def test_a_child_with_a_key_inherits_nothing_that_is_about_others() -> None:
    about = ("ACME_API_KEY", "ACME_API_KEY_1_FILE", "ACME_BASE_URL_2", "ACME_POOL_3")
    own = {"ACME_MODE": "x", "MY_MODEL_2": "y", "OTHER_API_KEY": "z"}

    assert without(own | dict.fromkeys(about, "1"), "acme") == own


# -- what is wrong -------------------------------------------------------------------


def faults(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as raised:
        read_keys("acme", environ)
    return f"{raised.value!r} {raised.value} {raised.value.__context__}"


def shows(text: str, secret: str) -> bool:
    """Whether any four letters of it can be read."""
    return any(secret[at : at + 4] in text for at in range(len(secret) - 3))


@pytest.mark.parametrize("odd", ["a b", "a\x00b", "a\nb", "\u043a\u043b\u044e\u0447"])
def test_a_key_of_odd_letters_is_refused_without_being_shown(
    odd: str, secret: str
) -> None:
    told = faults({"ACME_API_KEY_1": f"{secret}{odd}"})
    assert "ACME_API_KEY_1 holds what no API key can" in told
    assert not shows(told, secret)


@pytest.mark.parametrize("pool", ["../x", "a/b", "", ".hidden", "x" * 65])
def test_a_pool_is_a_plain_name(pool: str, secret: str) -> None:
    environ = {"ACME_API_KEY": secret, "ACME_POOL": pool}
    if pool:
        assert "ACME_POOL: a pool's name has letters" in faults(environ)
    else:
        assert ids(environ) == ["acme"]


@pytest.mark.parametrize("url", ["ftp://x", "x.example", "http://", "http://[x", "a b"])
def test_an_address_of_no_api_is_refused(url: str, secret: str) -> None:
    environ = {"ACME_API_KEY": secret, "ACME_BASE_URL": url}
    assert "ACME_BASE_URL: must be the https://" in faults(environ)
    assert not is_url(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "https://a.example/v1", "http://[::1]:80/"]
)
def test_an_address_may_have_a_port_and_a_path(url: str) -> None:
    assert is_url(url)


@pytest.mark.parametrize("name", ["Acme", "", "a-b", "1a", "a/b"])
def test_a_provider_has_a_plain_name(name: str) -> None:
    assert check_provider(name)
    assert check_provider("acme_2") is None
    assert check_provider(None) is None


# -- files ---------------------------------------------------------------------------


def in_file(path: Path, secret: str, mode: int = 0o600) -> dict[str, str]:
    path.write_text(f"{secret}\n")
    path.chmod(mode)
    return {"ACME_API_KEY_1_FILE": str(path)}


def test_a_key_may_lie_in_a_file_of_its_owner_alone(
    tmp_path: Path, secret: str
) -> None:
    (key,) = read_keys("acme", in_file(tmp_path / "key", secret))
    assert (key.id, key.secret == secret) == ("acme-1", True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o666])
def test_a_file_that_others_may_read_is_refused(
    tmp_path: Path, secret: str, mode: int
) -> None:
    told = faults(in_file(tmp_path / "key", secret, mode))
    assert "others may read: make it yours alone (chmod 600)" in told
    assert not shows(told, secret)


def test_a_link_to_a_key_is_refused(tmp_path: Path, secret: str) -> None:
    in_file(tmp_path / "key", secret)
    (tmp_path / "link").symlink_to(tmp_path / "key")
    told = faults({"ACME_API_KEY_1_FILE": str(tmp_path / "link")})
    assert "it is a symbolic link" in told


def test_a_folder_a_pipe_or_nothing_is_no_key(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    tmp_path.chmod(0o700)
    for path, words in (
        (tmp_path, "no regular file"),
        (tmp_path / "pipe", "no regular file"),
        (tmp_path / "none", "No such file"),
    ):
        assert words in faults({"ACME_API_KEY_FILE": str(path)})


def test_a_key_that_stands_where_a_path_should_is_not_shown(secret: str) -> None:
    assert not shows(faults({"ACME_API_KEY_1_FILE": secret}), secret)


def test_a_key_and_its_file_that_differ_contradict_each_other(
    tmp_path: Path, secret: str
) -> None:
    environ = in_file(tmp_path / "key", secret)
    assert len(read_keys("acme", environ | {"ACME_API_KEY_1": secret})) == 1
    told = faults(environ | {"ACME_API_KEY_1": f"{secret}x"})
    assert "contradicts its namesake" in told
    assert not shows(told, secret)


# -- secrecy -------------------------------------------------------------------------


def test_no_word_of_a_key_shows_its_secret(secret: str) -> None:
    key = Key("acme-1", "acme", secret)
    assert not shows(f"{key!r} {key} {[key]}", secret)


def test_a_fingerprint_tells_keys_apart_in_one_project_only(secret: str) -> None:
    key, other = Key("a", "a", secret), Key("a", "a", f"{secret}x")
    here, there = os.urandom(16), os.urandom(16)
    assert key.fingerprint(here) == Key("b", "b", secret).fingerprint(here)
    assert key.fingerprint(here) != other.fingerprint(here)
    assert key.fingerprint(here) != key.fingerprint(there)
    assert len(key.fingerprint(here)) == 12


def test_words_that_quote_a_part_of_the_key_are_hidden(secret: str) -> None:
    key = Key("acme-1", "acme", secret)
    said = f"bad key {secret}, ({secret[:9]}***) or '...{secret[-4:]}': ask us"
    assert key.hidden(said) == "bad key ***, (***) or '***': ask us"
    assert Key("none", "acme", "").hidden("as it was") == "as it was"
