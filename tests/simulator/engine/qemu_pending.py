# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending changes of a VM: what waits for a cold start, and applying it.

Source: qemu-server, PVE/QemuServer.pm (vmconfig_apply_pending, vmconfig_register_unused_drive).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import Steps
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused
from .http import ApiError
from .model import Config, Guest
from .propstring import parse_drive
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Cluster


def drives(guest: Guest, config: Config | None = None) -> list[tuple[str, dict[str, str]]]:
    """The drives of a configuration, parsed."""
    config = guest.config if config is None else config
    return [(option, parse_drive(option, config[option])) for option in sorted(config) if is_drive(option)]


def in_use(guest: Guest, volid: str, config: Config | None = None) -> bool:
    """Whether a drive of the configuration has the volume."""
    return any(drive.get("file") == volid for _option, drive in drives(guest, config))


def in_snapshot(guest: Guest, volid: str) -> bool:
    """Whether a snapshot has the volume."""
    return any(in_use(guest, volid, config) or config.get("vmstate") == volid for config in guest.snapshots.values())


def add_unused(guest: Guest, volid: str) -> str:
    """Note a volume as unusedN. Returns the option (AbstractConfig.pm, add_unused_volume)."""
    for option in guest.config:
        if is_unused(option) and guest.config[option] == volid:
            return option
    number = next(number for number in range(256) if f"unused{number}" not in guest.config)
    guest.config[f"unused{number}"] = volid
    return f"unused{number}"


def register_unused(cluster: Cluster, guest: Guest, drive: dict[str, str]) -> Steps[None]:
    """A drive leaves the configuration: cloud-init volumes go, others become unused."""
    volid = drive.get("file", "none")
    if is_cloudinit(drive):
        yield from cluster.storages.free(guest.node, volid)
        guest.cloudinit = {}
    elif not is_cdrom(drive) and ":" in volid and _owned(cluster, guest, volid):
        add_unused(guest, volid)


def _owned(cluster: Cluster, guest: Guest, volid: str) -> bool:
    volume = cluster.storages.find(guest.node, volid)
    return volume is not None and volume.vmid == guest.vmid


def try_deallocate(
    cluster: Cluster, guest: Guest, drive: dict[str, str], *, force: bool, task: Task | None = None
) -> Steps[None]:
    """A drive is destroyed when that is asked for and nothing else has it, else it becomes unused."""
    volid = drive.get("file", "none")
    if force and (not is_cdrom(drive) or is_cloudinit(drive)) and ":" in volid and _owned(cluster, guest, volid):
        if in_snapshot(guest, volid):
            raise ApiError(500, f"volume '{volid}' is still in use by a snapshot")
        yield from cluster.storages.free(guest.node, volid, task)
        return
    yield from register_unused(cluster, guest, drive)


def apply_cold(cluster: Cluster, guest: Guest, task: Task | None = None) -> Steps[None]:
    """Apply everything that is pending; the guest is stopped. One that fails stays pending, with a line in the log."""
    config = guest.config
    for option, forced in sorted(guest.pending_delete.items()):
        if option in config:
            if is_drive(option):
                drive = parse_drive(option, config[option])
                del config[option]
                yield from try_deallocate(cluster, guest, drive, force=forced == 2, task=task)
            else:
                del config[option]
        del guest.pending_delete[option]
    for option in sorted(guest.pending):
        value = guest.pending[option]
        old = config.get(option)
        if is_drive(option) and old is not None:
            before, after = parse_drive(option, old), parse_drive(option, value)
            if before.get("file") != after.get("file"):
                yield from register_unused(cluster, guest, before)
        config[option] = value
        del guest.pending[option]
    cluster.write(guest)
