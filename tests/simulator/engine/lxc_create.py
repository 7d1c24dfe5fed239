# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers come and go: create, clone, destroy.

Sources: pve-container, PVE/API2/LXC.pm (create_vm, clone_vm, destroy_vm), PVE/LXC.pm (create_disks, destroy_lxc_container).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import lxc_config, lxc_power, lxc_restore, resources
from .clock import Interrupted, Sleep, Steps
from .copying import copy_files
from .guests import is_mount, is_unused
from .http import ApiError, bad_parameter, die
from .lxc_config import NEW_DISK, check_lock, check_permissions, find, is_volume, lock, mounts, show_mount, with_mac
from .model import GIB, Behaviour, Config, Guest, Power, Volume
from .propstring import LXC_NET, MOUNT, format_size, parse, split_list
from .storage import split_volid
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

# Parameters of the call that are no options of the container.
_CALL_ONLY = frozenset(
    [
        "node", "vmid", "ostemplate", "password", "ssh-public-keys", "storage", "pool", "restore", "force", "start", "unique",
        "bwlimit", "ignore-unpack-errors", "ha-managed", "unprivileged",
    ]
)  # fmt: skip
_SYSTEMS = ("debian", "ubuntu", "centos", "fedora", "opensuse", "archlinux", "alpine", "gentoo", "nixos", "devuan")


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
    """A container with its volumes, at once; `disk` is its root, `STORAGE:GIB`."""
    assert vmid not in cluster.guests, f"there is a guest {vmid}"
    given = {key: str(value) for key, value in config.items()}
    conf: Config = {
        "arch": "amd64",
        "cores": "1",
        "hostname": name,
        "memory": "512",
        "net0": "name=eth0,bridge=vmbr0,ip=dhcp",
        "ostype": "debian",
        "swap": "512",
        "unprivileged": "1",
        **({"rootfs": disk} if disk else {}),
        **given,
    }
    guest = Guest(vmid, "lxc", node, conf, behaviour=behaviour or Behaviour(shutdown_seconds=0.8))
    cluster.guests[vmid] = guest
    for option in list(conf):
        if re.fullmatch(r"net\d+", option):
            conf[option] = with_mac(cluster, conf[option])
    for option, mount in mounts(conf).items():
        found = NEW_DISK.fullmatch(mount["volume"])
        if found:
            storage = cluster.storages.all[found[1]]
            form = "subvol" if storage.type == "zfspool" else "raw"
            place = cluster.storages.place(storage, node)
            size = int(float(found[2]) * GIB)
            volid = cluster.storages.volid(storage, vmid, cluster.storages.free_name(storage, place, vmid, form))
            made = Volume(volid, size, form, "rootdir", vmid, int(cluster.now), used=size)
            cluster.storages.volumes[place, volid] = made
            mount |= {"volume": volid, "size": format_size(size)}
        conf[option] = show_mount(mount, option)
    if running:
        guest.power = Power(cluster.next_pid(node), cluster.now - 600)
    if settled:
        resources.settle(cluster, guest)
    else:
        cluster.touched(vmid)
    return guest


def create(call: Call) -> str:
    """POST /nodes/{node}/lxc: from a template, or from a backup."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    access, pool = cluster.access, params.get("pool")
    if params.get("restore"):
        return lxc_restore.restore(call)
    unprivileged = bool(params.get("unprivileged", 1))
    if not unprivileged:
        call.check("/", "Sys.Modify")
    if params.get("ha-managed"):
        call.check("/", "Sys.Console")
    if vmid in cluster.guests:
        other = cluster.guests[vmid]
        kind = "CT" if other.kind == "lxc" else "VM"
        raise die(f"{kind} {vmid} already exists on node '{other.node}'")
    if pool is not None:
        access.check_pool_exists(pool)
    if not call.allowed(f"/vms/{vmid}", "VM.Allocate") and not (pool and call.allowed(f"/pool/{pool}", "VM.Allocate")):
        raise ApiError(403, "Permission check failed")
    storage = params.get("storage", "local")
    new = {name: str(value) for name, value in params.items() if name not in _CALL_ONLY}
    check_permissions(call, None, pool, new, [], unprivileged)
    archive = params["ostemplate"]
    found = cluster.storages.find(node, archive) if ":" in archive else None
    access.check_volume(call.authid, vmid, archive, found.content if found else "vztmpl", None, "vztmpl")
    disks = {
        name: f"{storage}:{value}" if re.fullmatch(r"\d+(\.\d+)?", value) else value
        for name, value in new.items()
        if is_mount(name)
    }
    if disks and "rootfs" not in disks:
        raise die("mount points configured, but 'rootfs' not set - aborting")
    for text in disks.values() or [f"{storage}:4"]:
        _check_storage(call, parse(MOUNT, text))
    options = {name: value for name, value in new.items() if not is_mount(name) and not is_unused(name)}
    config = {
        name: lxc_config.rewrite(cluster, Guest(vmid, "lxc", node), name, value) for name, value in options.items()
    }
    config = {
        name: with_mac(cluster, value) if re.fullmatch(r"net\d+", name) else value for name, value in config.items()
    }
    config = {name: value for name, value in config.items() if value or name != "description"}
    if unprivileged:
        config["unprivileged"] = "1"
    cluster.need_quorum()
    guest = Guest(vmid, "lxc", node, {"lock": "create"}, behaviour=Behaviour(shutdown_seconds=0.8))
    cluster.guests[vmid] = guest
    cluster.write(guest)

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            try:
                yield from _fill(call, guest, config, disks or {"rootfs": f"{storage}:4"}, archive, task)
            except (ApiError, Interrupted) as error:
                for volume in cluster.storages.of_guest(node, vmid):
                    yield from cluster.storages.free(node, volume.volid)
                cluster.guests.pop(vmid, None)
                text = "received interrupt" if isinstance(error, Interrupted) else error.in_task()
                raise die(f"unable to create CT {vmid} - {text}") from None
            if pool is not None:
                access.add_to_pool(pool, vmid)
        if params.get("start"):
            _start_after(call, task)
        if params.get("ha-managed"):
            task.log("Add as HA resource")
            cluster.ha.resources[f"ct:{vmid}"] = {"state": "started" if params.get("start") else "stopped"}
            cluster.ha.wake()

    return call.task("vzcreate", vmid, body)


def _check_storage(call: Call, mount: Mapping[str, str]) -> None:
    if not is_volume(mount):
        if not call.root:
            raise die("Only root can pass arbitrary filesystem paths.")
        return
    name = split_volid(mount["volume"])[0]
    if "rootdir" not in call.cluster.storages.enabled(name, call.node).content:
        raise bad_parameter(storage=f"storage '{name}' does not support container directories")
    call.check(f"/storage/{name}", "Datastore.AllocateSpace")


def _fill(call: Call, guest: Guest, config: Config, disks: Config, archive: str, task: Task) -> Steps[None]:
    """The work of a vzcreate task. Raises ApiError."""
    cluster = call.cluster
    for option, mount in mounts(disks).items():
        yield from lxc_config.allocate(cluster, guest, option, mount, task)
        config[option] = show_mount(mount, option)
    template = cluster.storages.find(guest.node, archive)
    path = cluster.storages.path(archive) if ":" in archive else archive
    task.log(f"extracting archive '{path}'")
    if template is None:
        raise die(f"command 'tar xpf {path}' failed: exit code 2")
    yield Sleep(cluster.durations.create)
    task.log("Total bytes read: 556646400 (531MiB, 290MiB/s)\nDetected container architecture: amd64")
    task.log(
        "Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...\ndone: SHA256:ssh_host_ed25519_key"
    )
    config.setdefault("arch", "amd64")
    config.setdefault("ostype", next((name for name in _SYSTEMS if name in archive), "unmanaged"))
    config.setdefault("hostname", f"CT{guest.vmid}")
    config.setdefault("memory", "512")
    config.setdefault("swap", "512")
    guest.config = config
    cluster.write(guest)


def _start_after(call: Call, task: Task) -> None:
    cluster, node, vmid = call.cluster, call.node, call.vmid
    call.task("vzstart", vmid, lambda other: lxc_power.start_in_task(cluster, node, vmid, other))


def destroy(call: Call) -> str:
    """DELETE /nodes/{node}/lxc/{vmid}."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    find(call)

    def check() -> Guest:
        guest = find(call)
        if guest.config.get("protection") == "1":
            raise die(f"can't remove CT {vmid} - protection mode enabled")
        check_lock(guest)
        if not params.get("purge") and cluster.ha.configured(vmid):
            raise die(f"unable to remove CT {vmid} - used in HA resources and purge parameter not set.")
        if guest.running and not params.get("force"):
            raise die(f"unable to destroy CT {vmid} - container is running")
        return guest

    def body(task: Task) -> Steps[None]:
        with (yield from lock(cluster, node, vmid).acquire(10.0, log=task.log)):
            guest = check()
            if guest.running:
                task.log(f"forced to stop CT {vmid} before destroying!")
                yield from lxc_power.stop_unlocked(cluster, guest, task, kill=True)
            configs = (guest.config, guest.pending)
            named = [mount["volume"] for config in configs for mount in mounts(config).values() if is_volume(mount)]
            named += [value for config in configs for option, value in config.items() if is_unused(option)]
            for volid in dict.fromkeys(named):
                yield from cluster.storages.free(node, volid, task)
            if params.get("destroy-unreferenced-disks"):
                for volume in cluster.storages.of_guest(node, vmid):
                    yield from cluster.storages.free(node, volume.volid, task)
            guest.config, guest.pending, guest.snapshots = {"lock": "destroyed"}, {}, {}
            cluster.write(guest)
            cluster.access.forget_guest(vmid)
            if params.get("purge"):
                task.log(f"purging CT {vmid} from related configurations..")
                if cluster.ha.configured(vmid):
                    cluster.ha.forget(vmid)
                    task.log(f"NOTE: removed CT {vmid} from HA resource configuration.")
            cluster.guests.pop(vmid, None)

    check()
    return call.task("vzdestroy", vmid, body)


# --- clone ----------------------------------------------------------------------------------------------------------


def clone(call: Call) -> Steps[str]:
    """POST /nodes/{node}/lxc/{vmid}/clone: the source is locked (`disk`) and the new id reserved (`create`) before the fork."""
    cluster, node, vmid, params = call.cluster, call.node, call.vmid, call.params
    newid, snapname, storage = int(params["newid"]), params.get("snapname"), params.get("storage")
    target = None if params.get("target") in (None, node, "localhost") else str(params["target"])
    if "pool" in params:
        cluster.access.check_pool_exists(params["pool"])
    if target is not None:
        cluster.need_node(target)
    if storage is not None:
        cluster.storages.enabled(storage, node)
        if target is not None and not cluster.storages.enabled(storage, target).shared:
            raise die(f"can't clone to non-shared storage '{storage}'")
    cluster.need_quorum()
    with (yield from lock(cluster, node, vmid).acquire(10.0)):
        source = find(call)
        check_lock(source)
        source.config["lock"] = "disk"
    other = cluster.guests.get(newid)
    if other is not None:
        source.config.pop("lock", None)
        kind = "CT" if other.kind == "lxc" else "VM"
        raise die(f"{kind} {newid} already exists on node '{other.node}'")
    made = Guest(newid, "lxc", node, {"lock": "create"}, behaviour=copy.copy(source.behaviour))
    cluster.guests[newid] = made
    try:
        full = bool(params.get("full", not source.template))
        if storage is not None and not full:
            raise die("parameter 'storage' not allowed for linked clones")
        if snapname and snapname not in source.snapshots:
            raise die(f"snapshot '{snapname}' does not exist")
        volumes = _plan_clone(call, source, made, full, target)
        cluster.write(made)
    except ApiError:
        source.config.pop("lock", None)
        cluster.guests.pop(newid, None)
        raise

    def body(task: Task) -> Steps[None]:
        task.log(f"creating a clone of container {vmid} with ID {newid}")
        new: list[str] = []
        try:
            for option, mount in volumes.items():
                yield from _clone_volume(call, made, option, mount, full, task, new)
            if "pool" in params:
                cluster.access.add_to_pool(params["pool"], newid)
        except (ApiError, Interrupted) as error:
            source.config.pop("lock", None)
            yield Sleep(1.0)
            for volid in new:
                yield from cluster.storages.free(node, volid)
            cluster.guests.pop(newid, None)
            text = "interrupted by signal" if isinstance(error, Interrupted) else error.in_task()
            raise die(f"clone failed: {text}") from None
        source.config.pop("lock", None)
        made.config.pop("lock", None)
        if target is not None:
            made.node = target
        cluster.write(made)

    return call.task("vzclone", vmid, body)


def _plan_clone(call: Call, source: Guest, made: Guest, full: bool, target: str | None) -> dict[str, dict[str, str]]:
    """Fill the new configuration; the mount points to be copied come back. Raises ApiError."""
    cluster, params = call.cluster, call.params
    snapname, storage = params.get("snapname"), params.get("storage")
    old = source.snapshots[snapname] if snapname else source.config
    config: Config = {"lock": "create"}
    volumes: dict[str, dict[str, str]] = {}
    shared = True
    for option in sorted(old):
        value = old[option]
        if option in ("lock", "parent", "snaptime", "snapstate", "template") or is_unused(option):
            continue
        if is_mount(option):
            mount = parse(MOUNT, value)
            if not is_volume(mount):
                kind = "device" if mount["volume"].startswith("/dev/") else "bind"
                raise die(f"unable to clone mountpoint '{option}' (type {kind})")
            name = storage or split_volid(mount["volume"])[0]
            shared = shared and cluster.storages.config(name).shared
            call.check(f"/storage/{name}", "Datastore.AllocateSpace")
            if full:
                if source.running and not snapname:
                    raise die("Full clone of a running container is only possible from a snapshot")
            elif not lxc_config.has_feature(cluster, source, "clone", snapname):
                raise die(f"Linked clone feature for '{mount['volume']}' is not available")
            volumes[option] = mount
        elif re.fullmatch(r"net\d+", option):
            net = parse(LXC_NET, value)
            net["hwaddr"] = cluster.new_mac()
            config[option] = lxc_config.show_net(net)
            if "bridge" in net:
                cluster.access.check_bridge(call.authid, net["bridge"], net.get("tag"), net.get("trunks", ""))
        else:
            config[option] = value
    if target is not None and not shared:
        raise die(f"can't clone CT to node '{target}' (CT uses local storage)")
    for option in ("hostname", "description"):
        if params.get(option):
            config[option] = lxc_config.described(params[option]) if option == "description" else params[option]
    made.config = config
    return volumes


def _clone_volume(
    call: Call, made: Guest, option: str, mount: dict[str, str], full: bool, task: Task, new: list[str]
) -> Steps[None]:
    cluster, node = call.cluster, call.node
    volid = mount["volume"]
    old = cluster.storages.get(node, volid)
    name = split_volid(volid)[0]
    if full:
        task.log(f"create full clone of mountpoint {option} ({volid})")
        name = call.params.get("storage") or name
        form = "subvol" if cluster.storages.config(name).type == "zfspool" else "raw"
        volume = yield from cluster.storages.allocate(
            node, name, made.vmid, old.size, form, task=task, content="rootdir"
        )
        new.append(volume.volid)
        limit = call.params.get("bwlimit")
        yield from copy_files(
            cluster, task, old.size, cluster.durations.clone_seconds_per_gib, int(limit) if limit else None
        )
    else:
        task.log(f"create linked clone of mount point {option} ({volid})")
        volume = yield from cluster.storages.allocate(
            node, name, made.vmid, old.size, old.format, task=task, content="rootdir", parent=volid
        )
        new.append(volume.volid)
        yield Sleep(cluster.durations.linked_clone)
    mount["volume"] = volume.volid
    made.config[option] = show_mount(mount, option)


def index(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/lxc/{vmid}."""
    find(call)
    names = "config pending status vncproxy termproxy vncwebsocket spiceproxy migrate clone rrd rrddata firewall snapshot resize"
    return [{"subdir": name} for name in split_list(f"{names} interfaces")]


ROUTES = {
    ("POST", "/nodes/{node}/lxc"): create,
    ("GET", "/nodes/{node}/lxc/{vmid}"): index,
    ("DELETE", "/nodes/{node}/lxc/{vmid}"): destroy,
    ("POST", "/nodes/{node}/lxc/{vmid}/clone"): clone,
}
