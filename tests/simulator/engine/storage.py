# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storages and volumes: names, space, allocation under the storage's lock, and their endpoints.

Sources: pve-storage, PVE/Storage.pm and PVE/Storage/Plugin.pm; pve-cluster, PVE/Cluster.pm (cfs_lock_storage); pve-manager,
PVE/API2/Storage/*.pm.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from .clock import Lock, Sleep, Steps
from .http import ApiError, bad_parameter, die
from .model import Storage, Volume
from .tasks import Task

if TYPE_CHECKING:
    from .cluster import Call, Cluster

LOCK_SECONDS = 10.0
PREALLOCATION = "extended_l2=off preallocation=metadata compression_type=zlib"


def split_volid(volid: str) -> tuple[str, str]:
    """Storage and name of a volume id.

    Raises:
        ApiError: it is none.
    """
    storage, colon, name = volid.partition(":")
    if not colon or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]", storage):
        raise die(f"unable to parse volume ID '{volid}'")
    return storage, name


class Storages:
    """All storages of the cluster and the volumes on them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.all: dict[str, Storage] = {}
        self.volumes: dict[tuple[str, str], Volume] = {}  # (node or "" when shared, volume id)
        self._locks: dict[tuple[str, str], Lock] = {}

    # -- looking up

    def config(self, name: str) -> Storage:
        """A storage by name. Raises ApiError."""
        storage = self.all.get(name)
        if storage is None:
            raise die(f"storage '{name}' does not exist")
        return storage

    def enabled(self, name: str, node: str | None = None) -> Storage:
        """A storage that is enabled, and available on the node (PVE/Storage.pm, storage_check_enabled). Raises ApiError."""
        storage = self.config(name)
        if not storage.enabled:
            raise die(f"storage '{name}' is disabled")
        if node is not None and storage.nodes is not None and node not in storage.nodes:
            raise die(f"storage '{name}' is not available on node '{node}'")
        return storage

    def on_node(self, node: str) -> list[Storage]:
        """The enabled storages of a node, by name."""
        return [
            storage
            for _name, storage in sorted(self.all.items())
            if storage.enabled and (storage.nodes is None or node in storage.nodes)
        ]

    def place(self, storage: Storage, node: str) -> str:
        """The node part of a volume's key."""
        return "" if storage.shared else node

    def find(self, node: str, volid: str) -> Volume | None:
        """A volume as a node sees it."""
        name, _rest = split_volid(volid)
        storage = self.all.get(name)
        return None if storage is None else self.volumes.get((self.place(storage, node), volid))

    def get(self, node: str, volid: str) -> Volume:
        """A volume as a node sees it. Raises ApiError."""
        name, _rest = split_volid(volid)
        storage = self.config(name)
        volume = self.find(node, volid)
        if volume is None:
            if storage.has_files:
                raise die(f"volume '{volid}' does not exist")
            raise die(f"no such volume '{volid}'")
        return volume

    def of_guest(self, node: str, vmid: int) -> list[Volume]:
        """The volumes of a guest that a node sees."""
        return [
            volume for (place, _rest), volume in self.volumes.items() if place in ("", node) and volume.vmid == vmid
        ]

    def linked_to(self, node: str, volid: str) -> list[Volume]:
        """Linked clones of a base volume."""
        return [
            volume for (place, _rest), volume in self.volumes.items() if place in ("", node) and volume.parent == volid
        ]

    def used(self, storage: Storage, node: str) -> int:
        """Bytes in use."""
        place = self.place(storage, node)
        prefix = f"{storage.name}:"
        return storage.used + sum(
            volume.used
            for (where, volid), volume in self.volumes.items()
            if where == place and volid.startswith(prefix)
        )

    def path(self, volid: str) -> str:
        """Where a volume lies."""
        name, volname = split_volid(volid)
        storage = self.all[name]
        last = volname.split("/")
        if not storage.has_files:
            return f"/dev/{storage.options.get('vgname', 'pve')}/{last[-1]}"
        if volname.startswith("iso/"):
            return f"{storage.path}/template/{volname}"
        if volname.startswith("backup/"):
            return f"{storage.path}/dump/{last[-1]}"
        if last[0] in ("snippets", "import", "vztmpl"):
            return f"{storage.path}/{volname}"
        return f"{storage.path}/images/{'/'.join(last[-2:])}"

    # -- names

    def default_format(self, storage: Storage) -> str:
        """The format of a new volume when none is asked for."""
        return "qcow2" if storage.has_files else "raw"

    def volid(self, storage: Storage, vmid: int, name: str, parent: str | None = None) -> str:
        if storage.has_files:
            head = f"{split_volid(parent)[1]}/" if parent else ""
            return f"{storage.name}:{head}{vmid}/{name}"
        head = f"{split_volid(parent)[1]}/" if parent and storage.type in ("rbd", "zfspool", "lvmthin") else ""
        if storage.type == "lvmthin":
            head = ""
        return f"{storage.name}:{head}{name}"

    def free_name(self, storage: Storage, place: str, vmid: int, form: str) -> str:
        """The next vm-ID-disk-N (PVE/Storage/Plugin.pm, get_next_vm_diskname)."""
        taken = set()
        for (where, volid), volume in self.volumes.items():
            if where == place and volume.vmid == vmid and volid.startswith(f"{storage.name}:"):
                found = re.search(
                    r"(?:vm|base|subvol|basevol)-\d+-disk-(\d+)", volid.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
                )
                if found:
                    taken.add(int(found[1]))
        number = next(number for number in range(10000) if number not in taken)
        kind = "subvol" if form == "subvol" else "vm"
        return f"{kind}-{vmid}-disk-{number}" + (f".{form}" if storage.has_files else "")

    # -- changing, under the storage's lock

    def lock(self, storage: Storage, node: str) -> Lock:
        """The lock of a storage: one for the cluster when it is shared, else one for each node."""
        key = (self.place(storage, node), storage.name)
        if key not in self._locks:
            text = (
                f"cfs-lock 'storage-{storage.name}' error: got lock request timeout"
                if storage.shared
                else f"can't lock file '/var/lock/pve-manager/pve-storage-{storage.name}' - got timeout"
            )
            self._locks[key] = Lock(self._cluster.scheduler, text)
        return self._locks[key]

    def allocate(
        self,
        node: str,
        name: str,
        vmid: int,
        size: int,
        form: str | None = None,
        *,
        task: Task | None = None,
        volname: str | None = None,
        content: str = "images",
        parent: str | None = None,
    ) -> Steps[Volume]:
        """Make a volume of `size` bytes (vdisk_alloc, vdisk_clone when there is a parent).

        Raises:
            ApiError: unknown storage, wrong format or content, no space, or its lock was not to be had in ten seconds.
        """
        storage = self.enabled(name, node)
        form = form or self.default_format(storage)
        if content not in storage.content:
            raise die(f"storage '{name}' does not support content-type '{content}'")
        if form not in (("raw", "qcow2", "vmdk", "subvol") if storage.has_files else ("raw", "subvol")):
            raise die(f"unsupported format '{form}'")
        log = task.log if task is not None else None
        with (yield from self.lock(storage, node).acquire(LOCK_SECONDS, log=log)):
            yield Sleep(self._cluster.durations.allocate)
            place = self.place(storage, node)
            volname = volname or self.free_name(storage, place, vmid, form)
            volid = self.volid(storage, vmid, volname, parent)
            if (place, volid) in self.volumes:
                raise die(f"disk image '{self.path(volid)}' already exists")
            needed = 0 if parent else size
            if needed > storage.size - self.used(storage, node):
                raise die(self._no_space(storage, volid, size))
            if log is not None:
                for line in self._made(storage, volid, form, size, parent):
                    log(line)
            # LVM-thin does not remember what a volume was cloned from.
            origin = None if storage.type == "lvmthin" else parent
            volume = Volume(volid, size, form, content, vmid, int(self._cluster.now), origin, used=needed)
            self.volumes[place, volid] = volume
            return volume

    def _no_space(self, storage: Storage, volid: str, size: int) -> str:
        if storage.has_files:
            path = self.path(volid)
            return f"unable to create image: qemu-img: {path}: Could not resize file: No space left on device"
        return f"lvcreate 'pve/{volid.rsplit('/', 1)[-1].rsplit(':', 1)[-1]}' error:   insufficient free space"

    def _made(self, storage: Storage, volid: str, form: str, size: int, parent: str | None) -> list[str]:
        """The lines in the log of a task that makes a volume."""
        path = self.path(volid)
        last = volid.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        if not storage.has_files:
            return [f'  Logical volume "{last}" created.']
        if form == "raw":
            return [f"Formatting '{path}', fmt=raw size={size} preallocation=off"]
        if parent is None:
            more = f"cluster_size=65536 {PREALLOCATION} size={size}"
            return [f"Formatting '{path}', fmt={form} {more} lazy_refcounts=off refcount_bits=16"]
        base = f"../{'/'.join(split_volid(parent)[1].split('/')[-2:])}"
        vmid = last.split("-")[1]
        head = f"clone {split_volid(parent)[1]}: images, {last}, {vmid} to {last} (base={base})"
        options = "cluster_size=131072 extended_l2=on preallocation=metadata compression_type=zlib"
        more = f"{options} size={size} backing_file={base} backing_fmt=qcow2"
        return [head, f"Formatting '{path}', fmt=qcow2 {more} lazy_refcounts=off refcount_bits=16"]

    def free(self, node: str, volid: str, task: Task | None = None) -> Steps[None]:
        """Remove a volume; what is not there is no error (vdisk_free).

        Raises:
            ApiError: it is the base of a linked clone, or the lock was not to be had.
        """
        name, _rest = split_volid(volid)
        storage = self.enabled(name, node)
        log = task.log if task is not None else None
        with (yield from self.lock(storage, node).acquire(LOCK_SECONDS, log=log)):
            if self.linked_to(node, volid):
                raise die(f"base volume '{volid}' is still in use by linked cloned")
            yield Sleep(self._cluster.durations.allocate)
            gone = self.volumes.pop((self.place(storage, node), volid), None)
            if gone is not None and log is not None and not storage.has_files:
                log(f'  Logical volume "{volid.rsplit(":", 1)[-1]}" successfully removed.')

    def rename(self, node: str, old: str, new: str) -> None:
        """Give a volume another id."""
        name, _rest = split_volid(old)
        place = self.place(self.all[name], node)
        volume = self.volumes.pop((place, old))
        volume.volid = new
        self.volumes[place, new] = volume

    def give(self, node: str, volid: str, vmid: int) -> str:
        """Give a volume to another guest. Returns its new id (rename_volume)."""
        volume = self.get(node, volid)
        storage = self.all[split_volid(volid)[0]]
        name = self.free_name(storage, self.place(storage, node), vmid, volume.format)
        self.rename(node, volid, self.volid(storage, vmid, name))
        volume.vmid = vmid
        return volume.volid

    def make_base(self, node: str, volid: str) -> str:
        """Turn a template's disk into a base image. Returns its new id."""
        volume = self.get(node, volid)
        head, slash, last = volid.rpartition("/")
        if not slash:
            head, slash, last = volid.rpartition(":")
        if volume.parent is not None and self.all[split_volid(volid)[0]].has_files:
            # A linked clone keeps its own parent.
            volume.parent = volume.parent
        new = f"{head}{slash}{re.sub(r'^vm-', 'base-', last)}"
        self.rename(node, volid, new)
        return new


def datacenter_list(call: Call) -> list[dict[str, Any]]:
    """GET /storage."""
    cluster = call.cluster
    digest = hashlib.sha1("\n".join(sorted(cluster.storages.all)).encode()).hexdigest()
    return [
        _row(storage) | {"digest": digest}
        for name, storage in sorted(cluster.storages.all.items())
        if ("type" not in call.params or storage.type == call.params["type"])
        and call.allowed_any(f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace")
    ]


def _row(storage: Storage) -> dict[str, Any]:
    row: dict[str, Any] = {"storage": storage.name, "type": storage.type, "content": ",".join(storage.content)}
    if storage.path:
        row["path"] = storage.path
    if storage.shared:
        row["shared"] = 1
    if storage.nodes is not None:
        row["nodes"] = ",".join(storage.nodes)
    if not storage.enabled:
        row["disable"] = 1
    return row | dict(storage.options)


def datacenter_get(call: Call) -> dict[str, Any]:
    """GET /storage/{storage}."""
    return _row(call.cluster.storages.config(call.params["storage"]))


def _status(call: Call, storage: Storage) -> dict[str, Any]:
    used = call.cluster.storages.used(storage, call.node)
    return {
        "type": storage.type,
        "content": ",".join(storage.content),
        "shared": int(storage.shared),
        "active": 1,
        "enabled": int(storage.enabled),
        "total": storage.size,
        "used": used,
        "avail": max(0, storage.size - used),
    }


def node_list(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/storage."""
    params, cluster = call.params, call.cluster
    rows = []
    for storage in cluster.storages.on_node(call.node):
        if not call.allowed_any(f"/storage/{storage.name}", "Datastore.Audit", "Datastore.AllocateSpace"):
            continue
        if "storage" in params and storage.name != params["storage"]:
            continue
        if "content" in params and not set(re.split(r"[,;\s]+", params["content"])) & set(storage.content):
            continue
        if "target" in params and storage.nodes is not None and params["target"] not in storage.nodes:
            continue
        row = {"storage": storage.name, **_status(call, storage)}
        row["used_fraction"] = row["used"] / row["total"] if row["total"] else 0
        rows.append(row)
    return rows


def node_status(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/storage/{storage}/status."""
    return _status(call, call.cluster.storages.enabled(call.params["storage"], call.node))


def content(call: Call) -> list[dict[str, Any]]:
    """GET /nodes/{node}/storage/{storage}/content."""
    storages, name = call.cluster.storages, call.params["storage"]
    storage = storages.enabled(name, call.node)
    place = storages.place(storage, call.node)
    rows = []
    for (where, volid), volume in sorted(storages.volumes.items()):
        if where != place or not volid.startswith(f"{name}:"):
            continue
        if "content" in call.params and volume.content != call.params["content"]:
            continue
        if "vmid" in call.params and volume.vmid != call.params["vmid"]:
            continue
        if may_access(call, None, volid):
            rows.append(_content_row(volume))
    return rows


def classify(volid: str) -> tuple[str, int | None]:
    """What a volume is and whose, by its name alone (parse_volname)."""
    name = split_volid(volid)[1]
    head, _slash, last = name.partition("/")
    if head == "backup":
        found = re.match(r"vzdump-(?:qemu|lxc|openvz)-(\d+)-", last) or re.match(r"(?:vm|ct)/(\d+)/", last)
        return "backup", int(found[1]) if found else None
    if head in ("iso", "vztmpl", "snippets", "import"):
        return head, None
    found = re.search(r"(?:vm|base|subvol|basevol)-(\d+)-", name)
    return "images", int(found[1]) if found else None


def may_access(call: Call, vmid: int | None, volid: str) -> bool:
    """Whether a volume is shown to the caller (check_volume_access)."""
    what, owner = classify(volid)
    try:
        call.cluster.access.check_volume(call.authid, vmid, volid, what, owner)
    except ApiError:
        return False
    return True


def owned_backups(cluster: Cluster, storage: Storage, node: str, vmid: int, kind: str) -> list[Volume]:
    """The backups of a guest on a storage, as a node sees it."""
    place = cluster.storages.place(storage, node)
    return [
        volume
        for (where, volid), volume in cluster.storages.volumes.items()
        if where == place
        and volid.startswith(f"{storage.name}:backup/")
        and volume.vmid == vmid
        and subtype(volume) == kind
    ]


def subtype(volume: Volume) -> str:
    """The kind of guest in a backup."""
    return "lxc" if "vzdump-lxc" in volume.volid or ":backup/ct/" in volume.volid else "qemu"


def max_protected(call: Call, storage: Storage) -> int:
    """How many backups of a guest may be protected; -1 is no limit (get_max_protected_backups)."""
    if "max-protected-backups" in storage.options:
        return int(storage.options["max-protected-backups"])
    return -1 if call.allowed(f"/storage/{storage.name}", "Datastore.Allocate") else 5


def _volume(call: Call) -> str:
    """The volume id in the path, which may lack its storage. Raises ApiError."""
    volume, storage = call.params["volume"], call.params["storage"]
    volid = volume if ":" in volume else f"{storage}:{volume}"
    if split_volid(volid)[0] != storage:
        raise bad_parameter(volume=f"storage ID mismatch ({split_volid(volid)[0]} != {storage})")
    call.cluster.storages.enabled(storage, call.node)
    return volid


def content_info(call: Call) -> dict[str, Any]:
    """GET /nodes/{node}/storage/{storage}/content/{volume}."""
    volid = _volume(call)
    call.cluster.access.check_volume(call.authid, None, volid, *classify(volid))
    volume = call.cluster.storages.find(call.node, volid)
    if volume is None:
        raise die(f"volume_size_info on '{volid}' failed - no format")
    row: dict[str, Any] = {
        "path": call.cluster.storages.path(volid),
        "size": volume.size,
        "used": volume.used,
        "format": volume.format,
    }
    if volume.content == "backup":
        row["protected"] = int(volume.protected)
        if volume.notes:
            row["notes"] = volume.notes
    return row


def content_update(call: Call) -> None:
    """PUT /nodes/{node}/storage/{storage}/content/{volume}: a missing file gets its notes all the same."""
    volid, params = _volume(call), call.params
    what, owner = classify(volid)
    call.cluster.access.check_volume(call.authid, None, volid, what, owner)
    if what != "backup" and "notes" in params:
        raise die("only backups can have notes")
    if what != "backup" and "protected" in params:
        raise die("only backups support attribute 'protected'")
    storage = call.cluster.storages.config(params["storage"])
    volume = call.cluster.storages.find(call.node, volid)
    if volume is None:
        return
    if "notes" in params:
        volume.notes = params["notes"]
    if "protected" in params:
        most = max_protected(call, storage)
        others = owned_backups(call.cluster, storage, call.node, owner or 0, subtype(volume))
        if params["protected"] and not volume.protected and -1 < most <= sum(one.protected for one in others):
            raise die(f"The number of protected backups per guest is limited to {most} on storage '{storage.name}'")
        volume.protected = bool(params["protected"])


def _content_row(volume: Volume) -> dict[str, Any]:
    row: dict[str, Any] = {
        "volid": volume.volid,
        "content": volume.content,
        "format": volume.format,
        "size": volume.size,
        "ctime": volume.ctime,
    }
    if volume.vmid is not None:
        row["vmid"] = volume.vmid
    if volume.content in ("images", "rootdir"):
        row["used"] = volume.used
    if volume.parent is not None:
        row["parent"] = volume.parent
    if volume.content == "backup":
        row["subtype"] = subtype(volume)
    if volume.notes:
        # Storages of files list the first line only (PVE/Storage/Plugin.pm, get_subdir_files).
        row["notes"] = volume.notes if volume.format.startswith("pbs-") else volume.notes.split("\n")[0]
    if volume.verification:
        row["verification"] = dict(volume.verification)
    if volume.protected:
        row["protected"] = 1
    return row


def content_remove(call: Call) -> str:
    """DELETE /nodes/{node}/storage/{storage}/content/{volume}."""
    cluster, volid = call.cluster, _volume(call)
    what, owner = classify(volid)
    name = split_volid(volid)[0]
    if what == "backup" and owner:
        call.check(f"/storage/{name}", "Datastore.AllocateSpace")
        call.check(f"/vms/{owner}", "VM.Backup")
    else:
        call.check(f"/storage/{name}", "Datastore.Allocate")

    def body(task: Task) -> Steps[None]:
        found = cluster.storages.find(call.node, volid)
        if found is not None and found.protected:
            raise die(f"cannot remove protected volume '{split_volid(volid)[1]}' on '{name}'")
        if found is None and cluster.storages.config(name).has_files:
            task.log(f"disk image '{cluster.storages.path(volid)}' does not exist")
        yield from cluster.storages.free(call.node, volid, task)
        task.log(f"Removed volume '{volid}'")

    return call.task("imgdel", f"{owner}@{name}" if owner is not None else name, body)


ROUTES = {
    ("GET", "/storage"): datacenter_list,
    ("GET", "/storage/{storage}"): datacenter_get,
    ("GET", "/nodes/{node}/storage"): node_list,
    ("GET", "/nodes/{node}/storage/{storage}/status"): node_status,
    ("GET", "/nodes/{node}/storage/{storage}/content"): content,
    ("GET", "/nodes/{node}/storage/{storage}/content/{volume}"): content_info,
    ("PUT", "/nodes/{node}/storage/{storage}/content/{volume}"): content_update,
    ("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}"): content_remove,
}
