# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a VM.

Sources: qemu-server, PVE/API2/Qemu.pm (snapshot_list to delsnapshot, vm_feature) and PVE/QemuConfig.pm (__snapshot_*);
pve-guest-common, PVE/AbstractConfig.pm (snapshot_create, snapshot_delete, snapshot_rollback).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import qemu_config, qemu_pending, qemu_power
from .clock import Sleep, Steps
from .guests import is_cdrom, is_unused, volume_options
from .http import ApiError, die
from .model import Config, Guest
from .qemu_disks import check_lock
from .qemu_status import memory
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

# What a snapshot does not copy of the configuration.
NOT_COPIED = ("snapstate", "snaptime", "vmstate", "lock", "digest", "description", "pending")


def copied(config: Config) -> Config:
    """What a snapshot takes of a configuration, and the other way round (__snapshot_copy_config)."""
    return {key: value for key, value in config.items() if key not in NOT_COPIED and not is_unused(key)}


def disks(guest: Guest, config: Config) -> list[tuple[str, str]]:
    """Option and volume of the disks that take part in snapshots."""
    return [(option, drive["file"]) for option, drive in qemu_pending.drives(guest, config) if not is_cdrom(drive)]


def can_snapshot(cluster: Cluster, guest: Guest, config: Config) -> bool:
    """Whether every disk lies where snapshots are possible (has_feature)."""
    for _option, volid in disks(guest, config):
        if ":" not in volid:
            return False
        storage = cluster.storages.all.get(split_volid(volid)[0])
        volume = cluster.storages.find(guest.node, volid)
        if storage is None or volume is None or not storage.snapshots(volume.format):
            return False
    return True


def listing(call: Call) -> list[dict[str, Any]]:
    """GET .../snapshot."""
    guest = call.cluster.guest("qemu", call.node, call.vmid)
    rows: list[dict[str, Any]] = []
    for name, config in guest.snapshots.items():
        row: dict[str, Any] = {
            "name": name,
            "snaptime": int(config.get("snaptime", "0")),
            "vmstate": int("vmstate" in config),
            "description": config.get("description", ""),
        }
        row |= {key: config[key] for key in ("parent", "snapstate") if key in config}
        rows.append(row)
    current = {
        "name": "current",
        "digest": guest.digest(),
        "running": int(guest.running),
        "description": "You are here!",
    }
    if "parent" in guest.config:
        current["parent"] = guest.config["parent"]
    return [*rows, current]


def create(call: Call) -> str:
    """POST .../snapshot."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    name = params["snapname"]
    if name == "current" or name.lower() == "pending":
        raise die(f"unable to use snapshot name '{'current' if name == 'current' else 'pending'}' (reserved name)")
    guest = cluster.guest("qemu", node, vmid)
    if params.get("vmstate"):
        _check_migratable(guest)

    def body(task: Task) -> Steps[None]:
        yield from _create(call, task, name)

    return call.task("qmsnapshot", vmid, body)


def _check_migratable(guest: Guest) -> None:
    """RAM of passed-through devices cannot be saved (check_non_migratable_resources)."""
    bad = [option for option in sorted(guest.config) if option.startswith("virtiofs")]
    if bad:
        raise die(f"Cannot live-migrate, snapshot (with RAM), or hibernate a VM with: {', '.join(bad)}")


def _create(call: Call, task: Task, name: str) -> Steps[None]:
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    with (yield from cluster.lock_config(node, vmid, task.log)):
        guest = cluster.guest("qemu", node, vmid)
        if guest.template:
            raise die("you can't take a snapshot if it's a template")
        check_lock(guest)
        if name in guest.snapshots:
            raise die(f"snapshot name '{name}' already used")
        if not can_snapshot(cluster, guest, guest.config):
            raise die("snapshot feature is not available")
        guest.config["lock"] = "snapshot"
        snapshot: Config = {}
        if params.get("vmstate") and guest.power is not None:
            storage = qemu_power.vmstate_storage(cluster, guest)
            try:
                state = yield from qemu_power.save_state(cluster, guest, name, storage, task)
            except ApiError:
                del guest.config["lock"]
                raise
            snapshot |= {"vmstate": state, "runningmachine": guest.power.machine}
        guest.snapshots[name] = snapshot
        snapshot |= copied(guest.config)
        snapshot |= {"snapstate": "prepare", "snaptime": str(int(cluster.now))}
        if params.get("description"):
            snapshot["description"] = params["description"].rstrip()
        cluster.write(guest)
    if "vmstate" in snapshot:
        task.log(f"saving VM state and RAM using storage '{split_volid(snapshot['vmstate'])[0]}'")
        task.log("3.01 MiB in 0s")
        yield Sleep(cluster.durations.snapshot)
        size = memory(guest.config) / 2**20 * 0.55
        task.log(f"completed saving the VM state in 0s, saved {size:.2f} MiB")
    done: list[str] = []
    try:
        for option, volid in disks(guest, snapshot):
            task.log(f"snapshotting 'drive-{option}' ({volid})")
            if guest.running and cluster.storages.all[split_volid(volid)[0]].has_files:
                task.log("internal qemu snapshot")
            yield Sleep(cluster.durations.snapshot)
            if volid in cluster.broken_snapshots:
                raise die(cluster.broken_snapshots[volid])
            volume = cluster.storages.get(node, volid)
            volume.snapshots.append(name)
            volume.sizes[name] = volume.size
            done.append(volid)
    except ApiError as error:
        task.log("snapshot create failed: starting cleanup")
        for volid in done:
            cluster.storages.get(node, volid).snapshots.remove(name)
        if "vmstate" in snapshot:
            yield from cluster.storages.free(node, snapshot["vmstate"])
        guest.snapshots.pop(name, None)
        guest.config.pop("lock", None)
        cluster.write(guest)
        raise die(error.text) from None
    with (yield from cluster.lock_config(node, vmid, task.log)):
        if guest.config.get("lock") != "snapshot":
            raise die("missing snapshot lock")
        del snapshot["snapstate"]
        del guest.config["lock"]
        guest.config["parent"] = name
        cluster.write(guest)


def delete(call: Call) -> str:
    """DELETE .../snapshot/{snapname}."""
    cluster, node, vmid = call.cluster, call.node, call.vmid
    name, force = call.params["snapname"], bool(call.params.get("force"))

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if name not in guest.snapshots:
                raise die(f"snapshot '{name}' does not exist")
            check_lock(guest)
            guest.config["lock"] = "snapshot-delete"
            if guest.template:
                raise die("you can't delete a snapshot if vm is a template")
            snapshot = guest.snapshots[name]
            snapshot["snapstate"] = "delete"
            cluster.write(guest)
        if "vmstate" in snapshot:
            yield from cluster.storages.free(node, snapshot["vmstate"])
            snapshot.pop("vmstate", None)
        gone = []
        for option, volid in disks(guest, snapshot):
            yield Sleep(cluster.durations.snapshot)
            if volid in cluster.broken_snapshots:
                # The lock and the half deleted snapshot stay.
                if not force:
                    raise die(cluster.broken_snapshots[volid])
                task.log(cluster.broken_snapshots[volid])
                continue
            volume = cluster.storages.find(node, volid)
            if volume is not None and name in volume.snapshots:
                volume.snapshots.remove(name)
                volume.sizes.pop(name, None)
            gone.append(volid)
            if not force:
                del snapshot[option]
        with (yield from cluster.lock_config(node, vmid, task.log)):
            _forget(guest, name)
            del guest.config["lock"]
            for volid in gone:
                used = qemu_pending.in_use(guest, volid) or qemu_pending.in_snapshot(guest, volid)
                if not used and qemu_pending.owned(cluster, guest, volid):
                    qemu_pending.add_unused(guest, volid)
            cluster.write(guest)

    return call.task("qmdelsnapshot", vmid, body)


def _forget(guest: Guest, name: str) -> None:
    """Take a snapshot out of the tree: its children become those of its parent."""
    parent = guest.snapshots.pop(name).get("parent")
    for config in (guest.config, *guest.snapshots.values()):
        if config.get("parent") == name:
            if parent:
                config["parent"] = parent
            else:
                del config["parent"]


def rollback(call: Call) -> str:
    """POST .../snapshot/{snapname}/rollback."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    name = params["snapname"]
    if params.get("start"):
        call.check(f"/vms/{vmid}", "VM.PowerMgmt")

    def body(task: Task) -> Steps[None]:
        with (yield from cluster.lock_config(node, vmid, task.log)):
            guest = cluster.guest("qemu", node, vmid)
            if guest.template:
                raise die("you can't rollback if vm is a template")
            if name not in guest.snapshots:
                raise die(f"snapshot '{name}' does not exist")
            snapshot = guest.snapshots[name]
            for _option, volid in disks(guest, snapshot):
                _check_rollback(cluster, node, volid, name)
            if snapshot.get("snapstate"):
                raise die(f"unable to rollback to incomplete snapshot (snapstate = {snapshot['snapstate']})")
            check_lock(guest)
            yield from qemu_power.halt(cluster, guest, task, graceful=False, force=True, timeout=5.0)
            guest.config["lock"] = "rollback"
            cluster.write(guest)
        for _option, volid in disks(guest, snapshot):
            yield Sleep(cluster.durations.snapshot)
            volume = cluster.storages.get(node, volid)
            volume.size = volume.sizes.get(name, volume.size)
        with (yield from cluster.lock_config(node, vmid, task.log)):
            yield from _finish_rollback(cluster, guest, name, snapshot, task)
        if params.get("start") and not guest.running:
            call.params = {"node": node, "vmid": vmid}
            qemu_power.vm_start(call)

    return call.task("qmrollback", vmid, body)


def _check_rollback(cluster: Cluster, node: str, volid: str, name: str) -> None:
    storage, volume = cluster.storages.all[split_volid(volid)[0]], cluster.storages.get(node, volid)
    if name not in volume.snapshots:
        raise die(f"can't rollback snapshot, snapshot '{name}' does not exist on '{volid}'")
    if storage.type == "zfspool" and volume.snapshots[-1] != name:
        newer = ", ".join(f"'{other}'" for other in volume.snapshots[volume.snapshots.index(name) + 1 :])
        raise die(f"can't rollback, '{name}' is not most recent snapshot on '{volid}'\nrecent snapshots: {newer}")


def _finish_rollback(cluster: Cluster, guest: Guest, name: str, snapshot: Config, task: Task) -> Steps[None]:
    keep = {key: value for key, value in guest.config.items() if is_unused(key) or key == "description"}
    kept = {volid for _option, volid in disks(guest, snapshot)}
    dropped = [volid for _option, volid in disks(guest, guest.config) if volid not in kept]
    guest.config = {**keep, **copied(snapshot), "parent": name}
    guest.pending, guest.pending_delete = {}, {}
    for volid in dropped:
        if qemu_pending.owned(cluster, guest, volid):
            qemu_pending.add_unused(guest, volid)
    for key in ("runningmachine", "runningcpu", "running-nets-host-mtu"):
        guest.config.pop(key, None)
    if "vmgenid" in guest.config:
        guest.config["vmgenid"] = cluster.new_uuid()
    cluster.write(guest)
    if "vmstate" in snapshot:
        yield from qemu_power.start_unlocked(cluster, guest, task)


def get_config(call: Call) -> dict[str, Any]:
    """GET .../snapshot/{snapname}/config."""
    guest, name = call.cluster.guest("qemu", call.node, call.vmid), call.params["snapname"]
    if name not in guest.snapshots:
        raise die(f"snapshot '{name}' does not exist")
    return qemu_config.typed(call.cluster, "qemu", guest.snapshots[name])


def put_config(call: Call) -> Steps[None]:
    """PUT .../snapshot/{snapname}/config: the description."""
    cluster, name = call.cluster, call.params["snapname"]
    with (yield from cluster.lock_config(call.node, call.vmid)):
        guest = cluster.guest("qemu", call.node, call.vmid)
        check_lock(guest)
        if name not in guest.snapshots:
            raise die(f"snapshot '{name}' does not exist")
        if "description" in call.params:
            text = call.params["description"].rstrip()
            guest.snapshots[name].pop("description", None)
            if text:
                guest.snapshots[name]["description"] = text
        cluster.write(guest)


def feature(call: Call) -> dict[str, Any]:
    """GET .../feature: whether a snapshot, a clone or a copy is possible, and on which nodes the disks are."""
    from . import clone

    cluster, params = call.cluster, call.params
    qemu_power.find(cluster, call.node, call.vmid)
    guest = cluster.guest("qemu", call.node, call.vmid)
    snapname = params.get("snapname")
    if snapname and snapname not in guest.snapshots:
        raise die(f"snapshot '{snapname}' does not exist")
    config = guest.snapshots[snapname] if snapname else guest.config
    volumes = [volid for _option, volid in disks(guest, config) if ":" in volid]
    if params["feature"] == "snapshot":
        has = can_snapshot(cluster, guest, config)
    else:
        check = clone.can_clone_linked if params["feature"] == "clone" else clone.can_copy
        has = all(check(cluster, guest, volid, snapname) for volid in volumes)
    return {"hasFeature": int(has), "nodes": shared_nodes(cluster, guest, config)}


def shared_nodes(cluster: Cluster, guest: Guest, config: Config) -> list[str]:
    """The nodes that see all volumes (shared_nodes)."""
    nodes = list(cluster.nodes)
    for volid in volume_options(guest, config).values():
        storage = cluster.storages.all.get(split_volid(volid)[0])
        if storage is None:
            return []
        if not storage.shared:
            nodes = [node for node in nodes if node == guest.node]
        elif storage.nodes is not None:
            nodes = [node for node in nodes if node in storage.nodes]
    return nodes


_VM = "/nodes/{node}/qemu/{vmid}"
ROUTES: dict[tuple[str, str], Any] = {
    ("GET", f"{_VM}/snapshot"): listing,
    ("POST", f"{_VM}/snapshot"): create,
    ("DELETE", f"{_VM}/snapshot/{{snapname}}"): delete,
    ("POST", f"{_VM}/snapshot/{{snapname}}/rollback"): rollback,
    ("GET", f"{_VM}/snapshot/{{snapname}}"): lambda call: [{"cmd": "rollback"}, {"cmd": "config"}],
    ("GET", f"{_VM}/snapshot/{{snapname}}/config"): get_config,
    ("PUT", f"{_VM}/snapshot/{{snapname}}/config"): put_config,
    ("GET", f"{_VM}/feature"): feature,
}
