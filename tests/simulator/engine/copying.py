# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying data, with the lines that show its progress in a task's log.

Sources: qemu-server, PVE/QemuServer/QemuImage.pm (progress of qemu-img convert), PVE/QemuServer/BlockJob.pm (mirror).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import Sleep, Steps
from .model import GIB
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Cluster


def human(size: float) -> str:
    """A size as render_bytes writes it (pve-common, PVE/Format.pm)."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} B"


def _seconds(size: int, seconds_per_gib: float, bwlimit: int | None) -> float:
    seconds = size / GIB * seconds_per_gib
    return max(seconds, size / 1024 / bwlimit) if bwlimit else seconds


def copy_data(
    cluster: Cluster, task: Task | None, size: int, seconds_per_gib: float, bwlimit: int | None = None
) -> Steps[None]:
    """Copy `size` bytes offline; `bwlimit` in KiB/s."""
    seconds, total = _seconds(size, seconds_per_gib, bwlimit), human(size)
    steps = 8 if seconds < 60 else 60

    def say(done: int) -> None:
        if task is not None and size:
            task.log(f"transferred {human(done)} of {total} ({100 * done / size:.2f}%)")

    say(0)
    for step in range(1, steps + 1):
        yield Sleep(seconds / steps)
        say(size * step // steps)
    say(size)


def mirror_data(
    cluster: Cluster, task: Task, option: str, size: int, seconds_per_gib: float, *, finish: bool = True
) -> Steps[None]:
    """Copy `size` bytes of a disk in use."""
    seconds, total = _seconds(size, seconds_per_gib, None), human(size)
    job = f"mirror-{option}"
    task.log(f"drive mirror is starting for drive-{option}")
    steps = max(2, min(60, int(seconds)))
    for step in range(1, steps + 1):
        yield Sleep(seconds / steps)
        done, passed = size * step // steps, int(seconds * step / steps)
        ready = ", ready" if step == steps else ""
        share = 100 * done / size if size else 100
        task.log(f"{job}: transferred {human(done)} of {total} ({share:.2f}%) in {passed}s{ready}")
    task.log("all 'mirror' jobs are ready")
    if finish:
        finish_mirror(task, option)


def finish_mirror(task: Task, option: str) -> None:
    """The last lines of a mirror."""
    job = f"mirror-{option}"
    task.log(f"{job}: Completing block job...")
    task.log(f"{job}: Completed successfully.")
    task.log(f"{job}: mirror-job finished")
