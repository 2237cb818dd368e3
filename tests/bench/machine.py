"""On which machine it was measured."""

import os
import platform
from pathlib import Path

import psutil

from farm.config import usable_cpus
from farm.mount import mount_of

BUSY = 0.5  # processes that want to run, on average: more, and others work here


def described(folders: dict[str, Path]) -> dict[str, str]:
    """Words for each fact that a figure depends on."""
    systems = [
        f"{name} {path} ({mount_of(str(path)).kind})" for name, path in folders.items()
    ]
    load = os.getloadavg()[0]
    warning = ": others work here, so believe the ratios only" if load > BUSY else ""
    return {
        "processor": f"{_processor()}, {usable_cpus()} usable cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "file systems": ", ".join(systems),
        "load before": f"{load:.2f}{warning}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
