"""Globs over task ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.pattern import compiled, is_glob, matches


@pytest.mark.parametrize(
    ("glob", "task_id"),
    [
        ("build", "build"),
        ("tiles/0-0", "tiles/0-0"),
        ("*", "build"),
        ("tiles/*", "tiles/0-0"),
        ("tiles/*-0", "tiles/12-0"),
        ("*/test", "a/test"),
        ("?", "a"),
        ("t?", "t\u00e4"),
        ("**", "a/b/c"),
        ("a/**", "a/b/c"),
        ("a/**/z", "a/z"),
        ("a/**/z", "a/b/c/z"),
        ("**/z", "z"),
        ("**/z", "a/b/z"),
        ("[ab]", "b"),
        ("[a-c]x", "cx"),
        ("[!a-c]", "d"),
        ("[]]", "]"),
        ("[!]]", "a"),
        ("[[]", "["),
        ("[\\]", "\\"),
        ("a.b", "a.b"),
        ("a+(b)|{c}^$", "a+(b)|{c}^$"),
        ("[a", "[a"),
        ("a]", "a]"),
        ("*", "two\nlines"),
        ("[a-]", "-"),
        ("[^a]", "^"),
    ],
)
def test_a_glob_matches(glob: str, task_id: str) -> None:
    assert matches(glob, task_id)


@pytest.mark.parametrize(
    ("glob", "task_id"),
    [
        ("build", "build2"),
        ("build", "rebuild"),
        ("*", "a/b"),
        ("tiles/*", "tiles/a/b"),
        ("tiles/*", "tiles"),
        ("?", "/"),
        ("?", "ab"),
        ("a/**", "a"),
        ("a**/z", "b/z"),
        ("[!a]", "/"),
        ("a[!b]c", "a/c"),
        ("a[.-0]c", "a/c"),
        ("[a-c]", "d"),
        ("[!a-c]", "b"),
        ("a.b", "axb"),
        ("**/z", "az"),
        ("", "a"),
    ],
)
def test_a_glob_does_not_match(glob: str, task_id: str) -> None:
    assert not matches(glob, task_id)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", False), ("a/b", False), ("*", True), ("a?", True), ("[a]", True)],
)
def test_a_glob_is_known_by_its_letters(text: str, expected: bool) -> None:
    assert is_glob(text) is expected


@pytest.mark.parametrize("glob", ["[]", "[!]", "[z-a]", "[a--b]", "[a||b]", "[a~~b]"])
def test_an_odd_glob_is_a_pattern_too(glob: str) -> None:
    compiled(glob)


@given(st.text("ab/*?[]!-^\\.&~|", max_size=12))
def test_every_text_is_a_pattern(text: str) -> None:
    compiled(text)


@given(st.text(max_size=20).filter(lambda text: not is_glob(text)))
def test_a_text_that_is_no_glob_matches_only_itself(text: str) -> None:
    assert matches(text, text)
    assert not matches(text, f"{text}x")


@given(st.text("ab/", min_size=1, max_size=8))
def test_two_stars_match_everything(task_id: str) -> None:
    assert matches("**", task_id)
    assert matches("*", task_id) is ("/" not in task_id)
