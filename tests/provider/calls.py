"""The record of what a provider got: never a key, only its label."""

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OK = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One call; its `repr` shows neither headers nor body."""

    at: float  # of the provider's clock, by default `time.monotonic`
    key: str | None  # label; None: no key, or one that nobody knows
    pool: str | None
    path: str
    status: int  # decided when it came, sent when released; 0: none was sent
    request_id: str
    key_header: str | None  # that the key came in, lower case
    headers: dict[str, str] = field(repr=False)  # lower case, without the key
    body: dict[str, Any] = field(repr=False)  # empty if it was no JSON object


class Record:
    """Calls in order of arrival, for many threads."""

    def __init__(self, log: Callable[[Call], None] | None = None) -> None:
        self._calls: list[Call] = []
        self._changed = threading.Condition()
        self._log = log

    def add(self, call: Call) -> None:
        with self._changed:
            self._calls.append(call)
            if self._log:
                self._log(call)
            self._changed.notify_all()

    def all(self) -> list[Call]:
        with self._changed:
            return list(self._calls)

    def wait_for(self, number: int, timeout: float) -> list[Call]:
        """Until so many calls have come; returns all there are."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: len(self._calls) >= number, timeout=timeout
            )
            if not came:
                raise AssertionError(
                    f"{len(self._calls)} of {number} calls within {timeout} s"
                )
            return list(self._calls)


def chosen(
    calls: list[Call],
    *,
    status: int | None = None,
    key: str | None = None,
    pool: str | None = None,
) -> list[Call]:
    """Those with this status, key and pool; None: any."""
    return [
        call
        for call in calls
        if status in {None, call.status}
        and key in {None, call.key}
        and pool in {None, call.pool}
    ]


def most_within(seconds: float, times: list[float]) -> int:
    """The largest number of these times in any window [t, t + seconds)."""
    times = sorted(times)
    return max(
        (
            bisect_left(times, start + seconds) - first
            for first, start in enumerate(times)
        ),
        default=0,
    )
