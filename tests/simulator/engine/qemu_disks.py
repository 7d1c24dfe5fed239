# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a VM: making them for an option's value, resize, cloud-init images. Moving them is in qemu_move.

Sources: qemu-server, PVE/API2/Qemu.pm (check_drive_param, create_disks, resize_vm), PVE/QemuServer/Cloudinit.pm.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import qemu_pending
from .clock import Sleep, Steps
from .copying import copy_data
from .guests import is_cdrom, is_cloudinit, is_drive
from .http import ApiError, bad_parameters, die
from .model import GIB, MIB, Config, Guest
from .propstring import format_size, parse_drive, show_drive
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

NEW_DISK = re.compile(r"^(?:([^/:\s]+):)?(\d+(?:\.\d+)?)$")
CLOUDINIT_SIZE = 4 * MIB
EFI_SIZES = {"2m": 128 * 1024, "4m": 528 * 1024}
TPM_SIZE = 4 * MIB
CHECKSUM = "checksum mismatch (file change by other user?)"


def check_drive(cluster: Cluster, option: str, value: str) -> str:
    """A drive's value as it goes on, with the alloc keys (check_drive_param). Raises ApiError."""
    try:
        drive = parse_drive(option, value)
    except ApiError:
        raise bad_parameters({option: "unable to parse drive options"}) from None
    found = NEW_DISK.match(drive["file"])
    if "import-from" in drive and (found is None or float(found[2]) != 0):
        text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"
        raise bad_parameters({option: text})
    name = drive["file"]
    if name.startswith("/") and not name.startswith("/dev/"):
        volid = _volid_of_path(cluster, name)
        if volid is None:
            raise bad_parameters({option: f"unable to associate path '{name}' to any storage"})
        if ":iso/" in volid:
            drive.setdefault("media", "cdrom")
        drive["file"] = name = volid
    if name in ("none", "cdrom"):
        drive.setdefault("media", "cdrom")
    if ":iso/" in name and drive.get("media") != "cdrom":
        raise bad_parameters({option: "explicit 'media=cdrom' is required for iso images"})
    return show_drive(drive)


def _volid_of_path(cluster: Cluster, path: str) -> str | None:
    return next((volid for _place, volid in cluster.storages.volumes if cluster.storages.path(volid) == path), None)


def check_access(call: Call, option: str, value: str, default_storage: str | None = None) -> None:
    """Whether the caller may use the storage or volume of a drive (check_storage_access). Raises ApiError."""
    cluster, access = call.cluster, call.cluster.access
    drive = parse_drive(option, value)
    name = drive["file"]
    found = NEW_DISK.match(name)
    if name == "none" or name.endswith(":cloudinit") or name == "cloudinit":
        pass
    elif name == "cdrom":
        call.check("/", "Sys.Console")
    elif found is not None and not is_cdrom(drive):
        storage = found[1] or default_storage
        if not storage:
            raise die("no storage ID specified (and no default storage)")
        access.check_allocation(call.authid, storage)
        if "images" not in cluster.storages.config(storage).content:
            raise bad_parameters({"storage": f"storage '{storage}' does not support vm images"})
    elif ":" in name or name.startswith("/"):
        _check_volume(call, name)
    if "import-from" in drive:
        source = drive["import-from"]
        if ":" in source:
            volume = cluster.storages.get(call.node, source)
            if volume.content not in ("images", "import"):
                text = f"{source} has wrong type '{volume.content}' - needs to be 'images' or 'import'"
                raise bad_parameters({option: text})
            if volume.vmid is not None:
                call.check(f"/vms/{volume.vmid}", "VM.Clone")
                return
        _check_volume(call, source)


def _check_volume(call: Call, name: str) -> None:
    if name.startswith("/"):
        call.cluster.access.check_volume(call.authid, None, name, "images", None)
        return
    call.cluster.storages.config(split_volid(name)[0])
    volume = call.cluster.storages.find(call.node, name)
    content = volume.content if volume else ("iso" if ":iso/" in name else "images")
    vmid = int(call.params["vmid"])
    owner = volume.vmid if volume else _owner_by_name(name)
    call.cluster.access.check_volume(call.authid, vmid, name, content, owner)


def _owner_by_name(volid: str) -> int | None:
    found = re.search(r"(?:vm|base)-(\d+)-", volid)
    return int(found[1]) if found else None


def cloudinit_option(guest: Guest, but: str) -> str | None:
    """The drive that holds cloud-init data already, pending ones included (has_cloudinit)."""
    for config in (guest.config, guest.pending):
        for option, drive in qemu_pending.drives(guest, config):
            if option != but and is_cloudinit(drive):
                return option
    return None


def create(
    cluster: Cluster,
    guest: Guest,
    option: str,
    value: str,
    task: Task | None,
    made: list[str],
    default_storage: str | None = None,
    efi_config: Config | None = None,
) -> Steps[str]:
    """What a drive's value becomes once its volume is there (create_disks). New volumes are noted in `made`. Raises ApiError."""
    storages, node, vmid = cluster.storages, guest.node, guest.vmid
    drive = parse_drive(option, value)
    name = drive["file"]
    found = NEW_DISK.match(name)
    if name in ("none", "cdrom"):
        drive.pop("size", None)
        return show_drive(drive)
    if name == "cloudinit" or name.endswith(":cloudinit"):
        other = cloudinit_option(guest, option)
        if other is not None:
            raise die(f"{option} - cloud-init drive is already attached at '{other}'")
        storage = storages.config(name.partition(":")[0] if ":" in name else default_storage or "")
        form = drive.pop("format", "qcow2" if storage.has_files else "raw")
        volname = f"vm-{vmid}-cloudinit" + (f".{form}" if storage.has_files else "")
        volume = yield from storages.allocate(
            node, storage.name, vmid, CLOUDINIT_SIZE, form, task=task, volname=volname
        )
        made.append(volume.volid)
        drive["file"], drive["media"] = volume.volid, "cdrom"
        text = show_drive(drive)
        _say(task, f"{option}: successfully created disk '{text}'")
        return text
    if found is not None:
        target = found[1] or default_storage
        if not target:
            raise die("no storage ID specified (and no default storage)")
        yield from _allocate(cluster, guest, option, drive, target, float(found[2]), task, made)
        text = show_drive(drive)
        _say(task, f"{option}: successfully created disk '{text}'")
        return text
    if ":" in name:
        if is_cloudinit(drive):
            other = cloudinit_option(guest, option)
            if other is not None:
                raise die(f"{option} - cloud-init drive is already attached at '{other}'")
        storages.config(split_volid(name)[0])
        known = storages.find(node, name)
        if known is None:
            raise die(f"volume {name} does not exist")
        if known.content not in ("images", "iso"):
            raise die(f"cannot use volume {name} - content type needs to be 'images' or 'iso'")
        if "format" in drive and drive["format"] != known.format:
            raise die(
                f"drive '{option}' - volume '{name}' - 'format={drive['format']}' option different"
                f" from storage format '{known.format}'"
            )
        drive["size"] = format_size(known.size)
    return show_drive(drive)


def _say(task: Task | None, text: str) -> None:
    if task is not None:
        task.log(text)


def _allocate(
    cluster: Cluster,
    guest: Guest,
    option: str,
    drive: dict[str, str],
    target: str,
    gib: float,
    task: Task | None,
    made: list[str],
) -> Steps[None]:
    """A new volume for a drive, empty or with the content of another."""
    storages, node = cluster.storages, guest.node
    form = drive.pop("format", None)
    source = drive.pop("import-from", None)
    if source is not None:
        origin = storages.find(node, source) if ":" in source else None
        if origin is None:
            what = f"volume '{source}' does not exist" if ":" in source else f"could not get file size of {source}"
            raise die(f"cannot import from '{source}' - {what}")
        _say(task, f"create full clone of drive ({source})")
        try:
            volume = yield from storages.allocate(node, target, guest.vmid, origin.size, form, task=task)
        except ApiError as error:
            raise die(f"cannot import from '{source}' - {error.text}") from None
        made.append(volume.volid)
        _say(task, f"allocated target volume '{volume.volid}'")
        yield from copy_data(cluster, task, origin.size, cluster.durations.clone_seconds_per_gib)
    else:
        size = int(gib * GIB)
        if option == "efidisk0":
            size = EFI_SIZES[drive.get("efitype", "2m")]
        elif option == "tpmstate0":
            size = TPM_SIZE
            form = form or "raw"
        volume = yield from storages.allocate(node, target, guest.vmid, size, form, task=task)
        made.append(volume.volid)
    volid = volume.volid
    if guest.template:
        volid = storages.make_base(node, volid)
        made[-1] = volid
    drive["file"], drive["size"] = volid, format_size(volume.size)


def regenerate(cluster: Cluster, guest: Guest, task: Task | None = None) -> Steps[bool]:
    """Write the cloud-init image anew, its volume too when that is gone (apply_cloudinit_config). Returns whether there is one."""
    for option, drive in qemu_pending.drives(guest):
        if not is_cloudinit(drive):
            continue
        storage, volname = split_volid(drive["file"])
        if cluster.storages.find(guest.node, drive["file"]) is None:
            form = volname.rsplit(".", 1)[-1] if "." in volname else "raw"
            yield from cluster.storages.allocate(
                guest.node, storage, guest.vmid, CLOUDINIT_SIZE, form, volname=volname.rsplit("/", 1)[-1]
            )
        _say(task, "generating cloud-init ISO")
        if guest.cloudinit:
            guest.cloudinit = {}
        assert is_drive(option)
        return True
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Endpoints


def resize(call: Call) -> str:
    """PUT .../resize: nothing is checked before the task but root's parameter."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    call.root_only("skiplock")
    option = params["disk"]

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if params.get("digest") and params["digest"] != guest.digest():
                raise die(CHECKSUM)
            if not params.get("skiplock"):
                check_lock(guest)
            if option not in guest.config:
                raise die(f"disk '{option}' does not exist")
            drive = parse_drive(option, guest.config[option])
            if is_cdrom(drive):
                raise die("you can't resize a cdrom")
            storage = split_volid(drive["file"])[0]
            call.check(f"/storage/{storage}", "Datastore.AllocateSpace")
            volume = cluster.storages.get(node, drive["file"])
            found = re.fullmatch(r"(\+)?(\d+(?:\.\d+)?)([KMGT])?", params["size"])
            assert found is not None, "the schema has checked it"
            size = int(float(found[2]) * 1024 ** ("KMGT".index(found[3]) + 1 if found[3] else 0))
            size += volume.size if found[1] else 0
            if size < volume.size:
                raise die("shrinking disks is not supported")
            if size == volume.size:
                return
            config = cluster.storages.all[storage]
            if size - volume.size > config.size - cluster.storages.used(config, node):
                raise die("command '/usr/bin/qemu-img resize' failed: No space left on device")
            yield Sleep(cluster.durations.allocate)
            volume.used += size - volume.size
            volume.size = size
            drive["size"] = format_size(size)
            guest.config[option] = show_drive(drive)
            cluster.write(guest)

    return call.task("resize", vmid, body)


def check_lock(guest: Guest) -> None:
    """500 for a VM that is locked."""
    if guest.config.get("lock"):
        raise die(f"VM is locked ({guest.config['lock']})")


def boot_devices(config: Config) -> list[str]:
    """The devices in `boot: order=`; none when there is no order."""
    found = re.search(r"order=([^,]*)", config.get("boot", ""))
    return [device for device in re.split(r"[;\s]+", found[1]) if device] if found else []


ROUTES = {
    ("PUT", "/nodes/{node}/qemu/{vmid}/resize"): resize,
}
