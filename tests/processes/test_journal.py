"""Journals that lie, or have lost lines: what verbs decide is what the results say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.driver import Farm

pytestmark = pytest.mark.processes


def run_twice(farm: Farm, between: Callable[[], object]) -> None:
    """A task succeeds, and fails when it is run again."""
    farm.drop("t", run="test -e go")
    farm.write("go", "")
    farm.work()
    (farm.root / "go").unlink()
    between()
    farm.work()


def journals(farm: Farm) -> list[Path]:
    return sorted((farm.state / "journal").glob("*.jsonl"))


def lines(farm: Farm, status: str) -> list[tuple[Path, bytes]]:
    """Where the journals say that a task ended so."""
    mark = f'"status":"{status}"'.encode()
    found = [(path, path.read_bytes()) for path in journals(farm)]
    return [(path, raw) for path, raw in found if mark in raw]


def set_ahead(farm: Farm) -> None:
    """The worker that saw it succeed had a clock that is ten minutes ahead."""
    for path, raw in lines(farm, "succeeded"):
        entry = json.loads(raw)
        path.write_text(json.dumps(entry | {"at": entry["at"] + 600}) + "\n")


def lose_the_last(farm: Farm) -> None:
    """The worker that saw it fail was killed before the line, or a power cut took it."""
    for path, raw in lines(farm, "failed"):
        path.write_bytes(raw[: len(raw) // 2])


def lose_all(farm: Farm) -> None:
    for path in journals(farm):
        path.unlink()


def keep_all(_farm: Farm) -> None:
    pass


@pytest.mark.parametrize("lose", [keep_all, lose_the_last, lose_all])
@pytest.mark.parametrize("again", ["retry", "rm"])
@pytest.mark.parametrize("clock", [keep_all, set_ahead])
def test_what_a_task_came_to_is_what_its_result_says(
    farm: Farm,
    again: str,
    clock: Callable[[Farm], None],
    lose: Callable[[Farm], None],
) -> None:
    def run_again() -> None:
        clock(farm)
        if again == "retry":
            farm.farm("retry", "t")
        else:
            (farm.tasks / "t.result.json").unlink()

    run_twice(farm, run_again)
    lose(farm)
    counts = json.loads(farm.farm("status", "--json").stdout)["counts"]

    assert farm.result("t")["status"] == "failed"
    assert (counts["failed"], counts["succeeded"]) == (1, 0)
    assert farm.farm("wait").returncode == 1
    assert farm.work() == 1
    assert farm.farm("retry", "--failed").stdout == "t\n"
