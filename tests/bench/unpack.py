"""Unpack one collection from the wheel of the ansible package: `python -m tests.bench.unpack DIRECTORY-OF-WHEEL TARGET`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PREFIX = "ansible_collections/community/proxmox/"


def main() -> None:
    """Unpack the only wheel in the directory."""
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(sys.argv[2], [name for name in archive.namelist() if name.startswith(PREFIX)])


if __name__ == "__main__":
    main()
