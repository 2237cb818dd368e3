"""The settings of a process that lives long: farm.toml is read again when it changes.

    followed = Followed(project.settings, settings, at_start={"heartbeat"})
    news = followed.news(tick)     News(settings, words), or None if there is none

Flags and FARM_* variables stay as they were given. What a process has made at its start
(`at_start`) stays, too, and the words say that it needs a restart. Of a file that is wrong
the words say why, and the settings from before stay in force.

A file that is gone, empty or wrong may be on its way to its new content, and is believed
when it has stood still for `SETTLE` seconds; any other is believed at once.
"""

import os
import time
from collections.abc import Mapping, Set
from typing import NamedTuple

import msgspec

from farm import disk
from farm.config import AGENTS, SETTINGS_HELP, Settings, load_settings
from farm.errors import ConfigError
from farm.tomlfile import FilePath

SETTLE = 2.0  # seconds
_NEW_NS = 60_000_000_000  # a start takes less

Signature = tuple[int, ...]


class News(NamedTuple):
    """The settings from now on, and what is to be said of them."""

    settings: Settings
    words: str


class Followed:
    """See the module's docstring; `tick` is in monotonic seconds."""

    def __init__(
        self,
        path: FilePath,
        settings: Settings,
        at_start: Set[str],
        flags: Mapping[str, object] = {},
        not_ours: Set[str] = frozenset(),
    ) -> None:
        """`not_ours` are settings that this process has no use for."""
        self.settings = settings
        self._not_ours = not_ours
        self._path, self._flags, self._at_start = path, flags, at_start
        self._environ = {n: v for n, v in os.environ.items() if n.startswith("FARM_")}
        self._told = settings  # as the file says it, also what needs a restart
        self._seen, _ = self._look()
        # RACE: a file so new may have changed since we read it: it is read once more.
        self._settled = not self._seen or time.time_ns() - self._seen[-1] > _NEW_NS
        self._since = float("-inf")  # when the file was first seen as it is
        self._trouble = ""  # of the file as it is, as it was said

    def news(self, tick: float) -> News | None:
        """What a changed file says, told once; one `stat` while nothing changes."""
        seen, settled = self._look()
        if seen == self._seen and self._settled:
            return None
        if seen != self._seen:
            self._since = tick
        self._seen = seen
        still = tick - self._since >= SETTLE
        try:
            fresh = load_settings(self._path, self._environ, self._flags)
        except ConfigError as error:
            self._settled = settled and still
            return self._refused(str(error)) if still else None
        is_whole = still or seen[1:2] > (0,)
        self._settled = settled and is_whole
        return self._taken(fresh) if is_whole else None

    def _refused(self, why: str) -> News | None:
        if why == self._trouble:
            return None
        self._trouble = why
        return News(self.settings, f"{why}; the settings from before stay in force")

    def _taken(self, fresh: Settings) -> News | None:
        changed = _differences(self._told, fresh)
        mended, self._trouble, self._told = bool(self._trouble), "", fresh
        kept = {name: getattr(self.settings, name) for name in self._at_start}
        self.settings = msgspec.structs.replace(fresh, **kept)
        others = self._at_start | self._not_ours
        now = [name for field, name in changed.items() if field not in others]
        later = [name for field, name in changed.items() if field in self._at_start]
        words = [f"{', '.join(now)} from now on"] if now else []
        words += [f"{', '.join(later)} after a restart"] if later else []
        if not words and not mended:
            return None
        return News(
            self.settings,
            f"farm.toml was read again: {'; '.join(words) or 'as before'}",
        )

    def _look(self) -> tuple[Signature, bool]:
        """By what the file is known again, and whether the next change will show."""
        try:
            now = os.stat(self._path)
        except OSError:
            return (), True  # what appears there is another one
        signature = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return signature, disk.has_settled(now.st_ctime_ns)


def _differences(before: Settings, after: Settings) -> dict[str, str]:
    """Fields that are not as they were, each with its name in farm.toml."""
    names = {row.field: row.name for row in SETTINGS_HELP.values()} | {AGENTS: AGENTS}
    return {
        field: name
        for field, name in names.items()
        if getattr(before, field) != getattr(after, field)
    }
