# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people are told while something takes long: how far it is, by the server's own log, and how often they are told.

Only numbers and names of disks that a pattern names leave the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from .redact import printable, redact

FIRST_LINE_SECONDS = 2.0
# The pause between lines is a tenth of the time that has passed, within these bounds: a migration of an hour is not 700 lines.
SHORTEST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 30.0
PAUSE_SHARE = 0.1

_NUMBER = r"\d+(?:\.\d+)?"
_SIZE = rf"{_NUMBER} [KMGTP]?i?B"
# Longer lines tell nothing here.
_LONGEST_LINE = 300

# What the log of a task says of how far it is; groups: part (of the guest), done, total, percent, rate. The newest line that
# matches counts. What is not listed tells nothing on the way (rsync and tar of containers, copies by cp).
PATTERNS: tuple[str, ...] = (
    # Disks, copied while nobody uses them (PVE/QemuServer/QemuImage.pm, convert: clone, move, import) or in use
    # (PVE/QemuServer/BlockJob.pm, monitor: clone, move, migration).
    rf"^(?:[a-z]+-(?P<part>[a-z]+\d+): )?transferred (?P<done>{_SIZE}) of (?P<total>{_SIZE}) \((?P<percent>{_NUMBER})%\)",
    # Memory that moves to another node (PVE/QemuMigrate.pm, phase2).
    rf"migration (?:active|device), transferred (?P<done>{_SIZE}) of (?P<total>{_SIZE}) VM-state, (?P<rate>{_SIZE}/s)",
    # Memory that is saved with a snapshot (PVE/QemuConfig.pm, __snapshot_create_vol_snapshots_hook).
    rf"^(?P<done>{_SIZE}) in [\dwdhms ]+$",
    # Volumes that are sent to another node (PVE/Storage.pm, storage_migrate): by dd, by zfs.
    rf"\d+ bytes \([^,)]+, (?P<done>{_SIZE})\) copied, [\d.,]+ s, (?P<rate>{_NUMBER} [kMGT]?B/s)",
    rf"\d\d:\d\d:\d\d +(?P<done>{_NUMBER}[BKMGTP]) +\S+@\S+$",
    # Backup of a VM (PVE/VZDump/QemuServer.pm, query_backup_status_loop).
    rf"^INFO: +(?P<percent>\d+)% \((?P<done>{_SIZE}) of (?P<total>{_SIZE})\) in [^,]+, read: (?P<rate>{_SIZE}/s)",
    # Restore of a VM (vma extract, pbs-restore).
    r"^progress (?P<percent>\d+)% \(read (?P<done>\d+) bytes",
    # Download (PVE/Tools.pm, download_file_from_url: wget --progress=dot:giga).
    rf"^ *\d+K [ .,]*(?P<percent>\d+)% +(?P<rate>{_NUMBER}[KMGT]?)(?:[ =]|$)",
)

# Which volume of several is copied now (PVE/QemuServer.pm, clone_disk; PVE/API2/LXC.pm, clone_vm).
_PART = re.compile(r"^create full clone of (?:drive|mountpoint) (\w+) ")

_SHORT = re.compile(rf"({_NUMBER})([BKMGTP]?)")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Progress:
    """Something that is waited for.

    :param what: for people: "start VM 100". :param seconds: for how long by now.
    :param lines: the end of the log of the server's task. :param upid: of that task.
    """

    what: str
    seconds: float
    lines: Sequence[str] = ()
    upid: str | None = None


# Whoever wants to know; called in the thread that waits, never more often than Due says.
Watch = Callable[[Progress], None]


class Due:
    """When the next line about something is due."""

    def __init__(self) -> None:
        self._next = FIRST_LINE_SECONDS

    def at(self, seconds: float) -> bool:
        """Tell whether one is due, that many seconds after the beginning; if so, the next one is due later."""
        if seconds < self._next:
            return False
        self._next = seconds + min(max(SHORTEST_PAUSE_SECONDS, seconds * PAUSE_SHARE), LONGEST_PAUSE_SECONDS)
        return True


def told(progress: Progress, secrets: Collection[str] = ()) -> str:
    """Return the line for people: "clone VM 9000 to VM 101: scsi0, 37% (12.1 GiB of 32.0 GiB), 59 s"."""
    parts = [text for text in (*_how_far(progress.lines), _elapsed(progress.seconds)) if text]
    text: str = redact(f"{progress.what}: {', '.join(parts)}", secrets)
    return printable(text)


def transferred(done: int, total: int) -> str:
    """Return what a log would say of bytes that are sent from here."""
    percent = 100.0 * done / total if total else 100.0
    return f"transferred {_size(str(done))} of {_size(str(total))} ({percent:.2f}%)"


def _how_far(lines: Sequence[str]) -> tuple[str, ...]:
    """Return disk, share and rate, as far as the log tells them."""
    for at in range(len(lines) - 1, -1, -1):
        line = lines[at][:_LONGEST_LINE]
        found = next((match for pattern in PATTERNS if (match := re.search(pattern, line))), None)
        if found is not None:
            told_of = found.groupdict()
            part = told_of.get("part") or _part(lines[:at])
            return part, _share(told_of), _size(told_of.get("rate"), "/s")
    return (_part(lines),)


def _part(lines: Sequence[str]) -> str:
    return next((match[1] for line in reversed(lines) if (match := _PART.search(line))), "")


def _share(found: dict[str, str]) -> str:
    done, total = (_size(found.get(key)) for key in ("done", "total"))
    amount = f"{done} of {total}" if total else done
    if "percent" not in found:
        return amount
    percent = f"{float(found['percent']):.0f}%"
    return f"{percent} ({amount})" if amount else percent


def _size(text: str | None, suffix: str = "") -> str:
    """Return a size as render_bytes (PVE/Format.pm) writes it; wget and zfs have one letter for the unit, vma has none."""
    short = _SHORT.fullmatch(text or "")
    if short is None:
        return text or ""
    number, at = float(short[1]), "BKMGTP".index(short[2] or "B")
    while not short[2] and number >= 1024 and at < len(_UNITS) - 1:
        number, at = number / 1024, at + 1
    return f"{number:.1f} {_UNITS[at]}{suffix}"


def _elapsed(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
