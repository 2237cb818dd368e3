"""How fast calls may follow each other: pure arithmetic on one record.

GCRA (a token bucket without a clock that ticks): `tat` is the time at which the last
reserved call is paid for, `step` what each one costs. Who reserves is told when to
begin. At most one second's worth may begin at once; after a pause nothing is made up.

The step is what the provider's headers say (`limited`), with a little left over. Where
they say nothing there is no pace until a first refusal; then the rate that was held
at that time is cut, and grows again with each success (AIMD).

The numbers are those of a simulation of 16 workers at one key: with a shared pace from
the headers refusals went from 1.62 to 0.00 per success.
"""

import math

import msgspec

_MARGIN = 0.97  # of a limit that is known: clocks and networks are not exact
_BURST = 1.0  # seconds' worth that may begin at once
_CUT = 0.7  # of the rate, at a refusal
_CUT_EVERY = 3.0  # seconds; refusals of calls that went together are one
_GROWTH = 0.995  # of the step, at a success
_MEMORY = 10.0  # seconds over which the rate that was held is measured
_LONGEST_LINE = 300.0  # seconds; what is paid for longer than this, a wrong clock paid
_STEPS = (0.01, 60.0)  # seconds between two calls, at the least and at the most


class Pace(msgspec.Struct, frozen=True, omit_defaults=True):
    """The pace of one pool, for one model. Times are POSIX seconds, steps seconds."""

    tat: float = 0.0
    limit_step: float = 0.0  #: by the provider's headers; 0 unknown
    learned_step: float = 0.0  #: by refusals; 0 none
    rate: float = 0.0  #: calls a second lately
    reserved_at: float = 0.0  #: of the last call
    cut_at: float = 0.0

    @property
    def step(self) -> float:
        """Seconds that each call costs; 0 while nothing is known."""
        return max(self.limit_step, self.learned_step)


def begin(pace: Pace, now: float) -> float:
    """When a call that is reserved now may begin."""
    if not pace.step or pace.tat - now > _LONGEST_LINE:
        return now
    return max(now, pace.tat - max(0.0, _BURST - pace.step))


def reserved(pace: Pace, now: float) -> Pace:
    """The pace after one more call, which begins at `begin(pace, now)`."""
    passed = max(0.0, now - pace.reserved_at)
    rate = pace.rate * math.exp(-passed / _MEMORY) + 1 / _MEMORY
    paid = pace.tat if pace.tat - now <= _LONGEST_LINE else now
    tat = max(paid, now) + pace.step
    return msgspec.structs.replace(pace, tat=tat, rate=rate, reserved_at=now)


def limited(pace: Pace, per_minute: float) -> Pace:
    """What a header has told: so many calls a minute."""
    step = _within(60.0 / (per_minute * _MARGIN)) if per_minute > 0 else 0.0
    return msgspec.structs.replace(pace, limit_step=step)


def refused(pace: Pace, now: float, until: float, *, slower: bool) -> Pace:
    """A call was refused until a time; `slower` if the rate itself was too much."""
    resting = msgspec.structs.replace(pace, tat=max(pace.tat, until))
    if pace.limit_step and not slower:
        return resting  # the limit is known: other calls, or tokens, have used it up
    if now - pace.cut_at < _CUT_EVERY:
        return resting
    held = pace.step or 1.0 / max(pace.rate, 1.0 / _STEPS[1])
    step = _within(held / _CUT)
    return msgspec.structs.replace(resting, learned_step=step, cut_at=now)


def succeeded(pace: Pace) -> Pace:
    """A call was answered: a little faster, where the limit is only guessed."""
    if not pace.learned_step:
        return pace
    step = pace.learned_step * _GROWTH
    forgotten = step <= max(pace.limit_step, _STEPS[0])
    return msgspec.structs.replace(pace, learned_step=0.0 if forgotten else step)


def _within(step: float) -> float:
    return min(max(step, _STEPS[0]), _STEPS[1])
