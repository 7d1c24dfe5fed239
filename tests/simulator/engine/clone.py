# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloning a VM.

Sources: qemu-server, PVE/API2/Qemu.pm (clone_vm, check_storage_access_clone), PVE/QemuServer.pm (clone_disk).
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import qemu_pending
from .clock import Interrupted, Sleep, Steps
from .copying import copy_data
from .guests import is_cdrom, is_cloudinit, is_drive, is_unused, new_mac
from .http import ApiError, bad_parameter, die
from .model import Config, Guest
from .propstring import format_size, parse_drive, show_drive
from .qemu_disks import check_lock
from .qemu_power import find
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

SNAPSHOT_KEYS = (
    "parent", "snaptime", "vmstate", "snapstate", "runningcpu", "runningmachine", "running-nets-host-mtu", "lock", "digest",
)  # fmt: skip
TEMPORARY = " qmclone temporary file"


@dataclass
class Plan:
    """What a clone will be."""

    config: Config
    old: Config
    drives: dict[str, dict[str, str]]
    full: set[str]


def can_clone_linked(cluster: Cluster, guest: Guest, volid: str, snapname: str | None) -> bool:
    """volume_has_feature(clone): base images, and snapshots where the storage can clone them."""
    storage = cluster.storages.all[split_volid(volid)[0]]
    is_base = volid.rsplit("/", 1)[-1].rsplit(":", 1)[-1].startswith(("base-", "basevol-"))
    if snapname:
        return storage.type in ("lvmthin", "rbd")
    return is_base and storage.type != "lvm"


def can_copy(cluster: Cluster, guest: Guest, volid: str, snapname: str | None) -> bool:
    """volume_has_feature(copy): what is current everywhere, snapshots where there are any."""
    storage = cluster.storages.all[split_volid(volid)[0]]
    volume = cluster.storages.find(guest.node, volid)
    return not snapname or storage.snapshots(volume.format if volume else "raw")


def prepare(call: Call, was_running: bool) -> Plan:
    """The checks, made before the fork and again in the task (load_and_check). Raises ApiError."""
    cluster, params, node, vmid = call.cluster, call.params, call.node, call.vmid
    target = _target(call)
    storage, snapname = params.get("storage"), params.get("snapname")
    newid = int(params["newid"])
    if "pool" in params:
        cluster.access.check_pool_exists(params["pool"])
    if target:
        cluster.need_node(target)
    if storage:
        config = cluster.storages.enabled(storage, node)
        if "images" not in config.content:
            raise bad_parameter(storage=f"storage '{storage}' does not support vm images")
        if target:
            cluster.storages.enabled(storage, target)
            if not config.shared:
                raise die(f"can't clone to non-shared storage '{storage}'")
    cluster.need_quorum()
    guest = cluster.guest("qemu", node, vmid)
    check_lock(guest)
    if guest.running != was_running:
        raise die("unexpected state change")
    if snapname and snapname not in guest.snapshots:
        raise die(f"snapshot '{snapname}' does not exist")
    full = bool(params.get("full", not guest.template))
    if storage and not full:
        raise die("parameter 'storage' not allowed for linked clones")
    if "format" in params and not full:
        raise die("parameter 'format' not allowed for linked clones")
    old = guest.snapshots[snapname] if snapname else guest.config
    shared = _check_storages(call, guest, old, storage)
    for option, value in old.items():
        if option.startswith("net") and option[3:].isdigit():
            _check_bridge(call, value)
    if target and not shared:
        raise die(f"can't clone VM to node '{target}' (VM uses local storage)")
    other = cluster.guests.get(newid)
    if other is not None and other.node == node:
        raise die(f"unable to create VM {newid}: config file already exists")
    return _plan(cluster, guest, old, full, snapname, was_running)


def _plan(cluster: Cluster, guest: Guest, old: Config, full: bool, snapname: str | None, running: bool) -> Plan:
    plan = Plan({}, old, {}, set())
    for option in sorted(old):
        value = old[option]
        if option in SNAPSHOT_KEYS or is_unused(option):
            continue
        if full and running and not snapname and option == "tpmstate0":
            raise die("cannot clone TPM state while VM is running")
        if option.startswith("net") and option[3:].isdigit():
            plan.config[option] = new_mac(cluster, value)
        elif is_drive(option):
            drive = parse_drive(option, value)
            if is_cdrom(drive, without_cloudinit=True):
                plan.config[option] = value
                continue
            volid = drive["file"]
            what = f"clone feature is not supported for{' a snapshot of' if snapname else ''} '{volid}' ({option})"
            if full or is_cloudinit(drive) or option == "tpmstate0":
                if not can_copy(cluster, guest, volid, snapname):
                    raise die(f"Full {what}")
                plan.full.add(option)
            elif not can_clone_linked(cluster, guest, volid, snapname):
                raise die(f"Linked {what}")
            plan.drives[option] = drive
        else:
            plan.config[option] = value
    return plan


def _target(call: Call) -> str | None:
    target = call.params.get("target")
    return None if target in (None, call.node, "localhost") else str(target)


def _check_storages(call: Call, guest: Guest, old: Config, storage: str | None) -> bool:
    """Permission to allocate; whether all disks are shared (check_storage_access_clone)."""
    shared = True
    for _option, drive in qemu_pending.drives(guest, old):
        volid = drive["file"]
        if is_cdrom(drive) and not is_cloudinit(drive):
            if volid in ("none", "cdrom"):
                if volid == "cdrom":
                    call.check("/", "Sys.Console")
                continue
            name = split_volid(volid)[0]
            shared = shared and call.cluster.storages.config(name).shared
            continue
        if ":" not in volid:
            raise die(f"unable to clone arbitrary filesystem path '{volid}'")
        name = split_volid(volid)[0]
        shared = shared and call.cluster.storages.config(name).shared
        name = storage or name
        call.check(f"/storage/{name}", "Datastore.AllocateSpace")
    return shared


def _check_bridge(call: Call, value: str) -> None:
    keys = {key: text for key, _rest, text in (part.partition("=") for part in value.split(","))}
    if "bridge" in keys:
        call.cluster.access.check_bridge(call.authid, keys["bridge"], keys.get("tag"), keys.get("trunks", ""))


def clone(call: Call) -> str:
    """POST /nodes/{node}/qemu/{vmid}/clone."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    newid = int(params["newid"])
    running = find(cluster, node, vmid).running
    prepare(call, running)

    def body(task: Task) -> Steps[None]:
        # The source is locked for one second's wait only, shared when it does not run.
        source, new = cluster.config_lock(node, vmid), cluster.config_lock(node, newid)
        with (
            (yield from source.acquire(1.0, shared=not running, log=task.log)),
            (yield from new.acquire(1.0, log=task.log)),
        ):
            yield from _carry_out(call, task, prepare(call, running))

    return call.task("qmclone", vmid, body)


def _carry_out(call: Call, task: Task, plan: Plan) -> Steps[None]:
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    newid, config = int(params["newid"]), plan.config
    task.log(f"creating a clone of VM {vmid} with ID {newid}")
    keys = [part for part in config.get("smbios1", "").split(",") if part and not part.startswith("uuid=")]
    config["smbios1"] = ",".join(sorted([*keys, f"uuid={cluster.new_uuid()}"]))
    if config.get("vmgenid"):
        config["vmgenid"] = cluster.new_uuid()
    config.pop("template", None)
    config["name"] = params.get("name") or f"Copy-of-VM-{plan.old.get('name', vmid)}"
    if params.get("description"):
        config["description"] = params["description"].rstrip()
    if newid in cluster.guests:
        path = f"/etc/pve/nodes/{node}/qemu-server/{newid}.conf"
        raise die(f"close (rename) atomic file '{path}' failed: File exists")
    source = cluster.guests[vmid]
    made = Guest(newid, "qemu", node, {"lock": "clone", "description": TEMPORARY}, behaviour=copy(source.behaviour))
    cluster.guests[newid] = made
    cluster.write(made)
    volumes: list[str] = []
    try:
        for option in sorted(plan.drives):
            drive = yield from _clone_disk(call, task, option, plan, volumes)
            config[option] = show_drive(drive)
            made.config = {**config, "lock": "clone"}
        made.config = dict(config)
        cluster.write(made)
        target = _target(call)
        if target:
            made.node = target
        if "pool" in params:
            cluster.access.check_pool_exists(params["pool"])
            cluster.access.add_to_pool(params["pool"], newid)
    except (ApiError, Interrupted) as error:
        # Volumes are freed before the configuration goes.
        yield Sleep(1.0)
        for volid in volumes:
            yield from cluster.storages.free(node, volid)
        cluster.guests.pop(newid, None)
        text = "interrupted by signal" if isinstance(error, Interrupted) else error.in_task()
        raise die(f"clone failed: {text}") from None


def _clone_disk(call: Call, task: Task, option: str, plan: Plan, volumes: list[str]) -> Steps[dict[str, str]]:
    """One disk of a clone (clone_disk). New volumes are noted in `volumes` as soon as they are there."""
    cluster, node, params = call.cluster, call.node, call.params
    drive = dict(plan.drives[option])
    newid, volid = int(params["newid"]), drive["file"]
    storages = cluster.storages
    source = storages.get(node, volid)
    name = split_volid(volid)[0]
    if option not in plan.full:
        task.log(f"create linked clone of drive {option} ({volid})")
        made = yield from storages.allocate(node, name, newid, source.size, source.format, task=task, parent=volid)
        volumes.append(made.volid)
        yield Sleep(cluster.durations.linked_clone)
        drive["file"] = made.volid
        drive["size"] = format_size(source.size)
        return drive
    target = params.get("storage") or name
    storage = storages.enabled(target, node)
    form = params.get("format")
    if not storage.has_files:
        form = "raw"
    elif not form:
        form = source.format if source.format in ("raw", "qcow2", "vmdk") else "qcow2"
    volname = None
    if is_cloudinit(drive):
        volname = f"vm-{newid}-cloudinit" + (f".{form}" if storage.has_files else "")
    task.log(f"create full clone of drive {option} ({volid})")
    made = yield from storages.allocate(node, target, newid, source.size, form, task=task, volname=volname)
    volumes.append(made.volid)
    drive["file"] = made.volid
    drive.pop("format", None)
    if is_cloudinit(drive):
        return drive
    task.log(f"allocated target volume '{made.volid}'")
    try:
        yield from copy_data(cluster, task, source.size, cluster.durations.clone_seconds_per_gib, params.get("bwlimit"))
    except Interrupted:
        old, new = storages.path(volid), storages.path(made.volid)
        command = f"/usr/bin/qemu-img convert -p -n -r 2048K -f {source.format} -O {made.format} {old} zeroinit:{new}"
        raise die(f"copy failed: command '{command}' failed: interrupted by signal") from None
    drive["size"] = format_size(source.size)
    return drive


ROUTES = {("POST", "/nodes/{node}/qemu/{vmid}/clone"): clone}
