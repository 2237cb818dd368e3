"""Who may call: keys by label, and the pools that share a limit.

A key's value is not kept, only its digest: nothing here could show one.
"""

import hashlib
from dataclasses import dataclass

from tests.provider.buckets import Bucket, full_bucket


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as everybody may see it."""

    label: str
    pool: str
    bucket: Bucket | None  # None: without a limit


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Keyring:
    """All keys; the caller holds a lock."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Key] = {}
        self._pools: dict[str, Bucket | None] = {}

    def add(self, secret: str, key: Key) -> None:
        """A label that is there already gets a new value: the old one is unknown."""
        self.remove(key.label)
        self._keys[digest(secret)] = key

    def remove(self, label: str) -> None:
        self._keys = {
            known: key for known, key in self._keys.items() if key.label != label
        }

    def limit_pool(
        self, pool: str, per_minute: int | None, burst: float | None, now: float
    ) -> None:
        self._pools[pool] = full_bucket(per_minute, burst, now)

    def has_pool(self, pool: str) -> bool:
        return pool in self._pools

    def find(self, secret: str) -> Key | None:
        return self._keys.get(digest(secret))

    def buckets(self, key: Key) -> list[Bucket]:
        """A call takes a token from each of these."""
        both = (key.bucket, self._pools.get(key.pool))
        return [bucket for bucket in both if bucket is not None]
