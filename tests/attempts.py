"""Tasks that are dropped, and attempts that are only lines in a ledger: nothing runs."""

import json
import time
from pathlib import Path
from typing import Any

from farm import claim, commit
from farm.claim import Claim, Holder
from farm.commit import Desk, Ending
from farm.config import Settings
from farm.life import Life
from farm.look import read_look
from farm.project import Project
from farm.result import Error, Outcome
from farm.states import Why


def drop(project: Project, task_id: str, **task: Any) -> str:
    """Put a task file there; the id."""
    path = Path(project.task_path(task_id))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": "true"} | task))
    return task_id


def begin(project: Project, task_id: str, owner: Life | None, now: float) -> Claim:
    """Claim a task as this worker would, or as somebody who passes by."""
    holder = Holder(owner.name, owner.record.who) if owner else Holder.passing()
    look = read_look(project, task_id)
    assert look is not None
    taken = claim.take(project, holder, look, Settings(), now)
    assert isinstance(taken, Claim), taken
    return taken


def end(project: Project, taken: Claim, why: Why, now: float) -> Ending:
    """End a claimed attempt so."""
    desk = Desk(project, Holder.passing(), Settings())
    error = None if why is Why.SUCCEEDED else Error("exit", "exit code 1")
    return commit.finish(desk, taken, Outcome(why, error=error), now)


def attempt(project: Project, task_id: str, why: Why, now: float) -> Ending:
    """One whole attempt that ends so."""
    return end(project, begin(project, task_id, None, now), why, now)


def ended(project: Project, task_id: str, why: Why, **task: Any) -> None:
    """A task of now whose one attempt has ended so."""
    drop(project, task_id, **task)
    attempt(project, task_id, why, time.time())
