"""Globs over task ids."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.pattern import (
    Globs,
    beginning,
    compiled,
    is_glob,
    literal,
    matches,
    unescaped,
)
from tests.waiting import within_processor_time


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
        ("a**/z", "az"),
        ("a**b*c", "a/b/bc"),
        ("*a*/b*/c*", "xax/bx/cx"),
        ("**/a*b/**/c", "x/aab/x/y/c"),
        ("**/a/**", "x/a/b"),
        ("**a**b**", "x/a/x/b/x"),
        ("[]-a]", "^"),
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
        ("a**b*c", "a/b/b/c"),
        ("**/a*b/**/c", "x/ab/xc"),
        ("*a*/b*", "xa/x/b"),
        ("[z-a]", "b"),
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


#: what goes back to try another way needs for ever to say no to this
MANY = "a" * 60
NEARLY = [
    ("*a" * 12 + "b", MANY),
    ("*a" * 40 + "*b", MANY),
    ("**a" * 20 + "b", MANY),
    ("**/*a" * 20 + "b", "/".join(MANY)),
    ("**/a/" * 20 + "b", "/".join(MANY)),
    ("**a*" * 20 + "b", "/".join(MANY)),
    ("a**/" * 20 + "b", "/".join(MANY)),
    ("*?" * 30 + "b", MANY),
    ("*[a-z]" * 30 + "b", MANY),
    ("*" * 5_000 + "b", MANY),
    ("[" * 200_000, MANY),
    ("[!" * 100_000, MANY),
    ("?" * 200_000, MANY),
    ("**/" * 50_000 + "b", MANY),
]


@pytest.mark.parametrize(("glob", "task_id"), NEARLY, ids=range(len(NEARLY)))
def test_a_glob_that_nearly_matches_costs_no_more_than_any(
    glob: str, task_id: str
) -> None:
    with within_processor_time(10):
        assert not matches(glob, task_id)


@given(st.text("ab*?[]!-^.", max_size=10), st.text("ab-.^", max_size=10))
def test_without_folders_a_glob_is_what_the_standard_library_takes_it_for(
    glob: str, name: str
) -> None:
    assert matches(glob, name) is fnmatch.fnmatchcase(name, glob)


@given(st.text("ab/*?[", max_size=8), st.text("ab/", max_size=8))
def test_globs_are_found_by_how_they_begin(glob: str, task_id: str) -> None:
    known = Globs()
    for one in (glob, "x*", f"{task_id}x*", "*"):
        known.add(one)

    found = known.that_mean(task_id)

    assert (glob in found) is matches(glob, task_id)
    assert "x*" not in found
    if glob in found:
        assert task_id.startswith(beginning(glob))


ids = st.text("ab*?[]!-/", min_size=1, max_size=12)


@given(ids, ids)
def test_a_literal_matches_its_id_and_no_other(task_id: str, other: str) -> None:
    assert matches(literal(task_id), task_id)
    assert matches(literal(task_id), other) is (other == task_id)


@given(ids)
def test_a_literal_is_shown_as_its_id(task_id: str) -> None:
    assert unescaped(literal(task_id)) == task_id


@pytest.mark.parametrize("glob", ["a*", "t[a-b]", "[[]*", "[*]?"])
def test_any_other_glob_is_shown_as_it_is(glob: str) -> None:
    assert unescaped(glob) == glob
