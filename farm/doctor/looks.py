"""Checks that only look at what is there; nothing is written.

Each takes a project, or a folder that is none yet, and returns what it was `Told`;
errors that it raises mean that it could not be made. `LOOKS` has them all by name.
"""

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from farm import disk, life, process, rescue, retention, trial
from farm.bell import Bell
from farm.config import load_settings
from farm.crew import alive_ones, crew, last_attempts
from farm.doctor.told import Check, Level, Told, fail, ok, warn, worst
from farm.listing import Listing
from farm.mount import Mount, mount_of
from farm.project import Project
from farm.trust import check_owner, user_name
from farm.words import counted, duration

SLOW_LISTING = 1.0  # seconds: a busy worker lists that often
LEAST_PACE, FEW_NAMES = 10_000, 1000  # names a second; too few to tell
LEAST_FREE, LEAST_SHARE = 1 << 30, 0.05  # bytes; of bytes and of inodes
ATTEMPT_BYTES, ATTEMPT_FILES = 1 << 16, 8  # what one attempt needs
FEW_DESCRIPTORS = 256  # open files of one process
NEARLY_ALL = 0.9  # of what inotify allows one user


def folder(project: Project) -> Told:
    """Whether it is a project, and of this user."""
    if not os.path.isdir(project.tasks):
        return ok(f"{project.root} is no project yet (farm init makes it one)")
    project.check_inside()
    check_owner(project.farm)
    is_used = os.path.isdir(project.farm)
    return ok(f"{project.root}{'' if is_used else ', where no worker ever was'}")


def settings(project: Project) -> Told:
    """Whether farm.toml and the variables can be used."""
    load_settings(Path(project.settings), os.environ, {})
    is_there = os.path.exists(project.settings)
    return ok("farm.toml is right" if is_there else "no farm.toml: all as usual")


def rights(project: Project) -> Told:
    """Who else could make this farm run a program."""
    if project.trusts_others:
        return ok("`trust` is set: everyone who can write here may run programs")
    if others := project.check_trust():
        return warn("; ".join(others), "")
    return ok(f"only {user_name(os.geteuid())} can drop tasks")


_ONE_HOST = "let workers of one machine only work here, or share it by NFS"
_DOUBTFUL = {
    "overlay": (
        "a container's own layers, which no other container shares",
        "keep the project on a volume",
    ),
    "9p": ("locks may be this machine's own", _ONE_HOST),
    "virtiofs": (
        "locks are this machine's own, unless it is told otherwise",
        _ONE_HOST,
    ),
}
_OWN_LOCKS = frozenset(["nolock", "local_lock=all", "local_lock=flock"])


def file_system(project: Project) -> Told:
    """Which one it is, and what is known of its kind."""
    return of_mount(mount_of(project.root))


def of_mount(mount: Mount) -> Told:
    """What is known of such a mount."""
    if own := sorted(mount.options & _OWN_LOCKS):
        said = f"{mount.kind}, mounted with {' and '.join(own)}: no other host sees"
        return warn(f"{said} its locks", "mount it without that on every host")
    if mount.kind in _DOUBTFUL:
        why, advice = _DOUBTFUL[mount.kind]
        return warn(f"{mount.kind}: {why}", advice)
    if mount.is_network:
        return ok(f"{mount.kind}, a network one; workers look every few seconds")
    return ok(mount.kind or "unknown: there is no mount table")


def space(project: Project) -> Told:
    """Room for bytes and for inodes."""
    return room(os.statvfs(project.root))


def room(now: os.statvfs_result) -> Told:
    """Whether that much is enough."""
    free, total = now.f_bavail * now.f_frsize, now.f_blocks * now.f_frsize
    said = f"{_size(free)} of {_size(total)} free"
    if now.f_files:  # btrfs has no number of its own
        said += f", {now.f_favail:,} of {now.f_files:,} inodes"
    few_inodes = now.f_files and now.f_favail < LEAST_SHARE * now.f_files
    if free < ATTEMPT_BYTES or (now.f_files and now.f_favail < ATTEMPT_FILES):
        return fail(f"no room: {said}", "make room: farm waits until there is some")
    if free < max(LEAST_FREE, LEAST_SHARE * total) or few_inodes:
        return warn(said, "make room (farm archive packs what has ended)")
    return ok(said)


def _size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - what these units are
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def open_files(_project: Project) -> Told:
    """How many files a process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"{soft} for each process" if soft >= 0 else "no limit"
    if 0 <= soft < FEW_DESCRIPTORS:
        return warn(said, f"ulimit -n 1024: farm and its tasks want {FEW_DESCRIPTORS}")
    return ok(said)


def processes(_project: Project) -> Told:
    """Whether /proc shows what the dead left running."""
    if not process.proc_is_ours():
        return warn(
            "/proc is another container's: what a dead worker left running is not found",
            "mount a /proc of its own (unshare --mount-proc)",
        )
    return ok("found by /proc")


def listing(project: Project) -> Told:
    """How long a look at all names takes."""
    began = time.perf_counter()
    there = Listing(project)
    there.refresh()
    took = time.perf_counter() - began
    return pace(len(there.tasks()) + len(there.results()), took)


def pace(names: int, took: float) -> Told:
    """Whether so many names in so many seconds are quick."""
    said = f"{names:,} name{'s' * (names != 1)} in {duration(took)}"
    if names >= FEW_NAMES:
        said += f", {names / took:,.0f} a second"
    is_slow = names >= FEW_NAMES and names / took < LEAST_PACE
    if took > SLOW_LISTING or is_slow:
        return warn(said, "farm archive takes what has ended out of tasks/")
    return ok(said)


def inotify(project: Project) -> Told:
    """Whether one more worker can watch every folder."""
    there = Listing(project)
    there.refresh()
    instances, watched = _watched()
    told = [
        watches("instances", instances, 1),
        watches("watches", watched, len(there.folders) + 1),  # and .farm/control
    ]
    bad = worst(told)
    return bad if bad.level is not Level.OK else ok(", ".join(t.said for t in told))


def watches(what: str, used: int, more: int) -> Told:
    """Whether the limit of instances, or watches, leaves room for so many more."""
    limit = _inotify_limit(what)
    said = f"{used} of {limit} {what} in use"
    if used + more > NEARLY_ALL * limit:
        advice = f"raise fs.inotify.max_user_{what}; without, workers look every second"
        return warn(f"{said}, and a worker needs {more}", advice)
    return ok(said)


def _inotify_limit(what: str) -> int:
    """The machine's for each user, or that of our user namespace."""
    machines = int(disk.read_file(f"/proc/sys/fs/inotify/max_user_{what}"))
    ours = f"/proc/sys/user/max_inotify_{what}"
    return (
        min(machines, int(disk.read_file(ours))) if os.path.exists(ours) else machines
    )


def _watched() -> tuple[int, int]:
    """Inotify instances and watches of this user, as far as /proc shows them."""
    every = [text for pid in os.listdir("/proc") for text in _instances(pid)]
    return len(every), sum(text.count("inotify wd:") for text in every)


def _instances(pid: str) -> Iterator[str]:
    """What /proc tells of each inotify instance of a process of ours."""
    try:
        is_ours = pid.isdigit() and os.stat(f"/proc/{pid}").st_uid == os.geteuid()
        numbers = os.listdir(f"/proc/{pid}/fd") if is_ours else []
    except OSError:
        return  # it ended, or is another user's after all
    for number in numbers:
        with suppress(OSError):  # closed while we looked
            if os.readlink(f"/proc/{pid}/fd/{number}") == "anon_inode:inotify":
                yield disk.read_file(f"/proc/{pid}/fdinfo/{number}").decode()


# -- who else is there --------------------------------------------------------------


def hosts(project: Project) -> Told:
    """Whether the locks of other hosts are seen here."""
    if not os.path.isdir(project.workers):
        return ok("nobody to try: no worker ever was here")
    trial.check_shared(project, Bell())
    far = [
        seen[1].who.host
        for name in project.worker_names()
        if life.observe(project, name) is life.LifeLock.HELD
        and (seen := life.read(project, name))
        and not process.is_here(seen[1].who)
    ]
    if not far:
        return ok("nobody to try: no worker of another host or container is here")
    return ok(f"the locks of {counted(len(far), 'worker')} are seen: {_by_host(far)}")


def _by_host(names: list[str]) -> str:
    return ", ".join(f"{n} on {host}" for host, n in sorted(Counter(names).items()))


def workers(project: Project) -> Told:
    """Who works here, and whether all of them are well."""
    here = crew(project, time.time())
    living = [worker for worker in here.workers if worker.alive]
    said = [_by_host([worker.host for worker in living]) or "none"]
    said += [f"a supervisor on {s.host}" for s in here.supervisors]
    unwell = [f"{w.name}: {w.health}" for w in living if w.health != "well"]
    if unwell:
        return warn("; ".join([*said, *unwell]), "look at farm workers")
    return ok("; ".join(said))


def leftovers(project: Project) -> Told:
    """What the dead left, and whether somebody is there to tidy it up."""
    if not os.path.isdir(project.farm):
        return ok("none")
    now = time.time()
    pasts = last_attempts(project)
    held = alive_ones(project, pasts, now)
    here = crew(project, now, held)
    living = {worker.name for worker in here.workers if worker.alive}
    dead = {worker.name for worker in here.workers} - living
    stale = sum(past.ended is None for past in pasts) - len(held)
    strays = len(rescue.strays(project, living, dead, now - rescue.OLD))
    strays += len(retention.strays(project, now - retention.EVERY))
    counts = [(len(dead), "dead worker"), (stale, "open attempt"), (strays, "file")]
    said = ", ".join(counted(n, noun) for n, noun in counts if n)
    if not said:
        return ok("none")
    if living or here.supervisors:
        return ok(f"{said}: those who work here tidy that up")
    return warn(f"{said} of the dead", "farm supervise tidies up, and runs on")


LOOKS: dict[str, Check] = {
    "folder": folder,
    "settings": settings,
    "rights": rights,
    "file system": file_system,
    "space": space,
    "open files": open_files,
    "processes": processes,
    "listing": listing,
    "inotify": inotify,
    "hosts": hosts,
    "workers": workers,
    "leftovers": leftovers,
}
