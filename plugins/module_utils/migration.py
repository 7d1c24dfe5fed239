# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Migration: a guest is on that node.

The server finds most obstacles inside its task, whose exit status names none of them (``migration aborted``). So what it
would find there (PVE/QemuMigrate.pm, prepare and scan_local_volumes; PVE/LXC/Migrate.pm, prepare and phase1) is looked
for before, and told in one message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .capacity import AUTO, Size, names, rooms
from .capacity import Wanted as Place
from .errors import ProxmoxError, Refused, no_such_node
from .guests import RESTING_LOCKS, Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .plan import Call, Feature, Pace, Plan, Reader
from .wire import is_true

# States of high availability in which it moves a guest (PVE/HA/Manager.pm).
MOVING = frozenset({"migrate", "relocate", "request_start_balance"})

# What the server can copy from node to node (PVE/QemuMigrate.pm, PVE/LXC/Migrate.pm).
_COPIED_TYPES = frozenset({"dir", "btrfs", "zfspool", "lvm", "lvmthin"})

# What a storage must be willing to hold.
_CONTENT = {"qemu": "images", "lxc": "rootdir"}

_STORAGE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]")
_LINKED = re.compile(r"base(vol)?-\d+-[^/]*/")
_MOUNT_POINTS = re.compile(r"rootfs|mp\d+|unused\d+")


@dataclass(frozen=True)
class StorageMap:
    """Where volumes of a local storage go: by source, else to the default, else to the storage of the same name."""

    entries: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    given: bool = False

    def of(self, storage: str) -> str:
        return self.entries.get(storage, self.default or storage)

    def targets(self) -> list[str]:
        """Return the storages that are named as targets."""
        return sorted({*self.entries.values(), *([self.default] if self.default else [])})

    def text(self) -> str:
        """Return it as the server reads it (pve-common, JSONSchema.pm, parse_idmap)."""
        pairs = [f"{source}:{target}" for source, target in self.entries.items()]
        return ",".join([*pairs, *([self.default] if self.default else [])]) or "1"


@dataclass(frozen=True)
class Wanted:
    """:param target_node: AUTO for the one with the most room. :param without: nodes that AUTO leaves, and does not choose.

    :param bwlimit: KiB/s. :param shutdown_timeout: seconds, for containers. :param overcommit: memory need not be free.
    """

    guest: GuestRef
    target_node: str
    with_local_disks: bool = False
    target_storage: StorageMap = StorageMap()
    bwlimit: int | None = None
    shutdown_timeout: int | None = None
    overcommit: bool = False
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    :param online: also of a node that has just started and is not heard of yet.
    :param free: bytes of memory, None where the credentials may not see it (Sys.Audit).
    """

    online: bool
    free: int | None = None


@dataclass(frozen=True)
class Storage:
    """A storage as the cluster is set up. :param nodes: None means all."""

    type: str
    shared: bool = False
    nodes: frozenset[str] | None = None
    content: frozenset[str] = frozenset()
    disabled: bool = False
    chained: bool = False


@dataclass(frozen=True)
class Disk:
    """A volume of the guest that is not on shared storage.

    :param place: the drive or mount point, or whatever else refers to it.
    :param made_anew: a cloud-init drive or TPM state, which the server moves along by itself.
    """

    volid: str
    place: str
    cdrom: bool = False
    attached: bool = True
    made_anew: bool = False
    in_snapshot: bool = False

    @property
    def storage(self) -> str | None:
        """None for devices and files of the node."""
        head, colon, _rest = self.volid.partition(":")
        return head if colon and not head.startswith("/") else None


@dataclass(frozen=True)
class Conditions:
    """What the move depends on.

    :param devices: the node's own devices in the guest. :param fixed: mapped devices that a running VM cannot take along.
    :param missing: mapped devices that the target node has not. :param unavailable: storages of the guest that it has not.
    :param apart: resources of high availability that keep the guest from that node.
    :param together: resources that high availability moves along.
    :param memory: bytes, for a guest that runs.
    """

    nodes: Mapping[str, Node]
    storages: Mapping[str, Storage]
    disks: tuple[Disk, ...] = ()
    devices: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    replicated: bool = False
    memory: int | None = None


@dataclass(frozen=True)
class Observed:
    """:param target: the node that the guest is to be on. :param conditions: None where nothing is to be moved now.

    :param chosen: AUTO has chosen it in this run, and keeps to it.
    :param gave_up: high availability has just ended a move that did not bring the guest anywhere.
    """

    guest: Guest
    target: str
    conditions: Conditions | None = None
    gave_up: bool = False
    chosen: bool = False


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    shutdown_timeout = options.get("shutdown_timeout")
    if shutdown_timeout is not None and shutdown_timeout >= options["timeout"]:
        raise Refused(
            f"shutdown_timeout ({shutdown_timeout} s) must be shorter than timeout ({options['timeout']} s), or the move would "
            "never be seen."
        )
    bwlimit = options.get("bwlimit")
    if bwlimit is not None and bwlimit < 0:
        raise Refused(f"bwlimit={bwlimit} is less than nothing; 0 means no limit.")
    without = names(options.get("exclude_nodes"))
    if (options["target_node"] == AUTO) is not bool(without):
        raise Refused(
            "exclude_nodes goes with target_node=auto, and the other way round: they are the nodes that the guest is to leave, for "
            "the one of the others that has the most room."
        )
    return Wanted(
        reference(options),
        options["target_node"],
        bool(options.get("with_local_disks")),
        storage_map(options.get("target_storage")),
        bwlimit,
        shutdown_timeout,
        bool(options.get("overcommit")),
        without,
    )


def storage_map(value: object) -> StorageMap:
    """Return where the disks go, from the name of a storage, ``1``, a mapping, or the server's own ``a:b,c``."""
    if value is None or value == "":
        return StorageMap()
    if isinstance(value, Mapping):
        pairs = [(str(source), str(target)) for source, target in value.items()]
    elif isinstance(value, (str, int)) and not isinstance(value, bool):
        words = [word for word in re.split(r"[,;\s]+", str(value)) if word]
        pairs = [(source, target) for source, _colon, target in (word.rpartition(":") for word in words)]
    else:
        raise Refused(f"target_storage must be a storage, 1, or a mapping from source to target, not {value!r}.")
    if pairs == [("", "1")]:
        return StorageMap(given=True)
    entries: dict[str, str] = {}
    for source, target in pairs:
        if _STORAGE.fullmatch(target) is None or (source and _STORAGE.fullmatch(source) is None):
            raise Refused(f"target_storage names '{source or target}', and no storage can be called so.")
        if entries.setdefault(source, target) != target:
            raise Refused(
                f"target_storage names two targets for {source or 'all others'}: {entries[source]}, {target}."
            )
    return StorageMap({source: target for source, target in entries.items() if source}, entries.get(""), given=True)


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return where the guest is and, where it must move and nothing holds it, what the move depends on."""
    before = previous.guest if previous is not None else None
    guest = observe_guest(reader, want.guest, before)
    gave_up = (
        before is not None and before.ha_state in MOVING and guest.ha_state not in MOVING and guest.node == before.node
    )
    held = guest.lock is not None or guest.ha_state in MOVING
    if want.target_node == AUTO:
        return _with_best(want, reader, guest, previous, held=held, gave_up=gave_up)
    if guest.node == want.target_node or held:
        return Observed(guest, want.target_node, None, gave_up)
    if previous is not None and previous.conditions is not None and _same_place(guest, previous.guest):
        return Observed(guest, want.target_node, previous.conditions, gave_up)
    return Observed(guest, want.target_node, _conditions(want, reader, guest), gave_up)


def _with_best(
    want: Wanted, reader: Reader, guest: Guest, previous: Observed | None, *, held: bool, gave_up: bool
) -> Observed:
    """Return where the guest is to go: nowhere, if it has left the nodes that it is to leave, else to the first node by room to
    which nothing bars its way."""
    if guest.node not in want.without:
        return Observed(guest, guest.node, None, gave_up)
    if previous is not None and previous.chosen:
        conditions = previous.conditions if _same_place(guest, previous.guest) else None
        if conditions is None and not held:
            conditions = _conditions(replace(want, target_node=previous.target), reader, guest)
        return Observed(guest, previous.target, None if held else conditions, gave_up, chosen=True)
    rows = reader.get("/cluster/resources")
    sizes = (row.get("maxmem") for row in rows if row["type"] == guest.kind and int(row["vmid"]) == guest.vmid)
    needed = int(next(sizes, None) or 0) if guest.status == "running" and not want.overcommit else 0
    bars = []
    for room in rooms(rows, Place(Size(memory=needed, kind=guest.kind), without=want.without), moving=guest.vmid):
        if not room.fits:
            bars.append(f"{room.node}: {', '.join(room.obstacles)}")
            continue
        if held:
            # Nobody may ask for the conditions of a locked guest; the choice is made again when it is free.
            return Observed(guest, room.node, None, gave_up)
        aimed = replace(want, target_node=room.node)
        conditions = _conditions(aimed, reader, guest)
        found = list(obstacles(aimed, guest, conditions))
        if not found:
            return Observed(guest, room.node, conditions, gave_up, chosen=True)
        bars.append(f"{room.node}: {', '.join(found)}")
    raise Refused(f"{guest} cannot leave node {guest.node} ({'; '.join(bars) or 'there is no other node'}).")


def _same_place(one: Guest, other: Guest) -> bool:
    return (one.node, one.status) == (other.node, other.status)


def _conditions(want: Wanted, reader: Reader, guest: Guest) -> Conditions:
    nodes = {row["node"]: _node(row) for row in reader.get("/nodes")}
    if want.target_node not in nodes:
        raise no_such_node(want.target_node, nodes)
    storages = {row["storage"]: _storage(row) for row in reader.get("/storage")}
    found = reader.get(f"{guest.path}/migrate", target=want.target_node)
    # Containers spell the keys with hyphens.
    bars = (found.get("not_allowed_nodes") or found.get("not-allowed-nodes") or {}).get(want.target_node) or {}
    # Before Proxmox VE 9 the server named them only, and none could move with a running VM.
    mapped = found.get("mapped-resource-info") or {key: {} for key in found.get("mapped-resources") or ()}
    disks = (
        [_disk(row) for row in found.get("local_disks") or ()]
        if guest.kind == "qemu"
        else _mount_points(reader, guest, storages)
    )
    live_snapshots = guest.kind == "qemu" and guest.status == "running" and any(disk.in_snapshot for disk in disks)
    return Conditions(
        nodes,
        storages,
        tuple(disks),
        tuple(name for name in found.get("local_resources") or () if name not in mapped),
        tuple(sorted(name for name, info in mapped.items() if not is_true(info.get("live-migration")))),
        tuple(bars.get("unavailable-resources") or ()),
        tuple(bars.get("unavailable_storages") or ()),
        tuple(f"{row['sid']} ({row['cause']})" for row in bars.get("blocking-ha-resources") or ()),
        tuple(found.get("dependent-ha-resources") or ()),
        live_snapshots and _is_replicated(want, reader, guest),
        int(reader.get(f"{guest.path}/status/current").get("maxmem") or 0) if guest.status == "running" else None,
    )


def _node(row: Mapping[str, Any]) -> Node:
    known = row.get("maxmem") and row.get("mem") is not None
    return Node(row.get("status") != "offline", int(row["maxmem"]) - int(row["mem"]) if known else None)


def _storage(row: Mapping[str, Any]) -> Storage:
    return Storage(
        row["type"],
        is_true(row.get("shared")),
        frozenset(row["nodes"].split(",")) if row.get("nodes") else None,
        frozenset(str(row.get("content") or "").split(",")),
        is_true(row.get("disable")),
        is_true(row.get("snapshot-as-volume-chain")),
    )


def _disk(row: Mapping[str, Any]) -> Disk:
    place = str(row.get("drivename") or ("unused disk" if is_true(row.get("is_unused")) else "snapshot"))
    return Disk(
        row["volid"],
        place,
        cdrom=is_true(row.get("cdrom")) and not is_true(row.get("is_cloudinit")),
        attached=is_true(row.get("is_attached")),
        made_anew=is_true(row.get("is_cloudinit")) or is_true(row.get("is_tpmstate")),
        in_snapshot=bool(row.get("referenced_in_snapshot")) and not is_true(row.get("is_vmstate")),
    )


def _mount_points(reader: Reader, guest: Guest, storages: Mapping[str, Storage]) -> list[Disk]:
    """Return what a container has on the node itself: the server's preconditions leave that out for containers."""
    config = reader.get(f"{guest.path}/config")
    disks = []
    for key in sorted(filter(_MOUNT_POINTS.fullmatch, config)):
        volid, *properties = str(config[key]).removeprefix("volume=").split(",")
        disk = Disk(volid, key, attached=not key.startswith("unused"))
        storage = storages.get(disk.storage or "")
        if "shared=1" not in properties and not (storage is not None and storage.shared):
            disks.append(disk)
    if any(disk.place == "rootfs" for disk in disks):
        snapshots = len(reader.get(f"{guest.path}/snapshot")) > 1
        return [Disk(disk.volid, disk.place, in_snapshot=snapshots and disk.place == "rootfs") for disk in disks]
    return disks


def _is_replicated(want: Wanted, reader: Reader, guest: Guest) -> bool:
    jobs = reader.get("/cluster/replication")
    return any(str(job.get("guest")) == str(guest.vmid) and job.get("target") == want.target_node for job in jobs)


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the move, where the guest is not there yet; raises Refused with all that is in its way."""
    want = replace(want, target_node=observed.target)
    guest, conditions = observed.guest, observed.conditions
    before = {"node": guest.node}
    after = {"node": want.target_node}
    if guest.node == want.target_node:
        return Plan(before, before, (), _arriving(guest))
    call = _move(want, guest)
    if guest.ha_state is not None and any(call.same_deed(earlier) for earlier in done):
        return Plan(before, after, (), _queued(want, observed))
    if guest.lock in RESTING_LOCKS:
        raise Refused(
            f"{guest} on node {guest.node} is hibernated (lock '{guest.lock}'), and the server does not move it so. Start it first."
        )
    if guest.ha_state == "error":
        raise Refused(
            f"{guest} is in error state in high availability, which does nothing with it until it is disabled and enabled again "
            f"('ha-manager set {_sid(guest)} --state disabled', mend it, then '--state started')."
        )
    if guest.ha_state in MOVING:
        return Plan(before, after, (call,), f"high availability to end the move of {guest} that it has under way")
    if conditions is None:
        return Plan(before, after, (call,), wait_for_lock(guest))
    bars = list(obstacles(want, guest, conditions))
    if bars:
        raise Refused(f"{guest} cannot be moved from node {guest.node} to {want.target_node}: {'; '.join(bars)}.")
    return Plan(before, after, (call,), None, list(_warnings(want, guest, conditions)))


def _arriving(guest: Guest) -> str | None:
    """Return what is left to wait for although the guest is there: the end of the move."""
    if guest.ha_state in MOVING:
        return f"high availability to end the move of {guest}"
    return wait_for_lock(guest) if guest.lock == "migrate" else None


def _queued(want: Wanted, observed: Observed) -> str:
    """Return what to wait for after high availability was asked; raises ProxmoxError where it has given up."""
    guest = observed.guest
    if observed.gave_up or guest.ha_state == "error":
        raise ProxmoxError(
            f"High availability was asked to move {guest} to node {want.target_node}, tried, and left it on {guest.node} "
            f"(its state there: {guest.ha_state}). The log of the last migration task of {guest} on {guest.node} tells why."
        )
    return f"high availability to move {guest} to node {want.target_node} (its state there: {guest.ha_state})"


def _move(want: Wanted, guest: Guest) -> Call:
    params: dict[str, object] = {"target": want.target_node}
    runs = guest.status == "running"
    how = ""
    if guest.kind == "qemu":
        if runs:
            params["online"] = True
            how = " while it runs"
        if want.with_local_disks:
            params["with-local-disks"] = True
        if want.target_storage.given:
            params["targetstorage"] = want.target_storage.text()
        task = "qmigrate"
    else:
        if runs:
            params["restart"] = True
            how = " with a restart"
            if want.shutdown_timeout is not None:
                params["timeout"] = want.shutdown_timeout
        if want.target_storage.given:
            params["target-storage"] = want.target_storage.text()
        task = "vzmigrate"
    if want.bwlimit is not None:
        params["bwlimit"] = want.bwlimit
    return Call(
        "POST",
        f"{guest.path}/migrate",
        params,
        f"move {guest} from node {guest.node} to {want.target_node}{how}",
        (task if guest.ha_state is None else "hamigrate", str(guest.vmid)),
    )


def obstacles(want: Wanted, guest: Guest, conditions: Conditions) -> Iterator[str]:
    """Yield what keeps the guest from the target node, each with what can be done."""
    node = conditions.nodes[want.target_node]
    if not node.online:
        yield f"node {want.target_node} is down"
    if conditions.apart:
        yield f"high availability keeps it apart from {', '.join(conditions.apart)}"
    runs = guest.status == "running"
    if conditions.missing:
        yield f"node {want.target_node} has no mapping for {', '.join(conditions.missing)}"
    # High availability moves with force, for which devices of the node are no obstacle (PVE/HA/Resources/PVEVM.pm).
    if conditions.devices and guest.ha_state is None:
        yield f"it uses devices of node {guest.node} ({', '.join(conditions.devices)}); remove them or map them"
    if conditions.fixed and runs:
        yield f"its mapped devices {', '.join(conditions.fixed)} cannot move while it runs; stop it first"
    yield from _of_storages(want, guest, conditions)
    for disk in conditions.disks:
        why = _of_disk(want, guest, conditions, disk)
        if why is not None:
            yield f"{disk.place} {disk.volid} {why}" if disk.place != disk.volid else f"{disk.volid} {why}"
    needed = 0 if want.overcommit or not node.online else conditions.memory or 0
    if node.free is not None and node.free < needed:
        yield (
            f"it has {_gib(needed)} of memory, and node {want.target_node} has {_gib(node.free)} free; free some there, or set "
            "overcommit: true"
        )


def _of_storages(want: Wanted, guest: Guest, conditions: Conditions) -> Iterator[str]:
    """Yield what is wrong with the storages that the volumes go to or stay on."""
    mapping = want.target_storage
    if mapping.given and mapping.targets() and guest.ha_state is not None:
        yield "high availability moves it and does not pass on target_storage; leave that out"
        return
    for name in mapping.targets():
        why = _unfit(conditions.storages.get(name), want.target_node, _CONTENT[guest.kind])
        if why is not None:
            yield f"target storage '{name}' {why}"
    for name in _staying(want, conditions):
        yield (
            f"storage '{name}', which it uses, is not on node {want.target_node}"
            + ("" if _is_shared(conditions, name) else "; name another one in target_storage")
        )


def _staying(want: Wanted, conditions: Conditions) -> list[str]:
    """Return the storages of the guest that keep their name in the move and that the target node has not."""
    local = {disk.storage for disk in conditions.disks if disk.storage is not None and not disk.cdrom}
    lacking = {name for name in local if (row := conditions.storages.get(name)) and _elsewhere(row, want.target_node)}
    mapping = want.target_storage
    return sorted(
        name
        for name in lacking | set(conditions.unavailable)
        if _is_shared(conditions, name) or (mapping.of(name) == name and name not in mapping.targets())
    )


def _is_shared(conditions: Conditions, name: str) -> bool:
    """Volumes on shared storages stay where they are, whatever the map says."""
    return name in conditions.storages and conditions.storages[name].shared


def _elsewhere(storage: Storage, node: str) -> bool:
    return storage.disabled or (storage.nodes is not None and node not in storage.nodes)


def _unfit(storage: Storage | None, node: str, content: str) -> str | None:
    """Return why the storage cannot take the volumes."""
    if storage is None:
        return "does not exist, or the credentials may not use it (Datastore.AllocateSpace on its path below /storage)"
    if storage.disabled:
        return "is disabled"
    if _elsewhere(storage, node):
        return f"is not on node {node}"
    return None if content in storage.content else f"holds no guest disks (content '{content}')"


def _of_disk(want: Wanted, guest: Guest, conditions: Conditions, disk: Disk) -> str | None:
    """Return why the disk cannot move."""
    if disk.storage is None:
        if guest.kind == "lxc":
            return (
                f"is a directory or device of node {guest.node}; mark the mount point as shared if {want.target_node} has the "
                "same"
            )
        return f"is a {'drive' if disk.cdrom else 'device or file'} of node {guest.node}"
    if disk.cdrom:
        return "is a CD-ROM image on local storage; eject it or put it on a shared storage"
    runs = guest.status == "running"
    if _LINKED.search(disk.volid.partition(":")[2]):
        return "is a linked clone on local storage; move it to a shared storage, or make a full clone"
    storage = conditions.storages.get(disk.storage)
    if storage is not None and storage.type not in _COPIED_TYPES:
        return f"is on a storage of type {storage.type}, which the server cannot copy from"
    if disk.in_snapshot and not (runs and conditions.replicated):
        if runs and guest.kind == "qemu":
            return "is in snapshots and on local storage, and cannot move while the VM runs; remove the snapshots or stop it"
        if storage is not None and not _keeps_snapshots(guest, storage, disk):
            return "is in snapshots that cannot be copied from this storage; remove the snapshots"
    # High availability always takes local disks along (PVE/HA/Resources/PVEVM.pm).
    copies = want.with_local_disks or guest.ha_state is not None
    if runs and guest.kind == "qemu" and disk.attached and not disk.made_anew and not copies:
        return "is on local storage; set with_local_disks: true to copy it while the VM runs"
    return None


def _keeps_snapshots(guest: Guest, storage: Storage, disk: Disk) -> bool:
    """Tell whether a copy of the disk has its snapshots too (PVE/QemuMigrate.pm, PVE/LXC/Migrate.pm)."""
    if storage.type == "zfspool" or (storage.type == "btrfs" and (guest.kind == "lxc" or disk.volid.endswith(".raw"))):
        return True
    return guest.kind == "qemu" and disk.volid.endswith(".qcow2") and not storage.chained


def _warnings(want: Wanted, guest: Guest, conditions: Conditions) -> Iterator[str]:
    if conditions.together:
        yield f"High availability moves along with {guest}: {', '.join(conditions.together)}."
    if guest.ha_state is not None and want.bwlimit is not None:
        yield f"High availability moves {guest} and does not pass on bwlimit."
    unknown = sorted(set(want.target_storage.entries) - set(conditions.storages))
    if unknown:
        yield f"target_storage maps {', '.join(unknown)}, and the credentials see no storage of that name."


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"


def _sid(guest: Guest) -> str:
    return f"{'vm' if guest.kind == 'qemu' else 'ct'}:{guest.vmid}"


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest as observed."""
    return {"guest": observed.guest.shown()}


# Two share the network and the disks of both nodes, and the second copies while the first switches over.
# Where there is most room depends on who has moved there already.
PACE = Pace(2, nodes=lambda want: (want.target_node,), in_turn=lambda want: want.target_node == AUTO)

FEATURE = Feature(wanted, observe, decide, result, PACE)
