# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying data, with the lines that show its progress in a task's log.

Sources: qemu-server, PVE/QemuServer/QemuImage.pm (progress of qemu-img convert), PVE/QemuServer/BlockJob.pm (mirror);
pve-storage, PVE/Storage.pm (storage_migrate, which lets few lines of dd through); pve-container, PVE/LXC.pm (copy_volume: rsync,
which tells nothing before its end).
"""

from __future__ import annotations

from collections.abc import Callable
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


def duration(seconds: float) -> str:
    """A duration as render_duration writes it (pve-common, PVE/Format.pm)."""
    rest, text = round(seconds), []
    for unit, length in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            text.append(f"{count}{unit}")
    return " ".join(text) or "0s"


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


def copy_files(
    cluster: Cluster, task: Task, size: int, seconds_per_gib: float, bwlimit: int | None = None
) -> Steps[None]:
    """Copy what is in a container's volume of `size` bytes; `bwlimit` in KiB/s."""
    seconds, sent = _seconds(size, seconds_per_gib, bwlimit), size // 3
    yield Sleep(seconds)
    task.log("Number of files: 18,403 (reg: 14,211, dir: 1,874, link: 2,311, special: 7)")
    task.log(f"Total file size: {sent:,} bytes")
    task.log(f"sent {sent:,} bytes  received 276,310 bytes  {sent / max(seconds, 0.5):,.2f} bytes/sec")
    task.log(f"total size is {sent:,}  speedup is 1.00")


def send_data(say: Callable[[str], None], size: int, seconds: float) -> Steps[None]:
    """Send a volume of `size` bytes to another node with dd, in that many seconds."""
    said = 0
    for second in range(1, int(seconds) + 1):
        yield Sleep(1.0)
        if second % (3 if second < 60 else 10 if second < 600 else 30) == 0:
            said = second
            done = int(size * second / seconds)
            say(f"{done} bytes ({_decimal(done)}, {_short(done)}) copied, {second} s, {_decimal(done / second)}/s")
    yield Sleep(seconds - int(seconds))
    if said != seconds:
        rate = _decimal(size / max(seconds, 0.001))
        say(f"{size} bytes ({_decimal(size)}, {_short(size)}) copied, {seconds:.6g} s, {rate}/s")


def _decimal(size: float) -> str:
    """A size as dd writes it, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def _short(size: float) -> str:
    """A size as dd writes it, in powers of 1024."""
    number, unit = human(size).split()
    return f"{number if float(number) < 10 else round(float(number))} {unit}"


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
        done, passed = size * step // steps, duration(seconds * step / steps)
        ready = ", ready" if step == steps else ""
        share = 100 * done / size if size else 100
        task.log(f"{job}: transferred {human(done)} of {total} ({share:.2f}%) in {passed}{ready}")
    task.log("all 'mirror' jobs are ready")
    if finish:
        finish_mirror(task, option)


def finish_mirror(task: Task, option: str) -> None:
    """The last lines of a mirror."""
    job = f"mirror-{option}"
    task.log(f"{job}: Completing block job...")
    task.log(f"{job}: Completed successfully.")
    task.log(f"{job}: mirror-job finished")
