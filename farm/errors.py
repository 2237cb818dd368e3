"""Every error farm raises on purpose.

FarmError            exit 1
|-- UsageError       exit 2: the command line asks for something that cannot be
|   |-- ConfigError      farm.toml, a FARM_* variable or a flag is wrong
|   |-- NoProjectError   no project was named and none was found
|   `-- BusyError        somebody else already does this, or has this name
|-- TaskFileError    a task file cannot be used; fix the file
|-- LedgerError      something that is no ledger lies where one should be
|-- FolderError      a folder or file that farm needs cannot be made
`-- MountError       this folder cannot keep farm's promises; mount it otherwise

Each message is a sentence that says what is wrong, where, and what to do. The
command line prints it and exits with the class's `exit_code`; it never prints
a traceback for one of these.
"""

import errno

#: Errors of a disk that last until somebody makes room, or mounts it anew.
FULL = frozenset({errno.EDQUOT, errno.ENOSPC, errno.EROFS})
#: Errors of the machine, which no task can help: its disk, memory, descriptors, processes.
MACHINE = FULL | {
    errno.EAGAIN,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


class FarmError(Exception):
    """Base of every error here."""

    exit_code = 1


class UsageError(FarmError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown or has an impossible value."""


class NoProjectError(UsageError):
    """No project was named, and none was found from here upwards."""


class LedgerError(FarmError):
    """Something that is no ledger lies where one should be; move it away."""

    def __init__(self, path: str, what: str = "is not a regular file") -> None:
        super().__init__(f"{path} {what}, and farm keeps a lock there: move it away")


class MountError(FarmError):
    """The file system under the project cannot keep farm's promises."""


class BusyError(UsageError):
    """Somebody else already does what was asked for, or has this name."""


class FolderError(FarmError):
    """A folder or file that farm needs cannot be made."""

    def __init__(self, error: OSError) -> None:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        todo = (
            "make room"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "give the farm's user the right to write there, move away what is in"
            " its place, or name another project"
        )
        super().__init__(f"cannot make what farm needs: {what}: {todo}")


class TaskFileError(FarmError):
    """A task file that cannot be used.

    `line` and `column` count from 1 and are 0 where the fault has no place in
    the text (a folder named x.json, say). `str(error)` is the whole sentence
    without the file's name; `located(path)` puts the name in front.
    """

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column

    def located(self, path: str) -> str:
        """`path:line:column: message`, as compilers and editors write it."""
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{path}{place}: {self.message}"
