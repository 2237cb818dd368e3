"""Follow what an agent's program prints while it runs: its events are signs of work.

An event is one, except one that only announces that the program tries again. While a
call of a tool is open, what its processes compute is work as well: a test suite may print
nothing for half an hour. Those are the processes that began after the last look at which
no call was open; what the program itself computes while it waits is no work.
"""

from collections.abc import Callable, Iterator

from farm import middle, process
from farm.guard import Computed
from farm.presets import NO_SIGN, Preset, Sign, events

LONGEST_LINE = 64 << 20  #: bytes; a longer one is passed over


class EventSigns:
    """The signs in one log of one attempt; see `farm.guard`."""

    def __init__(self, log: int, preset: Preset, token: str, ticks: int) -> None:
        """`ticks`: when the program itself began."""
        self._lines = middle.Lines(log, LONGEST_LINE)
        self._preset = preset
        self._token = token
        self._open: set[str] = set()  # calls of tools
        self._computed: Computed | None = None
        self._since = ticks + 1  # the last look at which none was open
        self.last = ""
        self.is_final = False

    def seen(self) -> bool:
        """Whether a sign of work came since the last time."""
        signs = [self._learned(sign) for sign in self._new()]
        if not self._open:
            self._since, self._computed = process.ticks_now(), None
        return any(signs)

    def computing(self) -> Callable[[], float] | None:
        """What the tools compute that are at work."""
        if not self._open:
            return None
        self._computed = self._computed or Computed(self._token, self._since)
        return self._computed

    def _learned(self, sign: Sign) -> bool:
        self.last = sign.words or self.last
        self._open.update(sign.opened)
        self._open.difference_update(sign.closed)
        if sign.is_work:
            self.is_final = sign.is_final
        return sign.is_work

    def _new(self) -> Iterator[Sign]:
        for event in events(self._lines.new()):
            yield NO_SIGN if isinstance(event, str) else self._preset.sign(event)
