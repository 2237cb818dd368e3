"""Whether an endpoint is worth a call: pure decisions on one record.

closed      calls go; failures in a row are counted
open        nobody calls until a time that grows with each opening
half-open   the time is over: one prober has a lease, everybody else waits

It opens after five failures in a row, or when half of at least ten calls within a
minute failed, of all processes together; or at once for as long as the endpoint asks
for. One success closes it. Times are POSIX seconds.
"""

import msgspec

from farm.backoff import Uniform, exponential, uniform

IN_A_ROW = 5  # failures that open it
SHARE, OF_AT_LEAST, WITHIN = 0.5, 10, 60.0  # or this share of the calls in a minute
_FIRST, _LONGEST = 5.0, 300.0  # seconds that it stays open
_LONGEST_ASKED = 3600.0  # seconds; an endpoint that asks for more is asked again
LEASE = 60.0  # seconds that a prober has; then another may try
_LONGEST_LEASE = 2 * LEASE  # seconds; a prober may wait for its turn. More is a clock's
_NEXT_LOOK = 1.0  # seconds after which who waits for a prober looks again


class Circuit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What all processes know of one endpoint."""

    in_a_row: int = 0
    window_since: float = 0.0
    calls: int = 0  #: in the window
    failed: int = 0
    opened: int = 0  #: how often in a row it was opened
    since: float = 0.0  #: when it was opened last
    until: float = 0.0  #: 0 while it is closed
    leased: float = 0.0  #: a prober has it until then

    @property
    def is_calm(self) -> bool:
        """Whether nothing is known against it, so that a success is no news."""
        return self.until == 0.0 and self.in_a_row == 0 and self.failed == 0


def free_at(circuit: Circuit, now: float) -> float:
    """When the next call may go."""
    if circuit.until == 0.0 or circuit.since > now + LEASE:  # a clock was set back
        return now
    until = min(circuit.until, circuit.since + _LONGEST_ASKED)
    if now < until:
        return until
    is_leased = now < circuit.leased <= now + _LONGEST_LEASE
    return min(circuit.leased, now + _NEXT_LOOK) if is_leased else now


def leased(circuit: Circuit, at: float) -> Circuit:
    """The same with us as its prober from then on; only when it is open and free."""
    if circuit.until == 0.0:
        return circuit
    return msgspec.structs.replace(circuit, leased=at + LEASE)


def failed(
    circuit: Circuit,
    began: float,
    now: float,
    retry_at: float | None,
    uniform: Uniform = uniform,
) -> Circuit:
    """A call that began then has failed now."""
    if circuit.until and began < circuit.since <= now:
        return circuit  # it went before this was known: no news
    in_window = 0.0 <= now - circuit.window_since <= WITHIN
    after = msgspec.structs.replace(
        circuit,
        in_a_row=circuit.in_a_row + 1,
        window_since=circuit.window_since if in_window else now,
        calls=circuit.calls + 1 if in_window else 1,
        failed=circuit.failed + 1 if in_window else 1,
    )
    many = after.calls >= OF_AT_LEAST and after.failed >= SHARE * after.calls
    trips = circuit.until > 0 or after.in_a_row >= IN_A_ROW or many
    if not trips and retry_at is None:
        return after
    longest = exponential(circuit.opened, _FIRST, _LONGEST)
    until = retry_at or now + uniform(longest / 2, longest)
    return msgspec.structs.replace(
        after,
        opened=circuit.opened + 1,
        since=now,
        until=max(until, now + _NEXT_LOOK),
        leased=0.0,
    )


def succeeded(circuit: Circuit, began: float, now: float) -> Circuit:
    """A call that began then was answered: it closes what was opened before."""
    if circuit.until and began < circuit.since <= now:
        return circuit
    if circuit.until or not 0.0 <= now - circuit.window_since <= WITHIN:
        return Circuit()
    return msgspec.structs.replace(circuit, in_a_row=0, calls=circuit.calls + 1)
