"""farm.toml is read again when it changes."""

import os
from pathlib import Path

import pytest

from farm.config import Settings, load_settings
from farm.followed import SETTLE, Followed

AGENT = '[agents.ask]\npreset = "claude"\n'


class Toml:
    """A farm.toml, and a process that follows it."""

    def __init__(self, folder: Path, text: str | None, **flags: object) -> None:
        self.path = folder / "farm.toml"
        if text is not None:
            self.write(text)
        settings = load_settings(self.path, {}, flags)
        at_start = {"heartbeat"}
        self.there = Followed(self.path, settings, at_start, flags, {"workers"})
        self.tick = 100.0

    def write(self, text: str) -> None:
        """As an editor that saves aside and renames."""
        aside = self.path.with_suffix(".aside")
        aside.write_text(text)
        aside.rename(self.path)

    def said(self, after: float = 0.0) -> str | None:
        """What is told so many seconds later."""
        self.tick += after
        news = self.there.news(self.tick)
        assert news is None or news.settings is self.there.settings
        return news.words if news else None

    @property
    def settings(self) -> Settings:
        return self.there.settings


def test_while_nothing_changes_there_is_no_news(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "retries = 1")

    assert [toml.said(), toml.said(SETTLE), toml.said(SETTLE)] == [None] * 3


def test_what_has_changed_holds_at_once_and_is_told_once(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "retries = 1")
    toml.write(f"retries = 2\n{AGENT}")

    assert toml.said() == "farm.toml was read again: retries, agents from now on"
    assert (toml.settings.retries, list(toml.settings.agents)) == (2, ["ask"])
    assert toml.said(SETTLE) is None


def test_a_file_that_was_not_there_is_news(tmp_path: Path) -> None:
    toml = Toml(tmp_path, None)
    toml.write(AGENT)

    assert toml.said() == "farm.toml was read again: agents from now on"


def test_what_was_made_at_the_start_needs_a_restart(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "heartbeat = 1")
    toml.write("heartbeat = 3\ngrace = 9")

    assert toml.said() == (
        "farm.toml was read again: grace from now on; heartbeat after a restart"
    )
    assert (toml.settings.heartbeat, toml.settings.grace) == (1.0, 9.0)
    toml.write("heartbeat = 3\ngrace = 8")
    assert toml.said() == "farm.toml was read again: grace from now on"


@pytest.mark.parametrize("text", ["retries = 1\n# mine", "retries = 1\nworkers = 3"])
def test_what_does_not_concern_the_process_is_not_told(
    tmp_path: Path, text: str
) -> None:
    toml = Toml(tmp_path, "retries = 1")
    toml.write(text)

    assert toml.said() is None


def test_a_flag_outweighs_the_new_file_too(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "", grace="7s")
    toml.write("grace = 9\nretries = 5")

    assert toml.said() == "farm.toml was read again: retries from now on"
    assert toml.settings.grace == 7.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("retries = ", "this is not TOML"),
        ("retrys = 2", "farm.toml:1:1: unknown setting `retrys`"),
        ("retries = -1", "`retries` must be"),
    ],
)
def test_of_a_wrong_file_it_is_said_that_the_settings_from_before_stay(
    tmp_path: Path, text: str, why: str
) -> None:
    toml = Toml(tmp_path, "retries = 1")
    toml.write(text)
    at_once, later = toml.said(), toml.said(SETTLE)

    assert at_once is None
    assert later is not None
    assert why in later
    assert later.endswith("; the settings from before stay in force")
    assert toml.settings.retries == 1
    assert toml.said(SETTLE) is None


def test_a_file_that_was_put_right_is_told_of(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "retries = 1")
    toml.write("retries = ")
    toml.said()
    toml.said(SETTLE)
    toml.write("retries = 1\n")

    assert toml.said() == "farm.toml was read again: as before"


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "empty"])
def test_a_file_that_an_editor_is_writing_is_not_believed(
    tmp_path: Path, gone: bool
) -> None:
    toml = Toml(tmp_path, "retries = 4")
    toml.path.unlink() if gone else toml.path.write_text("")
    first = toml.said()
    toml.write("retries = 5")

    assert (first, toml.said()) == (
        None,
        "farm.toml was read again: retries from now on",
    )


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "empty"])
def test_a_file_that_stays_empty_means_the_defaults(tmp_path: Path, gone: bool) -> None:
    toml = Toml(tmp_path, "retries = 4")
    toml.path.unlink() if gone else toml.path.write_text("")
    toml.said()

    assert toml.said(SETTLE) == "farm.toml was read again: retries from now on"
    assert toml.settings.retries == 0


def test_a_change_between_the_first_reading_and_us_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    before = load_settings(path, {}, {})
    path.write_text("retries = 3")
    long_ago = path.stat().st_mtime - 1000
    os.utime(path, (long_ago, long_ago))
    there = Followed(path, before, set())

    assert there.news(1.0) is not None
    assert there.settings.retries == 3


def test_two_changes_in_one_tick_of_the_clock_are_both_seen(tmp_path: Path) -> None:
    toml = Toml(tmp_path, "retries = 4")
    toml.path.write_text("retries = 5")
    toml.said()
    seen = toml.path.stat()
    toml.path.write_text("retries = 6")
    os.utime(toml.path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    toml.said()

    assert toml.settings.retries == 6
