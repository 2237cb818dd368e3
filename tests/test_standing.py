"""Which of the ready tasks a worker tries first."""

from farm.look import Look
from farm.standing import MOST_NATURAL, Stripe, in_order, name_order, natural
from farm.task import Task


def look(task_id: str, priority: int = 0) -> Look:
    return Look(task_id, "sha", None, Task(run="make", priority=priority))


IDS = [f"t{n:02}" for n in range(20)]


def test_a_worker_alone_goes_by_name() -> None:
    ordered = in_order([look(i) for i in reversed(IDS)], Stripe())

    assert [item.id for item in ordered] == IDS


ODD = ["1", "01", "2", "10", "a", "a/2", "a/10", "a1b2", "a1b10", "a2", "b", "٣"]


def test_numbers_in_names_are_compared_as_numbers() -> None:
    names = ["t10", "t2", "t1", "t2/10", "t2/9", "t"]

    assert sorted(names, key=natural) == ["t", "t1", "t2", "t2/9", "t2/10", "t10"]


def test_any_names_can_be_put_in_order_and_no_two_are_alike() -> None:
    ways = [sorted(names, key=natural) for names in (ODD, ODD[::-1], sorted(ODD))]

    assert ways[0] == ways[1] == ways[2]
    assert ways[0].index("01") + 1 == ways[0].index("1")


def test_very_many_names_are_in_plain_order() -> None:
    assert name_order(MOST_NATURAL) is natural
    assert name_order(MOST_NATURAL + 1) is None


def test_ones_own_stripe_comes_first_by_name_then_the_others_from_their_ends() -> None:
    stripe = Stripe(1, 3)
    ordered = [item.id for item in in_order([look(i) for i in IDS], stripe)]
    mine = [i for i in IDS if stripe.owns(i)]
    others = [i for i in reversed(IDS) if not stripe.owns(i)]

    assert 0 < len(mine) < len(IDS)
    assert ordered == mine + others


def test_every_task_is_in_exactly_one_stripe() -> None:
    owners = [sum(Stripe(n, 7).owns(i) for n in range(7)) for i in IDS]

    assert owners == [1] * len(IDS)


def test_priority_outranks_the_stripe() -> None:
    stripe = Stripe(0, 2)
    other = next(i for i in IDS if not stripe.owns(i))
    looks = [look(i, priority=int(i == other)) for i in IDS]

    assert in_order(looks, stripe)[0].id == other


def test_a_negative_priority_comes_last() -> None:
    ordered = in_order([look("a", -1), look("b"), look("c", 5)], Stripe())

    assert [item.id for item in ordered] == ["c", "b", "a"]
