# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a VM: moved to another storage, handed over to another VM.

Sources: qemu-server, PVE/API2/Qemu.pm (move_vm_disk), PVE/QemuServer.pm (clone_disk).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import qemu_config, qemu_pending
from .clock import Interrupted, Steps
from .copying import copy_data, mirror_data
from .guests import is_cdrom, is_cloudinit
from .http import ApiError, bad_parameters, die
from .model import Guest
from .propstring import format_size, parse_drive, show_drive
from .qemu_disks import boot_devices, check_lock
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call

MODIFIED = "detected modified configuration - file changed by other user? Try again."


def move(call: Call) -> str:
    """POST .../move_disk."""
    cluster, params = call.cluster, call.params
    target, storage = params.get("target-vmid"), params.get("storage")
    if target and storage:
        text = "either set 'storage' or 'target-vmid', but not both"
        raise bad_parameters({"target-vmid": text, "storage": text})
    if target:
        return _reassign(call, int(target))
    if not storage:
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise bad_parameters({"target-vmid": text, "storage": text})
    call.check(f"/storage/{storage}", "Datastore.AllocateSpace")
    _check_move(call)

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(call.node, call.vmid, task.log)):
            yield from _move(call, task)

    return call.task("qmmove", call.vmid, body)


def _check_move(call: Call) -> tuple[Guest, dict[str, str], bool]:
    cluster, node, params = call.cluster, call.node, call.params
    guest, option, storage = cluster.guest("qemu", node, call.vmid), params["disk"], params["storage"]
    check_lock(guest)
    if params.get("digest") and params["digest"] != guest.digest():
        raise die(MODIFIED)
    if option not in guest.config:
        raise die(f"disk '{option}' does not exist")
    drive = parse_drive(option, guest.config[option])
    if is_cdrom(drive, without_cloudinit=True):
        raise die("you can't move a cdrom")
    old = cluster.storages.find(node, drive["file"])
    name, form = split_volid(drive["file"])[0], params.get("format")
    if name == storage and (not form or old is None or old.format == form):
        raise die("you can't move to the same storage with same format")
    if "images" not in cluster.storages.enabled(storage, node).content:
        raise bad_parameters({"storage": f"storage '{storage}' does not support vm images"})
    snapshotted = qemu_pending.in_snapshot(guest, drive["file"])
    if snapshotted and params.get("delete"):
        raise die("you can't move a disk with snapshots and delete the source")
    return guest, drive, snapshotted


def _move(call: Call, task: Task) -> Steps[None]:
    cluster, node, params = call.cluster, call.node, call.params
    guest, drive, snapshotted = _check_move(call)
    option, target, old = params["disk"], params["storage"], drive["file"]
    source = cluster.storages.get(node, old)
    task.log(f"copying volume '{old}' from current storage '{split_volid(old)[0]}' to target storage '{target}'")
    if snapshotted:
        task.log("moving disk with snapshots, snapshots will not be moved!")
    storage = cluster.storages.enabled(target, node)
    form = (params.get("format") or source.format) if storage.has_files else "raw"
    volname = None
    if is_cloudinit(drive):
        volname = f"vm-{guest.vmid}-cloudinit" + (f".{form}" if storage.has_files else "")
    online = guest.running and not option.startswith("unused")
    made = None
    try:
        if online and option == "tpmstate0":
            raise die("cannot move TPM state while VM is running")
        task.log(f"create full clone of drive {option} ({old})")
        if params.get("format") and params["format"] != form:
            task.log(
                f"format '{params['format']}' is not supported by the target storage '{target}' - using '{form}' instead"
            )
        volume = yield from cluster.storages.allocate(
            node, target, guest.vmid, source.size, form, task=task, volname=volname
        )
        made = volume.volid
        task.log(f"allocated target volume '{made}'")
        seconds = cluster.durations.clone_seconds_per_gib
        if online:
            yield from mirror_data(cluster, task, option, source.size, seconds)
        else:
            yield from copy_data(cluster, task, source.size, seconds, params.get("bwlimit"))
    except (ApiError, Interrupted) as error:
        if made is not None:
            yield from cluster.storages.free(node, made)
        text = "interrupted by signal" if isinstance(error, Interrupted) else error.in_task()
        raise die(f"storage migration failed: {text}") from None
    drive["file"] = made
    if not option.startswith("unused"):
        drive["size"] = format_size(source.size)
    drive.pop("format", None)
    if guest.template:
        drive["file"] = cluster.storages.make_base(node, made)
    guest.config[option] = show_drive(drive)
    if not params.get("delete"):
        unused = qemu_pending.add_unused(guest, old)
        task.log(f"adding source volume '{old}' as '{unused}' to config")
    cluster.write(guest)
    if params.get("delete"):
        task.log(f"removing source volume '{old}' after successful copy")
        try:
            yield from cluster.storages.free(node, old)
        except ApiError as error:
            # Plain `warn`: the task ends well.
            task.log(error.text)


def _check_reassign(call: Call, target_id: int) -> tuple[Guest, Guest, dict[str, str]]:
    cluster, params, vmid = call.cluster, call.params, call.vmid
    option, slot = params["disk"], params.get("target-disk") or params["disk"]
    if vmid not in cluster.guests:
        raise die(f"could not find VM {vmid}")
    if target_id not in cluster.guests:
        raise die(f"could not find target VM {target_id}")
    nodes = cluster.guests[vmid].node, cluster.guests[target_id].node
    if nodes[0] != nodes[1]:
        raise die(f"Both VMs need to be on the same node ({nodes[0]} != {nodes[1]})")
    source, target = cluster.guest("qemu", call.node, vmid), cluster.guest("qemu", call.node, target_id)
    check_lock(source)
    check_lock(target)
    if source.template or target.template:
        raise die("Can't move disks from or to template VMs")
    if params.get("digest") and params["digest"] != source.digest():
        raise die(f"VM {vmid}: {MODIFIED}")
    if params.get("target-digest") and params["target-digest"] != target.digest():
        raise die(f"VM {target_id}: {MODIFIED}")
    if option not in source.config:
        raise die(f"Disk '{option}' for VM '{vmid}' does not exist")
    if slot in target.config:
        raise die(f"Target disk key '{slot}' is already in use for VM '{target_id}'")
    drive = parse_drive(option, source.config[option])
    if is_cdrom(drive, without_cloudinit=True):
        raise die("CD drive contents can't be moved to another VM")
    if qemu_pending.in_snapshot(source, drive["file"]):
        raise die("Can't move disk used by a snapshot to another VM")
    if source.running and not option.startswith("unused"):
        raise die("Cannot move disk to another VM while the source VM is running - detach first")
    return source, target, drive


def _reassign(call: Call, target_id: int) -> str:
    cluster, params, vmid = call.cluster, call.params, call.vmid
    option, slot = params["disk"], params.get("target-disk") or params["disk"]
    cluster.access.check_guest(call.authid, target_id, None, ["VM.Config.Disk"])
    if vmid == target_id:
        raise bad_parameters({"target-vmid": "must be different than source VMID to reassign disk"})
    _source, _target, drive = _check_reassign(call, target_id)
    call.check(f"/storage/{split_volid(drive['file'])[0]}", "Datastore.AllocateSpace")

    def body(task: Task) -> Steps[None]:
        first = yield from cluster.lock_config(call.node, vmid, task.log)
        with first, (yield from cluster.lock_config(call.node, target_id, task.log)):
            source, target, drive = _check_reassign(call, target_id)
            task.log(f"reassign disk '{option}' from VM '{vmid}' as '{slot}' to VM '{target_id}'")
            drive["file"] = cluster.storages.give(call.node, drive["file"], target_id)
            order = [device for device in boot_devices(source.config) if device != option]
            if order != boot_devices(source.config):
                task.log(f"removing disk '{option}' from boot order config")
                source.config["boot"] = f"order={';'.join(order)}"
            del source.config[option]
            task.log(f"removing disk '{option}' from VM '{vmid}' config")
            cluster.write(source)
            if slot.startswith("unused"):
                target.config[slot] = drive["file"]
                cluster.write(target)
                return
            given = {"digest": params.get("target-digest", ""), slot: show_drive(drive)}
            yield from qemu_config.update_locked(call, target_id, given, task)

    return call.task("qmmove", f"{vmid}-{option}>{target_id}-{slot}", body)


ROUTES = {("POST", "/nodes/{node}/qemu/{vmid}/move_disk"): move}
