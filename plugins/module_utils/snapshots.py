# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots of one guest: taken, described, thinned out, removed, rolled back to.

The server's rules are those of PVE/AbstractConfig.pm (snapshot_create, snapshot_delete, snapshot_rollback) in
pve-guest-common; almost all of them are checked inside its task, so what can be known is checked here before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from .errors import Refused
from .guests import LOOKS_BEFORE_START, RESTING_LOCKS, Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .plan import Call, Feature, Pace, Plan, Reader
from .wire import is_true

# The entry of the list that stands for the guest as it is now.
CURRENT = "current"

# pve-common, JSONSchema.pm: pve-configid and pve-snapshot-name.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")

# What the server keeps for itself, of new names only (PVE/API2/Qemu.pm and PVE/API2/LXC/Snapshot.pm, snapshot).
_RESERVED = {"qemu": frozenset({"pending"}), "lxc": frozenset({"vzdump"})}

# Task types for VMs and containers.
_TASKS = {
    "create": {"qemu": "qmsnapshot", "lxc": "vzsnapshot"},
    "delete": {"qemu": "qmdelsnapshot", "lxc": "vzdelsnapshot"},
    "rollback": {"qemu": "qmrollback", "lxc": "vzrollback"},
    "start": {"qemu": "qmstart", "lxc": "vzstart"},
}

# Option -> the only state that it goes with.
_GOES_WITH = {
    "description": "present",
    "vmstate": "present",
    "keep": "present",
    "force": "absent",
    "start": "rollback",
}

_VOLUMES = re.compile(r"(ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+|rootfs")

# A VM that was started again within a second of its end is still tidied up after: `qm cleanup` then holds the lock of its
# configuration for half a minute, and a rollback that begins just before that stays half done (PVE/CLI/qm.pm, cleanup).
SETTLING_SECONDS = 2


@dataclass(frozen=True)
class Wanted:
    """:param description: None leaves it alone. :param keep: how many snapshots whose name matches the pattern may stay."""

    guest: GuestRef
    state: str
    snapname: str | None = None
    description: str | None = None
    vmstate: bool | None = None
    start: bool = False
    force: bool = False
    keep: int | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """:param time: seconds since the epoch. :param snapstate: prepare or delete while, or since, work on it is not finished."""

    name: str
    parent: str | None = None
    description: str = ""
    time: int = 0
    vmstate: bool = False
    snapstate: str | None = None

    def shown(self) -> dict[str, object]:
        """Return the snapshot as results show it."""
        return {
            "name": self.name,
            "parent": self.parent,
            "description": self.description,
            "time": self.time,
            "vmstate": self.vmstate,
            "snapstate": self.snapstate,
        }


@dataclass(frozen=True)
class Observed:
    """The guest and its snapshots.

    :param snapshots: the oldest first.
    :param parent: the snapshot that the guest as it is now goes back to.
    :param unable: volumes of the guest, where the server says that not all of their storages can take snapshots; None where
        they can or where nobody needed to ask.
    :param stopped_looks: looks in a row at which it was stopped and nobody worked on it, this one included.
    """

    guest: Guest
    snapshots: tuple[Snapshot, ...] = ()
    parent: str | None = None
    unable: tuple[str, ...] | None = None
    stopped_looks: int = 0

    def find(self, name: str | None) -> Snapshot | None:
        return next((snapshot for snapshot in self.snapshots if snapshot.name == name), None)


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    want = Wanted(
        reference(options),
        options["state"],
        options.get("snapname"),
        options.get("description"),
        options.get("vmstate"),
        bool(options.get("start")),
        bool(options.get("force")),
        options.get("keep"),
        options.get("pattern"),
    )
    for option, state in _GOES_WITH.items():
        value = options.get(option)
        if value is not None and value is not False and want.state != state:
            raise Refused(f"{option} goes with state={state} only, not with state={want.state}.")
    _check_name(want.snapname)
    if (want.keep is None) != (want.pattern is None):
        raise Refused("keep and pattern belong together: how many snapshots to keep, and of which names.")
    if want.snapname is None and want.state != "present":
        raise Refused(f"state={want.state} needs snapname, the name of the snapshot.")
    if want.snapname is None and want.keep is None:
        raise Refused("state=present needs snapname, or keep and pattern, or both.")
    if want.snapname is None and (want.description is not None or want.vmstate is not None):
        raise Refused("description and vmstate need snapname, the name of the snapshot.")
    if want.keep is not None and want.keep < 0:
        raise Refused(f"keep={want.keep} is less than none.")
    if want.keep == 0 and _matches(want, want.snapname):
        raise Refused(
            f"keep=0 would remove snapshot '{want.snapname}', which is to be present, for its name matches '{want.pattern}'."
        )
    return want


def _check_name(name: str | None) -> None:
    if name is None:
        return
    if name == CURRENT:
        raise Refused(f"'{CURRENT}' is no snapshot: the server calls the guest as it is now so. Choose another name.")
    if _NAME.fullmatch(name) is None:
        raise Refused(
            f"'{name}' cannot be the name of a snapshot: it begins with a letter, goes on with letters, digits, '_' and '-', and "
            "has 2 to 40 characters."
        )


def _matches(want: Wanted, name: str | None) -> bool:
    return want.pattern is not None and name is not None and fnmatchcase(name, want.pattern)


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest and its snapshots; where one is to be taken, also whether the storages can."""
    guest = observe_guest(reader, want.guest, previous.guest if previous is not None else None)
    rows = reader.get(f"{guest.path}/snapshot")
    if guest.lock is None and any(row.get("snapstate") for row in rows):
        # Work on it may have begun between the two looks; then either the lock is there now, or the work is done.
        guest = observe_guest(reader, want.guest, guest)
        rows = reader.get(f"{guest.path}/snapshot")
    looks = previous.stopped_looks if previous is not None else 0
    now = Observed(
        guest,
        _in_order([_snapshot(row) for row in rows if row["name"] != CURRENT]),
        next((row.get("parent") for row in rows if row["name"] == CURRENT), None),
        stopped_looks=looks + 1 if guest.status == "stopped" and guest.lock is None else 0,
    )
    if want.state == "present" and want.snapname is not None and now.find(want.snapname) is None and not guest.template:
        return replace(now, unable=_unable(reader, guest))
    return now


def _snapshot(row: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        row["name"],
        row.get("parent"),
        _text(row.get("description")),
        int(row.get("snaptime") or 0),
        is_true(row.get("vmstate")),
        row.get("snapstate"),
    )


def _text(description: object) -> str:
    """Return a description as the server keeps it: it loses line breaks at the end, containers' gain one."""
    return str(description or "").rstrip()


def _in_order(snapshots: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """Return them from the oldest to the newest; of two of the same second, the one that goes back to the other is newer."""
    parents = {snapshot.name: snapshot.parent for snapshot in snapshots}

    def depth(name: str | None) -> int:
        seen: set[str] = set()
        while name is not None and name in parents and name not in seen:
            seen.add(name)
            name = parents[name]
        return len(seen)

    return tuple(sorted(snapshots, key=lambda one: (one.time, depth(one.name), one.name)))


def _unable(reader: Reader, guest: Guest) -> tuple[str, ...] | None:
    if is_true(reader.get(f"{guest.path}/feature", feature="snapshot").get("hasFeature")):
        return None
    config = reader.get(f"{guest.path}/config")
    return tuple(
        f"{key}: {str(value).partition(',')[0]}"
        for key, value in sorted(config.items())
        if _VOLUMES.fullmatch(key) and "media=cdrom" not in str(value).split(",")
    )


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the calls that are left."""
    if want.state == "rollback":
        return _roll_back(want, observed, done)
    if want.state == "absent":
        return _remove(want, observed)
    return _keep_present(want, observed)


def _keep_present(want: Wanted, observed: Observed) -> Plan:
    guest = observed.guest
    existing = made = observed.find(want.snapname)
    before: dict[str, object] = {"snapshots": _names(observed.snapshots)}
    after: dict[str, object] = {}
    calls: list[Call] = []
    snapshots = list(observed.snapshots)
    if want.snapname is not None and existing is None:
        made = _new(want, want.snapname, observed)
        snapshots.append(made)
        calls.append(_create(want, guest, made.name))
    elif existing is not None and existing.snapstate is not None:
        if guest.lock is not None:
            return Plan(before, before, (), wait_for_lock(guest))
        raise _incomplete(guest, existing)
    if want.description is not None:
        before["description"] = existing.description if existing is not None else None
        after["description"] = _text(want.description)
        if existing is not None and existing.description != after["description"]:
            calls.append(_describe(guest, existing.name, want.description))
    if want.vmstate is not None and made is not None:
        before["vmstate"] = existing.vmstate if existing is not None else None
        after["vmstate"] = made.vmstate
    if guest.lock is not None and any(_matches(want, one.name) and one.snapstate is not None for one in snapshots):
        # One that goes or comes counts when that has ended.
        return Plan(before, before, (), wait_for_lock(guest))
    doomed, warnings = _surplus(want, guest, snapshots)
    calls += [_delete(guest, snapshot.name) for snapshot in doomed]
    after["snapshots"] = _names([snapshot for snapshot in snapshots if snapshot not in doomed])
    return _plan(guest, before, after, calls, warnings)


def _new(want: Wanted, name: str, observed: Observed) -> Snapshot:
    """Return the snapshot that is to be taken; raises Refused where it cannot be."""
    guest = observed.guest
    if guest.template:
        raise Refused(f"{guest} is a template, and templates have no snapshots; snapshot '{name}' was not taken.")
    if name.lower() in _RESERVED[guest.kind]:
        raise Refused(f"The server keeps the name '{name}' for itself; choose another one for the snapshot.")
    if guest.kind == "lxc" and want.vmstate:
        raise Refused(f"{guest} is a container, and snapshots of containers hold no memory; leave out vmstate.")
    if observed.unable is not None:
        raise Refused(
            f"Not every storage of {guest} on node {guest.node} can take snapshots ({', '.join(observed.unable)}); snapshot "
            f"'{want.snapname}' was not taken. Move those disks to a storage that can, or use a backup instead."
        )
    return Snapshot(
        name,
        observed.parent,
        _text(want.description),
        max((snapshot.time for snapshot in observed.snapshots), default=0),
        bool(want.vmstate) and guest.status == "running",
    )


def _surplus(want: Wanted, guest: Guest, snapshots: Sequence[Snapshot]) -> tuple[list[Snapshot], list[str]]:
    """Return which snapshots are too many, the oldest first, and what to tell about those that cannot be judged."""
    if want.keep is None:
        return [], []
    matching = [snapshot for snapshot in snapshots if _matches(want, snapshot.name)]
    # One that is being made or removed is no whole snapshot: it neither counts nor goes.
    warnings = [
        _incomplete(guest, snapshot).message
        for snapshot in matching
        if snapshot.snapstate is not None and guest.lock is None
    ]
    others = [snapshot for snapshot in matching if snapshot.snapstate is None and snapshot.name != want.snapname]
    room = want.keep - (1 if _matches(want, want.snapname) else 0)
    return others[: max(len(others) - room, 0)], warnings


def _remove(want: Wanted, observed: Observed) -> Plan:
    guest = observed.guest
    existing = observed.find(want.snapname)
    before = {"snapshots": _names(observed.snapshots)}
    if existing is None:
        return Plan(before, before)
    if existing.snapstate is not None and guest.lock is not None:
        return Plan(before, before, (), wait_for_lock(guest))
    if existing.snapstate is not None and not want.force:
        raise _incomplete(guest, existing)
    after = {"snapshots": _names([snapshot for snapshot in observed.snapshots if snapshot is not existing])}
    return _plan(guest, before, after, [_delete(guest, existing.name, force=want.force)])


def _roll_back(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    guest = observed.guest
    existing = observed.find(want.snapname)
    if existing is None:
        names = ", ".join(snapshot.name for snapshot in observed.snapshots) or "none"
        raise Refused(f"{guest} on node {guest.node} has no snapshot '{want.snapname}'; it has: {names}.")
    before: dict[str, object] = {"parent": observed.parent}
    after: dict[str, object] = {"parent": existing.name}
    if guest.ha_state is None:
        # High availability starts and stops its guests by its own rules, some seconds later.
        before["status"] = guest.status
        after["status"] = "running" if existing.vmstate or want.start else "stopped"
    call = Call(
        "POST",
        f"{guest.path}/snapshot/{existing.name}/rollback",
        {"start": True} if want.start else {},
        f"roll {guest} back to snapshot {existing.name}",
        _task("rollback", guest),
    )
    if any(call.path.endswith("/rollback") for call in done):
        return _started(want, observed, before, after)
    if existing.snapstate is not None:
        if guest.lock is not None:
            return Plan(before, after, (), wait_for_lock(guest))
        raise _incomplete(guest, existing)
    if guest.kind == "qemu" and guest.status == "running" and guest.uptime < SETTLING_SECONDS and guest.lock is None:
        return Plan(before, after, (call,), f"what the server still does after the start of {guest}")
    return _plan(guest, before, after, [call])


def _started(want: Wanted, observed: Observed, before: Mapping[str, object], after: Mapping[str, object]) -> Plan:
    """Return what is left after the rollback: the server starts the guest in a task of its own, which nobody names."""
    guest = observed.guest
    if not want.start or guest.status == "running":
        return Plan(before, before)
    if guest.ha_state is not None or observed.stopped_looks < LOOKS_BEFORE_START:
        return Plan(before, after, (), f"{guest} to start after it was rolled back")
    call = Call("POST", f"{guest.path}/status/start", {}, f"start {guest}", _task("start", guest))
    return _plan(guest, before, after, [call])


def _plan(
    guest: Guest,
    before: Mapping[str, object],
    after: Mapping[str, object],
    calls: Sequence[Call],
    warnings: Sequence[str] = (),
) -> Plan:
    """Return the plan, with what bars every call on snapshots: templates and locks."""
    if not calls:
        return Plan(before, before, warnings=warnings)
    what = calls[0].summary
    if guest.template:
        raise Refused(f"{guest} is a template, whose snapshots cannot be touched; nothing was done ({what}).")
    if guest.lock in RESTING_LOCKS:
        raise Refused(
            f"{guest} on node {guest.node} is hibernated (lock '{guest.lock}'), and the server touches no snapshot of it until it "
            f"was started again; nothing was done ({what})."
        )
    waiting = wait_for_lock(guest) if guest.lock is not None else None
    return Plan(before, after, tuple(calls), waiting, warnings)


def _incomplete(guest: Guest, snapshot: Snapshot) -> Refused:
    began = "taken" if snapshot.snapstate == "prepare" else "removed"
    return Refused(
        f"Snapshot '{snapshot.name}' of {guest} on node {guest.node} is incomplete (snapstate '{snapshot.snapstate}'): it began to "
        f"be {began}, and that was cut off. Remove it with state=absent and force=true, then see whether a disk still "
        "holds a snapshot of that name."
    )


def _names(snapshots: Sequence[Snapshot]) -> list[str]:
    return sorted(snapshot.name for snapshot in snapshots)


def _task(deed: str, guest: Guest) -> tuple[str, str]:
    return _TASKS[deed][guest.kind], str(guest.vmid)


def _create(want: Wanted, guest: Guest, name: str) -> Call:
    params: dict[str, object] = {"snapname": name}
    if want.description:
        params["description"] = want.description
    if want.vmstate:
        params["vmstate"] = True
    return Call("POST", f"{guest.path}/snapshot", params, f"take snapshot {name} of {guest}", _task("create", guest))


def _describe(guest: Guest, name: str, description: str) -> Call:
    return Call(
        "PUT",
        f"{guest.path}/snapshot/{name}/config",
        {"description": description},
        f"describe snapshot {name} of {guest}",
    )


def _delete(guest: Guest, name: str, *, force: bool = False) -> Call:
    return Call(
        "DELETE",
        f"{guest.path}/snapshot/{name}",
        {"force": True} if force else {},
        f"remove snapshot {name} of {guest}",
        _task("delete", guest),
    )


def tree(snapshots: Sequence[Snapshot], parent: str | None) -> list[dict[str, object]]:
    """Return the snapshots nested below those that they go back to; the one with current=True carries the guest as it is."""
    names = {snapshot.name for snapshot in snapshots}

    def below(name: str | None) -> list[dict[str, object]]:
        return [
            {"name": one.name, "current": one.name == parent, "children": below(one.name)}
            for one in snapshots
            if (one.parent if one.parent in names else None) == name
        ]

    return below(None)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest and its snapshots, the oldest first and as a tree."""
    return {
        "guest": observed.guest.shown(),
        "snapshots": [snapshot.shown() for snapshot in observed.snapshots],
        "tree": tree(observed.snapshots, observed.parent),
        "parent": observed.parent,
    }


# As many as the server itself works on at a time on a node (datacenter.cfg, max_workers): memory and disks are written.
FEATURE = Feature(wanted, observe, decide, result, Pace(per_node=4))
