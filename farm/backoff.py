"""How long to wait after a failure: pure arithmetic and one small class.

`full_jitter` is the arithmetic everybody uses; `AdaptiveBackoff` counts for
callers that fail several times in a row. Nothing here sleeps except
`AdaptiveBackoff.wait`.
"""

import os
from collections.abc import Callable

Uniform = Callable[[float, float], float]  #: `uniform`, or a test's own


def uniform(low: float, high: float) -> float:
    """A random number between two, without `random`: its import is 1 ms of a start."""
    return low + (high - low) * (int.from_bytes(os.urandom(7)) / 2**56)


def exponential(count: int, base: float, ceiling: float) -> float:
    """`base * 2**count` seconds, never above `ceiling`, at any count.

    The exponent is bounded first, because 2.0**1024 overflows.
    """
    return min(ceiling, base * 2.0 ** min(count, 64))


def full_jitter(
    count: int, base: float, ceiling: float, uniform: Uniform = uniform
) -> float:
    """A random delay in [0, exponential(...)] seconds.

    Full jitter: processes that failed together must not come back together.
    """
    return uniform(0.0, exponential(count, base, ceiling))


class AdaptiveBackoff:
    """Exponential backoff with jitter, for one thing that keeps failing.

    A delay is `base_delay * 2**consecutive_failures` seconds, at most `max_delay`,
    plus or minus a random share of it of up to `jitter_factor`: 0.0 none, 1.0 anything
    from nothing to twice the delay.
    """

    def __init__(
        self,
        base_delay: float = 1.0,
        max_delay: float = 60.0,
        jitter_factor: float = 0.1,
    ) -> None:
        self.base_delay = base_delay
        self.max_delay = max_delay
        self.jitter_factor = jitter_factor
        self.consecutive_failures = 0

    @classmethod
    def full(cls, base_delay: float, max_delay: float) -> "AdaptiveBackoff":
        """Full jitter: a random delay from nothing to what doubles up to `max_delay`.

        Processes that failed together must not come back together.
        """
        return cls(base_delay / 2, max_delay / 2, jitter_factor=1.0)

    def get_delay(self) -> float:
        """Seconds to wait now."""
        delay = exponential(self.consecutive_failures, self.base_delay, self.max_delay)
        return max(0.0, delay + delay * self.jitter_factor * uniform(-1.0, 1.0))

    def record_failure(self) -> None:
        """The next delay doubles."""
        self.consecutive_failures += 1

    def record_success(self) -> None:
        """The next delay is the first one again."""
        self.consecutive_failures = 0

    async def wait(self) -> None:
        """Sleep for `get_delay()` seconds without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - a worker starts a fifth sooner without it

        await asyncio.sleep(self.get_delay())
