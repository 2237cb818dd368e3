"""The life of a task: words that files hold."""

from farm.states import State, Status, Why


def test_the_final_statuses_are_those_that_result_files_may_hold() -> None:
    words = "succeeded failed timed_out cancelled skipped invalid lost"

    assert set(Status) == set(words.split())


def test_where_a_task_is_and_how_it_ended_share_no_word() -> None:
    assert not set(State) & set(Status)


def test_an_attempt_ends_with_a_word_of_a_result_or_is_given_back() -> None:
    assert set(Why) - set(Status) == {"drained", "fault", "released", "throttled"}
