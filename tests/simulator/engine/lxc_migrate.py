# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration of containers: stopped, or by a restart. Local volumes are always copied along.

Sources: pve-container, PVE/LXC/Migrate.pm and PVE/API2/LXC.pm (migrate_vm, migrate_vm_precondition); pve-guest-common,
PVE/AbstractMigrate.pm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import lxc_power
from .clock import Sleep, Steps
from .copying import send_data
from .guests import is_unused
from .http import ApiError, bad_parameters, die
from .lxc_config import check_lock, find, is_volume, lock, mounts, show_mount
from .model import GIB, Guest
from .propstring import split_list
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster


def preconditions(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/lxc/{vmid}/migrate."""
    cluster = call.cluster
    cluster.need_quorum()
    guest = find(call)
    check_lock(guest)
    answer: dict[str, Any] = {"running": int(guest.running), "not-allowed-nodes": {}}
    answer["allowed-nodes"] = [name for name in cluster.nodes if name != call.node]
    if cluster.ha_managed(call.vmid):
        answer["dependent-ha-resources"] = []
    return answer


def storage_map(text: str) -> dict[str, str]:
    """`local:other,...` as a map; a single name stands for all (key `*`), `1` for each its own (JSONSchema.pm parse_idmap)."""
    found: dict[str, str] = {}
    for entry in split_list(text):
        source, colon, target = entry.partition(":")
        if entry == "1":
            continue
        found[source if colon else "*"] = target if colon else entry
    return found


def migrate(call: Call) -> str:
    """POST /nodes/{node}/lxc/{vmid}/migrate."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    target = params["target"]
    if target == node:
        raise bad_parameters({"target": "target is local node."})
    cluster.need_quorum()
    cluster.need_node(target)
    if find(call).running and not params.get("online") and not params.get("restart"):
        raise die("can't migrate running container without --online or --restart")
    targets = storage_map(params.get("target-storage", ""))
    if targets:
        cluster.access.check_guest(call.authid, vmid, None, ["VM.Config.Disk"])
    for name in targets.values():
        storage = cluster.storages.enabled(name, target)
        cluster.access.check_allocation(call.authid, name)
        if "rootdir" not in storage.content:
            raise die(f"storage '{name}' does not support container directories")
    if cluster.ha_managed(vmid):
        return str(cluster.ha.queue(call, "hamigrate", "migration"))

    def body(task: Task) -> Steps[None]:
        began = cluster.now

        def log(text: str, *, error: bool = False) -> None:
            task.log(f"{cluster.stamp()} {'ERROR: ' if error else ''}{text}")

        with (yield from cluster.lock(node, f"/var/lock/pve-manager/pve-migrate-{vmid}").acquire(10.0, log=task.log)):
            try:
                yield from _move(call, target, targets, task, log)
            except ApiError as error:
                guest = cluster.guests.get(vmid)
                if guest is not None and guest.config.get("lock") == "migrate":
                    del guest.config["lock"]
                    log("aborting phase 1 - cleanup resources")
                log(f"migration aborted (duration {_clock(cluster.now - began)}): {error.text}", error=True)
                raise die("migration aborted") from None
            log(f"migration finished successfully (duration {_clock(cluster.now - began)})")

    return call.task("vzmigrate", vmid, body)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def _check(cluster: Cluster, guest: Guest, target: str, targets: dict[str, str]) -> None:
    """What prepare looks at. Raises ApiError."""
    for option, mount in mounts(guest.config).items():
        if not is_volume(mount):
            if mount.get("shared") == "1":
                continue
            kind = "device" if mount["volume"].startswith("/dev/") else "bind"
            raise die(f"cannot migrate local {kind} mount point '{option}'")
        name = split_volid(mount["volume"])[0]
        storage = cluster.storages.enabled(name)
        if "rootdir" not in storage.content:
            raise die(f"content type 'rootdir' is not available on storage '{name}'")
        other = name if storage.shared else targets.get(name, targets.get("*", name))
        if "rootdir" not in cluster.storages.enabled(other, target).content:
            raise die(f"{mount['volume']}: content type 'rootdir' is not available on storage '{other}'")
    if not cluster.nodes[target].online:
        raise die("Can't connect to destination address using public key")


def _move(call: Call, target: str, targets: dict[str, str], task: Task, log: Any) -> Steps[None]:
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
        guest = find(call)
        check_lock(guest)
        was_running = guest.running
        if was_running and params.get("online"):
            raise die("lxc live migration is currently not implemented")
        _check(cluster, guest, target, targets)
        if was_running:
            log(f"shutdown CT {vmid}")
            yield from lxc_power.stop_unlocked(cluster, guest, task, kill=False, timeout=params.get("timeout", 180))
        log(f"starting migration of CT {vmid} to node '{target}' ({cluster.nodes[target].ip})")
        guest.config["lock"] = "migrate"
        cluster.write(guest)
        yield Sleep(cluster.durations.migrate_setup)
        moved = yield from _copy(cluster, guest, target, targets, log)
        for option, mount in mounts(guest.config).items():
            if mount["volume"] in moved:
                mount["volume"] = moved[mount["volume"]]
                guest.config[option] = show_mount(mount, option)
        for option in [option for option in guest.config if is_unused(option)]:
            guest.config[option] = moved.get(guest.config[option], guest.config[option])
        log("start final cleanup")
        guest.node = target
        guest.config.pop("lock", None)
        cluster.write(guest)
        # The copies on the source go when the configuration has moved (phase3); copies of a move that failed stay.
        for volid in moved:
            yield from cluster.storages.free(node, volid)
    if was_running:
        log("start container on target node")
        with (yield from lock(cluster, target, vmid).acquire(10.0, log=task.log)):
            yield from lxc_power.start_unlocked(cluster, guest, task)


def _copy(cluster: Cluster, guest: Guest, target: str, targets: dict[str, str], log: Any) -> Steps[dict[str, str]]:
    """Copy local volumes to the target. Returns old -> new volume id."""
    moved: dict[str, str] = {}
    named = [mount["volume"] for mount in mounts(guest.config).values() if is_volume(mount)]
    named += [value for option, value in guest.config.items() if is_unused(option)]
    for volid in named:
        name = split_volid(volid)[0]
        storage = cluster.storages.config(name)
        if storage.shared:
            log(f"volume '{volid}' is on shared storage '{name}'")
            continue
        volume = cluster.storages.get(guest.node, volid)
        if volume.parent is not None:
            raise die(f"can't migrate local volume '{volid}': clone of '{volume.parent}'")
        if volume.snapshots and storage.type not in ("zfspool", "btrfs"):
            raise die(f"can't migrate local volume '{volid}': non-migratable snapshot exists")
        log(f"found local volume '{volid}' (in current VM config)")
        yield from send_data(log, volume.size, cluster.durations.migrate_seconds_per_gib * volume.size / GIB)
        other = targets.get(name, targets.get("*", name))
        made = yield from cluster.storages.allocate(
            target, other, guest.vmid, volume.size, volume.format, content="rootdir"
        )
        moved[volid] = made.volid
        log(f"volume '{volid}' is '{made.volid}' on the target")
    return moved


ROUTES = {
    ("GET", "/nodes/{node}/lxc/{vmid}/migrate"): preconditions,
    ("POST", "/nodes/{node}/lxc/{vmid}/migrate"): migrate,
}
