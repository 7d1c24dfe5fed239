# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What VMs and containers have in common: names of options, drives, values to compare, the snapshot tree.

Sources: qemu-server, PVE/QemuServer/Drive.pm; pve-guest-common, PVE/AbstractConfig.pm.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .http import bad_parameter
from .model import Config, Guest
from .propstring import MOUNT, NET, parse, parse_drive, show

if TYPE_CHECKING:
    from .cluster import Call, Cluster

DRIVES = (
    *(f"ide{number}" for number in range(4)),
    *(f"scsi{number}" for number in range(31)),
    *(f"virtio{number}" for number in range(16)),
    *(f"sata{number}" for number in range(6)),
    "efidisk0",
    "tpmstate0",
)
_DRIVES = frozenset(DRIVES)
_CHANCE = re.compile(r"(?<==)[0-9A-F]{2}(?::[0-9A-F]{2}){5}|(?<=uuid=)[0-9a-f-]{36}|(?<=ctime=)\d+", re.I)


def is_drive(option: str) -> bool:
    """Whether an option is a drive of a VM."""
    return option in _DRIVES


def is_mount(option: str) -> bool:
    """Whether an option is a mount point of a container."""
    return option == "rootfs" or re.fullmatch(r"mp\d+", option) is not None


def is_unused(option: str) -> bool:
    """Whether an option holds a volume that is not in use."""
    return re.fullmatch(r"unused\d+", option) is not None


def volume_options(guest: Guest, config: Config) -> dict[str, str]:
    """Option -> volume id of every volume that a configuration names, cloud-init drives included, CD images not."""
    found: dict[str, str] = {}
    for option in sorted(config):
        if guest.kind == "qemu" and is_drive(option):
            drive = parse_drive(option, config[option])
            if is_cdrom(drive, without_cloudinit=True) or ":" not in drive.get("file", ""):
                continue
            found[option] = drive["file"]
        elif guest.kind == "lxc" and is_mount(option):
            volume = parse(MOUNT, config[option])["volume"]
            if ":" in volume:
                found[option] = volume
        elif is_unused(option):
            found[option] = config[option]
    return found


def is_cloudinit(drive: dict[str, str]) -> bool:
    """Whether a drive is a cloud-init drive (drive_is_cloudinit)."""
    return re.search(r"[:/](?:vm-\d+-)?cloudinit(?:\.(?:raw|qcow2))?$", drive.get("file", "")) is not None


def is_cdrom(drive: dict[str, str], without_cloudinit: bool = False) -> bool:
    """Whether a drive is a CD drive (drive_is_cdrom)."""
    return drive.get("media") == "cdrom" and not (without_cloudinit and is_cloudinit(drive))


def without_chance(key: str, value: str) -> str:
    """A value with what the server makes up replaced: MAC addresses, UUIDs, times, hashes."""
    if key == "vmgenid":
        return "*"
    if key == "cipassword" and value.startswith("$5$"):
        return "$5$*"
    if key == "snaptime":
        return "*"
    return _CHANCE.sub("*", value)


def new_mac(cluster: Cluster, text: str) -> str:
    """A network device with another MAC address."""
    net = parse(NET, text)
    net["macaddr"] = cluster.new_mac()
    return show(NET, net)


def take_snapshot(cluster: Cluster, guest: Guest, name: str, description: str, *, vmstate: bool = False) -> None:
    """Put a finished snapshot of a guest into its configuration (AbstractConfig.pm, __snapshot_prepare and _commit)."""
    config = {key: value for key, value in guest.config.items() if key not in ("lock", "digest")}
    config = {key: value for key, value in config.items() if not is_unused(key)}
    if guest.kind == "qemu":
        config.pop("description", None)
    else:
        config.pop("description", None)
    if description:
        config["description"] = description
    config["snaptime"] = str(int(cluster.now))
    if vmstate:
        config["vmstate"] = f"{next(iter(cluster.storages.all))}:{guest.vmid}/vm-{guest.vmid}-state-{name}.raw"
    guest.snapshots[name] = config
    guest.config["parent"] = name
    for volid in volume_options(guest, config).values():
        volume = cluster.storages.find(guest.node, volid)
        if volume is not None:
            volume.snapshots.append(name)
    cluster.touched(guest.vmid)


def next_id(call: Call) -> str:
    """GET /cluster/nextid: the lowest free VMID, or whether one is free. It reserves nothing."""
    taken = call.cluster.guests
    if "vmid" in call.params:
        vmid = int(call.params["vmid"])
        if vmid in taken:
            raise bad_parameter(vmid=f"VM {vmid} already exists")
        return str(vmid)
    return str(next(vmid for vmid in range(100, 1_000_000) if vmid not in taken))


ROUTES: dict[tuple[str, str], Any] = {("GET", "/cluster/nextid"): next_id}
