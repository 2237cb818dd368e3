"""Tasks that run again: which ones, and one of them under its lock."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from farm import process, register
from farm.claim import Holder
from farm.control import cancel_name, give
from farm.ledger import Claimed, Ledger, endings, history, peek
from farm.life import Life
from farm.project import Project
from farm.result import Head
from farm.revive import Revival, revive, with_skipped
from farm.states import Status, Why
from tests.attempts import attempt, begin, drop, end

NOW = 1_000_000.0
SLOW = {"max": 1, "base_delay": "2h", "max_delay": "2h"}  # retries

# -- which ones ------------------------------------------------------------------------


def itself(need: str) -> Iterable[str]:
    return [need]


def test_nothing_was_skipped() -> None:
    assert with_skipped(["b", "a"], {}, itself) == ["b", "a"]


def test_what_was_skipped_because_of_it_follows() -> None:
    assert with_skipped(["a"], {"b": ["a"], "x": ["y"]}, itself) == ["a", "b"]


def test_a_chain_of_the_skipped_follows() -> None:
    skipped = {"c": ["b"], "d": ["c"], "b": ["a"]}

    assert with_skipped(["a"], skipped, itself) == ["a", "b", "c", "d"]


def test_a_need_may_be_a_glob() -> None:
    def expand(need: str) -> list[str]:
        return ["a1", "a2"] if need == "a*" else [need]

    assert with_skipped(["a2"], {"join": ["other", "a*"]}, expand) == ["a2", "join"]


def test_each_follows_once() -> None:
    skipped = {"both": ["a", "b"], "end": ["both", "a"]}

    assert with_skipped(["a", "b", "a"], skipped, itself) == ["a", "b", "both", "end"]


def test_a_circle_of_the_skipped_comes_to_an_end() -> None:
    skipped = {"b": ["a", "c"], "c": ["b"]}

    assert sorted(with_skipped(["a"], skipped, itself)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ids", "skipped"),
    [
        (["after", "bad"], {"after": ["bad"]}),
        (["a", "b", "c"], {"a": ["b"], "b": ["c"]}),
        (["bad"], {"one": ["bad", "two"], "two": ["bad"]}),
        (["bad"], {"last": ["bad", "x"], "x": ["y"], "y": ["bad"]}),
    ],
    ids=["one", "chain", "both reached at once", "a longer way"],
)
def test_what_is_needed_comes_first(
    ids: list[str], skipped: dict[str, list[str]]
) -> None:
    order = with_skipped(ids, skipped, itself)
    too_early = [
        (one, need)
        for one, needs in skipped.items()
        for need in needs
        if order.index(one) < order.index(need)
    ]

    assert too_early == []


# -- one of them -----------------------------------------------------------------------


def again(project: Project, task_id: str, now: float = NOW + 1.0) -> Revival:
    return revive(
        project, Holder.passing(), task_id, now, register.counts(project, task_id)
    )


def kept(project: Project) -> list[str]:
    """Names of kept results, without the token."""
    names = [path.name.split(".") for path in Path(project.logs).iterdir()]
    return sorted(f"{name[0]}.{name[1]}.{name[-1]}" for name in names)


def ledgers(project: Project) -> list[str]:
    return project.ledger_names()


@pytest.mark.parametrize("why", [Why.FAILED, Why.SUCCEEDED, Why.CANCELLED])
def test_what_has_ended_is_ready_again(project: Project, why: Why) -> None:
    drop(project, "a")
    attempt(project, "a", why, NOW)

    assert again(project, "a") is Revival.REVIVED
    assert register.look(project, "a") is register.Lying.NOTHING
    assert ledgers(project) == []


def test_its_result_is_kept_in_the_logs_as_it_was(project: Project) -> None:
    drop(project, "tiles/1")
    attempt(project, "tiles/1", Why.FAILED, NOW)
    before = Path(project.result_path("tiles/1")).read_bytes()
    again(project, "tiles/1")
    (path,) = Path(project.logs).iterdir()

    assert kept(project) == ["tiles%2F1.1.retried"]
    assert path.read_bytes() == before


def test_each_retry_keeps_another_result(project: Project) -> None:
    drop(project, "a")
    for _ in range(3):
        attempt(project, "a", Why.FAILED, NOW)
        again(project, "a")

    assert kept(project) == ["a.1.retried"] * 3


def test_attempts_count_anew(project: Project) -> None:
    drop(project, "a", retries={"max": 1, "base_delay": 0})
    attempt(project, "a", Why.FAILED, NOW)
    attempt(project, "a", Why.FAILED, NOW + 1.0)
    again(project, "a", NOW + 2.0)
    first = attempt(project, "a", Why.FAILED, NOW + 3.0)

    assert (first.attempt, first.status) == (1, None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"status": "skipped", "version": 9}', id="it did not run"),
        pytest.param('{"status": "failed", "attempts": 7, "token": []}', id="odd ones"),
    ],
)
def test_a_result_without_attempts_that_can_be_read_is_kept_too(
    project: Project, text: str
) -> None:
    drop(project, "a")
    Path(project.result_path("a")).write_text(text)

    assert again(project, "a") is Revival.REVIVED
    assert kept(project) == ["a.0.retried"]


def test_an_old_order_to_cancel_does_not_hit_the_next_run(project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, NOW)
    give(project, cancel_name("a"))
    again(project, "a")

    assert list(Path(project.control).iterdir()) == []


def test_a_task_that_is_ready_stays_so(project: Project) -> None:
    drop(project, "a")

    assert again(project, "a") is Revival.READY
    assert ledgers(project) == []


def test_a_task_whose_file_is_gone_keeps_its_result(project: Project) -> None:
    drop(project, "a")
    attempt(project, "a", Why.FAILED, NOW)
    Path(project.task_path("a")).unlink()

    assert again(project, "a") is Revival.GONE
    assert isinstance(register.look(project, "a"), Head)
    assert ledgers(project) == []


def test_a_delay_is_over_but_its_attempt_still_counts(project: Project) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, NOW)
    hurried = again(project, "a", NOW)
    last = attempt(project, "a", Why.FAILED, NOW)

    assert hurried is Revival.HURRIED
    assert (last.attempt, last.status) == (2, Status.FAILED)


def test_a_delay_is_taken_away_once(project: Project) -> None:
    drop(project, "a", retries=SLOW)
    attempt(project, "a", Why.FAILED, NOW)

    assert again(project, "a", NOW) is Revival.HURRIED
    assert again(project, "a", NOW) is Revival.READY
    assert ledgers(project) == ["task-a.lock"]


def test_what_somebody_runs_is_busy(project: Project, alive: Life) -> None:
    drop(project, "a")
    taken = begin(project, "a", alive, NOW)

    assert again(project, "a") is Revival.BUSY
    assert end(project, taken, Why.SUCCEEDED, NOW + 2.0).status is Status.SUCCEEDED


def test_a_living_owner_whose_lock_was_lost_is_busy(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    taken = begin(project, "a", alive, NOW)
    taken.hold.ledger.abandon()
    before = Path(project.ledger_path("a")).read_bytes()

    assert again(project, "a") is Revival.BUSY
    assert Path(project.ledger_path("a")).read_bytes() == before


def test_what_a_dead_owner_left_is_settled_and_ready(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    begin(project, "a", alive, NOW).hold.ledger.abandon()
    alive.end()
    revival = revive(
        project,
        Holder("ada", alive.record.who),
        "a",
        NOW + 1.0,
        register.counts(project, "a"),
    )
    (ended,) = endings(history(peek(project.ledger_path("a"))))

    assert revival is Revival.READY
    assert ended.why is Why.LOST


def test_a_late_owner_cannot_commit_over_the_next_run(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    late = begin(project, "a", alive, NOW)
    lose_the_lock(project, late.hold.ledger)
    attempt(project, "a", Why.FAILED, NOW + 1.0)
    again(project, "a", NOW + 2.0)
    ending = end(project, late, Why.SUCCEEDED, NOW + 3.0)

    assert ending.status is None
    assert register.look(project, "a") is register.Lying.NOTHING


def test_a_late_owner_cannot_commit_while_the_next_one_runs(
    project: Project, alive: Life
) -> None:
    drop(project, "a")
    late = begin(project, "a", alive, NOW)
    lose_the_lock(project, late.hold.ledger)
    attempt(project, "a", Why.FAILED, NOW + 1.0)
    again(project, "a", NOW + 2.0)
    next_one = begin(project, "a", None, NOW + 3.0)
    fenced = end(project, late, Why.SUCCEEDED, NOW + 4.0)
    ending = end(project, next_one, Why.FAILED, NOW + 5.0)

    assert fenced.status is None
    assert ending.status is Status.FAILED


def lose_the_lock(project: Project, ledger: Ledger) -> None:
    """As if somebody had moved it away: the owner's lock is on no name any more."""
    Path(ledger.path).rename(f"{project.tmp}/moved")


def test_where_no_ledger_is_removed_attempts_count_anew_too(project: Project) -> None:
    project.network = True
    drop(project, "a")
    who = process.identify()
    me = Holder("me", who)
    ledger = Ledger.open(project.ledger_path("a"))
    assert ledger is not None
    ledger.append(Claimed("a", 1, "token", me.name, who, NOW))
    ledger.let_go()  # I died after the result was there, before the last line
    text = '{"status": "failed", "token": "x", "attempts": [{}]}'
    Path(project.result_path("a")).write_text(text)
    seen = register.counts(project, "a")
    revival = revive(project, me, "a", NOW + 1.0, seen)

    assert revival is Revival.REVIVED
    assert history(peek(project.ledger_path("a"))) == []
