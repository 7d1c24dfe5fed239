# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of containers.

Sources: pve-container, PVE/API2/LXC/Snapshot.pm and PVE/LXC/Config.pm; pve-guest-common, PVE/AbstractConfig.pm (snapshot_create,
snapshot_delete, snapshot_rollback).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lxc_power
from .clock import Sleep, Steps
from .guests import is_unused, take_snapshot
from .http import die
from .lxc_config import add_unused, check_lock, described, find, has_feature, in_use, is_volume, lock, mounts
from .model import Guest
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call


def listing(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/lxc/{vmid}/snapshot."""
    guest = find(call)
    rows: list[dict[str, Any]] = []
    for name, config in sorted(guest.snapshots.items()):
        row: dict[str, Any] = {
            "name": name,
            "snaptime": int(config.get("snaptime", "0")),
            "description": config.get("description", ""),
        }
        rows.append(row | {key: config[key] for key in ("parent", "snapstate") if key in config})
    current: dict[str, Any] = {
        "name": "current",
        "digest": guest.digest(),
        "running": int(guest.running),
        "description": "You are here!",
    }
    if "parent" in guest.config:
        current["parent"] = guest.config["parent"]
    return [*rows, current]


def create(call: Call) -> str:
    """POST /nodes/{node}/lxc/{vmid}/snapshot: even a missing container is only found missing in the task."""
    cluster, node, vmid, name = call.cluster, call.node, call.vmid, call.params["snapname"]
    if name in ("current", "vzdump"):
        raise die(f"unable to use snapshot name '{name}' (reserved name)")

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = find(call)
            if guest.template:
                raise die("you can't take a snapshot if it's a template")
            check_lock(guest)
            if name in guest.snapshots:
                raise die(f"snapshot name '{name}' already used")
            if not has_feature(cluster, guest, "snapshot"):
                raise die("snapshot feature is not available")
            guest.config["lock"] = "snapshot"
            cluster.write(guest)
        yield Sleep(cluster.durations.snapshot)
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest.config.pop("lock", None)
            take_snapshot(cluster, guest, name, described(call.params.get("description", "")))

    return call.task("vzsnapshot", vmid, body)


def _snapshot(guest: Guest, name: str) -> dict[str, str]:
    if name not in guest.snapshots:
        raise die(f"snapshot '{name}' does not exist")
    return guest.snapshots[name]


def get_config(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config."""
    config = _snapshot(find(call), call.params["snapname"])
    return {
        key: int(value) if value.isdigit() and key in ("snaptime", "memory", "swap", "cores") else value
        for key, value in config.items()
    }


def set_config(call: Call) -> Steps[None]:
    """PUT /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config: the description."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    if "description" not in params:
        return
    with (yield from lock(cluster, node, vmid).acquire(10.0)):
        guest = find(call)
        check_lock(guest)
        config = _snapshot(guest, params["snapname"])
        text = described(params["description"])
        if text:
            config["description"] = text
        else:
            config.pop("description", None)
        cluster.write(guest)


def delete(call: Call) -> str:
    """DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}."""
    cluster, node, vmid, name = call.cluster, call.node, call.vmid, call.params["snapname"]

    def body(task: Task) -> Steps[None]:
        snapshot = _snapshot(find(call), name)
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = find(call)
            check_lock(guest)
            if guest.template:
                raise die("you can't delete a snapshot if vm is a template")
            guest.config["lock"] = "snapshot-delete"
            snapshot["snapstate"] = "delete"
            cluster.write(guest)
        yield Sleep(cluster.durations.snapshot)
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            for config in (guest.config, *guest.snapshots.values()):
                if config.get("parent") == name:
                    config.pop("parent")
                    if "parent" in snapshot:
                        config["parent"] = snapshot["parent"]
            del guest.snapshots[name]
            guest.config.pop("lock", None)
            for mount in mounts(snapshot).values():
                volume = cluster.storages.find(node, mount["volume"])
                if volume is not None and name in volume.snapshots:
                    volume.snapshots.remove(name)
                if volume is not None and not in_use(guest, mount["volume"]):
                    add_unused(guest, mount["volume"])
            cluster.write(guest)

    return call.task("vzdelsnapshot", vmid, body)


def rollback(call: Call) -> str:
    """POST /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback."""
    cluster, node, vmid, name = call.cluster, call.node, call.vmid, call.params["snapname"]

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = find(call)
            if guest.template:
                raise die("you can't rollback if vm is a template")
            snapshot = _snapshot(guest, name)
            for mount in mounts(snapshot).values():
                last = cluster.storages.get(node, mount["volume"]).snapshots[-1:]
                zfs = cluster.storages.config(mount["volume"].partition(":")[0]).type == "zfspool"
                if zfs and last and last[0] != name:
                    raise die(f"can't rollback, '{name}' is not most recent snapshot on '{mount['volume']}'")
            if "snapstate" in snapshot:
                raise die(f"unable to rollback to incomplete snapshot (snapstate = {snapshot['snapstate']})")
            check_lock(guest)
            yield from lxc_power.stop_unlocked(cluster, guest, task, kill=True)
            guest.config["lock"] = "rollback"
            cluster.write(guest)
        yield Sleep(cluster.durations.snapshot)
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            kept = {mount["volume"] for mount in mounts(snapshot).values()}
            lost = [mount["volume"] for mount in mounts(guest.config).values() if is_volume(mount)]
            old = guest.config
            config = {
                key: value for key, value in snapshot.items() if key not in ("snaptime", "description", "snapstate")
            }
            guest.config = config | {key: value for key, value in old.items() if is_unused(key) or key == "description"}
            guest.config["parent"] = name
            for volid in lost:
                if volid not in kept:
                    add_unused(guest, volid)
            cluster.write(guest)
        if call.params.get("start"):
            call.task("vzstart", vmid, lambda other: lxc_power.start_in_task(cluster, node, vmid, other))

    return call.task("vzrollback", vmid, body)


_PATH = "/nodes/{node}/lxc/{vmid}/snapshot"
ROUTES = {
    ("GET", _PATH): listing,
    ("POST", _PATH): create,
    ("GET", f"{_PATH}/{{snapname}}"): lambda call: [{"cmd": "rollback"}, {"cmd": "config"}],
    ("DELETE", f"{_PATH}/{{snapname}}"): delete,
    ("GET", f"{_PATH}/{{snapname}}/config"): get_config,
    ("PUT", f"{_PATH}/{{snapname}}/config"): set_config,
    ("POST", f"{_PATH}/{{snapname}}/rollback"): rollback,
}
