# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring containers.

Sources: pve-container, PVE/API2/LXC.pm (create_vm with `restore`) and PVE/LXC/Create.pm (recover_config, restore_archive,
sanitize_and_merge_config).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import backup, lxc_config, lxc_power
from .clock import Interrupted, Sleep, Steps
from .guests import is_mount, is_unused
from .http import ApiError, bad_parameter, die
from .lxc_config import check_permissions, is_volume, lock, mounts, show_mount
from .model import GIB, Config, Guest
from .propstring import LXC_NET, parse, parse_size
from .storage import classify, split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call

_CALL_ONLY = frozenset(
    ["node", "vmid", "ostemplate", "restore", "force", "unique", "storage", "pool", "start", "bwlimit"]
)
# Options that may differ from the backup's here.
_OVERRIDES = frozenset(["hostname", "description", "tags", "memory", "swap", "cores", "onboot"])


def restore(call: Call) -> str:
    """POST /nodes/{node}/lxc with `restore`."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    access, pool, archive = cluster.access, params.get("pool"), str(params["ostemplate"])
    new = {name: str(value) for name, value in params.items() if name not in _CALL_ONLY}
    for name in new.keys() - _OVERRIDES:
        raise ApiError(501, f"the simulator does not model restoring containers with '{name}'", newline=False)
    cluster.need_quorum()
    existing = cluster.guests.get(vmid)
    here = existing is not None and existing.kind == "lxc" and existing.node == node
    if existing is not None and not (here and params.get("force")):
        raise die(f"{'CT' if existing.kind == 'lxc' else 'VM'} {vmid} already exists on node '{existing.node}'")
    if existing is not None and existing.running:
        raise die("can't overwrite running container")
    if existing is not None and existing.config.get("protection") == "1":
        raise die(f"unable to restore CT {vmid} - protection mode enabled")
    if pool is not None:
        access.check_pool_exists(pool)
    if (
        not call.allowed(f"/vms/{vmid}", "VM.Allocate")
        and not (pool and call.allowed(f"/pool/{pool}", "VM.Allocate"))
        and not (existing is not None and call.allowed(f"/vms/{vmid}", "VM.Backup"))
    ):
        raise ApiError(403, "Permission check failed")
    check_permissions(call, None, pool, new, [], True)
    storage = str(params.get("storage", "local"))
    what, owner = classify(archive)
    access.check_volume(call.authid, vmid, archive, what, owner, "backup")
    if "rootdir" not in cluster.storages.enabled(storage, node).content:
        raise bad_parameter(storage=f"storage '{storage}' does not support container directories")
    call.check(f"/storage/{storage}", "Datastore.AllocateSpace")
    overrides = {
        name: lxc_config.rewrite(cluster, Guest(vmid, "lxc", node), name, value) for name, value in new.items()
    }
    guest, old = backup.reserve(call, "lxc", f"unable to restore CT {vmid} -")

    def clean_up() -> None:
        guest.config.pop("lock", None)
        if not old:
            cluster.guests.pop(vmid, None)

    def body(task: Task) -> Steps[None]:
        try:
            with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
                yield from _unpack(call, task, guest, old, overrides, storage)
        except (ApiError, Interrupted) as error:
            clean_up()
            text = "received interrupt" if isinstance(error, Interrupted) else error.in_task()
            raise die(f"unable to restore CT {vmid} - {text}") from None
        if pool is not None:
            access.add_to_pool(pool, vmid)
        if params.get("start"):
            call.task("vzstart", vmid, lambda other: lxc_power.start_in_task(cluster, node, vmid, other))

    def undo() -> None:
        # A new one stays, without a task and with its lock.
        if old:
            guest.config.pop("lock", None)

    return call.task("vzrestore", vmid, body, undo=undo)


def _unpack(call: Call, task: Task, guest: Guest, old: Config, overrides: Config, storage: str) -> Steps[None]:
    """The work of a vzrestore task. Raises ApiError; then new volumes are gone, and old ones are still there."""
    cluster, params, archive = call.cluster, call.params, str(call.params["ostemplate"])
    storages = cluster.storages
    task.log(f"recovering backed-up configuration from '{archive}'")
    if archive not in cluster.archives or storages.find(guest.node, archive) is None:
        raise die(f"unable to open file '{storages.path(archive)}' - No such file or directory")
    backed_up, kind = cluster.archives[archive]
    if kind != "lxc" or storages.all[split_volid(archive)[0]].type == "pbs":
        raise ApiError(501, f"the simulator does not model restoring a container from {archive}", newline=False)
    for option, text in sorted(backed_up.items()):
        net = parse(LXC_NET, text) if re.fullmatch(r"net\d+", option) else {}
        if "bridge" in net:
            cluster.access.check_bridge(call.authid, net["bridge"], net.get("tag"), net.get("trunks", ""))
    if backed_up.get("unprivileged") != "1" and (not old or old.get("unprivileged") == "1"):
        call.check("/", "Sys.Modify")
    config = {
        option: text
        for option, text in backed_up.items()
        if not is_mount(option) and not is_unused(option) and option not in ("parent", "template", "lock")
    }
    made: list[str] = []
    total = 0
    try:
        for option, mount in mounts(backed_up).items():
            if not is_volume(mount):
                raise die(f"restoring '{option}' to bind mount is only possible for root")
            size = parse_size(mount.get("size", "0"))
            total += size
            fresh = {**mount, "volume": f"{storage}:{size / GIB:g}"}
            yield from lxc_config.allocate(cluster, guest, option, fresh, task)
            made.append(fresh["volume"])
            config[option] = show_mount(fresh, option)
        for mount in mounts(old).values():
            if is_volume(mount):
                yield from storages.free(guest.node, mount["volume"], task)
        task.log(f"restoring '{archive}' now..")
        task.log(f"extracting archive '{storages.path(archive)}'")
        seconds = total / GIB * cluster.durations.clone_seconds_per_gib
        if params.get("bwlimit"):
            seconds = max(seconds, total / 1024 / float(params["bwlimit"]))
        yield Sleep(seconds)
    except (ApiError, Interrupted):
        for volid in made:
            yield from storages.free(guest.node, volid)
        raise
    task.log(f"Total bytes read: {total // 3} ({total // 3 // 2**20}MiB, 400MiB/s)")
    task.log("merging backed-up and given configuration..")
    if params.get("unique"):
        for option in [option for option in config if re.fullmatch(r"net\d+", option)]:
            net = {**parse(LXC_NET, config[option]), "hwaddr": cluster.new_mac()}
            config[option] = lxc_config.show_net(net)
    guest.config = config | overrides
    guest.pending, guest.pending_delete, guest.snapshots = {}, {}, {}
    cluster.write(guest)
