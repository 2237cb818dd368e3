"""Token buckets: how many calls a key, and the pool it belongs to, may make.

Time is an argument, in seconds of any one clock. A bucket holds `burst` tokens at most
and gains `per_minute / 60` a second; a call takes one.
"""

from dataclasses import dataclass
from typing import NamedTuple

ROUNDING = 1e-9  # of a token: 0.1 s ten times is a second


class Limits(NamedTuple):
    """What the headers of an answer tell about a bucket."""

    per_minute: int
    remaining: int
    full_in: float  # seconds until nothing of it is used


@dataclass(slots=True)
class Bucket:
    """A token bucket, full at first."""

    per_minute: int
    burst: float
    tokens: float
    filled_at: float

    def wait(self, now: float) -> float:
        """Seconds until a token is there; 0 if one is."""
        self._fill(now)
        missing = 1 - self.tokens
        return missing * 60 / self.per_minute if missing > ROUNDING else 0.0

    def take(self, now: float) -> None:
        """One call; `wait` has said 0."""
        self._fill(now)
        self.tokens -= 1

    def limits(self, now: float) -> Limits:
        self._fill(now)
        full_in = (self.burst - self.tokens) * 60 / self.per_minute
        return Limits(self.per_minute, int(self.tokens + ROUNDING), full_in)

    def _fill(self, now: float) -> None:
        gained = max(0.0, now - self.filled_at) * self.per_minute / 60
        self.tokens = min(self.burst, self.tokens + gained)
        self.filled_at = max(now, self.filled_at)


def full_bucket(
    per_minute: int | None, burst: float | None, now: float
) -> Bucket | None:
    """Its burst is what one second brings, if not told, and never less than a call.

    Without a limit there is no bucket.
    """
    if per_minute is None:
        return None
    room = max(1.0, per_minute / 60 if burst is None else burst)
    return Bucket(per_minute, room, tokens=room, filled_at=now)


def wait_for_all(buckets: list[Bucket], now: float) -> float:
    """Take one token of each and return 0; or take none, and return how long to wait."""
    wait = max((bucket.wait(now) for bucket in buckets), default=0.0)
    if not wait:
        for bucket in buckets:
            bucket.take(now)
    return wait


def tightest(buckets: list[Bucket], now: float) -> Limits | None:
    """The limit that bites first, which is the one that headers tell."""
    return min(
        (bucket.limits(now) for bucket in buckets),
        key=lambda limits: (limits.remaining, -limits.full_in),
        default=None,
    )
