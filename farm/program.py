"""Why a program did not start, when the kernel's own words name the wrong file.

Of a script whose interpreter is missing the kernel says "No such file or directory", as
if the script itself were missing; a shell says the same, with exit code 127. Only a look
into the file tells.
"""

import os
import shlex

_FIRST_BYTES = 256  # the kernel looks at no more of a first line
_BOM = b"\xef\xbb\xbf"  # some editors begin a file of UTF-8 with it
NOT_FOUND = frozenset({126, 127})  #: exit codes of a shell, and of `env`


def first_word(command: str) -> str:
    """The program that a text for the shell names first; "" if that cannot be told."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""  # a quote that nothing closes
    return words[0] if words else ""


def why_refused(name: str, folder: str, places: str) -> str | None:
    """Why the kernel did not start a program; None if it is not there, or not known.

    It is looked for as `execvp` does, seen from a folder: `places` is a PATH.
    """
    path = _found(name, folder, places)
    if path is None or (first := _head(path)) is None:
        return None
    if fault := _fault(path, first, folder):
        return fault
    if first.startswith(b"\x7fELF"):
        return f"{path} was built for another machine or C library, whose loader is missing"
    if first.startswith(b"#!"):
        return None
    return (
        f"{path} is not a program, and its first line names no interpreter (#!/bin/sh)"
    )


def why_not_found(name: str, folder: str, places: str) -> str | None:
    """Why a shell says that a program which is there was not found; None if not known."""
    path = _found(name, folder, places)
    if path is None or (first := _head(path)) is None:
        return None  # what it ran may itself have ended with such an exit code
    return _fault(path, first, folder)


def _found(name: str, folder: str, places: str) -> str | None:
    if "/" in name:
        tried = [os.path.join(folder, name)]
    else:
        tried = [os.path.join(folder, p, name) for p in places.split(os.pathsep)]
    return next((os.path.normpath(p) for p in tried if os.path.isfile(p)), None)


def _head(path: str) -> bytes | None:
    """How a file begins; None if it is not ours to read: the kernel's words must do."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.pread(fd, _FIRST_BYTES, 0)
    finally:
        os.close(fd)


def _fault(path: str, first: bytes, folder: str) -> str | None:
    """What is wrong with a file by its mode and its first line; None if nothing is."""
    if first.startswith(_BOM + b"#!"):
        return (
            f"{path} begins with a byte order mark, so the kernel does not see its #!"
            " line: save it as UTF-8 without one"
        )
    if first.startswith(b"#!") and (
        fault := _fault_of_interpreter(path, first, folder)
    ):
        return fault
    if not os.access(path, os.X_OK):
        return f"{path} is not executable: chmod +x {shlex.quote(path)}"
    return None


def _fault_of_interpreter(path: str, first: bytes, folder: str) -> str | None:
    line = first.partition(b"\n")[0].decode(errors="replace")
    if line.endswith("\r"):
        return (
            f"{path} has Windows line ends (CRLF), so its first line names an interpreter"
            f" that ends in a carriage return: sed -i 's/\\r$//' {shlex.quote(path)}"
        )
    interpreter = line.removeprefix("#!").split()[:1]
    there = os.path.join(folder, *interpreter)
    named = f"the first line of {path} names the interpreter {' '.join(interpreter)!r}"
    if not os.path.exists(there):
        return f"{named}, which does not exist: install it, or correct that line"
    if os.path.isdir(there) or not os.access(there, os.X_OK):
        return f"{named}, which is not executable: correct that line"
    return None
