"""Process 1 of a container: it passes signals on and reaps; its child is farm.

The kernel gives every orphan of a container to its process 1. One that was not written
for that lets them stay as zombies, until no process number is left.
"""

import os
import signal

#: those that people, terminals and service managers send
_PASSED_ON = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
    signal.SIGWINCH,
}
#: of these a terminal tells our child as well, which is in the same group
_TO_THE_GROUP = {signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH}
_BY_THE_KERNEL = 128  # SI_KERNEL in asm-generic/siginfo.h
_SIGNALLED = 128  # as a shell tells of a program that a signal ended


def fork_once() -> None:
    """In process 1 of a container return only in a child, and end as that child does."""
    if os.getpid() != 1:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, nothing could be reaped
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child:
        from farm import shield  # noqa: PLC0415 - in this one process of a container alone

        shield.shut(os.environ)  # it lies open in /proc/1, for every task
        os._exit(_serve(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(child: int) -> int:
    """Until the child has ended; its exit code."""
    while True:
        heard = signal.sigwaitinfo(_PASSED_ON | {signal.SIGCHLD})
        if heard.si_signo == signal.SIGCHLD:
            if (code := _reap(child)) is not None:
                return code
        elif not is_heard_by_group(heard.si_signo, heard.si_code):
            os.kill(child, heard.si_signo)


def is_heard_by_group(number: int, code: int) -> bool:
    """Whether the terminal has sent this signal to our child, too."""
    return number in _TO_THE_GROUP and code == _BY_THE_KERNEL


def _reap(child: int) -> int | None:
    """Reap all that have ended; the exit code of the child if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else _SIGNALLED - code
