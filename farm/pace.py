"""How fast calls may follow each other: pure arithmetic on one record.

GCRA (a token bucket without a clock that ticks): `tat` is the time at which the last
reserved call is paid for, `step` what each one costs. Who reserves is told when to
begin. At most one second's worth may begin at once; after a pause nothing is made up.

The step is what the provider's headers say (`limited`), with a little left over. While
nothing is known, two calls begin at once and the rate may double in a second: the
first answer, be it a refusal, is there before many have gone. A refusal cuts the
rate, a little where a header says the limit and much where it is only guessed, and it
grows again with each success (AIMD).
"""

import math

import msgspec

_MARGIN = 0.97  # of a limit that is known: clocks and networks are not exact
_BURST = 1.0  # seconds' worth that may begin at once
_FIRST = 2.0  # calls a second, of who knows nothing
_CUT = 0.7  # of the rate, at a refusal
_FIRST_CUT = 0.4  # the same while nothing is known, and the rate doubles each second
_CUT_OF_KNOWN = 0.9  # the same where it is told: other calls, or tokens, used it up
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


def step(pace: Pace, now: float) -> float:
    """Seconds that a call costs."""
    known = max(pace.limit_step, pace.learned_step)
    return known or 1.0 / (_FIRST + _rate(pace, now) * _MEMORY)


def _rate(pace: Pace, now: float) -> float:
    return pace.rate * math.exp(-max(0.0, now - pace.reserved_at) / _MEMORY)


def begin(pace: Pace, now: float) -> float:
    """When a call that is reserved now may begin."""
    if pace.tat - now > _LONGEST_LINE:
        return now
    return max(now, pace.tat - max(0.0, _BURST - step(pace, now)))


def reserved(pace: Pace, now: float) -> Pace:
    """The pace after one more call, which begins at `begin(pace, now)`."""
    paid = pace.tat if pace.tat - now <= _LONGEST_LINE else now
    return msgspec.structs.replace(
        pace,
        tat=max(paid, now) + step(pace, now),
        rate=_rate(pace, now) + 1 / _MEMORY,
        reserved_at=now,
    )


def limited(pace: Pace, per_minute: float, now: float) -> Pace:
    """What a header has told: so many calls a minute. It ends all guessing before it."""
    if per_minute <= 0:
        return pace
    limit = _within(60.0 / (per_minute * _MARGIN))
    if pace.limit_step:
        return msgspec.structs.replace(pace, limit_step=limit)
    # What was guessed has paid too much for the calls until now, or too little for the
    # last; a rest stays paid for.
    debt = limit * _rate(pace, now) * _MEMORY
    paid = pace.tat if pace.learned_step else min(pace.tat, now + debt)
    tat = max(paid, pace.reserved_at + limit)
    return msgspec.structs.replace(pace, limit_step=limit, learned_step=0.0, tat=tat)


def joined(pace: Pace, other: Pace, now: float) -> Pace:
    """One pace for two that turn out to share a limit: what either used is used."""
    debts = (min(max(0.0, one.tat - now), _LONGEST_LINE) for one in (pace, other))
    return Pace(
        tat=now + sum(debts),
        limit_step=max(pace.limit_step, other.limit_step),
        learned_step=max(pace.learned_step, other.learned_step),
        rate=_rate(pace, now) + _rate(other, now),
        reserved_at=now,
        cut_at=max(pace.cut_at, other.cut_at),
    )


def refused(
    pace: Pace, asked: float, now: float, until: float, *, slower: bool
) -> Pace:
    """A call was refused until a time; `slower` if the rate itself was too much.

    `asked` is when it was reserved: calls that were before a cut know nothing of it.
    """
    resting = msgspec.structs.replace(pace, tat=max(pace.tat, until))
    if asked < pace.cut_at <= now:
        return resting
    learned = _within(step(pace, now) / _cut(pace, slower=slower))
    return msgspec.structs.replace(resting, learned_step=learned, cut_at=now)


def _cut(pace: Pace, *, slower: bool) -> float:
    if pace.limit_step and not slower:
        return _CUT_OF_KNOWN
    return _CUT if pace.limit_step or pace.learned_step else _FIRST_CUT


def succeeded(pace: Pace) -> Pace:
    """A call was answered: a little faster, where the limit is only guessed."""
    if not pace.learned_step:
        return pace
    step = pace.learned_step * _GROWTH
    forgotten = step <= max(pace.limit_step, _STEPS[0])
    return msgspec.structs.replace(pace, learned_step=0.0 if forgotten else step)


def _within(step: float) -> float:
    return min(max(step, _STEPS[0]), _STEPS[1])
