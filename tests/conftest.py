"""Fixtures that every test may ask for."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from farm.life import Life
from farm.project import Project
from tests import skips
from tests.driver import Farm


def pytest_configure() -> None:
    """Let what tests start hear Ctrl-C and a terminal's end, under `nohup` and `&` too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    # How long an example takes says nothing where four processes share two cores.
    slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("slowly", slowly)
    settings.load_profile("slowly")


@pytest.fixture
def farm(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Farm]:
    """A project with real processes, all of them ended afterwards."""
    there = Farm(tmp_path / "project")
    yield there
    there.end()
    report = getattr(request.node, "report", None)
    if report is not None and report.failed:
        print(there.describe())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember how the test went, for the fixture above; see `tests/skips.py`, too."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's own type
    if report.skipped and (refused := skips.refusal(report.longrepr[2])):
        report.outcome, report.longrepr = "failed", refused
    if report.when == "call":
        item.report = report  # type: ignore[attr-defined]  # a place of our own


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project on disk, without processes."""
    (tmp_path / "project").mkdir()
    return Project.open(tmp_path / "project")


@pytest.fixture
def alive(project: Project) -> Iterator[Life]:
    """A living worker named ada."""
    there = Life.begin(project, "ada", now=1000.0, heartbeat=2.0)
    yield there
    there.end()


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """People live 12 h 45 min east of Greenwich."""
    monkeypatch.setenv("TZ", "ODD-12:45")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
