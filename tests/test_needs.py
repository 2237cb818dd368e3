"""What a task needs, and who needs itself."""

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.needs import Broken, Met, Missing, Needs, Unmet, circles, find_cycles
from farm.states import Status

OK = Status.SUCCEEDED


def needs(tasks: str, **statuses: Status | None) -> Needs:
    """`tasks` are there; those in `statuses` ended so (None: it is no result)."""
    names = {name.replace("_", "/"): status for name, status in statuses.items()}
    return Needs(set(tasks.split()), set(names), names.__getitem__)


def test_a_need_that_succeeded_is_met() -> None:
    assert needs("a b", b=OK).verdict("a", ["b"]) == Met()


def test_a_task_without_needs_has_what_it_needs() -> None:
    assert needs("a").verdict("a", []) == Met()


def test_a_result_whose_task_file_is_gone_satisfies() -> None:
    assert needs("a", b=OK).verdict("a", ["b"]) == Met()


def test_a_need_that_is_not_over_is_open() -> None:
    assert needs("a b").verdict("a", ["b"]) == Unmet((Missing("b"),))


def test_a_need_with_a_torn_result_is_open() -> None:
    assert needs("a b", b=None).verdict("a", ["b"]) == Unmet((Missing("b"),))


def test_a_need_that_nobody_dropped_is_open_and_says_so() -> None:
    assert needs("a").verdict("a", ["b"]) == Unmet((Missing("b", "not in tasks/"),))


def test_an_invalid_need_may_still_be_corrected() -> None:
    verdict = needs("a b", b=Status.INVALID).verdict("a", ["b"])

    assert verdict == Unmet((Missing("b", "its file is invalid"),))


@pytest.mark.parametrize("status", sorted(set(Status) - {OK, Status.INVALID}), ids=str)
def test_a_need_that_ended_otherwise_is_broken(status: Status) -> None:
    assert needs("a b", b=status).verdict("a", ["b"]) == Broken("b", status)


def test_a_broken_need_outweighs_those_that_are_open() -> None:
    verdict = needs("a b c", c=Status.FAILED).verdict("a", ["b", "c"])

    assert verdict == Broken("c", Status.FAILED)


def test_every_open_need_is_named_in_the_order_of_the_file() -> None:
    assert needs("a b c d", c=OK).verdict("a", ["d", "c", "b"]) == Unmet(
        (Missing("d"), Missing("b"))
    )


# -- globs ------------------------------------------------------------------------


def test_a_glob_means_tasks_and_results_that_match() -> None:
    assert needs("t/1 t/2 u/1", t_3=OK).expand("t/*") == {"t/1", "t/2", "t/3"}


def test_a_plain_id_means_itself_also_if_nobody_dropped_it() -> None:
    assert needs("").expand("a") == {"a"}


def test_a_glob_holds_when_all_that_match_succeeded() -> None:
    assert needs("a t/1 t/2", t_1=OK, t_2=OK).verdict("a", ["t/*"]) == Met()


def test_a_glob_is_open_while_one_that_matches_is() -> None:
    assert needs("a t/1 t/2", t_1=OK).verdict("a", ["t/*"]) == Unmet((Missing("t/2"),))


def test_a_glob_that_matches_nothing_is_open() -> None:
    assert needs("a").verdict("a", ["t/*"]) == Unmet(
        (Missing("t/*", "nothing matches yet"),)
    )


def test_a_glob_never_means_the_asking_task() -> None:
    assert needs("t/1 t/2", t_1=OK).verdict("t/2", ["t/*"]) == Met()


def test_a_glob_that_matches_only_the_asking_task_is_open() -> None:
    assert needs("t/1").verdict("t/1", ["t/*"]) == Unmet(
        (Missing("t/*", "nothing matches yet"),)
    )


def test_one_glob_means_something_else_to_each_that_it_matches() -> None:
    there = needs("a t/1 t/2", t_1=OK)

    assert there.verdict("t/2", ["t/*"]) == Met()
    assert there.verdict("a", ["t/*"]) == Unmet((Missing("t/2"),))
    assert there.verdict("t/2", ["t/*"]) == Met()


def test_a_glob_with_a_broken_member_is_broken() -> None:
    verdict = needs("a t/1 t/2", t_2=Status.LOST).verdict("a", ["t/*"])

    assert verdict == Broken("t/2", Status.LOST)


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (1, "needs t0"),
        (3, "needs t0, t1, t2"),
        (4, "needs t0, t1, t2 and 1 more"),
        (9, "needs t0, t1, t2 and 6 more"),
    ],
)
def test_a_sentence_names_three_needs_and_counts_the_rest(
    count: int, sentence: str
) -> None:
    assert Unmet(tuple(Missing(f"t{n}") for n in range(count))).sentence() == sentence


# -- circles ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({}, []),
        ({"a": ["b"], "b": []}, []),
        ({"a": ["b"]}, []),
        ({"a": ["a"]}, [["a"]]),
        ({"a": ["b"], "b": ["a"]}, [["a", "b"]]),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, [["a", "b", "c"]]),
        (
            {"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"]},
            [["a", "b"], ["c", "d"]],
        ),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"]}, []),
    ],
)
def test_circles_are_found(edges: dict[str, list[str]], expected: object) -> None:
    assert sorted(find_cycles(edges)) == expected


def reachable(edges: Mapping[str, Sequence[str]], start: str) -> set[str]:
    """What can be reached from `start` by at least one edge."""
    found: set[str] = set()
    queue = list(edges.get(start, ()))
    while queue:
        node = queue.pop()
        if node not in found:
            found.add(node)
            queue.extend(edges.get(node, ()))
    return found


def naive_cycles(edges: Mapping[str, Sequence[str]]) -> set[frozenset[str]]:
    """Nodes that reach themselves, in groups that reach each other."""
    reach = {node: reachable(edges, node) for node in edges}
    return {
        frozenset(m for m in edges if m in reach[node] and node in reach[m])
        for node in edges
        if node in reach[node]
    }


graphs = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefghi"), max_size=4)
)


@given(graphs)
def test_circles_agree_with_naive_reachability(edges: dict[str, list[str]]) -> None:
    found = find_cycles(edges)

    assert {frozenset(circle) for circle in found} == naive_cycles(edges)
    assert all(circle == sorted(set(circle)) for circle in found)


def chain(length: int) -> dict[str, list[str]]:
    return {f"{n}": [f"{n + 1}"] for n in range(length)}


def ring(length: int) -> dict[str, list[str]]:
    return chain(length - 1) | {f"{length - 1}": ["0"]}


@pytest.mark.parametrize(("shape", "sizes"), [(chain, []), (ring, [10_000])])
def test_a_line_of_ten_thousand_needs_is_no_trouble(
    shape: Callable[[int], dict[str, list[str]]], sizes: list[int]
) -> None:
    assert [len(circle) for circle in find_cycles(shape(10_000))] == sizes


# -- ids with brackets -----------------------------------------------------------------


def test_an_id_that_is_there_is_no_glob() -> None:
    asked = Needs({"t[a-b]", "ta", "x"}, {"ta"}, {"ta": OK}.__getitem__)

    assert asked.verdict("x", ["t[a-b]"]) == Unmet((Missing("t[a-b]"),))


def test_a_result_of_that_very_name_is_enough() -> None:
    asked = Needs({"ta", "x"}, {"t[a-b]"}, {"t[a-b]": OK}.__getitem__)

    assert asked.verdict("x", ["t[a-b]"]) == Met()


def test_without_a_task_of_that_name_it_is_a_glob() -> None:
    asked = Needs({"ta", "x"}, {"ta"}, {"ta": OK}.__getitem__)

    assert asked.verdict("x", ["t[a-b]"]) == Met()


def test_a_task_whose_id_has_brackets_may_not_need_itself() -> None:
    asked = Needs({"t[a-b]"}, set(), lambda _: None)

    assert circles({"t[a-b]": ["t[a-b]"]}, asked) == [["t[a-b]"]]


def test_who_needs_each_other_by_ids_with_brackets_is_a_circle() -> None:
    asked = Needs({"x[1]", "y[2]"}, set(), lambda _: None)
    wanted = {"x[1]": ["y[2]"], "y[2]": ["x[1]"]}

    assert circles(wanted, asked) == [["x[1]", "y[2]"]]
