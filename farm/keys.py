"""API keys, as the environment gives them: read once, never shown.

For the provider `anthropic` (any other word likewise, in capitals):

    ANTHROPIC_API_KEY_1 .. _N      its keys; gaps are allowed
    ANTHROPIC_API_KEY              the key, if none has a number
    ANTHROPIC_API_KEY_1_FILE, ...  the same, in a file that only its owner may read
    ANTHROPIC_BASE_URL_1           where key 1 is good
    ANTHROPIC_MODEL_1              which model it is for
    ANTHROPIC_POOL_1               keys with one pool share their limits

The last three may stand without a number as well and then hold for every key that
has none of its own. A key is known by its `id` (`anthropic-1`) and by a fingerprint
that needs the project's salt; its secret has no repr and is handed to nobody but the
request or the child that needs it.

Errors are ConfigError: a key's file that others can read, is a link or is missing.
"""

import errno
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from farm import disk
from farm.errors import ConfigError

if TYPE_CHECKING:
    from farm.redact import Redactor

_MOST_BYTES = 65_536  # of a file that holds a key
_PART, _END = 8, 4  # letters of a key that tell something of it
_PROVIDER = re.compile("[a-z][a-z0-9_]*")
_WHAT = ("API_KEY", "BASE_URL", "MODEL", "POOL")
_NUMBER = "0|[1-9][0-9]{0,5}"  # 01 would find no ANTHROPIC_BASE_URL_1
_FILE = re.compile(rf"[A-Z][A-Z0-9_]*_API_KEY(?:_(?:{_NUMBER}))?_FILE")
_POOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes a file's name


def check_provider(name: str | None) -> str | None:
    """What is wrong with the name of a provider, to follow the key's; None if nothing."""
    if name is None or _PROVIDER.fullmatch(name):
        return None
    example = '"anthropic", whose key is in ANTHROPIC_API_KEY'
    return f"must name whose keys are meant, such as {example}"


def is_url(text: str) -> bool:
    """Whether an API may be there."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - few name an address

    try:
        parts = urlsplit(text)
        port = parts.port  # is read only here, and may be none
    except ValueError:
        return False
    is_web = parts.scheme in ("http", "https") and port != 0
    return is_web and bool(parts.hostname) and text.isprintable() and " " not in text


class Key:
    """One API key; `secret` is not in its repr."""

    def __init__(  # noqa: PLR0913 - what the environment says of one key
        self,
        id: str,  # noqa: A002 - as everywhere
        provider: str,
        secret: str,
        *,
        base_url: str | None = None,
        model: str | None = None,
        pool: str | None = None,
    ) -> None:
        self.id = id
        self.provider = provider
        self.secret = secret
        self.base_url = base_url
        self.model = model
        self.pool = pool

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def fingerprint(self, salt: bytes) -> str:
        """Twelve letters that tell this secret from others, here only.

        A bare hash would tell a guessable key; no letter of the key is in it.
        """
        return hmac.digest(salt, self.secret.encode(), hashlib.sha256).hex()[:12]

    def hidden(self, text: str) -> str:
        """The same without words that hold a part of the key, or its end.

        Providers like to quote the end of a key; a word too many costs nobody much.
        """
        if not self.secret:
            return text
        parts = {*self._parts, self.secret[-_END:]}
        text = re.sub(
            r"[^\s\"'`,;:()<>]+",
            lambda word: "***" if any(part in word[0] for part in parts) else word[0],
            text,
        )
        return self._redactor.clean_text(text)  # what is left in other forms

    @cached_property
    def _parts(self) -> frozenset[str]:
        size = min(_PART, len(self.secret))
        ends = range(size, len(self.secret) + 1) if self.secret else ()
        return frozenset(self.secret[end - size : end] for end in ends)

    def unless_told(self, name: str | None) -> str | None:
        """A name that a provider gave; None if a part of the key is in it."""
        if name is None or any(part in name for part in self._parts):
            return None
        return name if self._redactor.clean_text(name) == name else None

    @cached_property
    def _redactor(self) -> "Redactor":
        from farm.redact import Redactor  # noqa: PLC0415 - most keys are never quoted

        return Redactor([self.secret])


def read_keys(provider: str, environ: Mapping[str, str]) -> list[Key]:
    """The keys of a provider, by number; a key that is given twice counts once."""
    prefix = provider.upper()
    names = re.compile(rf"{prefix}_API_KEY(?:_({_NUMBER}))?(_FILE)?")
    found: dict[int | None, str] = {}
    for name in environ:
        matched = names.fullmatch(name)
        if matched is None or not (secret := _secret(name, environ)):
            continue
        number = int(matched[1]) if matched[1] else None
        if number in found and found[number] != secret:
            raise ConfigError(f"{name} contradicts its namesake: unset one of them")
        found[number] = secret
    numbered: list[int | None] = [*sorted(n for n in found if n is not None)]
    keys: dict[str, Key] = {}
    for number in numbered or found:
        key = _key(provider, number, found[number], environ)
        keys.setdefault(key.secret, key)
    return list(keys.values())


def providers(environ: Mapping[str, str]) -> list[str]:
    """Every provider of which this environment holds a key."""
    names = re.compile(rf"([A-Z][A-Z0-9_]*?)_API_KEY(?:_(?:{_NUMBER}))?(?:_FILE)?")
    found = (names.fullmatch(name) for name, value in environ.items() if value.strip())
    return sorted({match[1].lower() for match in found if match})


def in_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Every key that is in a file, by the name of its variable."""
    return {
        name: secret
        for name in environ
        if _FILE.fullmatch(name) and (secret := _secret(name, environ))
    }


def variables(key: Key) -> dict[str, str]:
    """One key under its usual names, for a child that is to have it."""
    prefix = key.provider.upper()
    told = (key.secret, key.base_url, key.model)
    names = (f"{prefix}_{what}" for what in _WHAT)
    return {name: value for name, value in zip(names, told, strict=False) if value}


def without(env: Mapping[str, str], provider: str) -> dict[str, str]:
    """An environment without what `read_keys` reads: a child that gets one key has no other."""
    whats = "|".join(_WHAT)
    about = re.compile(rf"{provider.upper()}_(?:{whats})(?:_[0-9]+)?(?:_FILE)?")
    return {name: value for name, value in env.items() if not about.fullmatch(name)}


def _key(
    provider: str, number: int | None, secret: str, environ: Mapping[str, str]
) -> Key:
    url, model, pool = (_of(provider, what, number, environ) for what in _WHAT[1:])
    if pool is not None and not _POOL.fullmatch(pool):
        name = f"{provider.upper()}_POOL"
        raise ConfigError(f"{name}: a pool's name has letters, digits and . _ - only")
    if url is not None and not is_url(url):
        name = f"{provider.upper()}_BASE_URL"
        raise ConfigError(f"{name}: must be the https:// or http:// address of an API")
    name = provider if number is None else f"{provider}-{number}"
    return Key(name, provider, secret, base_url=url, model=model, pool=pool)


def _of(
    provider: str, what: str, number: int | None, environ: Mapping[str, str]
) -> str | None:
    """A key's own setting, or the one of all; blank says nothing."""
    name = f"{provider.upper()}_{what}"
    own = environ.get(f"{name}_{number}", "").strip()
    return own or environ.get(name, "").strip() or None


def _secret(name: str, environ: Mapping[str, str]) -> str:
    value = environ[name].strip()
    secret = _in_file(name, value) if name.endswith("_FILE") and value else value
    if not (secret.isascii() and secret.isprintable()) or " " in secret:
        raise ConfigError(f"{name} holds what no API key can: a space or odd letters")
    return secret


def _in_file(name: str, path: str) -> str:
    """The key in a file that is nobody else's to read, checked as it was opened.

    What should be a path may be the key itself, put there by mistake: it is not shown.
    """
    fd, reason = _opened(path)
    if reason:
        raise ConfigError(f"{name} names a file that we cannot read: {reason}")
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            raise ConfigError(f"{name} names what is no regular file")
        if seen.st_mode & 0o077:
            raise ConfigError(
                f"{name} names a file that others may read: make it yours alone"
                " (chmod 600)"
            )
        raw = os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
    return raw.decode(errors="replace").strip()


def _opened(path: str) -> tuple[int, str]:
    """A descriptor, or why there is none; no error that quotes the path is left."""
    try:
        return disk.open_to_read(path), ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return -1, "it is a symbolic link"
        return -1, error.strerror or "the disk does not say why"
