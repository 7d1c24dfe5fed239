# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making VMs: create, template, destroy, and the helper that tests set VMs up with.

Sources: qemu-server, PVE/API2/Qemu.pm (create_vm, create_disks, template, destroy_vm), PVE/QemuServer.pm (destroy_vm,
get_default_bootdevices); pve-guest-common, PVE/AbstractConfig.pm (create_and_lock_config).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import backup, qemu_config, qemu_disks, qemu_pending, qemu_power, resources
from .clock import Interrupted, Sleep, Steps
from .guests import DRIVES, is_cdrom, is_drive, volume_options
from .http import ApiError, bad_parameters, die
from .model import GIB, Behaviour, Config, Guest, Power, Volume
from .propstring import NET, format_size, parse, parse_drive, parse_size, show, show_drive
from .qemu_disks import NEW_DISK, check_lock
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

META_QEMU = "10.2.2"


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
        "meta": f"creation-qemu={META_QEMU},ctime={int(cluster.now)}",
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
    name, _rest, what = drive["file"].partition(":")
    if name not in storages.all:
        return drive
    storage = storages.all[name]
    place = storages.place(storage, guest.node)
    if what == "cloudinit":
        last = f"vm-{guest.vmid}-cloudinit" + (".qcow2" if storage.has_files else "")
        size, form = qemu_disks.CLOUDINIT_SIZE, "qcow2" if storage.has_files else "raw"
        drive["media"] = "cdrom"
    elif found:
        form = drive.pop("format", storages.default_format(storage))
        last, size = storages.free_name(storage, place, guest.vmid, form), int(float(found[2]) * GIB)
        drive["size"] = format_size(size)
    elif "size" in drive and storages.find(guest.node, drive["file"]) is None:
        # A volume by its full name.
        form = what.rsplit(".", 1)[-1] if storage.has_files else "raw"
        size = parse_size(drive["size"])
        volume = Volume(drive["file"], size, form, "images", guest.vmid, int(cluster.now), used=size)
        storages.volumes[place, drive["file"]] = volume
        return drive
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
    guest.config["template"] = "1"
    cluster.touched(guest.vmid)


# ---------------------------------------------------------------------------------------------------------------------
# Create


def default_boot(config: Config) -> str:
    """The boot order of a VM made without one: first disk, first CD drive, first network device."""
    devices: list[str] = []
    for cdrom in (False, True):
        for option in DRIVES:
            if option in config and option not in ("efidisk0", "tpmstate0"):
                drive = parse_drive(option, config[option])
                if is_cdrom(drive) == cdrom:
                    devices.append(option)
                    break
    devices += sorted((option for option in config if re.fullmatch(r"net\d+", option)), key=lambda key: int(key[3:]))[
        :1
    ]
    return f"order={';'.join(devices)}"


def create(call: Call) -> str:
    """POST /nodes/{node}/qemu: the VMID is taken within the request, the rest is a task."""
    cluster, params, node, vmid, authid = call.cluster, call.params, call.node, call.vmid, call.authid
    access, pool, storage = cluster.access, params.get("pool"), params.get("storage")
    values = qemu_config.texts(call, qemu_config.CREATE_CONTROL)
    cluster.need_quorum()
    if pool:
        access.check_pool_exists(pool)
    if storage:
        access.check_allocation(authid, storage)
    if params.get("ha-managed"):
        call.check("/", "Sys.Console")
    if params.get("start"):
        access.check_guest(authid, vmid, pool, ["VM.PowerMgmt"])
    archive, existing = params.get("archive"), cluster.guests.get(vmid)
    if (
        not call.allowed(f"/vms/{vmid}", "VM.Allocate")
        and not (pool and call.allowed(f"/pool/{pool}", "VM.Allocate"))
        and not (archive and backup.may_overwrite(call, existing))
    ):
        raise ApiError(403, "Permission check failed")
    if archive:
        for option in sorted(values):
            if is_drive(option):
                raise bad_parameters({option: "option conflicts with option 'archive'"})
        backup.find(call, archive)
    qemu_config.prepare(call, values, storage, pool, creating=True)
    if archive:
        return backup.restore_vm(call, values)
    emsg = f"unable to create VM {vmid} -"
    if existing is not None:
        kind = "CT" if existing.kind == "lxc" else "VM"
        raise die(f"{emsg} {kind} {vmid} already exists on node '{existing.node}'")
    guest = Guest(vmid, "qemu", node, {"lock": "create"})
    cluster.guests[vmid] = guest
    cluster.write(guest)

    def undo() -> None:
        cluster.guests.pop(vmid, None)

    def body(task: Task) -> Steps[None]:
        try:
            with (yield from cluster.config_lock(node, vmid).acquire(1.0, log=task.log)):
                yield from _fill(call, task, guest, values, storage, emsg)
                if pool:
                    access.check_pool_exists(pool)
                    access.add_to_pool(pool, vmid)
        except (ApiError, Interrupted):
            undo()
            raise
        if params.get("ha-managed"):
            task.log("Add as HA resource")
            cluster.ha.resources[f"vm:{vmid}"] = {"state": "started" if params.get("start") else "stopped"}
            cluster.ha.wake()
        if params.get("start"):
            yield from autostart(call, task)

    return call.task("qmcreate", vmid, body, undo)


def autostart(call: Call, task: Task) -> Steps[None]:
    """`start=1` of create and restore: a task of its own; its failure is only a line in the log."""
    task.log("Execute autostart")
    try:
        call.params = {key: value for key, value in call.params.items() if key in ("node", "vmid")}
        qemu_power.vm_start(call)
    except ApiError as error:
        task.log(error.text)
    yield Sleep(0.0)


def _fill(call: Call, task: Task, guest: Guest, values: Config, storage: str | None, emsg: str) -> Steps[None]:
    """The configuration and the disks of a new VM. Raises ApiError, with everything made freed again."""
    cluster = call.cluster
    config = dict(values)
    made: list[str] = []
    yield Sleep(cluster.durations.create)
    try:
        config["meta"] = f"creation-qemu={META_QEMU},ctime={int(cluster.now)}"
        for option in DRIVES:
            if option in values:
                guest.pending = {}
                text = yield from qemu_disks.create(cluster, guest, option, values[option], task, made, storage)
                config[option] = text
                guest.config = {**guest.config, option: text} if "cloudinit" in text else guest.config
        if not config.get("boot"):
            config["boot"] = default_boot(config)
        if not config.get("smbios1"):
            config["smbios1"] = f"uuid={cluster.new_uuid()}"
        if config.get("vmgenid", "1") == "1":
            config["vmgenid"] = cluster.new_uuid()
        pinned = qemu_config.pin_machine(config.get("machine"), config.get("ostype", "other"), task)
        if pinned:
            config["machine"] = pinned
        if "tags" in config:
            cluster.access.check_tags(call.authid, guest.vmid, "", config["tags"])
            config["tags"] = qemu_config.unique_tags(cluster, config["tags"])
        guest.config = {key: value for key, value in config.items() if value != ""}
        cluster.write(guest)
    except (ApiError, Interrupted) as error:
        for volid in made:
            yield from cluster.storages.free(guest.node, volid)
        if isinstance(error, Interrupted):
            raise
        raise die(f"{emsg} {error.in_task()}") from None


# ---------------------------------------------------------------------------------------------------------------------
# Template and destroy


def template(call: Call) -> str:
    """POST .../template."""
    cluster, node, vmid, disk = call.cluster, call.node, call.vmid, call.params.get("disk")

    def check() -> Guest:
        guest = cluster.guest("qemu", node, vmid)
        check_lock(guest)
        if guest.snapshots:
            raise die("unable to create template, because VM contains snapshots")
        if guest.template and not disk:
            raise die("you can't convert a template to a template")
        if guest.running:
            raise die("you can't convert a VM to template if VM is running")
        return guest

    check()

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = check()
            guest.config["template"] = "1"
            cluster.write(guest)
            yield Sleep(cluster.durations.allocate)
            make_template(cluster, guest, disk)
            cluster.write(guest)

    return call.task("qmtemplate", vmid, body)


def destroy(call: Call) -> str:
    """DELETE /nodes/{node}/qemu/{vmid}."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    call.root_only("skiplock")

    def check() -> Guest:
        guest = cluster.guest("qemu", node, vmid)
        if guest.config.get("protection") == "1":
            raise die(f"can't remove VM {vmid} - protection mode enabled")
        if not params.get("purge") and cluster.ha.configured(vmid):
            raise die(f"unable to remove VM {vmid} - used in HA resources and purge parameter not set.")
        if guest.running:
            raise die(f"VM {vmid} is running - destroy failed")
        return guest

    check()

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = check()
            yield from _destroy(cluster, guest, task, params)
            cluster.access.forget_guest(vmid)
            if params.get("purge"):
                task.log(f"purging VM {vmid} from related configurations..")
                if cluster.ha.configured(vmid):
                    cluster.ha.forget(vmid)
                    task.log(f"NOTE: removed VM {vmid} from HA resource configuration.")
            cluster.guests.pop(vmid, None)

    return call.task("qmdestroy", vmid, body)


def _destroy(cluster: Cluster, guest: Guest, task: Task, params: Mapping[str, Any]) -> Steps[None]:
    storages, node = cluster.storages, guest.node
    if not params.get("skiplock") and guest.config.get("lock") != "suspended":
        check_lock(guest)
    volumes = list(volume_options(guest, guest.config).values())
    if guest.template:
        for volid in volumes:
            if storages.linked_to(node, volid):
                raise die(f"base volume '{volid}' is still in use by linked cloned")
    volumes += [config["vmstate"] for config in (guest.config, *guest.snapshots.values()) if "vmstate" in config]
    volumes += list(volume_options(guest, guest.pending).values())
    if params.get("destroy-unreferenced-disks"):
        volumes += [volume.volid for volume in storages.of_guest(node, guest.vmid) if volume.content == "images"]
    for volid in dict.fromkeys(volumes):
        if not qemu_pending.owned(cluster, guest, volid):
            continue
        try:
            if volid in cluster.stuck_volumes:
                raise die(cluster.stuck_volumes[volid])
            yield from storages.free(node, volid, task)
        except ApiError as error:
            # The VM goes, the disk stays.
            task.warn(f"Could not remove disk '{volid}', check manually: {error.text}")
    guest.config, guest.pending, guest.pending_delete, guest.snapshots = {"lock": "destroyed"}, {}, {}, {}
    cluster.write(guest)
    yield Sleep(cluster.durations.allocate)


_VM = "/nodes/{node}/qemu/{vmid}"
ROUTES = {
    ("POST", "/nodes/{node}/qemu"): create,
    ("POST", f"{_VM}/template"): template,
    ("DELETE", _VM): destroy,
    ("GET", _VM): lambda call: [
        {"subdir": name}
        for name in (
            "config",
            "pending",
            "status",
            "snapshot",
            "agent",
            "migrate",
            "resize",
            "move_disk",
            "clone",
            "feature",
        )
    ],
}
