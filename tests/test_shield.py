"""Which variables are secrets, and how they come from a parent to its child."""

import os

import pytest

from farm import shield

SECRET = """
PGPASSWORD MYSQL_PWD API_KEY TOKEN PRIVATE_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
DB_PASS STRIPE_KEY GH_PAT OPENAI_KEY NPM_TOKEN_RO RESTIC_PASSPHRASE GITHUB_TOKEN SSHPASS
ANTHROPIC_API_KEY_1 ANTHROPIC_API_KEY_1_FILE OPENAI_APIKEY SESSION_COOKIE NPM_AUTH KEY2
DOCKER_CREDENTIALS CITOKEN db_password HF_TOKENS MY_SECRET_SETTING CLIENT_SECRETS
"""
PLAIN = """
PATH HOME PWD OLDPWD LANG SSH_AUTH_SOCK XAUTHORITY TOKENIZERS_PARALLELISM MONKEY KEYMAP
GIT_ASKPASS SSH_ASKPASS GOPATH PATTERN KEYBOARD COMPASSION AUTHOR PASSWORD_STORE_DIR
FARM_TOKEN GOOGLE_APPLICATION_CREDENTIALS SSH_KEY_PATH TOKENS_PER_MINUTE_LIMITED_BY_PATH
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert shield.looks_secret(name)


@pytest.mark.parametrize("name", PLAIN.split())
def test_an_ordinary_variable_is_none(name: str) -> None:
    assert not shield.looks_secret(name)


def test_a_child_gets_secrets_through_a_descriptor_and_the_rest_as_its_environment() -> (
    None
):
    odd = os.fsdecode(b"k\xff\n=y\0"[:-1])
    environ = {"A_TOKEN": odd, "B_SECRET": "", "PLAIN": "kept"}

    with shield.handed(environ) as to:
        assert to.env == {"PLAIN": "kept"}
        assert to.words == ["--secrets", str(to.fds[0])]
        assert not os.get_inheritable(to.fds[0])
        fd = os.dup(to.fds[0])
        assert shield.taken(fd) == {"A_TOKEN": odd, "B_SECRET": ""}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_without_secrets_nothing_is_handed_over() -> None:
    with shield.handed({"PLAIN": "kept"}) as to:
        assert to == ({"PLAIN": "kept"}, [], ())
