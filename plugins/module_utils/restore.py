# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore: a guest with this VMID or name exists, made from a backup where it does not; or what it holds is replaced by one.

The server takes the VMID at once, with the lock create (PVE/AbstractConfig.pm, create_and_lock_config), and unpacks in a task. A VM
of which that failed stays behind with nothing in its configuration, no lock and no disk (PVE/API2/Qemu.pm, create_vm), so such a VM
is restored over without being asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .backups import Backup, Place, listed, newest_first, parse_volid, places
from .errors import Effect, ProxmoxError, Refused
from .guests import (
    KINDS,
    LOOKS_BEFORE_START,
    MAKING,
    MANY_FRESH,
    RESTING_LOCKS,
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

_TASKS = {"qemu": "qmrestore", "lxc": "vzrestore"}


@dataclass(frozen=True)
class Wanted:
    """:param volid: None for the newest backup of source_vmid. :param source_storage: where to search it, None for everywhere."""

    volid: str | None
    source_vmid: int | None
    source_storage: str | None
    vmid: int | None
    name: str | None
    node: str | None = None
    storage: str | None = None
    pool: str | None = None
    unique: bool | None = None
    bwlimit: int | None = None
    live_restore: bool | None = None
    start: bool = False
    force: bool = False
    stop: bool = False


@dataclass(frozen=True)
class Observed:
    """What there is.

    :param existing: the wanted guest, live. :param empty: it is the rest of a restore that failed.
    :param stopped_looks: looks in a row at which it was stopped and not being made, this one included.
    :param made: whether it was seen being made, so that whoever makes it may start it.
    :param backup: what to restore, None while nothing needs it. :param node: where.
    :param newid: VMID that a new guest would get.
    :param newcomers: guests that are being made, any of which may be the wanted one.
    """

    existing: Guest | None = None
    empty: bool = False
    stopped_looks: int = 0
    made: bool = False
    backup: Backup | None = None
    node: str | None = None
    newid: int | None = None
    newcomers: Newcomers = NOBODY


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    checked_vmid(options.get("vmid"))
    checked_name(options.get("name"))
    volid = options.get("volid")
    if volid is not None:
        parse_volid(volid)
        if options.get("source_storage") is not None:
            raise Refused("source_storage is where the newest backup is searched, and volid names one.")
    if options.get("stop") and not options.get("force"):
        raise Refused("stop is about a guest that is restored over, which needs force: true.")
    if options.get("force") and options.get("vmid") is None:
        raise Refused("force replaces all that a guest holds; name that guest by its vmid.")
    values: dict[str, Any] = {key: options.get(key) for key in Wanted.__dataclass_fields__}
    return Wanted(**values | {key: bool(values[key]) for key in ("start", "force", "stop")})


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return whether the wanted guest exists and, where something is to be restored, from what and where."""
    made = _known(want, reader, previous) if previous is not None else None
    if made is not None:
        return made
    rows = reader.get("/cluster/resources")
    guests = from_resources(rows)
    existing = _existing(want, reader, guests)
    if existing is not None:
        seen = _seen(want, reader, Observed(), existing)
        if want.vmid is None and (seen.existing is None or want.name != seen.existing.name):
            # The cluster's list still had the name that this guest carried some seconds ago.
            others = named_live(reader, str(want.name))
            existing = only_one(GuestRef(name=want.name), others) if others else None
            seen = _seen(want, reader, Observed(), existing) if existing is not None else seen
        if existing is not None:
            return _with_backup(want, reader, rows, seen)
    tried = previous.newid if previous is not None else None
    now = Observed(newid=vmid_to_use(reader, want.vmid, want.name, tried))
    if want.vmid is None:
        before = previous.newcomers if previous is not None else None
        now = replace(now, newcomers=newcomers(reader, guests, before, tried))
    now = _with_backup(want, reader, rows, replace(now, backup=previous.backup if previous is not None else None))
    rest = _rest(reader, guests, now) if want.vmid is None else None
    return _seen(want, reader, now, rest) if rest is not None else now


def _known(want: Wanted, reader: Reader, previous: Observed) -> Observed | None:
    """Return the guest where an earlier look in this run found it, or where it must be if this run has asked for it.

    None where it is not there, or where somebody else's guest is.
    """
    guess = previous.existing
    if guess is None and previous.backup is not None and previous.newid is not None and previous.node is not None:
        guess = Guest(previous.newid, previous.backup.kind or "qemu", previous.node)
    if guess is None:
        return None
    try:
        now = _seen(want, reader, previous, guess)
    except ProxmoxError as error:
        if error.effect is Effect.ABSENT or isinstance(error, Refused):
            return None
        raise
    there = now.existing
    if there is None or (
        there.lock not in MAKING and not now.empty and want.name is not None and there.name != want.name
    ):
        return None
    return now


def _seen(want: Wanted, reader: Reader, previous: Observed, guess: Guest) -> Observed:
    """Return the look at a guest that should be there."""
    there = look(reader, guess)
    if there.lock is not None:
        ref = GuestRef(vmid=there.vmid, node=there.node, kind=there.kind)
        there = observe_guest(reader, ref, previous.existing or guess)
    made_up = there.name in (None, f"VM {there.vmid}", f"CT{there.vmid}")
    empty = made_up and there.lock is None and there.status == "stopped" and _is_empty(reader, there)
    making = there.lock in MAKING
    looks = previous.stopped_looks + 1 if there.status == "stopped" and not making else 0
    return replace(previous, existing=there, empty=empty, stopped_looks=looks, made=previous.made or making)


def _is_empty(reader: Reader, guest: Guest) -> bool:
    return not set(reader.get(f"{guest.path}/config")) - {"digest"}


def _existing(want: Wanted, reader: Reader, guests: list[Guest]) -> Guest | None:
    if want.vmid is not None:
        return next((guest for guest in guests if guest.vmid == want.vmid), None)
    found = named(reader, guests, str(want.name))
    return only_one(GuestRef(name=want.name), found) if found else None


def _rest(reader: Reader, guests: list[Guest], now: Observed) -> Guest | None:
    """Return a VM that a failed restore has left behind; where there are many fresh guests without a name, none is looked for."""
    if now.backup is None or now.backup.kind != "qemu":
        return None
    nameless = [guest for guest in guests if guest.name is None and guest.lock is None]
    fresh = [guest for guest in nameless if guest.kind == "qemu" and guest.node == now.node]
    return next((guest for guest in fresh if _is_empty(reader, guest)), None) if len(fresh) <= MANY_FRESH else None


def _with_backup(want: Wanted, reader: Reader, rows: Sequence[Mapping[str, Any]], now: Observed) -> Observed:
    """Add what to restore and where, where something may be restored; what was found earlier in this run stays."""
    if now.existing is not None and not now.empty and not want.force:
        return now
    node = now.existing.node if now.existing is not None else want.node
    backup = now.backup or _backup(want, reader, rows, node)
    if node is None:
        node = _node_for(backup, rows)
    return replace(now, backup=backup, node=node)


def _backup(want: Wanted, reader: Reader, rows: Sequence[Mapping[str, Any]], node: str | None) -> Backup:
    """Return the backup that is named, or the newest; Refused where there is none, or where nobody can tell."""
    if want.volid is not None:
        volid = parse_volid(want.volid)
        where = [Place(volid.storage, node)] if node is not None else places(rows, volid.storage)
        vmid, what = volid.vmid, f"no backup {want.volid}"
    else:
        where = places(rows, want.source_storage, node)
        vmid, what = want.source_vmid or 0, f"no backup of guest {want.source_vmid}"
        if not where:
            unseen = (
                "" if want.vmid is not None else f"No guest called '{want.name}' is seen (VM.Audit on /vms/VMID), and "
            )
            raise Refused(
                f"{unseen}there is no storage for backups, or the credentials may not see one (Datastore.Audit on "
                "/storage/STORAGE)."
            )
    found, failed = _search(want, reader, where, vmid)
    down = [place.node for place in where if not place.online]
    if down and (want.volid is None or not found):
        # A newer one may be where nobody can look.
        raise Refused(
            f"The storages of {', '.join(sorted(set(down)))} cannot be searched for the backup, for the node is down. Name a "
            "storage or a node that can be (source_storage, node)."
        )
    if failed is not None and not found:
        raise failed
    if not found:
        there = f" on node {node}" if node is not None else ""
        raise Refused(
            f"There is {what}{there}. A backup that the credentials may not use (Datastore.AllocateSpace on /storage/"
            f"{where[0].storage} and VM.Backup on /vms/{vmid}) is not listed."
        )
    return found[0]


def _search(
    want: Wanted, reader: Reader, where: Sequence[Place], vmid: int
) -> tuple[list[Backup], ProxmoxError | None]:
    """Return the backups of the guest, newest first, and why a place could not be asked that need not be; raises ProxmoxError
    for one that must, since it may have a newer one."""
    found: list[Backup] = []
    failed: ProxmoxError | None = None
    for place in where:
        if not place.online:
            continue
        try:
            found += listed(reader, place, vmid)
        except ProxmoxError as error:
            if want.volid is None or error.status in (401, 403):
                raise
            failed = error
    return newest_first(backup for backup in found if want.volid in (None, backup.volid)), failed


def _node_for(backup: Backup, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return where to restore: where the backup is, or beside its guest where all nodes see it."""
    if not backup.shared:
        return backup.node
    down = {row["node"] for row in rows if row["type"] == "node" and row.get("status") == "offline"}
    seeing = {row["node"] for row in rows if row["type"] == "storage" and row["storage"] == backup.storage} - down
    home = next((guest.node for guest in from_resources(rows) if guest.vmid == backup.vmid), None)
    return home if home is not None and home in seeing else backup.node


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the restore, and what must come before and after it."""
    guest = observed.existing
    warnings = observed.newcomers.warnings()
    if guest is not None and (guest.lock in MAKING or _restored(done) or not (want.force or observed.empty)):
        return _keep(want, observed, guest, done, warnings)
    backup, node = observed.backup, observed.node
    if backup is None or node is None:
        raise AssertionError("what is to be restored was looked for")
    kind = backup.kind or (parse_volid(backup.volid).kind)
    vmid = guest.vmid if guest is not None else observed.newid
    called = f" '{want.name}'" if want.name else ""
    params: dict[str, object] = {
        "vmid": vmid,
        **({"archive": backup.volid} if kind == "qemu" else {"ostemplate": backup.volid, "restore": True}),
        "name" if kind == "qemu" else "hostname": want.name,
        "storage": want.storage,
        "pool": want.pool,
        "unique": want.unique,
        "bwlimit": want.bwlimit,
        "live-restore": want.live_restore,
        "start": True if want.start else None,
        "force": True if guest is not None else None,
    }
    if kind == "lxc" and want.live_restore:
        raise Refused("live_restore is for VMs; the backup is of a container.")
    restore = Call(
        "POST",
        f"/nodes/{node}/{kind}",
        {key: value for key, value in params.items() if value is not None},
        f"restore {KINDS[kind]} {vmid}{called} from {backup.volid}",
        (_TASKS[kind], str(vmid)),
    )
    after = {"guest": _told(want, int(vmid or 0), node, want.name, backup.volid, "running")}
    if guest is None:
        return Plan({"guest": None}, after, (restore,), observed.newcomers.waiting(want.name), warnings)
    before = {"guest": _told(want, guest.vmid, guest.node, guest.name, None, guest.status)}
    calls = (*_stop(want, observed, guest, kind), restore)
    return Plan(before, after, calls, wait_for_lock(guest) if guest.lock is not None else None, warnings)


def _restored(done: Sequence[Call]) -> bool:
    return any(call.task is not None and call.task[0] in _TASKS.values() for call in done)


def _stop(want: Wanted, observed: Observed, guest: Guest, kind: str) -> tuple[Call, ...]:
    """Return the stop that a guest needs before it is restored over; Refused where it is not to be."""
    if guest.kind != kind:
        raise Refused(
            f"{guest} on node {guest.node} is a {'VM' if guest.kind == 'qemu' else 'container'}, and the backup is of a "
            f"{'VM' if kind == 'qemu' else 'container'}; nothing was done. Remove it first, or choose another VMID."
        )
    if want.node not in (None, guest.node):
        raise Refused(
            f"{guest} is on node {guest.node}, not on {want.node}; it can be restored over only where it is. Leave node out, or "
            "move the guest with proxmox_migrate."
        )
    if guest.status == "stopped":
        return ()
    if not want.stop:
        raise Refused(
            f"{guest} on node {guest.node} runs, and a running guest is not restored over. Stop it with proxmox_vm_power, or set "
            "stop: true to pull its plug."
        )
    if guest.ha_state is not None:
        raise Refused(
            f"{guest} runs under high availability, which would start it again while it is restored; stop it with proxmox_vm_power."
        )
    task = "qmstop" if kind == "qemu" else "vzstop"
    params = {"overrule-shutdown": True}
    return (Call("POST", f"{guest.path}/status/stop", params, f"stop {guest}", (task, str(guest.vmid))),)


def _told(
    want: Wanted, vmid: int, node: str, name: str | None, volid: str | None, status: str | None
) -> dict[str, object]:
    """Return the part of a guest that can be foretold: name and status only where they are asked for."""
    told: dict[str, object] = {"vmid": vmid, "node": node}
    if want.name is not None:
        told["name"] = name
    if want.start:
        told["status"] = status
    return {**told, "restored_from": volid} if volid is not None else told


def _keep(want: Wanted, observed: Observed, guest: Guest, done: Sequence[Call], warnings: Sequence[str]) -> Plan:
    """Return what is left for a guest that exists: nothing, or its start."""
    restored = _restored(done)
    volid = observed.backup.volid if restored and observed.backup is not None else None
    now = {"guest": _told(want, guest.vmid, guest.node, guest.name, volid, guest.status)}
    if guest.lock in MAKING:
        return Plan(now, now, (), wait_for_lock(guest), warnings)
    if want.name is not None and guest.name != want.name:
        raise Refused(
            f"VMID {guest.vmid} is taken: it is {guest} on node {guest.node}, called '{guest.name}', not '{want.name}'. "
            "Nothing was done to it. Choose another VMID, leave it out for the next free one, or restore over it with force: true."
        )
    if not want.start or guest.status != "stopped" or guest.template:
        return Plan(now, now, (), None, warnings)
    after = {"guest": _told(want, guest.vmid, guest.node, guest.name, volid, "running")}
    if (restored or observed.made) and observed.stopped_looks < LOOKS_BEFORE_START:
        return Plan(now, now, (), f"{guest} to be started after its restore", warnings)
    task = ("qmstart" if guest.kind == "qemu" else "vzstart") if guest.ha_state is None else "hastart"
    call = Call("POST", f"{guest.path}/status/start", {}, f"start {guest}", (task, str(guest.vmid)))
    if any(call.same_deed(earlier) for earlier in done):
        return Plan(now, now, (), f"{guest} to run (its state in high availability: {guest.ha_state})", warnings)
    locked = guest.lock is not None and guest.lock not in RESTING_LOCKS
    return Plan(now, after, (call,), wait_for_lock(guest) if locked else None, warnings)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest as observed, and the backup that it was or is to be restored from."""
    return {
        "guest": observed.existing.shown() if observed.existing is not None else None,
        "volid": observed.backup.volid if observed.backup is not None else None,
    }


FEATURE = Feature(wanted, observe, decide, result)
