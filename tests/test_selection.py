"""Which tasks a command means."""

import pytest

from farm.selection import WORDS, Choice, UnknownTaskError, choose, named

KNOWN = {
    "build": "succeeded",
    "test": "failed",
    "tiles/0": "ready",
    "tiles/1": "failed",
    "tiles/deep/2": "running",
    "odd[1]": "ready",
    "odd1": "ready",
}


def chosen(*patterns: str, words: tuple[str, ...] = ()) -> list[str]:
    return choose(Choice(patterns, frozenset(words)), KNOWN, KNOWN.__getitem__)


def test_nothing_said_means_all_sorted() -> None:
    assert chosen() == sorted(KNOWN)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["build"], ["build"]),
        (["test", "build"], ["build", "test"]),
        (["build", "build", "b*"], ["build"]),
        (["tiles/*"], ["tiles/0", "tiles/1"]),
        (["tiles/**"], ["tiles/0", "tiles/1", "tiles/deep/2"]),
        (["**/2"], ["tiles/deep/2"]),
        (["tiles/[01]", "build"], ["build", "tiles/0", "tiles/1"]),
        (["t?st"], ["test"]),
        (["**"], sorted(KNOWN)),
    ],
    ids=" ".join,
)
def test_ids_and_globs_add_up(patterns: list[str], expected: list[str]) -> None:
    assert chosen(*patterns) == expected


def test_an_id_that_looks_like_a_glob_is_itself() -> None:
    assert chosen("odd[1]") == ["odd[1]"]


@pytest.mark.parametrize(
    ("patterns", "words", "expected"),
    [
        ([], ["failed"], ["test", "tiles/1"]),
        ([], ["failed", "succeeded"], ["build", "test", "tiles/1"]),
        (["tiles/*"], ["failed"], ["tiles/1"]),
        (["build"], ["failed"], []),
        ([], ["lost"], []),
    ],
)
def test_words_only_narrow(
    patterns: list[str], words: tuple[str, ...], expected: list[str]
) -> None:
    assert chosen(*patterns, words=words) == expected


def test_an_id_that_is_not_there_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownTaskError, match=r"no task biuld, did you mean `build`"):
        chosen("test", "biuld")


def test_an_id_that_is_near_nothing_is_only_named() -> None:
    with pytest.raises(UnknownTaskError, match=r"there is no task xyz$"):
        chosen("xyz")


def test_a_glob_that_matches_nothing_is_an_error_that_says_how_globs_work() -> None:
    with pytest.raises(UnknownTaskError, match=r"no task matches deep/\*.*`/`"):
        chosen("deep/*")


def test_a_glob_is_an_error_by_what_exists_and_not_by_words() -> None:
    assert chosen("odd*", words=("lost",)) == []


def test_nothing_is_known_of_an_empty_project() -> None:
    with pytest.raises(UnknownTaskError, match="there is no task build"):
        named("build", set())


@pytest.mark.parametrize(
    ("choice", "everything"),
    [
        (Choice(), True),
        (Choice(("**",)), False),
        (Choice((), frozenset({"failed"})), False),
    ],
)
def test_everything_is_when_nothing_was_said(choice: Choice, everything: bool) -> None:
    assert choice.is_everything is everything


def test_a_word_says_where_a_task_is_or_how_it_ended() -> None:
    expected = "ready running waiting succeeded failed timed_out cancelled skipped"

    assert " ".join(WORDS) == f"{expected} invalid lost"
