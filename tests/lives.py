"""Workers that are only life files."""

from pathlib import Path

import msgspec

from farm.life import LifeRecord
from farm.process import Identity
from farm.project import Project

FOREIGN = Identity("other-host", "other-boot", 1, 2, 3)


def lay_life_file(project: Project, name: str, who: Identity, counter: int = 0) -> None:
    """A life file whose lock nobody holds."""
    record = LifeRecord(name, who, 1000.0, 2.0)
    text = b"%020d\n%s\n" % (counter, msgspec.json.encode(record))
    Path(project.life_path(name)).write_bytes(text)
