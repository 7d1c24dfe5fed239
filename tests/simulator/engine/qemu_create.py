# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making VMs: create, template, destroy, and the helper that tests set VMs up with.

Sources: qemu-server, PVE/API2/Qemu.pm (create_vm, create_disks, template, destroy_vm), PVE/QemuServer.pm (destroy_vm).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import qemu_pending, resources
from .guests import is_cdrom, is_drive
from .model import GIB, Behaviour, Guest, Power, Volume
from .propstring import NET, format_size, parse, parse_drive, show, show_drive

if TYPE_CHECKING:
    from .cluster import Cluster

NEW_DISK = re.compile(r"^(?:([^/:\s]+):)?(\d+(?:\.\d+)?)$")


def put(
    cluster: Cluster,
    vmid: int,
    name: str,
    node: str,
    config: Mapping[str, str | int],
    disk: str | None,
    running: bool,
    settled: bool,
    behaviour: Behaviour | None,
) -> Guest:
    """A VM with its volumes, at once."""
    assert vmid not in cluster.guests, f"there is a guest {vmid}"
    conf: dict[str, str] = {
        "boot": "order=scsi0;net0" if disk else "order=net0",
        "cores": "1",
        "memory": "1024",
        "meta": f"creation-qemu=10.2.2,ctime={int(cluster.now)}",
        "name": name,
        "net0": f"virtio={cluster.new_mac()},bridge=vmbr0",
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "smbios1": f"uuid={cluster.new_uuid()}",
        "vmgenid": cluster.new_uuid(),
    }
    if disk:
        conf["scsi0"] = disk
    conf.update({key: str(value) for key, value in config.items()})
    guest = Guest(vmid, "qemu", node, conf, behaviour=behaviour or Behaviour())
    cluster.guests[vmid] = guest
    for option in sorted(conf):
        if is_drive(option):
            conf[option] = show_drive(_place(cluster, guest, parse_drive(option, conf[option])))
        elif re.fullmatch(r"net\d+", option):
            net = parse(NET, conf[option])
            net.setdefault("macaddr", cluster.new_mac())
            conf[option] = show(NET, net)
    if running:
        guest.power = Power(cluster.next_pid(node), cluster.now - 600)
    if settled:
        resources.settle(cluster, guest)
    else:
        cluster.touched(vmid)
    return guest


def _place(cluster: Cluster, guest: Guest, drive: dict[str, str]) -> dict[str, str]:
    """A volume for a drive that asks for one."""
    storages = cluster.storages
    found = NEW_DISK.match(drive["file"])
    name, _, what = drive["file"].partition(":")
    if name not in storages.all:
        return drive
    storage = storages.all[name]
    place = storages.place(storage, guest.node)
    if what == "cloudinit":
        last = f"vm-{guest.vmid}-cloudinit" + (".qcow2" if storage.has_files else "")
        size, form = 4 * 1024**2, "qcow2" if storage.has_files else "raw"
        drive["media"] = "cdrom"
    elif found:
        form = drive.pop("format", storages.default_format(storage))
        last, size = storages.free_name(storage, place, guest.vmid, form), int(float(found[2]) * GIB)
        drive["size"] = format_size(size)
    else:
        return drive
    volid = storages.volid(storage, guest.vmid, last)
    storages.volumes[place, volid] = Volume(volid, size, form, "images", guest.vmid, int(cluster.now), used=size)
    drive["file"] = volid
    return drive


def make_template(cluster: Cluster, guest: Guest, only: str | None = None) -> None:
    """Turn disks into base images (template_create); the whole VM unless one disk is named."""
    for option, drive in qemu_pending.drives(guest):
        if is_cdrom(drive) or (only and option != only) or ":" not in drive["file"]:
            continue
        drive["file"] = cluster.storages.make_base(guest.node, drive["file"])
        guest.config[option] = show_drive(drive)
    if not only:
        guest.config["template"] = "1"
    cluster.touched(guest.vmid)


ROUTES: dict[tuple[str, str], object] = {}
