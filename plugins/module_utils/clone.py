# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clone: a guest with this VMID and name exists, made from another one where it does not.

Looking for the guest, and for a VMID that it can have, is the same where it is made otherwise: then there is no source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .capacity import AUTO, Size, rooms
from .capacity import Wanted as Place
from .errors import Effect, ProxmoxError, Refused, no_such_node
from .guests import (
    KINDS,
    MAKING,
    Guest,
    GuestRef,
    checked_name,
    checked_vmid,
    from_resources,
    look,
    named,
    named_live,
    only_one,
    wait_for_lock,
)
from .guests import observe as observe_guest
from .newcomers import NOBODY, Newcomers, newcomers, vmid_to_use
from .plan import Call, Feature, Plan, Reader
from .wire import did_you_mean, is_true

# Drives of VMs and volumes of containers; what they hold is STORAGE:VOLUME (PVE/QemuServer/Drive.pm, PVE/LXC/Config.pm).
_VOLUMES = re.compile(r"^(ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+$|^rootfs$")


@dataclass(frozen=True)
class Wanted:
    """:param vmid: of the new guest, None for the next free one. :param name: of the new guest, None for the server's choice.

    :param source: None where the guest is not made by cloning; then :param kind: and :param place: tell what is made on which node.
    """

    source: GuestRef | None
    vmid: int | None
    name: str | None
    full: bool | None = None
    target_node: str | None = None
    storage: str | None = None
    format: str | None = None
    snapname: str | None = None
    pool: str | None = None
    description: str | None = None
    bwlimit: int | None = None
    kind: str = "qemu"
    place: str | None = None


@dataclass(frozen=True)
class Observed:
    """What there is.

    :param existing: the wanted guest, live.
    :param source: where the source is, None while nothing needs it.
    :param newid: VMID that a clone would get.
    :param newcomers: guests that are being made, any of which may be the wanted one.
    :param target: the node that the clone is to be on, None where that is the source's.
    :param movable: whether the server can make the clone on target_node itself.
    :param storage_here: whether the wanted storage is on the source's node, and :param storage_there: on target_node.
    :param like_source: what to say of guests that are called about as the source, where that does not exist.
    :param obstacle: why a clone that was made on the source's node could not be moved to target_node as it is wanted there.
    """

    existing: Guest | None = None
    source: Guest | None = None
    newid: int | None = None
    newcomers: Newcomers = NOBODY
    target: str | None = None
    movable: bool = True
    storage_here: bool = True
    storage_there: bool = True
    target_online: bool = True
    obstacle: str | None = None
    like_source: str = ""


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    source = str(options["source"])
    checked_vmid(options.get("vmid"))
    checked_name(options.get("name"))
    names = set(Wanted.__dataclass_fields__) - {"source", "kind", "place"}
    values: dict[str, Any] = {key: options.get(key) for key in names}
    return Wanted(GuestRef(vmid=int(source)) if source.isdigit() else GuestRef(name=source), **values)


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return whether the wanted guest exists and, where it does not, what a clone needs to know.

    Two requests where the guest exists; two and two more for a VMID where a clone is to be made, and one to see it made.
    """
    auto = want.target_node == AUTO
    if auto:
        want = _aimed(want, previous)
    made = _made(want, reader, previous) if previous is not None else None
    if made is not None:
        return made
    rows = reader.get("/cluster/resources")
    guests = from_resources(rows)
    existing = find_wanted(want, reader, guests)
    if existing is not None:
        return _kept(want, reader, guests, existing)
    newid = vmid_to_use(reader, want.vmid, want.name, previous.newid if previous is not None else None)
    if want.vmid is None:
        # Another run that wants the same name has a lower VMID, and then its guest is listed by now, or the same, and then the
        # server refuses one of the two.
        rows = reader.get("/cluster/resources")
        guests = from_resources(rows)
        existing = find_wanted(want, reader, guests)
        if existing is not None:
            return _kept(want, reader, guests, existing)
    now = Observed(source=_source(want, reader, guests), newid=newid)
    if now.source is None and want.source is not None and want.source.name is not None:
        now = replace(now, like_source=did_you_mean([want.source.name], (guest.name for guest in guests)))
    if now.source is not None and now.source.lock is not None:
        before = previous.source if previous is not None else None
        now = replace(now, source=observe_guest(reader, _ref(now.source), before))
    if want.vmid is None:
        now = replace(now, newcomers=being_made_by_now(reader, guests, previous))
    if auto and now.source is not None and want.target_node is None:
        return _with_best(want, now, now.source, reader, rows)
    if now.source is not None and want.target_node not in (None, now.source.node):
        now = _with_places(want, now, now.source, reader, rows)
    return replace(now, target=want.target_node)


def _aimed(want: Wanted, observed: Observed | None) -> Wanted:
    """Return what is wanted with the node that was chosen in place of AUTO; None where there was nothing to choose."""
    return replace(want, target_node=observed.target if observed is not None else None)


def _with_best(
    want: Wanted, now: Observed, source: Guest, reader: Reader, rows: Sequence[Mapping[str, Any]]
) -> Observed:
    """Choose the node with the most room among those that the server can clone to at once."""
    row = next(row for row in rows if row["type"] in KINDS and int(row["vmid"]) == source.vmid)
    size = Size(memory=int(row.get("maxmem") or 0), cores=int(float(row.get("maxcpu") or 0)), kind=source.kind)
    bars = []
    for room in rooms(rows, Place(size)):
        if not room.fits:
            bars.append(f"{room.node}: {', '.join(room.obstacles)}")
            continue
        if room.node == source.node:
            return replace(now, target=room.node)
        placed = _with_places(replace(want, target_node=room.node), now, source, reader, rows)
        if placed.movable and placed.storage_there:
            return replace(placed, target=room.node)
        bars.append(
            f"{room.node}: the storages of source and clone are not shared with it, or not seen (Datastore.Audit below /storage)"
        )
    raise Refused(
        f"There is no node for a clone of {source} ({'; '.join(bars)}). Name one in target_node, or leave it out."
    )


def _kept(want: Wanted, reader: Reader, guests: list[Guest], existing: Guest) -> Observed:
    """Return what is to be known of a guest that exists; of its source only where it may still have to be moved from there."""
    elsewhere = want.target_node not in (None, existing.node)
    return Observed(existing=existing, source=_source(want, reader, guests) if elsewhere else None)


def find_wanted(want: Wanted, reader: Reader, guests: list[Guest]) -> Guest | None:
    """Return the wanted guest live, where the list has it."""
    existing = _existing(want, reader, guests)
    seen = observe_guest(reader, _ref(existing), existing) if existing is not None else None
    if seen is not None and want.vmid is None and seen.name != want.name:
        # The cluster's list still had the name that this guest carried some seconds ago.
        others = named_live(reader, str(want.name))
        seen = look(reader, only_one(GuestRef(name=want.name), others)) if others else None
    return seen


def _made(want: Wanted, reader: Reader, previous: Observed) -> Observed | None:
    """Return the guest where an earlier look in this run found it, or where the clone that this run asked for must be.

    None where it is not there, or where somebody else's guest is.
    """
    guess = previous.existing
    if guess is None and previous.newid is not None:
        guess = _where_made(want, previous, previous.newid)
    if guess is None:
        return None
    try:
        there = look(reader, guess)
        if there.lock is not None:
            there = observe_guest(reader, _ref(there), guess)
    except ProxmoxError as error:
        if error.effect is Effect.ABSENT or isinstance(error, Refused):
            return None
        raise
    if there.lock not in MAKING and want.name not in (None, there.name):
        return None
    return replace(previous, existing=there)


def _where_made(want: Wanted, previous: Observed, newid: int) -> Guest | None:
    if previous.source is not None:
        node = want.target_node if want.target_node is not None and previous.movable else previous.source.node
        return Guest(newid, previous.source.kind, node)
    return Guest(newid, want.kind, want.place) if want.place is not None else None


def _ref(guest: Guest) -> GuestRef:
    return GuestRef(vmid=guest.vmid, node=guest.node, kind=guest.kind)


def _existing(want: Wanted, reader: Reader, guests: list[Guest]) -> Guest | None:
    """Return the wanted guest where it exists; Refused where VMID and name are of different guests."""
    same_name = named(reader, guests, want.name) if want.name is not None else []
    if want.vmid is None:
        return only_one(GuestRef(name=want.name), same_name) if same_name else None
    other = next((guest for guest in same_name if guest.vmid != want.vmid), None)
    found = next((guest for guest in guests if guest.vmid == want.vmid), None)
    if other is not None:
        raise Refused(
            f"A guest called '{want.name}' exists already as {other} on node {other.node}, not with the VMID {want.vmid} that is "
            "asked for. Choose another name, or name that VMID."
        )
    return found


def _source(want: Wanted, reader: Reader, guests: list[Guest]) -> Guest | None:
    ref = want.source
    if ref is None:
        return None
    if ref.name is not None:
        found = named(reader, guests, ref.name) or named_live(reader, ref.name)
        return only_one(ref, found) if found else None
    return next((guest for guest in guests if guest.vmid == ref.vmid), None)


def being_made_by_now(reader: Reader, guests: list[Guest], previous: Observed | None) -> Newcomers:
    """Return what was being made at the first look, and what this run may have begun to make itself."""
    if previous is None:
        return newcomers(reader, guests, None, None)
    return newcomers(reader, guests, previous.newcomers, previous.newid)


def _with_places(
    want: Wanted, now: Observed, source: Guest, reader: Reader, rows: Sequence[Mapping[str, Any]]
) -> Observed:
    """Add which storages are where, which decides whether the server can clone straight to another node."""
    nodes = {row["node"]: row.get("status") for row in rows if row["type"] == "node"}
    if want.target_node not in nodes:
        raise no_such_node(str(want.target_node), nodes)
    storages = [row for row in rows if row["type"] == "storage"]
    shared = {row["storage"] for row in storages if is_true(row.get("shared"))}
    here = {row["storage"] for row in storages if row["node"] == source.node}
    there = {row["storage"] for row in storages if row["node"] == want.target_node}
    path = f"{source.path}/snapshot/{want.snapname}/config" if want.snapname else f"{source.path}/config"
    config = reader.get(path)
    drives = {key: str(value) for key, value in config.items() if _VOLUMES.match(key)}
    drives = {key: text for key, text in drives.items() if ":" in text.partition(",")[0]}
    used = {text.split(":")[0] for text in drives.values()}
    obstacle = _obstacle(want, drives, here, there, shared)
    if source.kind == "lxc" and want.storage is not None:
        # Only containers are judged by where their copy goes (PVE/API2/LXC.pm, clone_vm).
        used = {want.storage}
    movable = used <= shared and (want.storage is None or want.storage in shared)
    return replace(
        now,
        movable=movable,
        storage_here=want.storage is None or want.storage in here,
        storage_there=want.storage is None or want.storage in there,
        target_online=nodes[want.target_node] == "online",
        obstacle=obstacle,
        # That of the list lags.
        source=replace(source, template=source.template or is_true(config.get("template"))),
    )


def _obstacle(want: Wanted, drives: Mapping[str, str], here: set[str], there: set[str], shared: set[str]) -> str | None:
    """Return why a guest with these drives could not be moved to target_node, None where nothing speaks against it.

    Storages that the credentials may not see are not judged (PVE/QemuMigrate.pm, scan_local_volumes; PVE/LXC/Migrate.pm, phase1).
    """
    for key, text in sorted(drives.items()):
        volume = text.partition(",")[0]
        storage = volume.split(":")[0]
        if storage not in here:
            continue
        if "media=cdrom" in text and "cloudinit" not in volume:
            if storage not in shared:
                return f"its drive {key} holds {volume}, which cannot be moved; take that out of the source"
        elif want.storage is None and storage not in there:
            return f"there is no storage '{storage}' on node {want.target_node} for its {key}; name one in storage"
        elif want.storage is not None and want.storage not in here and storage in shared:
            return (
                f"its {key} is on the shared storage '{storage}', where a move would leave it, and the storage '{want.storage}' is "
                "not on that node; choose a storage that both nodes have, or leave storage out"
            )
    return None


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the clone, and the move to another node where the server cannot clone across."""
    if want.target_node == AUTO:
        want = _aimed(want, observed)
    if observed.existing is not None:
        return _keep(want, observed, observed.existing, done)
    source, newid = observed.source, observed.newid
    if source is None or newid is None:
        ref = want.source or GuestRef()
        raise Refused(
            f"The source of the clone, {ref}{observed.like_source}, does not exist, or the credentials may not see it (VM.Audit on "
            f"/vms/{ref.vmid or 'VMID'}); nothing was done."
        )
    return made_by(want, observed, _make(want, observed, source, newid), want.target_node or source.node)


def made_by(want: Wanted, observed: Observed, calls: Sequence[Call], node: str) -> Plan:
    """Return the plan in which these calls make the guest, on this node, once nobody else may be making it."""
    source = observed.source
    waiting = wait_for_lock(source) if source is not None and source.lock is not None else None
    waiting = observed.newcomers.waiting(want.name) or waiting
    after = {"guest": _shown(want, observed.newid or 0, node)}
    return Plan({"guest": None}, after, tuple(calls), waiting, observed.newcomers.warnings())


def _shown(want: Wanted, vmid: int, node: str, name: str | None = None) -> dict[str, object]:
    """Return the part of a guest that can be foretold: the name only where it is asked for."""
    shown: dict[str, object] = {"vmid": vmid, "node": node}
    return shown if want.name is None else {**shown, "name": name or want.name}


def _keep(want: Wanted, observed: Observed, guest: Guest, done: Sequence[Call]) -> Plan:
    """Return what is left for a guest that exists: nothing, or the move that a run was kept from."""
    before = {"guest": _shown(want, guest.vmid, guest.node, guest.name)}
    if guest.lock in MAKING or (guest.lock == "migrate" and want.target_node is not None):
        return Plan(before, before, (), wait_for_lock(guest))
    if want.name is not None and guest.name != want.name:
        raise Refused(
            f"VMID {guest.vmid} is taken: it is {guest} on node {guest.node}, called '{guest.name}', not '{want.name}'. "
            "Nothing was done to it. Choose another VMID, or leave it out for the next free one."
        )
    if want.target_node in (None, guest.node):
        return Plan(before, before)
    made_here = observed.source is None or observed.source.node == guest.node or bool(done)
    if guest.status != "stopped" or not made_here:
        return Plan(
            before,
            before,
            warnings=[
                f"{guest} exists on node {guest.node}, not on {want.target_node}; it was left there. "
                "proxmox_migrate moves it."
            ],
        )
    after = {"guest": _shown(want, guest.vmid, str(want.target_node), guest.name)}
    waiting = wait_for_lock(guest) if guest.lock is not None else None
    return Plan(before, after, (_move(want, guest, guest.kind, guest.vmid, guest.node, observed),), waiting)


def _make(want: Wanted, observed: Observed, source: Guest, newid: int) -> tuple[Call, ...]:
    """Return the clone and, where it cannot be made on the target node, the move; Refused where the options exclude it."""
    linked = want.full is False or (want.full is None and source.template)
    if source.kind == "lxc" and want.format is not None:
        raise Refused("format is for VMs; the storage decides it for containers.")
    if linked and (want.storage or want.format):
        raise Refused(
            f"A linked clone shares the disks of {source} and can have no storage or format of its own; set full: true, or leave "
            "these out."
        )
    if not observed.target_online:
        raise Refused(f"Node {want.target_node} is down; the clone of {source} cannot be brought there.")
    across = want.target_node is not None and want.target_node != source.node
    if across and not observed.movable and linked:
        raise Refused(
            f"{source} on node {source.node} is on storage that node {want.target_node} does not share, or that the credentials "
            f"may not see (Datastore.Audit on its path below /storage), so a linked clone must stay on {source.node}. Set full: "
            "true for a copy that can move, or leave target_node out."
        )
    if not observed.storage_there and across:
        raise Refused(
            f"There is no storage '{want.storage}' on node {want.target_node}, or the credentials may not see it "
            f"(Datastore.Audit on /storage/{want.storage})."
        )
    if across and not observed.movable and observed.obstacle is not None:
        raise Refused(
            f"The clone of {source} must be made on node {source.node} and then moved to {want.target_node}, but "
            f"{observed.obstacle}. Nothing was done."
        )
    direct = across and observed.movable
    params: dict[str, object] = {
        "newid": newid,
        "name" if source.kind == "qemu" else "hostname": want.name,
        "full": want.full,
        "target": want.target_node if direct else None,
        # A storage that only the target node has is where the move puts the disks.
        "storage": want.storage if observed.storage_here else None,
        "format": want.format,
        "snapname": want.snapname,
        "pool": want.pool,
        "description": want.description,
        "bwlimit": want.bwlimit,
    }
    called = f" '{want.name}'" if want.name else ""
    clone = Call(
        "POST",
        f"{source.path}/clone",
        {key: value for key, value in params.items() if value is not None},
        f"clone {source} to {KINDS[source.kind]} {newid}{called}",
        # Clones are listed under the VMID of their source, where others' are too, so none is adopted by that.
        None,
    )
    if direct or not across:
        return (clone,)
    return clone, _move(want, source, source.kind, newid, source.node, observed)


def _move(want: Wanted, of: Guest, kind: str, vmid: int, node: str, observed: Observed) -> Call:
    params: dict[str, object] = {"target": want.target_node}
    if not observed.storage_here:
        params["targetstorage" if kind == "qemu" else "target-storage"] = want.storage
    return Call(
        "POST",
        f"/nodes/{node}/{kind}/{vmid}/migrate",
        params,
        f"move {KINDS[kind]} {vmid} from node {node} to {want.target_node}",
        ("qmigrate" if kind == "qemu" else "vzmigrate", str(vmid)),
    )


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest as observed, None while it does not exist."""
    return {"guest": observed.existing.shown() if observed.existing is not None else None}


FEATURE = Feature(wanted, observe, decide, result)
