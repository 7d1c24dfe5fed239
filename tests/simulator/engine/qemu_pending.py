# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending changes of a VM: what waits for a cold start, and applying it; drives that leave the configuration.

Source: qemu-server, PVE/QemuServer.pm (vmconfig_apply_pending, vmconfig_register_unused_drive, vmconfig_delete_or_detach_drive,
try_deallocate_drive).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import qemu_disks
from .clock import Steps
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused
from .http import ApiError, die
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


def owned(cluster: Cluster, guest: Guest, volid: str) -> bool:
    """Whether a volume is there and belongs to the guest."""
    volume = cluster.storages.find(guest.node, volid)
    return volume is not None and volume.vmid == guest.vmid


def register_unused(cluster: Cluster, guest: Guest, drive: dict[str, str]) -> Steps[None]:
    """A drive leaves the configuration: a cloud-init volume goes, others become unused."""
    volid = drive.get("file", "none")
    if is_cloudinit(drive):
        yield from cluster.storages.free(guest.node, volid)
        guest.cloudinit = {}
    elif not is_cdrom(drive) and ":" in volid and owned(cluster, guest, volid):
        add_unused(guest, volid)


def detach(cluster: Cluster, guest: Guest, drive: dict[str, str], *, force: bool, authid: str) -> Steps[None]:
    """A drive is destroyed when that is asked for, else it becomes unused. Raises ApiError."""
    volid = drive.get("file", "none")
    if force and not is_cdrom(drive, without_cloudinit=True) and ":" in volid:
        cluster.access.check_guest(authid, guest.vmid, None, ["VM.Config.Disk"])
        if owned(cluster, guest, volid):
            yield from _destroy(cluster, guest, volid, authid)
        return
    yield from register_unused(cluster, guest, drive)


def _destroy(cluster: Cluster, guest: Guest, volid: str, authid: str) -> Steps[None]:
    cluster.access.check_allocation(authid, volid.partition(":")[0])
    if in_snapshot(guest, volid):
        raise die(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
    yield from cluster.storages.free(guest.node, volid)


def destroy_unused(cluster: Cluster, guest: Guest, option: str, authid: str) -> Steps[None]:
    """Remove an unused volume, and the option. Raises ApiError."""
    volid = guest.config[option]
    if owned(cluster, guest, volid):
        if in_use(guest, volid):
            raise die(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
        yield from _destroy(cluster, guest, volid, authid)
    guest.config.pop(option, None)


def apply_cold(
    cluster: Cluster, guest: Guest, task: Task | None = None, *, cloudinit: bool = False, authid: str = "root@pam"
) -> Steps[dict[str, str]]:
    """Apply everything that is pending to a stopped VM.

    Args:
        cloudinit: write the cloud-init image when its drive changed.

    Returns:
        The errors by option; those options stay pending.
    """
    config, errors = guest.config, dict[str, str]()

    def failed(option: str, error: ApiError) -> None:
        errors[option] = f"unable to apply pending change {option} : {error.text}\n"
        if task is not None:
            task.log(errors[option])

    for option in sorted(guest.pending_delete):
        try:
            if option in config and is_drive(option):
                drive = parse_drive(option, config[option])
                yield from detach(cluster, guest, drive, force=guest.pending_delete[option] == 2, authid=authid)
        except ApiError as error:
            failed(option, error)
            continue
        config.pop(option, None)
        guest.pending_delete.pop(option, None)
    new_image = False
    for option in sorted(guest.pending):
        value = guest.pending[option]
        try:
            if is_drive(option):
                if option in config:
                    before = parse_drive(option, config[option])
                    yield from register_unused(cluster, guest, before)
                new_image = new_image or is_cloudinit(parse_drive(option, value))
        except ApiError as error:
            failed(option, error)
            continue
        config[option] = guest.pending.pop(option)
    if new_image and cloudinit:
        yield from qemu_disks.regenerate(cluster, guest, task)
    used = {drive.get("file") for _option, drive in drives(guest)}
    for option in [option for option in config if is_unused(option) and config[option] in used]:
        del config[option]
    cluster.write(guest)
    return errors
