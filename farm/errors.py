"""Every error farm raises on purpose.

FarmError            exit 1
|-- UsageError       exit 2: the command line asks for something that cannot be
|   |-- ConfigError      farm.toml, a FARM_* variable or a flag is wrong
|   `-- NoProjectError   no project was named and none was found
|-- TaskFileError    a task file cannot be used; fix the file
|-- LedgerError      something that is no ledger lies where one should be
|-- MountError       this folder cannot keep farm's promises; mount it otherwise
|-- BusyError        somebody else already does this
`-- IllegalMoveError a bug in farm: a task was moved where no arrow leads

Each message is a sentence that says what is wrong, where, and what to do. The
command line prints it and exits with the class's `exit_code`; it never prints
a traceback for one of these.
"""


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

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is not a regular file, and farm keeps a lock there: move it away"
        )


class MountError(FarmError):
    """The file system under the project cannot keep farm's promises."""


class BusyError(UsageError):
    """Somebody else on this host already does what was asked for."""


class IllegalMoveError(FarmError):
    """A task was moved where no arrow leads; this is a bug in farm."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(f"a task cannot go from {old} to {new}")


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
