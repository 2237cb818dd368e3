"""A task farm over a shared folder: drop JSON files in, get results beside them.

What can be imported from here is loaded when it is first used, so that
`import farm` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.backoff import AdaptiveBackoff
    from farm.health import WorkerHealthState
    from farm.locking import TaskLock
    from farm.manager import TaskStateManager
    from farm.rotation import APICredential, APIRotationState
    from farm.sessions import ParallelSessionManager
    from farm.stealing import work_stealing_loop

__all__ = [
    "APICredential",
    "APIRotationState",
    "AdaptiveBackoff",
    "ParallelSessionManager",
    "TaskLock",
    "TaskStateManager",
    "WorkerHealthState",
    "work_stealing_loop",
]

__version__ = "0.1.0"

_HOME = {
    "APICredential": "farm.rotation",
    "APIRotationState": "farm.rotation",
    "AdaptiveBackoff": "farm.backoff",
    "ParallelSessionManager": "farm.sessions",
    "TaskLock": "farm.locking",
    "TaskStateManager": "farm.manager",
    "WorkerHealthState": "farm.health",
    "work_stealing_loop": "farm.stealing",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'farm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
