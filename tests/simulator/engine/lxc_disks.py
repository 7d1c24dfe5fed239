# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of a container: moved to another storage, handed over to another container.

Sources: pve-container, PVE/API2/LXC.pm (move_volume) and PVE/LXC.pm (copy_volume).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import lxc_config
from .clock import Interrupted, Steps
from .copying import copy_files
from .guests import is_unused
from .http import ApiError, bad_parameters, die
from .lxc_config import add_unused, check_lock, find, is_volume, lock, mounts, show_mount
from .model import Guest
from .propstring import MOUNT, format_size, parse
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call

MODIFIED = "detected modified configuration - file changed by other user? Try again."


def move(call: Call) -> Steps[str]:
    """POST /nodes/{node}/lxc/{vmid}/move_volume."""
    target, storage = call.params.get("target-vmid"), call.params.get("storage")
    if target and storage:
        raise die("either set storage or target-vmid, but not both")
    if target:
        return (yield from _reassign(call, int(target)))
    if not storage:
        text = "both 'storage' and 'target-vmid' missing, either needs to be set"
        raise bad_parameters({"target-vmid": text, "storage": text})
    call.check(f"/storage/{storage}", "Datastore.AllocateSpace")
    return (yield from _move(call, storage))


def _volume_of(guest: Guest, option: str) -> dict[str, str]:
    mount = parse(MOUNT, guest.config.get(option, ""))
    if "volume" not in mount:
        raise die("format error\nvolume: property is missing and it is not optional")
    return mount


def _in_snapshots(guest: Guest, volid: str) -> bool:
    return any(mount["volume"] == volid for config in guest.snapshots.values() for mount in mounts(config).values())


def _move(call: Call, target: str) -> Steps[str]:
    """The checks are made in the request, and leave the container locked for the task."""
    cluster, node, vmid, option = call.cluster, call.node, call.vmid, call.params["volume"]
    with (yield from lock(cluster, node, vmid).acquire(10.0)):
        guest = find(call)
        check_lock(guest)
        if guest.running:
            raise die("cannot move volumes of a running container")
        if is_unused(option):
            raise die(f"cannot move volume '{option}', only configured volumes can be moved to another storage")
        mount = _volume_of(guest, option)
        if call.params.get("delete") and _in_snapshots(guest, mount["volume"]):
            raise die("you can't move a volume with snapshots and delete the source")
        if call.params.get("digest") not in (None, "", guest.digest()):
            raise die(MODIFIED)
        guest.config["lock"] = "disk"
        cluster.write(guest)

    def unlock() -> None:
        if guest.config.get("lock") == "disk":
            del guest.config["lock"]
            cluster.write(guest)

    def body(task: Task) -> Steps[None]:
        try:
            yield from _copy(call, option, mount, target, task)
        except (ApiError, Interrupted):
            unlock()
            raise
        unlock()

    try:
        return cluster.tasks.start(node, "move_volume", vmid, call.authid, body, undo=unlock)
    except ApiError:
        # Also where the worker runs nevertheless.
        unlock()
        raise


def _copy(call: Call, option: str, mount: dict[str, str], target: str, task: Task) -> Steps[None]:
    cluster, node, vmid = call.cluster, call.node, call.vmid
    guest, old, storages = find(call), mount["volume"], cluster.storages
    digest = guest.digest()
    if not is_volume(mount):
        kind = "device" if old.startswith("/dev/") else "bind"
        raise die(f"cannot copy volumes of type {kind}")
    source = storages.get(node, old)
    form = "subvol" if storages.config(target).type == "zfspool" else "raw"
    volume = yield from storages.allocate(node, target, vmid, source.size, form, task=task, content="rootdir")
    made = volume.volid
    try:
        yield from copy_files(
            cluster, task, source.size, cluster.durations.clone_seconds_per_gib, call.params.get("bwlimit")
        )
        if guest.template:
            made = storages.make_base(node, made)
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            if guest.digest() != digest:
                raise die(MODIFIED)
            guest.config[option] = show_mount({**mount, "volume": made, "size": format_size(source.size)}, option)
            if not call.params.get("delete"):
                add_unused(guest, old)
            cluster.write(guest)
    except (ApiError, Interrupted):
        yield from storages.free(node, made)
        raise
    if call.params.get("delete"):
        try:
            yield from storages.free(node, old, task)
        except ApiError as error:
            # Plain `warn`: the task ends well.
            task.log(error.text)
            with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
                add_unused(guest, old)
                cluster.write(guest)


def _check_reassign(call: Call, target_id: int) -> tuple[Guest, Guest, dict[str, str]]:
    """load_and_check_reassign_configs. Raises ApiError."""
    cluster, params, vmid = call.cluster, call.params, call.vmid
    option, slot = params["volume"], params.get("target-volume") or params["volume"]
    if "rootfs" in (option, slot):
        raise die("Cannot move to/from 'rootfs'")
    if is_unused(option) and not is_unused(slot):
        raise die("Moving an unused volume to a used one is not possible")
    for number in (vmid, target_id):
        if number not in cluster.guests:
            raise die(f"could not find CT {number}")
    nodes = cluster.guests[vmid].node, cluster.guests[target_id].node
    if nodes[0] != nodes[1]:
        raise die(f"Both containers need to be on the same node ({nodes[0]} != {nodes[1]})")
    source, target = find(call), cluster.guest("lxc", call.node, target_id)
    check_lock(source)
    check_lock(target)
    if source.template or target.template:
        raise die("Can't move volumes from or to template CT")
    for number, guest, digest in ((vmid, source, "digest"), (target_id, target, "target-digest")):
        if params.get(digest) not in (None, "", guest.digest()):
            raise die(f"Container {number}: {MODIFIED}")
    if option not in source.config:
        raise die(f"volume '{option}' for container '{vmid}' does not exist")
    if slot in target.config:
        raise die(f"Target volume key '{slot}' is already in use for container '{target_id}'")
    mount = _volume_of(source, option)
    if _in_snapshots(source, mount["volume"]):
        raise die("Cannot move volume used by a snapshot to another container")
    if not is_volume(mount):
        raise die("Cannot move a bindmount or device mount to another container")
    if source.running and not is_unused(option):
        raise die("Cannot move in-use volume while the source CT is running - detach or shutdown first")
    return source, target, mount


def _reassign(call: Call, target_id: int) -> Steps[str]:
    cluster, params, vmid, node = call.cluster, call.params, call.vmid, call.node
    option, slot = params["volume"], params.get("target-volume") or params["volume"]
    cluster.access.check_guest(call.authid, target_id, None, ["VM.Config.Disk"])
    _source, _target, mount = _check_reassign(call, target_id)
    call.check(f"/storage/{split_volid(mount['volume'])[0]}", "Datastore.AllocateSpace")

    def body(task: Task) -> Steps[None]:
        first = yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)
        with first:
            if target_id == vmid:
                yield from change(task)
                return
            with (yield from lock(cluster, node, target_id).acquire(10.0, log=task.log)):
                yield from change(task)

    def change(task: Task) -> Steps[None]:
        source, target, mount = _check_reassign(call, target_id)
        task.log(f"moving volume '{option}' from container '{vmid}' to '{target_id}'")
        made = cluster.storages.give(node, mount["volume"], target_id)
        mount["volume"] = made
        del source.config[option]
        task.log(f"removing volume '{option}' from container '{vmid}' config")
        cluster.write(source)
        if is_unused(slot):
            target.config[slot] = made
        else:
            errors = yield from lxc_config.change(cluster, target, {slot: show_mount(mount, slot)})
            for text in errors.values():
                task.warn(text)
        cluster.write(target)
        task.log(f"target container '{target_id}' updated with '{slot}'")

    yield from ()
    return call.task("move_volume", f"{vmid}-{option}>{target_id}-{slot}", body)


ROUTES = {("POST", "/nodes/{node}/lxc/{vmid}/move_volume"): move}
