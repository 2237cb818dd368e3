"""What may be skipped where a build server runs the tests, and why.

All else that is skipped there has failed: what is missing was to be installed. Where
people run the tests (without `CI` in the environment) whatever is missing is skipped.
"""

import os

NOT_HERE = "not to be had here: "  # what `tests/faults/tools.py` says, with the names

#: reason of a skip, or name of what is missing -> why it may be
FOR_ROOT = {
    "root may write everywhere": "an ordinary user runs these",
}
FOR_ORDINARY_USERS = {
    "root": "root runs these",
    "another user": "root runs these: nobody else may become another user",
    "only root can become somebody else": "the same",
    "only root may make a device": "root runs these",
    "this user has no group of their own": "most have one, and root runs these",
    "loop mount": "root runs these: a user namespace mounts no image of a disk",
    "memory cgroup": "root runs these: groups of processes are made by root",
}


def wrongly_skipped(reason: str, *, is_root: bool) -> list[str]:
    """What is missing for a test that was skipped, and should not be."""
    mine = FOR_ROOT if is_root else FOR_ORDINARY_USERS
    reason = reason.removeprefix("Skipped: ")
    names = reason.removeprefix(NOT_HERE)
    missing = names.split(", ") if names != reason else [reason]
    return [name for name in missing if name not in mine]


def refusal(reason: str) -> str | None:
    """Why a test that was skipped has failed here; None if it may be skipped."""
    wrong = wrongly_skipped(reason, is_root=os.geteuid() == 0)
    if not wrong or not os.environ.get("CI"):
        return None
    return (
        f"skipped, for want of: {', '.join(wrong)}. On a build server nothing is"
        " skipped except what tests/skips.py lists: install it, or list it there"
    )
